"""The algorithm "persistent": against the formulas, in Python here and on a GPU there; its kernels; its refusals."""

import importlib
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R
from jaxnn.kernels import gru, lstm, walk, walk_gpu
from jaxnn.kernels import persistent as kernels
from jaxnn.kernels.accumulate import widened
from tests import oracles_recurrent as oracle

from .common import CASES, float64, random_state, random_x

algorithm = importlib.import_module("jaxnn.functional.recurrent.persistent")
CELLS = {"lstm": lstm.LSTM, "gru": gru.RESET_AFTER}
here = pytest.mark.skipif(walk_gpu.lacking() is not None, reason=f"JAX {jax.__version__} has no {walk_gpu.lacking()}")


def setting(name, batch, time, hidden, dtype):
    params = CASES[name].params(3, hidden, dtype=dtype)
    params = params._replace(w_h=(params.w_h / math.sqrt(hidden)).astype(dtype))
    return params, random_x(*batch, time, 3, dtype=dtype), random_state(params, batch, dtype=dtype)


def with_gradients(name, algorithm, options):
    def loss(*args):
        values = CASES[name].layer(*args, algorithm=algorithm, **options)
        parts = [widened(a) for a in jax.tree.leaves(values)]
        return sum(jnp.sum(jnp.sin(a + jnp.arange(a.size, dtype=a.dtype).reshape(a.shape) % 7)) for a in parts), values

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


def distances(actual, desired):
    """Of each array, by the norm."""
    return [
        float(np.linalg.norm(np.float64(a) - np.float64(b)) / max(1e-30, np.linalg.norm(np.float64(b))))
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True)
    ]


def assert_right(name, dtype, hidden, batch=(3,), time=3, **options):
    """Values are those of the NumPy formulas, gradients those of the scan in float64."""
    args = setting(name, batch, time, hidden, dtype)
    (_, values), gradients = with_gradients(name, "persistent", options)(*args)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), args)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        (_, expected), d_expected = with_gradients(name, "scan", options)(*jax.tree.map(jnp.asarray, exact))
    if len(batch) == 1 and "mask" not in options:
        lengths, reverse = options.get("lengths"), options.get("reverse", False)
        y, final = oracle.batch(CASES[name].oracle, *map(float64, args), lengths=lengths, reverse=reverse)
        assert max(distances((expected[0], tuple(expected[1])), (y, tuple(final)))) < 1e-12
    tolerance = 1e-2 if dtype == jnp.bfloat16 else 3e-3
    assert all(a.dtype == b.dtype for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(args), strict=True))
    assert max(distances(values, expected)) < tolerance
    assert max(distances(gradients, d_expected)) < 2 * tolerance


@here
@pytest.mark.parametrize(
    ("name", "dtype", "hidden", "options"),
    [
        ("lstm", jnp.bfloat16, 5, {"lengths": np.array([3, 1, 0], np.int32)}),
        ("gru", jnp.float16, 70, {"reverse": True, "mask": np.array([[1, 0, 1], [1, 1, 1], [0, 1, 0]], bool)}),
    ],
)
def test_run_in_python_it_agrees_with_the_formulas_and_has_no_races(name, dtype, hidden, options):
    with kernels.interpreted(True):
        assert_right(name, dtype, hidden, **options)


@pytest.mark.gpu
@here
@pytest.mark.parametrize(
    ("name", "hidden", "dtype", "options"),
    [
        ("lstm", 5, jnp.bfloat16, {"lengths": np.array([20, 7, 0], np.int32)}),
        ("gru", 128, jnp.float16, {"remat": 7, "reverse": True}),
        ("lstm", 384, jnp.float16, {}),
        ("gru", 512, jnp.bfloat16, {"reverse": True, "lengths": np.array([20, 7, 0], np.int32)}),
    ],
)
def test_on_a_gpu_it_agrees_with_the_formulas(name, hidden, dtype, options):
    assert_right(name, dtype, hidden, time=20, **options)


@pytest.mark.gpu
@here
@pytest.mark.parametrize("batch", [(), (2, 5), (0,)])
def test_on_a_gpu_it_takes_any_batch(batch):
    assert_right("gru", jnp.bfloat16, 64, batch, time=9)


