"""What the checks take: trees, fixed leaves, functions of any kind; and what they say to what makes no sense."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing
from tests.testing import layers


def masked_mean(params, x, lengths, key):
    """Floating, integer and key leaves; a tree of parameters; a tree as result, of several dtypes."""
    mask = jnp.arange(x.shape[0], dtype=lengths.dtype)[:, None] < lengths
    total = jnp.where(mask, x * params["scale"][None], jnp.zeros_like(x)).sum(0)
    return {"mean": total / jnp.maximum(lengths, 1).astype(x.dtype), "length": lengths, "key": jax.random.split(key)}


def masked_mean_oracle(params, x, lengths, key):
    assert x.dtype == np.float64
    assert lengths.dtype == np.int32
    mean = sum((x[t] * params["scale"] for t in range(lengths)), np.zeros(x.shape[1])) / max(lengths, 1)
    return {"mean": mean, "length": lengths, "key": jax.random.split(key)}


def arguments():
    rng = np.random.default_rng(0)
    return {"scale": rng.normal(size=2)}, rng.normal(size=(5, 2)), np.int32(3), jax.random.key(0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_an_oracle_takes_every_kind_of_leaf(dtype):
    testing.assert_close_to_oracle(masked_mean, masked_mean_oracle, arguments(), dtype=dtype, reduction=5)


def test_derivatives_leave_integers_and_keys_fixed():
    testing.assert_gradients(masked_mean, arguments(), order=2)


def test_invariance_takes_every_kind_of_leaf():
    params, x, lengths, key = jax.tree.map(jnp.asarray, arguments())
    testing.assert_invariant(
        masked_mean, (params, jnp.asarray(x, jnp.float32), lengths, key), batch_axes=(None, 1, None, None)
    )


@pytest.mark.parametrize(
    "check",
    [
        testing.assert_gradients,
        testing.assert_invariant,
        lambda function, args: testing.assert_close_to_oracle(function, np.sin, args, reduction=1),
    ],
)
def test_one_argument_without_a_tuple_is_refused(check):
    with pytest.raises(ValueError, match=r"args: expected a tuple of arguments, got ndarray; write \(x,\)"):
        check(jnp.sin, np.ones((1, 3)))


def test_one_name_without_a_list_is_refused():
    with pytest.raises(ValueError, match=r"checks: expected a list of names, got 'jit'; write \['jit'\]"):
        testing.assert_invariant(jnp.sin, (np.ones(3),), checks="jit")
    with pytest.raises(ValueError, match=r"without: expected a list of names, got 'export'; write \['export'\]"):
        testing.layer_checks(jnp.sin, oracle=np.sin, without="export")


def test_shared_parameters_may_be_part_of_an_argument():
    params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), layers.mlp_args(np.random.default_rng(0)))
    testing.assert_invariant(
        lambda both: layers.mlp(*both), ((params, x),), batch_axes=(({"in": None, "out": 0}, 0),), checks=["vmap"]
    )


def test_a_cell_state_that_stays_float32_is_said_by_its_dtype():
    def cell(state, x):
        state = {"c": state["c"].astype(jnp.float32) + x.astype(jnp.float32), "h": x}
        return state, x

    args = ({"c": jnp.ones(2), "h": jnp.ones(2)}, jnp.ones(2))
    check = partial(testing.assert_invariant, cell, args, checks=["dtype"], dtypes=["bfloat16", "float32"])
    check(output_dtype=lambda dtype: ({"c": jnp.float32, "h": dtype}, dtype))
    with pytest.raises(AssertionError, match=r"bfloat16 comes out as float32 at \[0\]\['c'\], expected bfloat16"):
        check()


def test_only_the_chosen_arguments_are_differentiated():
    def detached(x, kernel, bias):
        return layers.conv(x, kernel, jax.lax.stop_gradient(bias))

    testing.assert_gradients(detached, layers.conv_args(np.random.default_rng(0)), argnums=[0, 1])


def test_a_large_input_is_searched_in_part():
    x = np.random.default_rng(0).normal(size=300)
    wrong = layers.scaled_gradient(jnp.sin, 2)
    with pytest.raises(AssertionError, match="7 of 300 elements differ"):
        testing.assert_gradients(wrong, (x,), modes=["fwd"], search_limit=7)


def test_the_global_float64_switch_is_left_as_it_was():
    testing.assert_gradients(jnp.sin, (np.ones(2),))
    assert jnp.ones(2).dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [({"order": 0}, "order, modes: expected at least 1"), ({"modes": ["both"]}, "both"), ({"modes": []}, "modes")],
)
def test_unknown_modes_and_orders_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        testing.assert_gradients(jnp.sin, (np.ones(2),), **options)


def test_nothing_to_differentiate_is_refused():
    with pytest.raises(ValueError, match="got none in the chosen arguments"):
        testing.assert_gradients(lambda n: n + 1, (np.arange(3),))
    with pytest.raises(ValueError, match="function: expected floating-point results"):
        testing.assert_gradients(jnp.argmax, (np.ones(3),))


def test_an_unknown_check_is_refused():
    with pytest.raises(ValueError, match=r"checks: expected some of .*'remat'.*, got \['pmap'\]"):
        testing.assert_invariant(jnp.sin, (jnp.ones(2),), checks=["jit", "pmap"])


def test_batch_axes_must_stand_in_front_for_the_batch_check():
    with pytest.raises(ValueError, match="batch_axes: expected 0 or None"):
        testing.assert_invariant(jnp.sin, (jnp.ones(2),), checks=["batch"], batch_axes=1)


def test_a_function_of_integers_alone_is_checked_too():
    testing.assert_invariant(lambda n: n * 2, (jnp.arange(4),))


def test_a_module_is_no_functional_cell():
    with pytest.raises(ValueError, match=r"cell: expected a functional Cell, got .*\.NoneType"):
        testing.assert_cell(None, (), np.zeros((2, 4, 3), np.float32))
