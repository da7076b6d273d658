"""Comparing a layer with PyTorch's, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def cotangent(shape):
    return normal(*shape, seed=9)


def value_and_gradients(function, arrays):
    """The value, and the gradients of every array for the cotangent that PyTorch gets too."""
    y, pull = jax.vjp(function, *arrays)
    return [y, *pull(jnp.asarray(cotangent(y.shape)))]


def assert_as_torch(name, arrays, options, torch_options, rtol=1e-11):
    """Value and gradients of `F.name` are those of the function of this name in `against_torch`."""
    pytest.importorskip("torch", reason="PyTorch is one of the oracles; install torch to compare with it")
    from tests.functional import against_torch

    with jax.enable_x64(True):
        layer, reference = getattr(F, name), getattr(against_torch, name)
        got = jax.jit(lambda *arrays: value_and_gradients(lambda *arrays: layer(*arrays, **options), arrays))(*arrays)
        expected = against_torch.value_and_gradients(lambda *t: reference(*t, **torch_options), arrays, cotangent)
        for what, a, b in zip(["value", "x", "kernel", "bias"], got, expected, strict=False):
            assert a.shape == b.shape, what
            scale = np.abs(b).max(initial=1)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=what)