@pytest.mark.gpu
@here
def test_on_a_gpu_gradients_of_each_example():
    params, x, _ = setting("lstm", (2,), 9, 64, jnp.bfloat16)

    def loss(params, x):
        return jnp.sum(jnp.square(R.lstm(params, x, algorithm="persistent")[0].astype(jnp.float32)))

    together = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, x)
    alone = [jax.jit(jax.grad(loss))(params, each) for each in x]
    assert max(distances(together, jax.tree.map(lambda *a: jnp.stack(a), *alone))) < 1e-2


@here
@pytest.mark.parametrize(("name", "hidden", "blocks"), [("lstm", 128, 1), ("gru", 192, 3)])
def test_its_kernels_are_programs_for_cuda(name, hidden, blocks):
    """All of Mosaic's checks, of layouts and sizes, are made while a program is lowered, which needs no GPU."""
    cell, (params, x, state) = CELLS[name], setting(name, (9,), 5, hidden, jnp.bfloat16)
    assert walk.layout_of(cell.walks.forward, cell.walks.forward.parts, hidden).blocks == blocks

    def run(params, carry, x):
        ys, last = kernels.persistent(cell, False, params, carry, x, jnp.ones((5, 9), bool))
        return jnp.sum(ys.astype(jnp.float32)) + sum(jnp.sum(a.astype(jnp.float32)) for a in last)

    traced = jax.jit(jax.grad(run)).trace(params, tuple(state), jnp.moveaxis(x, 1, 0))
    assert traced.lower(lowering_platforms=("cuda",)).as_text().count("@mosaic_gpu") == 2


def test_what_fits_on_the_chip():
    for name, most in (("lstm", 384), ("gru", 512)):
        walks = CELLS[name].walks
        assert [units for units in range(1, 1025) if walk.fits(walks, units)] == list(range(1, most + 1))


def run(name, dtype=jnp.bfloat16, hidden=5, **options):
    params, x, state = setting(name, (3,), 4, hidden, dtype)
    return CASES[name].layer(params, x, state, algorithm="persistent", **CASES[name].options, **options)


WIDE = R.GRUParams(*(jnp.zeros(shape, jnp.float16) for shape in ((1, 1800), (600, 1800), (1800,), (600,))))
REFUSED = {
    "float32": (partial(run, "lstm", jnp.float32), "no support for float32, only for bfloat16 and float16"),
    "units": (
        lambda: R.gru(WIDE, jnp.zeros((2, 1), jnp.float16), algorithm="persistent"),
        "no room on the chip for the recurrent weights of 600 units",
    ),
    "resets": (partial(run, "lstm", resets=np.zeros((3, 4), bool)), "no support for resets"),
    "truncate": (partial(run, "lstm", truncate=2), "no support for truncate"),
    "reset before": (partial(run, "gru-reset-before"), "no support for this cell"),
    "activations": (partial(run, "gru-activations"), "no support for activations other than tanh"),
    "variants": (partial(run, "lstm-peephole"), "no support for peephole"),
    "heads": (partial(run, "gru-heads", hidden=4), "no support for heads"),
    "cells": (partial(run, "rnn"), "no support for this cell"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_serve_is_named(name, monkeypatch):
    call, message = REFUSED[name]
    monkeypatch.setattr(algorithm, "lacking", lambda: None)
    with kernels.interpreted(True), pytest.raises(ValueError, match=f"algorithm='persistent' has {message}"):
        call()


def test_other_devices_are_refused(monkeypatch):
    if getattr(jax.devices()[0], "compute_capability", None) == "9.0":
        pytest.skip("this is the device that it serves")
    monkeypatch.setattr(algorithm, "lacking", lambda: None)
    with pytest.raises(ValueError, match=r"no kernel for .*, only for GPUs of compute capability 9.0 \(H100, H200\)"):
        run("lstm")


def test_a_jax_without_the_interface_is_refused(monkeypatch):
    with kernels.interpreted(True):
        if (missing := walk_gpu.lacking()) is None:
            monkeypatch.setattr(walk_gpu, "NEEDED", {"kernel": ("a_parameter_of_later",)})
            walk_gpu.lacking.cache_clear()
            missing = "mosaic_gpu.kernel(a_parameter_of_later=)"
        with pytest.raises(ValueError, match=f"has no {missing.replace('(', '.').replace(')', '.')} in JAX"):
            run("lstm")
    monkeypatch.undo()
    walk_gpu.lacking.cache_clear()


@here
def test_forward_mode_is_refused():
    params, x, state = setting("lstm", (3,), 4, 5, jnp.bfloat16)
    with kernels.interpreted(True), pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: R.lstm(params, x, state, algorithm="persistent")[0], (x,), (x,))
