import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import functional as F
from tests.functional.compare import assert_as_torch, cotangent, normal

both = pytest.mark.parametrize("name", ["adaptive_avg_pool", "adaptive_max_pool"])


@both
@pytest.mark.parametrize(
    ("size", "output"),
    [
        ((7,), (3,)),
        ((6, 9), (3, 3)),
        ((7, 10), (3, 4)),
        ((5, 6), (5, 4)),
        ((2, 3), (5, 4)),
        ((5, 4, 6), (2, 3, 1)),
        ((7, 5), (1, 1)),
    ],
    ids=str,
)
def test_value_and_gradient_are_those_of_pytorch(name, size, output):
    assert_as_torch(name, [normal(2, *size, 3)], {"output": output}, {"output_size": output})


@both
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_any_size_is_that_of_pytorch(name, height, width, rows, columns):
    output = (rows, columns)
    assert_as_torch(name, [normal(1, height, width, 2)], {"output": output}, {"output_size": output})


@both
def test_none_keeps_an_axis_and_an_int_is_a_square(name):
    pool = getattr(F, name)
    x = jnp.asarray(normal(2, 6, 5, 3), jnp.float32)
    assert pool(x, (3, None)).shape == (2, 3, 5, 3)
    np.testing.assert_array_equal(pool(x, (None, None)), x)
    np.testing.assert_array_equal(pool(x, 3), pool(x, (3, 3)))
    np.testing.assert_array_equal(pool(x, [3, 3]), pool(x, (3, 3)))
    assert pool(x[:0], 3).shape == (0, 3, 3, 3)
    np.testing.assert_allclose(pool(x[1], 2), pool(x, 2)[1], rtol=1e-6)


def test_one_window_is_the_global_pool():
    x = jnp.asarray(normal(2, 6, 5, 3), jnp.float32)
    np.testing.assert_allclose(F.adaptive_avg_pool(x, 1)[:, 0, 0], F.global_avg_pool(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(F.adaptive_max_pool(x, 1)[:, 0, 0], F.global_max_pool(x))


@both
def test_the_program_does_not_grow_with_the_outputs(name):
    def operations(outputs):
        gradient = jax.grad(lambda x: getattr(F, name)(x, (outputs,)).sum())
        return len(str(jax.make_jaxpr(gradient)(jnp.zeros((2, 64, 3)))).splitlines())

    assert operations(5) == operations(50)


def test_what_is_not_finite_reaches_the_means_of_its_windows_alone():
    x = jnp.array([np.inf, 1, 2, 1e38, 2e38, np.nan, 6])[:, None]
    np.testing.assert_allclose(F.adaptive_avg_pool(x, (5,))[:, 0], [np.inf, 1.5, 1e38, np.nan, np.nan], rtol=1e-6)


def test_integers_have_a_maximum_but_no_mean():
    x = jnp.arange(7, dtype=jnp.uint8)[:, None]
    y = F.adaptive_max_pool(x, (3,))
    assert y.dtype == jnp.uint8
    np.testing.assert_array_equal(y[:, 0], [2, 4, 6])
    with pytest.raises(ValueError, match="x: expected a floating dtype, got uint8"):
        F.adaptive_avg_pool(x, (3,))


def test_the_first_of_equal_maxima_gets_the_gradient():
    gradient = jax.grad(lambda x: F.adaptive_max_pool(x, 1).sum())(jnp.zeros((5, 5, 1)))
    np.testing.assert_array_equal(gradient[..., 0], np.eye(5)[:, :1] * np.eye(5)[:1] * (np.indices((5, 5)).sum(0) == 0))


def test_the_first_of_equal_maxima_in_each_window_of_several_rows_gets_the_gradient():
    x = jnp.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])[..., None]
    for jacobian in (jax.jacrev, jax.jacfwd):
        gradient = jacobian(lambda x: F.adaptive_max_pool(x, (2, 2)).sum())(x)
        np.testing.assert_array_equal(gradient[..., 0], [[0, 2, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("output", [(2, 2), (3, 4), (7, 3)], ids=str)
def test_the_winner_is_that_of_pytorch_among_ties_infinities_and_nan(output):
    rng = np.random.default_rng(0)
    ties = rng.integers(0, 3, (2, 5, 7, 3)).astype(float)
    assert_as_torch("adaptive_max_pool", [ties], {"output": output}, {"output_size": output})
    against_torch = pytest.importorskip("tests.functional.against_torch")
    odd = rng.choice([-np.inf, -np.inf, -np.inf, np.nan, 1.0], ties.shape)
    _, expected = against_torch.value_and_gradients(
        lambda x: against_torch.adaptive_max_pool(x, output_size=output), [odd], cotangent
    )
    y, pull = jax.vjp(lambda x: F.adaptive_max_pool(x, output), jnp.asarray(odd, jnp.float32))
    np.testing.assert_allclose(pull(jnp.asarray(cotangent(y.shape), jnp.float32))[0], expected, rtol=1e-5, atol=1e-5)


x = jnp.ones((2, 6, 7, 4))


@both
@pytest.mark.parametrize(
    ("x", "output", "message"),
    [
        (x, 0, r"output: expected at least 1"),
        (x, (2, -1), r"output: expected at least 1 .*-1"),
        (x, 2.5, r"output: expected an int .*2\.5"),
        (x, (2, "a"), "output: expected an int"),
        (x, (), r"output: expected an entry for at least one spatial axis, got \[\]"),
        (x, (1, 2, 3, 4), r"x: expected .*4 spatial axes.*got shape \(2, 6, 7, 4\)"),
        (x[0, 0], 2, r"x: expected .*as output=2 says, got shape \(7, 4\)"),
        (x[:, :0], 2, r"x: expected spatial axes of at least 1 element, got \(0, 7\)"),
        (x.astype(complex), 2, "x: expected real numbers, got complex64"),
    ],
)
def test_what_does_not_fit_is_named(name, x, output, message):
    with pytest.raises(ValueError, match=message):
        getattr(F, name)(x, output)
