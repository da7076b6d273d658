"""What every layer promises, checked over the table of ``cases.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import testing
from tests.cases import CASES, LONG_SUMS, RECURRENT

every_case = pytest.mark.parametrize("case", CASES, ids=str)
full_case = pytest.mark.parametrize("case", [case for case in CASES if case.suites == "all"], ids=str)


def float32(tree):
    return jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf, tree)


@every_case
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_agrees_with_its_oracle(case, dtype):
    testing.assert_close_to_oracle(
        case.function,
        case.oracle,
        case.args(),
        dtype=dtype,
        reduction=case.reduction,
        roundings=case.roundings,
        sum_of_products=case.sum_of_products,
    )


@every_case
def test_keeps_the_dtype(case):
    testing.assert_invariant(case.function, float32(case.args()), checks=["dtype"], output_dtype=case.output_dtype)


@every_case
def test_takes_no_batch_axis_and_an_empty_batch(case):
    one, none = (jax.eval_shape(case.function, *float32(case.args(batch=batch))) for batch in ((), (0,)))
    for single, empty in zip(jax.tree.leaves(one), jax.tree.leaves(none), strict=True):
        assert empty.shape == (0, *single.shape)
        assert empty.dtype == single.dtype


@full_case
def test_any_number_of_batch_axes_is_a_loop_over_them(case):
    testing.assert_invariant(
        case.function,
        float32(case.args(batch=())),
        checks=["batch", "vmap"],
        batch_axes=case.batch_axes,
        roundings=case.roundings,
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.suites == "all" and None in case.batch_axes], ids=str)
def test_vmap_over_every_argument_is_a_loop(case):
    testing.assert_invariant(case.function, float32(case.args(batch=())), checks=["vmap"], roundings=case.roundings)


@full_case
def test_jit_and_remat_change_nothing(case):
    testing.assert_invariant(case.function, float32(case.args()), checks=["jit", "remat"], roundings=case.roundings)


@full_case
def test_works_where_a_person_debugs_without_jit(case):
    args = float32(case.args(batch=(1,)))
    compiled = jax.jit(case.function)(*args)
    with jax.disable_jit():
        debugged = case.function(*args)
    jax.tree.map(lambda a, b: testing.assert_close(a, b, reduction=case.reduction), debugged, compiled)


@full_case
def test_first_and_second_derivatives_in_both_modes(case):
    testing.assert_gradients(case.function, case.args(batch=(1,)), modes=case.modes, order=2)


@full_case
def test_bfloat16_gradients_stay_bfloat16(case):
    args = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == np.float64 else leaf, case.args())
    output, pull = jax.eval_shape(lambda *args: jax.vjp(case.function, *args), *args)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(jax.eval_shape(pull, output)))


def check(case, name, make_args):
    """One check of `layer_checks`, by its id."""
    layer = testing.layer_checks(
        case.function,
        reduction=4,  # `layer_checks` counts hundreds of terms in each sum
        roundings=case.roundings,
        derivative_roundings=case.derivative_roundings,
        modes=case.modes,
    )
    layer(make_args).layer_checks[name]()


SUMS = [*(case for case in CASES if case.suites == "all"), *RECURRENT, *LONG_SUMS]


@pytest.mark.parametrize("case", SUMS, ids=str)
def test_derivatives_in_half_precision_sum_in_float32(case):
    """Of positive numbers, hundreds in each sum: where bfloat16 adds them up, ones stick at 256."""
    check(case, "half_gradients-bfloat16", case.long_args)


@every_case
def test_a_precision_set_inside_a_compiled_function_is_that_of_every_product(case):
    args = float32(case.args(batch=(1,)))
    floats, tree = jax.tree.flatten(args)
    at = [i for i, leaf in enumerate(floats) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    @jax.jit
    def layer(*chosen):
        leaves = list(floats)
        for i, leaf in zip(at, chosen, strict=True):
            leaves[i] = leaf
        with jax.default_matmul_precision("highest"):
            return case.function(*jax.tree.unflatten(tree, leaves))

    def program(*chosen):  # derived and lowered after the function is traced
        y, pull = jax.vjp(layer, *chosen)
        return y, pull(y), jax.jvp(layer, chosen, chosen)

    text = jax.jit(program).trace(*(floats[i] for i in at)).lower(lowering_platforms=("cpu", "cuda")).as_text()
    assert "DEFAULT" not in text
    assert "HIGHEST" in text or not case.sum_of_products or "pool" in case.name or "groups" in case.name


@full_case
def test_a_second_equal_eager_call_or_gradient_compiles_nothing(case):
    check(case, "eager-float32", lambda rng: case.make_args(rng, (1,)))


@pytest.mark.parametrize("case", [case for case in CASES if case.suites != "all"], ids=str)
def test_a_second_equal_eager_call_compiles_nothing(case):
    def call():
        args = float32(case.args())
        return case.function(*args)

    call()
    with testing.record_compilations() as compiled:
        call()
    assert compiled == []


@pytest.mark.parametrize("case", [*(case for case in CASES if case.suites == "all"), *RECURRENT], ids=str)
@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_a_batch_spread_over_devices_is_never_gathered(case):
    """Where XLA spreads a batch over devices, the gradients of what they share are summed; nothing else moves."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    args = tuple(
        jax.tree.map(
            lambda leaf, axis=axis: jax.device_put(leaf, NamedSharding(mesh, P() if axis is None else P("data"))), arg
        )
        for arg, axis in zip(float32(case.args(batch=(8,))), case.batch_axes, strict=True)
    )

    def loss(args):
        return sum(jnp.sum(jnp.sin(out)) for out in jax.tree.leaves(case.function(*args)))

    gradient = jax.jit(jax.grad(loss, allow_int=True)).lower(args)
    program = gradient.compile(compiler_options={"xla_backend_optimization_level": 0}).as_text()
    assert "all-reduce(" in program or None not in case.batch_axes
    assert not any(f"{operation}(" in program for operation in ("all-gather", "all-to-all", "collective-permute"))
