"""An initial state that a cell learns: where sequences begin, where resets set them back to, and its gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import modules
from tests import oracles_recurrent as oracle
from tests.functional.recurrent.common import CASES, assert_close, float64

TIME = 6
DECAY, START = np.array([0.5, -0.9]), np.array([2.0, 3.0])


class Params(NamedTuple):
    """Of a leaky sum that begins with `start`."""

    decay: jax.Array
    start: jax.Array


def zero_state(p, batch, dtype):
    return jnp.broadcast_to(p.start, (*batch, *p.start.shape))


def step(p, state, x):
    return jnp.broadcast_to(p.decay, x.shape) * state + x


CELL = F.Cell(zero_state, step)
PARAMS = Params(jnp.asarray(DECAY, jnp.float32), jnp.asarray(START, jnp.float32))
X = np.random.default_rng(0).normal(size=(3, TIME, 2)).astype(np.float32)


def by_hand(x, counts, resets, reverse):
    """`y_t` of the steps that count and, for each, the power of the decay with which the learned state is in it."""
    y, power = np.zeros(x.shape), np.zeros(x.shape[:2])
    for n in range(len(x)):
        state, age = START, 0
        for t in range(TIME)[:: -1 if reverse else 1]:
            if not reverse and resets[n, t]:
                state, age = START, 0
            if counts[n, t]:
                state, age = DECAY * state + x[n, t], age + 1
                y[n, t], power[n, t] = state, age
            if reverse and resets[n, t] and t > 0:
                state, age = START, 0
    return y, power


def scaled(p, state, x):
    return p["decay"] * state + p["gain"] * x


def test_numbers_are_parameters_as_arrays_are():
    cell = F.Cell(lambda p, batch, dtype: jnp.zeros((*batch, 2), dtype), scaled)
    y, _ = F.recurrent(cell, {"decay": 0.5, "gain": 3}, X)
    expected = np.zeros((3, 2))
    for t in range(TIME):
        expected = 0.5 * expected + 3 * X[:, t]
        np.testing.assert_allclose(y[:, t], expected, rtol=1e-5, atol=1e-6)
    traced = jax.jit(lambda x: F.recurrent(cell, {"decay": 0.5, "gain": 3}, x, lengths=[6, 6, 6])[0])(X)
    np.testing.assert_allclose(traced, y, rtol=1e-6)
    module = modules.Recurrent(modules.Cell(cell, {"decay": 0.5, "gain": 3}))
    np.testing.assert_allclose(module(X), y, rtol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_sequences_begin_with_it_and_resets_go_back_to_it(reverse):
    rng = np.random.default_rng(1)
    resets, counts = rng.random((3, TIME)) < 0.4, rng.random((3, TIME)) < 0.7

    def run(params):
        return F.recurrent(CELL, params, X, resets=resets, mask=counts, reverse=reverse)[0]

    def loss(params):
        return jnp.sum(run(params))

    y, power = by_hand(X, counts, resets, reverse)
    np.testing.assert_allclose(run(PARAMS), y, rtol=1e-5, atol=1e-6)
    reached = np.sum(np.where(counts[..., None], DECAY ** power[..., None], 0), axis=(0, 1))
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(PARAMS).start, reached, rtol=1e-5)


def test_a_state_that_is_given_takes_its_place_until_a_reset():
    given = jnp.ones((3, 2))
    resets = np.arange(TIME) == 2

    def ends(start, resets):
        _, final = F.recurrent(CELL, PARAMS._replace(start=start), X, given, resets=resets)
        return jnp.sum(final)

    gradient = jax.jit(jax.grad(ends))
    assert not gradient(PARAMS.start, None).any()
    reached = gradient(PARAMS.start, np.broadcast_to(resets, (3, TIME)))
    np.testing.assert_allclose(reached, 3 * DECAY ** (TIME - 2), rtol=1e-5)


def test_a_sequence_of_no_steps_returns_it():
    y, final = F.recurrent(CELL, PARAMS, X, lengths=np.array([0, 2, 0]))
    np.testing.assert_array_equal(final[0], PARAMS.start)
    assert not y[0].any()


def test_both_directions_and_a_stack_begin_with_their_own():
    backward = PARAMS._replace(start=jnp.array([-1.0, 7.0]))
    nothing = jnp.zeros((1, 2))
    y, _ = F.bidirectional(CELL, PARAMS, backward, nothing)
    np.testing.assert_allclose(y[0], np.concatenate([DECAY * START, DECAY * backward.start]), rtol=1e-6)
    y, _ = F.stack(CELL, [PARAMS, backward], nothing)
    np.testing.assert_allclose(y[0], DECAY * START + DECAY * np.asarray(backward.start), rtol=1e-6)


CELLS = {
    "rnn": F.rnn_cell(),
    "rnn-relu": F.rnn_cell(activation=jax.nn.relu),
    "gru": F.gru_cell(),
    "gru-reset-before": F.gru_cell(reset_after=False),
    "lstm": F.lstm_cell(),
}


def learned(cell):
    """A cell of this library with an initial state that it learns, as the second of its parameters."""
    return F.Cell(
        lambda p, batch, dtype: jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, *a.shape)), p[1]),
        lambda p, state, x: cell.step(p[0], state, x),
        fused=lambda p: cell.fused(p[0]),
    )


@pytest.mark.parametrize(
    ("name", "options"), [("gru", {}), ("rnn", {"reverse": True}), ("lstm", {"reverse": True, "remat": 4})], ids=str
)
def test_fused_goes_back_to_it_as_the_scan_does(name, options):
    case = CASES[name]
    cell = learned(CELLS[name])
    rng = np.random.default_rng(2)
    resets, counts = rng.random((3, TIME)) < 0.4, rng.random((3, TIME)) < 0.8
    with jax.enable_x64(True):
        weights = case.params(2, 3, dtype=jnp.float64)
        start = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), weights.zero_state((), jnp.float64))
        params, x = (weights, start), jnp.asarray(X, jnp.float64)

        def program(algorithm):
            def of(params, x):
                run = {"resets": resets, "mask": counts, "algorithm": algorithm, **options}
                y, final = F.recurrent(cell, params, x, **run)
                return jnp.sum(jnp.sin(y)) + sum(jnp.sum(a**2) for a in final), y

            args = params, x
            return jax.value_and_grad(of, (0, 1), has_aux=True)(*args), jax.jvp(of, args, args)[1]

        got, expected = (jax.jit(program, static_argnums=0)(a) for a in ("fused", "scan"))
    assert_close(got, expected, 1e-11, 1e-11)
    ((_, y), gradients), _ = got
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients[0][1]))
    weights, start = float64(params)
    steps = {"reverse": options.get("reverse", False), "restart": tuple(start), **case.oracle_options}
    for n in range(3):
        by_hand, _ = oracle.sequence(
            case.oracle, weights, np.float64(X[n]), tuple(start), mask=counts[n], resets=resets[n], **steps
        )
        np.testing.assert_allclose(y[n], by_hand, rtol=1e-6, atol=1e-9)


def test_in_half_precision_fused_sums_its_gradient_in_float32():
    """In bfloat16 a sum of ones sticks at 256."""
    one = jnp.ones((1, 1), jnp.bfloat16)
    params = F.RNNParams(one, one, jnp.zeros(1, jnp.bfloat16)), F.RNNState(jnp.ones(1, jnp.bfloat16))

    def loss(params):
        options = {"resets": np.ones(1024, bool), "algorithm": "fused"}
        y, _ = F.recurrent(learned(CELLS["rnn-relu"]), params, jnp.zeros((1024, 1), jnp.bfloat16), **options)
        return jnp.sum(y.astype(jnp.float32))

    assert float(jax.jit(jax.grad(loss))(params)[1].h[0]) == 1024


@pytest.mark.parametrize("remat", [None, 32])
def test_in_half_precision_its_gradient_is_summed_in_float32(remat):
    """In bfloat16 a sum of ones sticks at 256."""
    params = Params(jnp.zeros(1, jnp.bfloat16), jnp.zeros(1, jnp.bfloat16))
    one = params._replace(decay=jnp.ones(1, jnp.bfloat16))
    x = jnp.zeros((1024, 1), jnp.bfloat16)

    def loss(params):
        y, _ = F.recurrent(CELL, params, x, resets=np.ones(1024, bool), remat=remat)
        return jnp.sum(y.astype(jnp.float32))

    assert float(jax.jit(jax.grad(loss))(one).start[0]) == 1024
