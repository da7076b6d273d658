from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing


class State(NamedTuple):
    h: jax.Array
    c: jax.Array


def close(got, expected, **options):
    testing.assert_close(got, expected, **{"reduction": 1, **options})


def test_equal_trees_pass_whatever_they_hold():
    tree = {
        "floats": State(jnp.ones(3), jnp.zeros((0, 2))),
        "special": jnp.array([jnp.nan, jnp.inf, -jnp.inf]),
        "integers": jnp.arange(3),
        "flags": np.array([True, False]),
        "complex": jnp.array([1 + 2j]),
        "key": jax.random.key(3),
        "scalar": 2.0,
        "nothing": None,
    }
    close(tree, tree)


def test_the_worst_element_is_named_by_path_index_and_values():
    got = State(jnp.ones((2, 3)).at[1, 2].set(1.5).at[0, 1].set(1.1), jnp.ones(4))
    with pytest.raises(AssertionError) as caught:
        close(got, State(np.ones((2, 3)), np.ones(4)), what="the state")
    assert str(caught.value).startswith("the state: 2 of 10 elements differ by more than the tolerance\n")
    assert "worst at .h[1, 2]: got 1.5, expected 1, error 0.5 = " in str(caught.value)
    assert "times what is expected" not in str(caught.value)


def test_a_common_factor_is_reported():
    x = np.random.default_rng(0).normal(size=20)
    with pytest.raises(AssertionError, match=r"every element is -0\.5 times what is expected"):
        close(jnp.asarray(-0.5 * x, jnp.float32), x)


def test_a_lone_element_and_zero_have_no_common_factor():
    for got, expected in ((2.0, 1.0), (np.zeros(3), np.ones(3)), (np.full(3, np.nan), np.ones(3))):
        with pytest.raises(AssertionError) as caught:
            close(got, expected)
        assert "times what is expected" not in str(caught.value)


@pytest.mark.parametrize(
    ("got", "expected"),
    [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0, np.inf), (np.inf, -np.inf), (np.nan, np.inf)],
)
def test_one_sided_nan_and_infinity_are_errors(got, expected):
    with pytest.raises(AssertionError, match="1 of 2 elements"):
        close(np.array([1.0, got]), np.array([1.0, expected]))


def test_integers_must_be_equal():
    with pytest.raises(AssertionError, match="got 4, expected 3"):
        close(jnp.arange(5), np.array([0, 1, 2, 3, 3]))


def test_shapes_and_structures_must_be_equal():
    with pytest.raises(AssertionError, match=r"shape of \['y'\] is \(1, 3\), expected \(3,\)"):
        close({"y": np.ones((1, 3))}, {"y": np.ones(3)})
    with pytest.raises(AssertionError, match=r"(?s)do not match.*\[result\]"):
        close({"y": np.ones(3)}, {"z": np.ones(3)})
    with pytest.raises(AssertionError, match=r"(?s)do not match.*\[result\]"):
        close((np.ones(3), np.ones(3)), State(np.ones(3), np.ones(3)))


def test_a_magnitude_allows_for_cancellation_element_by_element():
    expected = np.array([1e-3, 1e-3])
    got = jnp.asarray(expected, jnp.float32) + 1e-5
    with pytest.raises(AssertionError, match="1 of 2 elements"):
        close(got, expected, magnitude=np.array([1000.0, 1.0]))
    close(got, expected, magnitude=np.array([1000.0, 1000.0]))
