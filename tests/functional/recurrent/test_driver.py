"""What holds for every layer: padding, masks, chunks, streaming, resets, time-major, vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import testing

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


def test_time_is_treated_as_users_check_it(name):
    case, checks = CASES[name], ["padding", "chunks", "gradients", "resets", "mask"]
    testing.assert_sequence_invariant(case.layer, case.params(), random_x(3, 5, 3), checks=checks)


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


def test_time_major_is_the_same_with_the_axes_moved(name):
    case, params, x, state = _setting(name, (2, 3))
    lengths = jnp.array([[7, 4, 0], [1, 2, 3]])
    rng = np.random.default_rng(5)
    resets, mask = rng.random((2, 3, 7)) < 0.3, rng.random((2, 3, 7)) < 0.7
    y, final = case.layer(params, x, state, lengths=lengths, resets=resets, mask=mask, reverse=True)
    y_t, final_t = case.layer(
        params,
        jnp.moveaxis(x, -2, 0),
        state,
        lengths=lengths,
        resets=np.moveaxis(resets, -1, 0),
        mask=np.moveaxis(mask, -1, 0),
        reverse=True,
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
