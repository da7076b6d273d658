"""Initialisers: shapes, orthogonality per gate, forget bias, dtype."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R


@pytest.mark.parametrize(("init", "gates"), [(R.init_rnn, 1), (R.init_gru, 3), (R.init_lstm, 4)])
def test_every_gate_starts_orthogonal_and_different(init, gates):
    params = init(jax.random.key(0), 3, 8)
    blocks = jnp.split(params.w_h, gates, axis=1)
    for n, w in enumerate(blocks):
        np.testing.assert_allclose(w.T @ w, np.eye(8), atol=1e-5)
        assert all(not np.allclose(w, other) for other in blocks[:n])
    bound = np.sqrt(6 / (3 + 8))
    assert np.abs(params.w_x).max() <= bound
    assert np.abs(params.w_x).max() > 0.8 * bound


@pytest.mark.parametrize("coupled", [False, True])
def test_only_the_forget_gate_starts_with_a_bias(coupled):
    params = R.init_lstm(jax.random.key(0), 3, 2, coupled=coupled)
    want = [1, 1, 0, 0, 0, 0] if coupled else [0, 0, 1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(params.b, want)
    assert params.gates == (3 if coupled else 4)
    other = R.init_lstm(jax.random.key(0), 3, 2, bias_init=R.forget_bias(2.5))
    np.testing.assert_array_equal(other.b[2:4], 2.5)


def test_every_parameter_has_the_dtype_asked_for():
    options = {"projection": 2, "peephole": True, "layer_norm": True}
    params = R.init_lstm(jax.random.key(0), 3, 4, dtype=jnp.bfloat16, **options)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert len(jax.tree.leaves(params)) == 9
    y, _ = R.lstm(params, jnp.ones((2, 5, 3), jnp.bfloat16))
    assert y.shape == (2, 5, 2)


@pytest.mark.parametrize("init", [R.init_rnn, R.init_gru, R.init_lstm])
def test_an_ensemble_starts_as_its_members_do_without_a_batched_decomposition(init):
    """A program with as many batched ones as XLA has threads hangs, on CPU."""
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.jit(jax.vmap(lambda key: init(key, 3, 8)))
    program = many.trace(keys).lower(lowering_platforms=("cpu",)).as_text()
    decompositions = re.findall(r"custom_call @lapack_sgeqrf_ffi\(.*: \(tensor<([0-9x]+)f32>", program)
    assert decompositions
    assert set(decompositions) == {"8x8x"}
    alone = jax.tree.map(lambda *members: np.stack(members), *[init(key, 3, 8) for key in keys])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), many(keys), alone)
