"""What holds for every layer: padding, chunks, streaming, resets, time-major, vmap."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .common import CASES, KINDS, assert_close, assert_same, float64, random_state, random_x

pytestmark = pytest.mark.parametrize("name", KINDS)


def _setting(name, batch=(3,), time=7, dtype=jnp.float32):
    case = CASES[name]
    params = case.params(dtype=dtype)
    return case, params, random_x(*batch, time, 3, dtype=dtype), random_state(params, batch, dtype=dtype)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("batch", "dtype"), [((), jnp.float32), ((1,), jnp.float32), ((2, 3), jnp.float32), ((2, 3), jnp.bfloat16)]
)
def test_a_loop_of_steps_equals_the_whole_scan_bit_for_bit(name, batch, dtype):
    case, params, x, state = _setting(name, batch, dtype=dtype)
    y, final = jax.device_get(jax.jit(partial(case.layer, algorithm="scan"))(params, x, state))
    step = jax.jit(case.step)
    for t in range(x.shape[-2]):
        state = step(params, state, x[..., t, :])
        assert_same(state.h, y[..., t, :])
    assert_same(state, final)


# Lengths are programs of their own: how a processor joins a product and a sum may differ from one to another.
@pytest.mark.parametrize("reverse", [False, True])
def test_a_sequence_cut_in_chunks_equals_the_whole(name, reverse):
    case, params, x, start = _setting(name)
    run = jax.jit(partial(case.layer, reverse=reverse))
    whole_y, whole = run(params, x, start)
    for cut in (0, 3, 4, 7):
        state, parts = start, [x[:, :cut], x[:, cut:]]
        for n in (1, 0) if reverse else (0, 1):
            parts[n], state = run(params, parts[n], state)
        assert_close(np.concatenate(parts, axis=1), whole_y, 1e-5, 1e-6)
        assert_close(state, whole, 1e-5, 1e-6)


def test_chunks_of_padded_sequences_equal_the_whole(name):
    case, params, x, state = _setting(name)
    lengths = jnp.array([7, 2, 0])
    whole_y, whole = case.layer(params, x, state, lengths=lengths)
    y0, middle = case.layer(params, x[:, :3], state, lengths=jnp.clip(lengths, 0, 3))
    y1, final = case.layer(params, x[:, 3:], middle, lengths=jnp.clip(lengths - 3, 0, 4))
    assert_same(jnp.concatenate([y0, y1], axis=1), whole_y)
    assert_same(final, whole)


@pytest.mark.optimized
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_has_no_effect_on_values_or_gradients_whatever_stands_there(name, reverse):
    case, params, x, state = _setting(name)
    lengths = jnp.array([7, 4, 0])
    inside = (jnp.arange(7)[None] < lengths[:, None])[..., None]

    def loss(params, x, state):
        y, final = case.layer(params, x, state, lengths=lengths, reverse=reverse)
        return sum(jnp.sum(jnp.sin(a)) for a in (y, *final))

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    clean, poisoned = (run(params, jnp.where(inside, x, bad), state) for bad in (0.0, jnp.nan))
    assert_same(poisoned, clean)
    assert not np.any(np.where(inside, 0, clean[1][1]))


@pytest.mark.parametrize("reverse", [False, True])
def test_padded_sequences_equal_the_same_sequences_alone(name, reverse):
    case, params, x, state = _setting(name)
    lengths = [7, 4, 1]
    y, final = jax.device_get(case.layer(params, x, state, lengths=jnp.array(lengths), reverse=reverse))
    for n, length in enumerate(lengths):
        alone_y, alone = case.layer(params, x[n, :length], jax.tree.map(lambda a, n=n: a[n], state), reverse=reverse)
        assert_close(y[n, :length], alone_y, 1e-6, 1e-6)
        assert not y[n, length:].any()
        assert_close(jax.tree.map(lambda a, n=n: a[n], final), alone, 1e-6, 1e-6)


def test_lengths_are_traced_and_clipped_there(name):
    case, params, x, state = _setting(name)
    traces = []

    @jax.jit
    def run(lengths):
        traces.append(None)
        return case.layer(params, x, state, lengths=lengths)

    for given_lengths, same_as in (([9, 7, 100], [7, 7, 7]), ([-1, 3, -5], [0, 3, 0])):
        assert_same(run(jnp.array(given_lengths)), run(jnp.array(same_as)))
    assert len(traces) == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_documents_equal_the_documents_alone(name, reverse):
    case, params, x, _ = _setting(name, ())
    starts = [0, 3, 4, 7]
    resets = jnp.zeros(7, bool).at[jnp.array(starts[:-1])].set(True)
    y, _ = case.layer(params, x, resets=resets, reverse=reverse)
    alone = [case.layer(params, x[a:b], reverse=reverse)[0] for a, b in pairwise(starts)]
    assert_close(y, jnp.concatenate(alone), 1e-6, 1e-6)


def test_no_gradient_passes_a_reset(name):
    case, params, x, state = _setting(name, ())
    resets = jnp.arange(7) == 4

    def late(x, state, reverse):
        y, _ = case.layer(params, x, state, resets=resets, reverse=reverse)
        return jnp.sum(y[:4] if reverse else y[4:])

    gradient = jax.jit(jax.grad(late, argnums=(0, 1)), static_argnums=2)
    d_x, d_state = gradient(x, state, False)
    assert not d_x[:4].any()
    assert all(np.all(d_x[4:].any(axis=1)) and not a.any() for a in d_state)
    d_x, d_state = gradient(x, state, True)
    assert not d_x[4:].any()
    assert all(np.all(d_x[:4].any(axis=1)) and not a.any() for a in d_state)


@pytest.mark.parametrize("reverse", [False, True])
def test_time_major_is_the_same_with_the_axes_moved(name, reverse):
    case, params, x, state = _setting(name, (2, 3))
    lengths = jnp.array([[7, 4, 0], [1, 2, 3]])
    resets = jnp.asarray(np.random.default_rng(5).random((2, 3, 7)) < 0.3)
    y, final = case.layer(params, x, state, lengths=lengths, resets=resets, reverse=reverse)
    y_t, final_t = case.layer(
        params,
        jnp.moveaxis(x, -2, 0),
        state,
        lengths=lengths,
        resets=jnp.moveaxis(resets, -1, 0),
        reverse=reverse,
        time_major=True,
    )
    assert_same(jnp.moveaxis(y_t, 0, -2), y)
    assert_same(final_t, final)


def test_time_major_copies_nothing(name):
    case, params, x, _ = _setting(name)
    for time_major, expected in ((True, False), (False, True)):
        jaxpr = str(jax.make_jaxpr(lambda x, m=time_major: case.layer(params, x, time_major=m))(x))
        assert ("transpose" in jaxpr) == expected


def test_vmap_over_sequences_equals_batch_axes(name):
    case, params, x, state = _setting(name)
    lengths = jnp.array([7, 4, 0])
    mapped = jax.jit(jax.vmap(lambda x, s, n: case.layer(params, x, s, lengths=n)))(x, state, lengths)
    assert_close(mapped, case.layer(params, x, state, lengths=lengths), 1e-6, 1e-6)


def test_vmap_over_parameters_equals_one_after_the_other(name):
    case, _, x, _ = _setting(name)
    several = [case.params(seed=s) for s in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *several)
    mapped = jax.jit(jax.vmap(case.layer, in_axes=(0, None)))(stacked, x)
    for n, params in enumerate(several):
        assert_close(jax.tree.map(lambda a, n=n: a[n], mapped), case.layer(params, x), 1e-6, 1e-6)


def test_parameters_in_float64_of_numpy_are_read_as_inputs_are(name):
    """`jax.jit` makes float32 of them too."""
    case, params, x, state = _setting(name)
    assert_same(case.layer(float64(params), float64(x), float64(state)), case.layer(params, x, state))
    assert_same(case.step(float64(params), state, x[:, 0]), case.step(params, state, x[:, 0]))
