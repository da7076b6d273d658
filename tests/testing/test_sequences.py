"""Bugs that recurrent layers are known for are planted, and must be caught; the right layers must pass."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import functional as R
from jaxnn import testing
from tests import oracles_recurrent as oracle
from tests.functional.recurrent.common import randomised

X = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5, 3)), jnp.float32)
RNN, GRU, LSTM = (randomised(init(jax.random.key(0), 3, 4)) for init in (R.init_rnn, R.init_gru, R.init_lstm))
PROJECTED = randomised(R.init_lstm(jax.random.key(0), 3, 4, projection=2, peephole=True, coupled=True, layer_norm=True))


class TestRightLayersRaiseNoFalseAlarm:
    @pytest.mark.parametrize(
        ("layer", "step", "params", "directions"),
        [
            pytest.param(F.gru, F.gru_step, GRU, ["forward", "backward"], id="gru"),
            pytest.param(F.lstm, F.lstm_step, PROJECTED, ["forward"], id="lstm with everything"),
        ],
    )
    def test_in_every_check(self, layer, step, params, directions):
        testing.assert_sequence_invariant(layer, params, X, step=step, directions=directions)

    def test_in_masks(self):
        testing.assert_sequence_invariant(F.gru, GRU, X, checks=["mask"])

    @pytest.mark.parametrize("seed", range(2))
    def test_for_any_values(self, seed):
        x = jnp.asarray(np.random.default_rng(seed).normal(size=X.shape), jnp.float32)
        testing.assert_sequence_invariant(F.rnn, randomised(RNN, seed), x, checks=["padding", "resets"], seed=seed)

    def test_in_bfloat16(self):
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (GRU, X))
        testing.assert_sequence_invariant(F.gru, params, x, checks=["padding", "resets"], directions=["forward"])

    def test_in_both_directions_at_once(self):
        def layer(params, x, state=None, reverse=False, **options):
            return F.bidirectional(F.lstm, *params, x, state, **options)

        pair = randomised(LSTM, 1), randomised(LSTM, 2)
        testing.assert_sequence_invariant(layer, pair, X, checks=["padding"], directions=["forward"])


def gates_swapped(params, x, state=None, **options):
    """Reads i, f, g, o as i, f, o, g, as some libraries store them."""
    swap = lambda w: w[..., np.r_[0:8, 12:16, 8:12]]  # noqa: E731
    return F.lstm(jax.tree.map(swap, params), x, state, **options)


def lstm_oracle(params, x):
    y, final = oracle.batch(oracle.lstm_step, params, x, (np.zeros((len(x), 4)), np.zeros((len(x), 4))))
    return y, R.LSTMState(*final)


class TestWrongGates:
    def test_two_swapped_are_caught_by_the_oracle(self):
        with pytest.raises(AssertionError, match=r"worst at (\[|\.)"):
            testing.assert_close_to_oracle(gates_swapped, lstm_oracle, (LSTM, X), reduction=8, roundings=48)

    def test_right_ones_pass(self):
        testing.assert_close_to_oracle(F.lstm, lstm_oracle, (LSTM, X), reduction=8, roundings=48)

    def test_time_alone_does_not_show_them(self):
        testing.assert_sequence_invariant(gates_swapped, LSTM, X, checks=["padding", "reversal"])


def _inside(x, lengths):
    return (jnp.arange(x.shape[1])[None] < jnp.asarray(lengths)[:, None])[..., None]


def state_runs_on(params, x, state=None, lengths=None, **options):
    y, final = F.lstm(params, x, state, **options)
    return y if lengths is None else jnp.where(_inside(x, lengths), y, 0), final


def outputs_run_on(params, x, state=None, lengths=None, **options):
    y, _ = F.lstm(params, x, state, **options)
    return y, F.lstm(params, x, state, lengths=lengths, **options)[1]


def nan_spreads(params, x, state=None, lengths=None, **options):
    """As in a layer that multiplies its padding by zero: zero times NaN is NaN."""
    y, final = F.lstm(params, x, state, lengths=lengths, **options)
    return y + 0 * jnp.sum(x), final


def one_step_too_many(params, x, state=None, lengths=None, **options):
    if lengths is not None:
        lengths = jnp.minimum(jnp.asarray(lengths) + 1, x.shape[1])
    return F.lstm(params, x, state, lengths=lengths, **options)


def reversed_with_its_padding(params, x, state=None, lengths=None, reverse=False, **options):
    if not reverse:
        return F.lstm(params, x, state, lengths=lengths, **options)
    y, final = F.lstm(params, jnp.flip(x, -2), state, lengths=lengths, **options)
    return jnp.flip(y, -2), final


class TestLeaksAcrossLengths:
    @pytest.mark.parametrize(
        ("layer", "message"),
        [
            (state_runs_on, "padding: final state"),
            (outputs_run_on, "padding: outputs past the length 0 are not zero"),
            (nan_spreads, "padding: nan past the lengths has an effect"),
            (one_step_too_many, "padding: "),
            (reversed_with_its_padding, "padding, reverse: "),
        ],
    )
    def test_are_caught(self, layer, message):
        with pytest.raises(AssertionError, match=f"{layer.__name__}, {message}"):
            testing.assert_sequence_invariant(layer, LSTM, X, checks=["padding"])

    def test_in_gradients_alone_are_caught(self):
        def masked_after(params, x, state=None, lengths=None, **options):
            """The values are right; the gradient is NaN, as 0 times that of what stands in the padding."""
            y, final = F.gru(params, x, state, lengths=lengths, **options)
            if lengths is None:
                return y, final
            leak = jnp.where(_inside(x, lengths), 0, jnp.sqrt(jnp.square(x)))
            return y + jnp.where(_inside(x, lengths), 0 * leak[..., :1], 0), final

        testing.assert_sequence_invariant(masked_after, GRU, X, checks=["padding"])
        with pytest.raises(AssertionError, match="masked_after, gradients: with respect to inputs"):
            testing.assert_sequence_invariant(masked_after, GRU, X, checks=["gradients"])

    def test_between_sequences_of_a_batch_are_caught(self):
        def centred(params, x, state=None, **options):
            return F.rnn(params, x - x.mean(axis=0, keepdims=True) if x.ndim == 3 else x, state, **options)

        with pytest.raises(AssertionError, match="centred, gradients: "):
            testing.assert_sequence_invariant(centred, RNN, X, checks=["gradients"])

    def test_from_the_future_are_caught(self):
        def looks_ahead(params, x, state=None, lengths=None, **options):
            ahead = jnp.concatenate([x[..., 1:, :], x[..., -1:, :]], axis=-2)
            return F.rnn(params, ahead, state, **options)

        with pytest.raises(AssertionError, match="looks_ahead, gradients: "):
            testing.assert_sequence_invariant(looks_ahead, RNN, X, checks=["gradients"])


class TestWrongMasks:
    def test_a_step_that_does_not_count_and_changes_the_state_is_caught(self):
        def zeroed(params, x, state=None, mask=None, **options):
            return F.gru(params, x if mask is None else jnp.where(mask[..., None], x, 0), state, **options)

        with pytest.raises(AssertionError, match="zeroed, mask: outputs of steps that do not count are not zero"):
            testing.assert_sequence_invariant(zeroed, GRU, X, checks=["mask"])

        def zero_outputs(params, x, state=None, mask=None, **options):
            y, final = zeroed(params, x, state, mask, **options)
            return (y if mask is None else jnp.where(mask[..., None], y, 0)), final

        with pytest.raises(AssertionError, match="zero_outputs, mask: outputs against the sequences by themselves"):
            testing.assert_sequence_invariant(zero_outputs, GRU, X, checks=["mask"])

    def test_nan_that_spreads_is_caught(self):
        def spreads(params, x, state=None, mask=None, **options):
            y, final = F.gru(params, x, state, mask=mask, **options)
            return y, final if mask is None else jax.tree.map(lambda a: a + 0 * x.sum(), final)

        with pytest.raises(AssertionError, match="spreads, mask: nan at steps that do not count has an effect"):
            testing.assert_sequence_invariant(spreads, GRU, X, checks=["mask"])


class TestWrongResets:
    def test_ignored_is_caught(self):
        def ignored(params, x, state=None, resets=None, **options):
            return F.gru(params, x, state, **options)

        with pytest.raises(AssertionError, match="ignored, resets: outputs"):
            testing.assert_sequence_invariant(ignored, GRU, X, checks=["resets"])

    def test_one_step_late_is_caught(self):
        def late(params, x, state=None, resets=None, **options):
            return F.gru(params, x, state, resets=None if resets is None else jnp.roll(resets, 1, -1), **options)

        with pytest.raises(AssertionError, match="late, resets: outputs"):
            testing.assert_sequence_invariant(late, GRU, X, checks=["resets"])

    def test_going_back_at_the_wrong_side_of_the_step_is_caught(self):
        def before_the_step(params, x, state=None, resets=None, reverse=False, **options):
            if reverse and resets is not None:
                resets = jnp.roll(resets, 1, -1)
            return F.gru(params, x, state, resets=resets, reverse=reverse, **options)

        with pytest.raises(AssertionError, match="before_the_step, resets, reverse: outputs"):
            testing.assert_sequence_invariant(before_the_step, GRU, X, checks=["resets"])


class TestWrongStates:
    def test_of_the_other_direction_is_caught(self):
        def of_the_last_step(params, x, state=None, reverse=False, **options):
            y, final = F.gru(params, x, state, reverse=reverse, **options)
            return y, R.GRUState(y[..., -1, :]) if reverse else final

        # Chunks show it in the outputs: each starts from what the one before returned.
        for check, where in (("reversal", "final state"), ("chunks", "outputs"), ("padding", "final state")):
            with pytest.raises(AssertionError, match=f"of_the_last_step, {check}.*: {where}"):
                testing.assert_sequence_invariant(of_the_last_step, GRU, X, checks=[check], directions=["backward"])

    def test_reverse_that_is_ignored_is_caught(self):
        def ignored(params, x, state=None, reverse=False, **options):
            return F.gru(params, x, state, **options)

        with pytest.raises(AssertionError, match="ignored, reversal: outputs"):
            testing.assert_sequence_invariant(ignored, GRU, X, checks=["reversal"])

    def test_an_initial_one_that_is_ignored_is_caught(self):
        def starts_from_zero(params, x, state=None, **options):
            return F.lstm(params, x, None, **options)

        with pytest.raises(AssertionError, match="starts_from_zero, chunks: outputs"):
            testing.assert_sequence_invariant(starts_from_zero, LSTM, X, checks=["chunks"])

    def test_a_step_with_another_option_is_caught(self):
        with pytest.raises(AssertionError, match="gru, streaming: outputs against a loop of steps"):
            testing.assert_sequence_invariant(
                F.gru, GRU, X, checks=["streaming"], step=partial(F.gru_step, reset_after=False)
            )


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"checks": ["paddin"]}, "checks: expected some of"),
            ({"checks": ["streaming"]}, "step: expected the layer's step"),
            ({"directions": ["up"]}, "directions: expected some of"),
            ({"x": X[0]}, r"x: expected floats \(batch, time, \*features\)"),
            ({"x": X[:, :3]}, "at least 4 steps"),
        ],
    )
    def test_that_do_not_fit_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            testing.assert_sequence_invariant(F.gru, GRU, **{"x": X, **options})
