"""Bidirectional layers and stacks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R

from .common import CASES, KINDS, assert_close, assert_same, random_state, random_x


def _two_layers(name):
    case = CASES[name]
    first = case.params(3, 4, seed=0)
    return case, [first, case.params(first.output, 5, seed=1)]


@pytest.mark.parametrize("name", KINDS)
def test_bidirectional_is_the_layer_run_both_ways(name):
    case = CASES[name]
    forward, backward = case.params(seed=0), case.params(seed=1)
    x, lengths = random_x(3, 6, 3), jnp.array([6, 2, 0])
    start = R.Directions(random_state(forward, (3,), 1), random_state(backward, (3,), 2))
    y, final = R.bidirectional(case.layer, forward, backward, x, start, lengths=lengths)
    y_f, final_f = case.layer(forward, x, start.forward, lengths=lengths)
    y_b, final_b = case.layer(backward, x, start.backward, lengths=lengths, reverse=True)
    assert_same(y, jnp.concatenate([y_f, y_b], axis=-1))
    assert_same(final, R.Directions(final_f, final_b))


@pytest.mark.parametrize("name", KINDS)
def test_stack_feeds_each_layer_to_the_next(name):
    case, params = _two_layers(name)
    x, lengths = random_x(2, 6, 3), jnp.array([6, 2])
    states = [random_state(p, (2,)) for p in params]
    y, finals = R.stack(case.layer, params, x, states, lengths=lengths)
    y0, final0 = case.layer(params[0], x, states[0], lengths=lengths)
    y1, final1 = case.layer(params[1], y0, states[1], lengths=lengths)
    assert_same((y, finals), (y1, (final0, final1)))


@pytest.mark.parametrize("name", KINDS)
def test_a_loop_of_stack_steps_equals_the_stack(name):
    case, params = _two_layers(name)
    x = random_x(2, 6, 3)
    y, finals = jax.jit(partial(R.stack, case.layer, algorithm="scan"))(params, x)
    states = tuple(p.zero_state((2,), x.dtype) for p in params)
    step = jax.jit(partial(R.stack_step, case.step))
    for t in range(6):
        states = step(params, states, x[:, t])
        assert_close(states[-1].h, y[:, t], 1e-5, 1e-6)
    assert_close(states, finals, 1e-5, 1e-6)


def test_a_stack_of_bidirectional_layers_runs_and_differs_by_direction():
    first = R.Directions(*(CASES["gru"].params(3, 4, seed=s) for s in (0, 1)))
    second = R.Directions(*(CASES["gru"].params(8, 2, seed=s) for s in (2, 3)))
    x = random_x(2, 6, 3)
    y, finals = R.stack(R.gru, [first, second], x)
    assert y.shape == (2, 6, 4)
    middle, _ = R.bidirectional(R.gru, *first, x)
    want, _ = R.bidirectional(R.gru, *second, middle)
    assert_close(y, want, 1e-6, 1e-6)
    assert_same(finals[1].forward.h, y[:, -1, :2])
    assert_same(finals[1].backward.h, y[:, 0, 2:])


def test_dropout_lies_between_layers_only_and_keeps_the_mean():
    def identity(params, x, state=None):
        return x + params, state

    x, key = jnp.ones((100, 100, 1)), jax.random.key(0)
    y, _ = R.stack(identity, [0.0], x, dropout=0.5, key=key)
    assert_same(y, x)
    y, _ = R.stack(identity, [0.0, 0.0], x, dropout=0.25, key=key)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_allclose(y.mean(), 1, atol=0.02)
    np.testing.assert_allclose((y == 0).mean(), 0.25, atol=0.02)
    three, _ = R.stack(identity, [0.0, 0.0, 0.0], x, dropout=0.5, key=key)
    np.testing.assert_allclose((three == 0).mean(), 0.75, atol=0.02)


def test_dropout_may_be_traced_and_none_equals_zero():
    case, params = _two_layers("lstm-projection")
    x, key = random_x(2, 6, 3), jax.random.key(0)
    plain = R.stack(case.layer, params, x)
    traced = jax.jit(lambda rate: R.stack(case.layer, params, x, dropout=rate, key=key))
    assert_close(traced(0.0), plain, 1e-6, 1e-6)
    assert not np.allclose(traced(0.5)[0], plain[0])
    assert_same(traced(0.5), traced(0.5))


def test_a_traced_dropout_of_one_leaves_zeros_in_values_and_gradients():
    _, params = _two_layers("gru")
    x, key = random_x(2, 6, 3), jax.random.key(0)

    def loss(params, x, rate):
        return jnp.sum(R.stack(R.gru, params, x, dropout=rate, key=key)[0] ** 2)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(params, x, 1.0)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert not gradients[1].any()
    dropped = jax.jit(lambda rate: R.stack(R.gru, params, x, dropout=rate, key=key))(1.0)
    assert_close(dropped[0], R.gru(params[1], jnp.zeros((2, 6, params[1].w_x.shape[0])))[0], 1e-6, 1e-6)


@pytest.mark.parametrize("rate", [np.float32(1.5), np.float64(1.0), jnp.float32(-0.5), float("nan"), 1, np.array(2)])
def test_every_concrete_dropout_is_checked(rate):
    _, params = _two_layers("gru")
    with pytest.raises(ValueError, match=r"dropout: expected a real number in \[0, 1\)"):
        R.stack(R.gru, params, random_x(2, 6, 3), dropout=rate, key=jax.random.key(0))


@pytest.mark.parametrize("rate", [True, "0.5", None, 0.5j, np.zeros(2)])
def test_dropout_that_is_no_real_number_is_named(rate):
    _, params = _two_layers("gru")
    with pytest.raises(ValueError, match="dropout: expected a real number"):
        R.stack(R.gru, params, random_x(2, 6, 3), dropout=rate, key=jax.random.key(0))


@pytest.mark.parametrize("rate", [np.float32(0), jnp.float32(0), 0])
def test_a_concrete_dropout_of_zero_needs_no_key(rate):
    case, params = _two_layers("gru")
    x = random_x(2, 6, 3)
    assert_same(R.stack(case.layer, params, x, dropout=rate), R.stack(case.layer, params, x))


def test_options_reach_every_layer():
    _, params = _two_layers("gru")
    x = random_x(2, 6, 3)
    moved, _ = R.stack(R.gru, params, jnp.moveaxis(x, 1, 0), time_major=True, reset_after=False)
    assert_same(jnp.moveaxis(moved, 0, 1), R.stack(R.gru, params, x, reset_after=False)[0])


CALLS = {
    "one layer": (lambda p, x: R.stack(R.gru, p[0], x), "params_per_layer: expected a list .* got GRUParams; put them"),
    "no layers": (lambda p, x: R.stack(R.gru, [], x), "params_per_layer"),
    "state": (
        lambda p, x: R.stack(R.gru, p[:1], x, R.gru(p[0], x)[1]),
        r"states: expected a tuple with the state of each layer, got GRUState; of one layer write",
    ),
    "states": (lambda p, x: R.stack(R.gru, p, x, [None]), "states: expected one for each of 2 layers, got 1"),
    "no key": (lambda p, x: R.stack(R.gru, p, x, dropout=0.5), "key: expected a random key for dropout=0.5, got None"),
    "reverse": (lambda p, x: R.bidirectional(R.gru, p[0], p[0], x, reverse=True), "reverse"),
    "one state": (
        lambda p, x: R.bidirectional(R.gru, p[0], p[0], x, p[0].zero_state((2,), x.dtype)),
        "state: expected a pair",
    ),
    "state of one direction": (
        lambda p, x: R.bidirectional(R.lstm, p[0], p[0], x, R.LSTMState(x[:, 0], x[:, 0])),
        r"state: expected a pair \(forward, backward\), got LSTMState",
    ),
    "streaming": (
        lambda p, x: R.stack_step(R.gru_step, [R.Directions(p[0], p[0])], [None], x[:, 0]),
        "bidirectional",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_cannot_be_composed_is_named(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call(_two_layers("gru")[1], random_x(2, 6, 3))


def test_both_directions_of_a_cell_that_puts_out_several_arrays_stand_side_by_side():
    cell = R.lstm_cell()._replace(output=lambda params, state: state)
    forward, backward = (CASES["lstm"].params(seed=seed) for seed in (0, 1))
    x = random_x(2, 5, 3)
    y, _ = R.bidirectional(cell, forward, backward, x)
    expected = [R.recurrent(cell, p, x, reverse=way)[0] for p, way in ((forward, False), (backward, True))]
    assert_same(y, jax.tree.map(lambda *sides: jnp.concatenate(sides, axis=-1), *expected))
