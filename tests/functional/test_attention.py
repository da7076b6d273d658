"""Attention against the formula and against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.functional.attention import attention


def _random(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _naive(query, keys, values, lengths):
    context = np.zeros((*query.shape[:-1], values.shape[-1]))
    weights = np.zeros((*query.shape[:-1], keys.shape[-2]))
    for n in np.ndindex(*query.shape[:-1]):
        length = int(lengths[n[:-1]])
        scores = np.array([query[n] @ keys[n[:-1]][t] / np.sqrt(query.shape[-1]) for t in range(length)])
        if length:
            weights[n][:length] = np.exp(scores) / np.exp(scores).sum()
        for t in range(length):
            context[n] += weights[n][t] * values[n[:-1]][t]
    return context, weights


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_it_agrees_with_the_formula(batch):
    query, keys, values = _random(*batch, 4, 3), _random(*batch, 5, 3, seed=1), _random(*batch, 5, 2, seed=2)
    lengths = np.random.default_rng(3).integers(0, 6, batch)
    got = jax.jit(attention)(query, keys, values, lengths=jnp.asarray(lengths))
    for a, b in zip(got, _naive(*(np.float64(a) for a in (query, keys, values)), lengths), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lengths", [None, jnp.array([5, 1])])
def test_keys_that_a_mask_leaves_out_are_as_if_they_were_not_there(lengths):
    query, keys = _random(2, 4, 3), _random(2, 5, 3, seed=1)
    counts = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]], bool)
    soiled = jnp.where(counts[..., None], keys, jnp.nan)
    context, weights = attention(query, soiled, mask=counts, lengths=lengths)
    for n in range(2 if lengths is None else 1):
        of_rest, weights_of_rest = attention(query[n], keys[n][counts[n]])
        np.testing.assert_allclose(context[n], of_rest, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[n][:, counts[n]], weights_of_rest, rtol=1e-5, atol=1e-6)
        assert not weights[n][:, ~counts[n]].any()
    if lengths is not None:  # of the second sequence no key counts
        assert not context[1].any()
        assert not weights[1].any()


def test_without_lengths_it_agrees_with_jax():
    query, keys = _random(2, 4, 3), _random(2, 5, 3, seed=1)
    context, weights = attention(query, keys)
    want = jax.nn.dot_product_attention(query[:, :, None], keys[:, :, None], keys[:, :, None])[:, :, 0]
    np.testing.assert_allclose(context, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_gradients_stay_finite_and_inside_the_lengths():
    query, keys, lengths = _random(2, 4, 3), _random(2, 5, 3, seed=1), jnp.array([3, 0])

    @jax.jit
    def gradients(query, keys):
        return jax.grad(lambda q, k: jnp.sum(jnp.sin(attention(q, k, lengths=lengths)[0])), (0, 1))(query, keys)

    grads = gradients(query, keys)
    assert all(np.isfinite(g).all() for g in grads)
    assert not grads[1][0, 3:].any()
    assert not grads[1][1].any()
    assert grads[1][0, :3].all()


@pytest.mark.optimized
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_what_is_past_a_length_reaches_neither_results_nor_derivatives(rubbish, dtype):
    query, keys, values = (_random(4, *s, seed=s[0], dtype=dtype) for s in ((2, 3), (5, 3), (6, 2)))
    values, lengths = values[:, :5], jnp.array([5, 3, 0, 1])
    past = jnp.arange(5)[None, :, None] >= lengths[:, None, None]

    def everything(lengths, query, *memory):
        """Results, gradients, tangents, and the gradients of tangents."""

        def loss(*inputs):
            return sum(jnp.sum(jnp.sin(a.astype(jnp.float32))) for a in attention(*inputs, lengths=lengths))

        def tangent(*inputs):
            return jax.jvp(loss, inputs, inputs)[1]

        inputs = (query, *memory)
        every = range(len(inputs))
        return attention(*inputs, lengths=lengths), *(jax.grad(f, every)(*inputs) for f in (loss, tangent))

    soiled = [jnp.where(past, jnp.asarray(rubbish, dtype), a) for a in (keys, values)]
    clean = [jnp.where(past, jnp.zeros_like(a), a) for a in (keys, values)]
    traced = jax.jit(everything)
    for memory in (1, 2):
        wanted = traced(lengths, query, *clean[:memory])
        got = traced(lengths, query, *soiled[:memory])
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(wanted))
        jax.tree.map(np.testing.assert_array_equal, got, wanted)
        for of_query, *of_memory in got[1:]:
            assert not of_query[2].any()
            assert not any(np.asarray(a)[np.broadcast_to(past, a.shape)].any() for a in of_memory)
    context, weights = jax.vmap(attention)(query, *soiled, lengths=lengths)
    np.testing.assert_allclose(*(np.float32(a) for a in (context, traced(lengths, query, *clean)[0][0])), rtol=1e-2)
    assert np.isfinite(weights).all()


def test_gradients_in_float16_are_finite_where_those_in_float32_can_be_held():
    """The weights' gradient, a sum of values of 1e4 over the features, is above the largest float16."""
    query, keys, values = (_random(*shape, seed=s) for s, shape in enumerate([(3, 8), (5, 8), (5, 8)]))
    values *= 1e4

    def gradients(*inputs):
        return jax.grad(lambda *a: jnp.sum(attention(*a)[0].astype(jnp.float32)), (0, 1, 2))(*inputs)

    got = gradients(*(a.astype(jnp.float16) for a in (query, keys, values)))
    for half, full in zip(got, gradients(query, keys, values), strict=True):
        np.testing.assert_allclose(np.float32(half), full, rtol=1e-2, atol=1e-2 * np.abs(full).max())


def test_half_precision_stays_half():
    query, keys = (_random(2, 4, 3, seed=s, dtype=jnp.bfloat16) for s in (0, 1))
    assert {a.dtype for a in attention(query, keys)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": _random(3, 5, 3)}, r"keys: expected the batch axes of query .*got shape \(3, 5, 3\)"),
        (
            {"query": _random(2, 3)},
            r"keys: expected .* got shape \(2, 5, 3\); a single query .* query\[\.\.\., None, :\]",
        ),
        ({"keys": _random(2, 5, 4)}, r"query, keys: expected .*got \(2, 4, 3\) and \(2, 5, 4\)"),
        ({"values": _random(2, 6, 3)}, "values: expected the 5 steps of keys"),
        ({"keys": _random(2, 5, 3, dtype=jnp.bfloat16)}, "keys: expected the dtype of query"),
        ({"lengths": jnp.array([1])}, r"lengths: expected integers of shape \(2,\), the batch axes of query"),
        ({"lengths": jnp.array([1.0, 2.0])}, "lengths: expected integers"),
        ({"lengths": jnp.array([6, 2])}, r"lengths: expected 0\.\.5, .* got \[6\]"),
        ({"mask": np.ones((2, 5))}, r"mask: expected bool of shape \(2, 5\), .* got float32"),
        ({"mask": np.ones((2, 4), bool)}, r"mask: expected bool of shape \(2, 5\), .* shape \(2, 4\)"),
        ({"lengths": np.array([5, -1])}, r"lengths: expected 0\.\.5, .* got \[-1\]"),
    ],
)
def test_bad_input_is_named(arguments, message):
    given = {"query": _random(2, 4, 3), "keys": _random(2, 5, 3), **arguments}
    with pytest.raises(ValueError, match=message):
        attention(**given)
