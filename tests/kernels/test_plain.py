"""Inside `kernels.plain` every layer is a program of `jax.lax` alone, with the same values."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxnn import functional as F
from jaxnn import kernels, testing
from jaxnn.kernels.settings import is_plain
from tests import oracles
from tests.cases import CASES, LONG_SUMS, TIES
from tests.test_cases import float32

LAX = {value.name for name, value in vars(jax.lax).items() if name.endswith("_p")}
JAX = {"jit", "pjit", "remat2", "checkpoint", "add_any"}
WITH_DERIVATIVES = ("logaddexp", "newton", "minlstm", "slstm")
"""Layers that have a derivative which JAX cannot find, or one of JAX's functions that has."""


def equations(jaxpr):
    """All equations, those inside loops and calls too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def operations(jaxpr):
    return (eqn.primitive.name for eqn in equations(jaxpr))


@pytest.mark.parametrize("case", [case for case in (*CASES, *LONG_SUMS) if case not in TIES], ids=str)
def test_only_operations_of_lax_are_left(case):
    with kernels.plain():
        traced = jax.make_jaxpr(case.function)(*float32(case.args()))
    allowed = LAX | JAX | ({"custom_jvp_call"} if case.name.startswith(WITH_DERIVATIVES) else set())
    assert set(operations(traced.jaxpr)) <= allowed - {"platform_index"}


def test_the_layers_have_other_operations_elsewhere():
    """Or the test above would prove nothing."""
    conv, lstm = (next(case for case in CASES if case.name == name) for name in ("conv 2d", "lstm"))
    names = [set(operations(jax.make_jaxpr(case.function)(*float32(case.args())).jaxpr)) for case in (conv, lstm)]
    assert "conv" in names[0] - LAX
    assert "custom_jvp_call" in names[1]


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_beyond_the_window_is_cut_off_before_the_convolution(stride):
    """XLA:CPU of JAX 0.10 reads beside the array where it is cut off by negative padding."""
    rng = np.random.default_rng(0)
    kernel, g = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 3, 1), (11 if stride == 1 else 6, 3)))
    layer = partial(F.conv_transpose, padding=((4, 3),), stride=stride)
    with kernels.plain():
        program = jax.make_jaxpr(layer)(g, kernel)
        y = layer(g, kernel)
    convolutions = [eqn for eqn in equations(program.jaxpr) if eqn.primitive.name == "conv_general_dilated"]
    assert convolutions
    assert all(min(pair) >= 0 for eqn in convolutions for pair in eqn.params["padding"])
    expected = oracles.conv_transpose(np.asarray(g, np.float64), kernel, padding=((4, 3),), stride=stride)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


SAME = (
    *("conv strided", "max_pool 3d", "max_pool ceil mode, dilated", "avg_pool overlapping"),
    *(f"conv_transpose {name}" for name in ("groups", "dilated", "stride beyond the window", "causal")),
    *("gru reset before, lengths, backward", "bidirectional"),
)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SAME], ids=str)
def test_values_are_the_same(case):
    traces = []

    @jax.jit
    def function(*args):
        traces.append(is_plain())
        return case.function(*args)

    args = float32(case.args())
    with kernels.plain():
        inside = function(*args)
    jax.tree.map(lambda a, b: testing.assert_close(a, b, reduction=case.reduction), inside, function(*args))
    assert traces == [True, False]  # one jitted function has a program for each


def test_derivatives_are_those_of_jax():
    params, x = F.init_lstm(jax.random.key(0), 2, 3), jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 2)))

    def loss(params, kernel):
        pictures = F.max_pool(F.conv(x, kernel), 2)
        return jnp.sum(F.lstm(params, pictures.reshape(2, 4, 2))[0] ** 2)

    args = params, jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 2)))
    expected = jax.jit(jax.grad(loss, (0, 1)))(*args)
    with kernels.plain():
        traced = jax.make_jaxpr(jax.grad(loss, (0, 1)))(*args)
        got = jax.jit(jax.grad(loss, (0, 1)))(*args)
    assert set(operations(traced.jaxpr)) <= LAX | JAX
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


def test_it_holds_for_the_thread_and_ends_with_the_block():
    seen = []
    with kernels.plain():
        thread = threading.Thread(target=lambda: seen.append(is_plain()))
        thread.start()
        thread.join()
        seen.append(is_plain())
    assert [*seen, is_plain()] == [False, True, False]
