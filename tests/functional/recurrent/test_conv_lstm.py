"""The convolutional LSTM against the formula in float64, over one to three spatial axes, and its treatment of time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import testing
from tests import oracles_recurrent as oracle

from .common import assert_close, assert_same, float64, random_x, randomised

KEY = jax.random.key(0)

# size of the inputs, window, size of the outputs, options of the inputs' convolution
SETTINGS = {
    "1d": ((5,), (3,), (5,), {}),
    "2d": ((3, 4), (3, 2), (3, 4), {}),
    "3d": ((2, 3, 2), (2, 3, 1), (2, 3, 2), {}),
    "strided": ((5, 4), (3, 2), (3, 2), {"stride": 2}),
    "valid, strided by axis": ((5, 4), (3, 2), (3, 2), {"stride": (1, 2), "padding": "VALID"}),
    "dilated, padded in pairs": ((6,), (3,), (5,), {"dilation": 2, "padding": [(1, 2)]}),
    "circular": ((5, 4), (3, 2), (5, 4), {"pad_mode": "circular"}),
    "causal": ((5,), (3,), (5,), {"padding": "CAUSAL"}),
}


def setting(name="2d", *, peephole=False, batch=(2,), time=4, dtype=jnp.float32):
    """Parameters, inputs and a random state."""
    size, window, out, _ = SETTINGS[name]
    params = randomised(F.init_conv_lstm(KEY, 2, 3, window, peephole=out if peephole else None), dtype=dtype)
    zero = params.zero_state(batch, dtype, out)
    rng = np.random.default_rng(1)
    state = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), zero)
    return params, random_x(*batch, time, *size, 2, dtype=dtype), state


def by_oracle(params, x, state, **options):
    y, final = oracle.batch(
        oracle.conv_lstm_step, *float64((params, x, tuple(state))), feature_axes=params.spatial + 1, **options
    )
    return y, F.ConvLSTMState(*final)


@pytest.mark.parametrize(("name", "peephole"), [*((name, True) for name in SETTINGS), ("2d", False)])
def test_a_sequence_agrees_with_the_formula(name, peephole):
    params, x, state = setting(name, peephole=peephole)
    options = SETTINGS[name][3]
    assert_close(F.conv_lstm(params, x, state, **options), by_oracle(params, x, state, **options))


def test_activations_agree_with_the_formula():
    params, x, state = setting(peephole=True)
    got = F.conv_lstm(params, x, state, activation=jnp.sin, gate_activation=jax.nn.hard_sigmoid)
    assert_close(got, by_oracle(params, x, state, activation=np.sin, gate=lambda a: np.clip(a + 3, 0, 6) / 6))


def test_windows_of_inputs_and_state_may_differ():
    params, x, state = setting()
    params = params._replace(w_h=randomised(F.init_conv_lstm(KEY, 2, 3, (1, 3))).w_h)
    assert_close(F.conv_lstm(params, x, state), by_oracle(params, x, state))


def test_parameters_in_float64_of_numpy_are_read_as_inputs_are():
    params, x, state = setting()
    assert_close(F.conv_lstm(float64(params), x, state), F.conv_lstm(params, x, state), 0, 0)


def test_windows_of_one_element_make_an_lstm_of_every_place():
    params = randomised(F.init_conv_lstm(KEY, 2, 3, (1, 1)))
    x = random_x(2, 4, 3, 4, 2)
    y, state = F.conv_lstm(params, x)
    dense = F.LSTMParams(params.w_x[0, 0], params.w_h[0, 0], params.b)
    expected, last = F.lstm(dense, jnp.moveaxis(x, 1, -2))
    assert_close(y, jnp.moveaxis(expected, -2, 1), 1e-5, 1e-6)
    assert_close(tuple(state), tuple(last), 1e-5, 1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_resets_and_direction_agree_with_the_formula(reverse):
    params, x, state = setting("1d", batch=(3,))
    lengths = np.array([4, 3, 0], np.int32)
    resets = np.array([[False, True, False, True], [True, False, True, False], [False] * 4])
    options = {"lengths": lengths, "resets": resets, "reverse": reverse}
    past = np.arange(4)[:, None, None] >= lengths[:, None, None, None]
    expected = by_oracle(params, x, state, **options)
    assert_close(F.conv_lstm(params, jnp.where(past, jnp.nan, x), state, **options), expected)


def test_streaming_chunks_time_major_and_remat_equal_the_whole():
    params, x, state = setting("strided")
    options = SETTINGS["strided"][3]
    run = partial(F.conv_lstm, **options)
    y, final = run(params, x, state)
    step, now = jax.jit(partial(F.conv_lstm_step, **options)), state
    for t in range(x.shape[1]):
        now = step(params, now, x[:, t])
        assert_close(now.h, y[:, t], 1e-5, 1e-6)
    assert_close(now, final, 1e-5, 1e-6)
    early, middle = run(params, x[:, :3], state)
    late, last = run(params, x[:, 3:], middle)
    assert_close((jnp.concatenate([early, late], axis=1), last), (y, final), 1e-5, 1e-6)
    moved, last = run(params, jnp.moveaxis(x, 1, 0), state, time_major=True, remat=2)
    assert_close((jnp.moveaxis(moved, 0, 1), last), (y, final), 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["1d", "valid, strided by axis"])
def test_derivatives_of_both_modes_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        params, x, state = setting(name, peephole=True, time=2, dtype=jnp.float64)

        def run(params, x, state):
            return F.conv_lstm(params, x, state, lengths=jnp.array([2, 1]), **SETTINGS[name][3])

        testing.assert_gradients(run, (params, x, state))


def test_layers_are_stacked_and_run_both_ways():
    params, x, _ = setting()
    above = randomised(F.init_conv_lstm(KEY, 6, 3, (3, 3)))
    y, states = F.stack(F.conv_lstm, [F.Directions(params, params), above], x)
    forward, _ = F.conv_lstm(params, x)
    backward, _ = F.conv_lstm(params, x, reverse=True)
    expected, last = F.conv_lstm(above, jnp.concatenate([forward, backward], axis=-1))
    assert_close((y, states[1]), (expected, last), 1e-6, 1e-6)


def test_the_cell_is_the_layer():
    params, x, state = setting("strided")
    cells = [F.conv_lstm_cell(size, stride=stride) for size, stride in (([5, 4], 2), ((5, 4), (2, 2)))]
    assert cells[0] == cells[1]
    assert hash(cells[0]) == hash(cells[1])
    assert_same(F.recurrent(cells[0], params, x, state), F.conv_lstm(params, x, state, stride=2))
    cell = cells[0]
    got = cell.advance(params, state, cell.project(params, x)[:, 0])
    assert_close(got, cell.step(params, state, x[:, 0]), 1e-5, 1e-6)
    assert_same(F.recurrent_step(cell, params, state, x[:, 0]), F.conv_lstm_step(params, state, x[:, 0], stride=2))


def test_every_gate_starts_orthogonal_and_only_the_forget_gate_has_a_bias():
    params = F.init_conv_lstm(KEY, 2, 4, 3)
    assert params.w_x.shape == (3, 3, 2, 16)
    assert (params.spatial, params.hidden, params.output) == (2, 4, 4)
    for gate in jnp.split(params.w_h.reshape(-1, 16), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-5)
    np.testing.assert_array_equal(params.b, np.repeat([0, 1, 0, 0], 4))
    half = F.init_conv_lstm(KEY, 2, 4, 3, dtype=jnp.bfloat16)
    assert half.w_h.dtype == jnp.bfloat16
    assert [a.dtype for a in half.zero_state((), jnp.bfloat16, (2, 2))] == [jnp.bfloat16, jnp.float32]


P, X, STATE = setting()

CALLS = {
    "features": (lambda: F.conv_lstm(P, jnp.ones((2, 4, 3, 4, 5))), r"x: expected .* the 2 features .* got 5 features"),
    "axes": (
        lambda: F.conv_lstm(P, jnp.ones((4, 3, 2))),
        r"x: expected \(\*batch, time, \*spatial, features\), at least 4 axes, got shape \(4, 3, 2\)",
    ),
    "time-major": (lambda: F.conv_lstm(P, jnp.ones(2), time_major=True), r"x: expected \(time, \*batch, \*spatial"),
    "other layer": (lambda: F.conv_lstm(F.init_gru(KEY, 2, 3), X), "params: expected ConvLSTMParams, got GRUParams"),
    "dtypes": (lambda: F.conv_lstm(P, X.astype(jnp.bfloat16)), "params: expected the dtype of x, bfloat16"),
    "state": (
        lambda: F.conv_lstm(P, X, P.zero_state((2,), X.dtype, (3, 3))),
        r"state\.h: expected shape \(2, 3, 4, 3\).*got \(2, 3, 3, 3\)",
    ),
    "state's kernel": (
        lambda: F.conv_lstm(P._replace(w_h=jnp.ones((3, 2, 3, 9))), X),
        r"params\.w_h: expected \(\*window, hidden, 4 \* hidden\)",
    ),
    "inputs' kernel": (
        lambda: F.conv_lstm(P._replace(w_x=jnp.ones((3, 2, 12))), X),
        r"params\.w_x: expected \(\*window, features, 12\) with the 2 window axes",
    ),
    "bias": (lambda: F.conv_lstm(P._replace(b=jnp.ones(3)), X), r"params\.b: expected shape \(12,\)"),
    "peephole": (
        lambda: F.conv_lstm(P._replace(peephole=jnp.ones((3, 3, 4, 3))), X, padding="VALID"),
        r"params\.peephole: expected \(3, \*spatial, hidden\) = \(3, 1, 3, 3\)",
    ),
    "window": (lambda: F.conv_lstm(P, X[..., :1, :, :], padding="VALID"), "expected a window that fits"),
    "size": (
        lambda: F.recurrent(F.conv_lstm_cell((4, 4)), P, X),
        r"x: expected pictures of the size \(4, 4\).*got \(3, 4\)",
    ),
    "size of one number": (lambda: F.conv_lstm_cell(4), "size: expected one int per spatial axis, got 4"),
    "stride": (lambda: F.conv_lstm(P, X, stride=(1, 2, 3)), "stride: expected one entry per spatial axis"),
    "padding": (lambda: F.conv_lstm(P, X, padding="SOME"), "padding: expected one of"),
    "pad mode": (lambda: F.conv_lstm_cell((4, 4), pad_mode="mirror"), "pad_mode: expected one of .*got 'mirror'"),
    "no window": (lambda: F.init_conv_lstm(KEY, 2, 3, ()), "window: expected an entry"),
    "no hidden": (lambda: F.init_conv_lstm(KEY, 2, 0, 3), "hidden: expected a whole number of at least 1"),
    "fused": (lambda: F.conv_lstm(P, X, algorithm="fused"), "algorithm='fused' has no fused form"),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
