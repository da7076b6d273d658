"""`assert_cell`: right cells of every kind pass, and each part that breaks its promise is named."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import testing
from jaxnn.functional.recurrent import algorithms
from jaxnn.functional.recurrent.cell import NotServedError
from jaxnn.kernels.masks import choose, kept
from tests.functional.recurrent.common import randomised


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


X = normal(3, 5, 2, seed=1)
GATED = {
    "rnn": (F.rnn_cell(), randomised(F.init_rnn(jax.random.key(0), 2, 3))),
    "gru": (F.gru_cell(), randomised(F.init_gru(jax.random.key(0), 2, 3))),
    "lstm": (F.lstm_cell(), randomised(F.init_lstm(jax.random.key(0), 2, 3))),
}


class Linear(NamedTuple):
    """Parameters of a diagonal linear cell: gated inputs, a decay, and a learned start."""

    w: jax.Array
    decay: jax.Array
    start: jax.Array


def rows(a, batch):
    return jnp.broadcast_to(a, (*batch, *a.shape))


def linear_zero(p, batch, dtype):
    return rows(p.start, batch)


def linear_step(p, state, x):
    return rows(p.decay, x.shape[:-1]) * state + jnp.tanh(x @ p.w)


def linear_project(p, xs):
    return jnp.tanh(xs @ p.w)


def linear_advance(p, state, g):
    return rows(p.decay, g.shape[:-1]) * state + g


def linear_affine(p, g):
    return rows(p.decay, g.shape[:-1]), g


LINEAR = F.Cell(
    linear_zero,
    linear_step,
    project=linear_project,
    advance=linear_advance,
    affine=linear_affine,
    jacobian="diagonal",
)
LINEAR_PARAMS = Linear(normal(2, 4), jnp.linspace(0.2, 0.9, 4), normal(4, seed=3))


class Picture(NamedTuple):
    """A state of two arrays, of different ranks."""

    seen: jax.Array
    mean: jax.Array


def picture_zero(kernel, batch, dtype):
    return Picture(jnp.zeros((*batch, 3, 2, 2), dtype), jnp.zeros((*batch, 2), dtype))


def picture_step(kernel, state, x):
    seen = jnp.tanh(F.conv(x, kernel[0]) + F.conv(state.seen, kernel[1]))
    return Picture(seen, 0.5 * state.mean + seen.mean((-3, -2)))


def picture_output(kernel, state):
    return {"seen": state.seen, "mean": state.mean}


PICTURE = F.Cell(picture_zero, picture_step, picture_output, feature_axes=3)
KERNELS = 0.5 * normal(2, 3, 3, 2, 2)


def heads_step(w, state, x):
    """Two heads of two units, which do not see each other."""
    parts = jnp.einsum("...hi,hij->...hj", state.reshape(*state.shape[:-1], 2, 2), w)
    return jnp.tanh(parts.reshape(state.shape) + x)


HEADS = F.Cell(lambda w, batch, dtype: jnp.zeros((*batch, 4), dtype), heads_step, jacobian=F.Blocks(2))
HEADS_PARAMS = normal(2, 2, 2)


PAIRS = F.Cell(
    lambda p, batch, dtype: (jnp.zeros((*batch, 2), dtype),) * 2,
    lambda p, state, x: (state[0], state[0] * state[1] + x),
)


class TestRightCellsRaiseNoFalseAlarm:
    def test_in_every_check(self):
        testing.assert_cell(LINEAR, LINEAR_PARAMS, X)

    @pytest.mark.parametrize("name", GATED)
    def test_of_the_library(self, name):
        testing.assert_cell(*GATED[name], X, checks=["step", "batch", "algorithms"])

    @pytest.mark.slow
    def test_of_pictures_with_a_state_and_outputs_of_several_ranks(self):
        testing.assert_cell(PICTURE, KERNELS, normal(2, 4, 3, 2, 2), checks=["step", "batch", "time"])

    def test_with_blocks_of_neighbours_or_of_arrays(self):
        testing.assert_cell(HEADS, HEADS_PARAMS, normal(2, 4, 4), checks=["jacobian"])
        testing.assert_cell(PAIRS._replace(jacobian=F.Blocks(2)), None, X, checks=["jacobian"])

    def test_with_an_affine_form_that_broadcasts(self):
        cell = LINEAR._replace(affine=lambda p, g: (p.decay, g))
        testing.assert_cell(cell, LINEAR_PARAMS, X, checks=["affine"])

    @pytest.mark.slow
    def test_in_float64(self):
        with jax.enable_x64(True):
            cell, params = GATED["rnn"]
            params, x = randomised(params, dtype=jnp.float64), normal(3, 5, 2, dtype=jnp.float64)
            testing.assert_cell(cell, params, x, checks=["step", "batch", "algorithms"])
            linear = Linear(*(jnp.asarray(a, jnp.float64) for a in LINEAR_PARAMS))
            testing.assert_cell(LINEAR, linear, x, checks=["project", "affine", "jacobian"])

    def test_in_half_precision(self):
        cell, params = GATED["lstm"]
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, X))
        testing.assert_cell(cell, params, x, checks=["step", "batch", "algorithms"])

    def test_with_complex_numbers_a_counter_and_random_keys_in_the_state(self):
        def zero_state(decay, batch, dtype):
            return jnp.zeros((*batch, 2), decay.dtype), jnp.zeros(batch, jnp.int32), rows(jax.random.key(0), batch)

        def step(decay, state, x):
            moving, count, key = state
            drawn = jax.vmap(lambda key: jax.random.normal(key, x.shape[-1:]))(key.ravel()).reshape(x.shape)
            key = jax.vmap(lambda key: jax.random.fold_in(key, 1))(key.ravel()).reshape(key.shape)
            new = (x + drawn) / (1 + count)[..., None].astype(x.dtype)  # not finite for a count of -1
            return rows(decay, x.shape[:-1]) * moving + new.astype(decay.dtype), count + 1, key

        cell = F.Cell(zero_state, step, lambda decay, state: jnp.real(state[0]))
        decay = jnp.array([0.5 + 0.5j, -0.3j], jnp.complex64)
        testing.assert_cell(cell, decay, X, checks=["step", "batch"])
        testing.assert_cell(cell, decay, X, checks=["time"])

    def test_at_states_that_are_given(self):
        def zero_state(w, batch, dtype):
            return jnp.ones((*batch, 2), dtype)

        def step(w, state, x):
            return jnp.sqrt(state) * rows(w, x.shape[:-1]) + jnp.square(x)

        cell, w = F.Cell(zero_state, step, jacobian="diagonal"), jnp.array([0.5, 0.7])
        testing.assert_cell(cell, w, X, state=1 + jnp.square(X[:, 0]), checks=["step", "batch", "jacobian"])


def grows(p, state, x):
    return jnp.concatenate([state, state], axis=-1)


def narrows(p, state, x):
    return linear_step(p, state, x).astype(jnp.bfloat16)


def repacks(p, state, x):
    return (state,)


def of_one_sequence(p, batch, dtype):
    return p.start


def counts_sequences(p, batch, dtype):
    return jnp.arange(4.0 * np.prod(batch, dtype=int)).reshape(*batch, 4)


def without_batch(p, state):
    return state.sum()


def draws(p, state, x):
    return linear_step(p, state, x) + float(np.random.default_rng().normal())


def centred(p, state, x):
    return linear_step(p, state, x if x.ndim == 1 else x - x.mean(0, keepdims=True))


def of_the_first_axis(p, state, x):
    return linear_step(p, state, x) * (2 if x.ndim == 3 else 1)


class TestOfStepsAndStates:
    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ({"step": grows}, r"cell.step: expected it to return state as float32 \(4,\), .* got float32 \(8,\)"),
            ({"step": narrows}, "cell.step: expected it to return state as float32 .* got bfloat16"),
            ({"step": repacks}, "cell.step: expected it to return an array, as zero_state does, got tuple"),
            ({"zero_state": of_one_sequence}, r"cell.zero_state: .* the batch axes \(3,\), got float32\[4\]"),
            ({"zero_state": counts_sequences}, "cell.zero_state: over the batch"),
            ({"output": without_batch}, r"cell.output: expected arrays \(\*batch, ...\) .* \(3,\), got shape \(\)"),
            ({"advance": linear_advance}, "cell.advance: expected cell.project beside it, got none"),
            ({"step": draws}, "cell.step: traced twice with the same arguments it returns other numbers"),
        ],
    )
    def test_wrong_ones_are_named(self, part, message):
        with pytest.raises(AssertionError, match=message):
            testing.assert_cell(F.Cell(linear_zero, linear_step)._replace(**part), LINEAR_PARAMS, X, checks=["step"])

    @pytest.mark.parametrize(
        ("step", "message"),
        [(centred, "cell.step: sequence 0 of a batch"), (of_the_first_axis, "cell.step: two batch axes against one")],
    )
    def test_sequences_that_see_each_other_are_named(self, step, message):
        with pytest.raises(AssertionError, match=message):
            testing.assert_cell(F.Cell(linear_zero, step), LINEAR_PARAMS, X, checks=["batch"])

    def test_a_cell_that_holds_arrays_is_named(self):
        with pytest.raises(AssertionError, match="cell: expected a hashable value, got unhashable type"):
            testing.assert_cell(LINEAR._replace(jacobian=jnp.ones(3)), LINEAR_PARAMS, X, checks=["step"])


def half(p, state, g):
    return 0.5 * linear_advance(p, state, g)


def sums_over_time(p, xs):
    return jnp.cumsum(linear_project(p, xs), axis=0) if xs.ndim > 2 else linear_project(p, xs)


def without_gradient(p, xs):
    return jax.lax.stop_gradient(linear_project(p, xs))


def twice(p, g):
    return rows(p.decay, g.shape[:-1]), 2 * g


def of_two_rows(p, g):
    return jnp.stack([p.decay, p.decay]), g


def frozen(p, g):
    return rows(jax.lax.stop_gradient(p.decay), g.shape[:-1]), g


class TestOptionalParts:
    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ({"advance": half}, "cell.advance: after project against cell.step: "),
            ({"project": sums_over_time}, "cell.project: all steps at once against one step"),
            ({"project": without_gradient}, "cell.advance: after project .*, gradients with respect to parameters"),
            ({"affine": twice}, r"cell.affine: a \* state \+ b against cell.step: "),
            ({"affine": of_two_rows}, r"cell.affine: .* with time first \(1, 3, 4\), got shape \(2, 4\)"),
            ({"affine": frozen}, r"cell.affine: a \* state \+ b .*, gradients with respect to parameters"),
        ],
    )
    def test_that_disagree_with_the_step_are_named(self, part, message):
        with pytest.raises(AssertionError, match=message):
            testing.assert_cell(LINEAR._replace(**part), LINEAR_PARAMS, X, checks=["project", "affine"])

    @pytest.mark.parametrize(
        ("cell", "params", "x", "message"),
        [
            (GATED["rnn"][0]._replace(jacobian="diagonal"), GATED["rnn"][1], X, r"'diagonal', but state.h.ravel\(\)\["),
            (HEADS._replace(jacobian="diagonal"), HEADS_PARAMS, normal(2, 4, 4), r"state.ravel\(\)\[.\] acts on"),
            (HEADS._replace(jacobian=F.Blocks(3)), HEADS_PARAMS, normal(2, 4, 4), r"Blocks\(size=3\) fit 3 arrays"),
            (PICTURE._replace(jacobian="diagonal"), KERNELS, normal(2, 4, 3, 2, 2), r"'diagonal', but state.seen"),
            (LINEAR._replace(jacobian="dense"), LINEAR_PARAMS, X, r"expected 'diagonal' or Blocks\(n\) .* got 'dense'"),
        ],
    )
    def test_a_structure_that_the_derivative_does_not_have_is_named(self, cell, params, x, message):
        with pytest.raises(AssertionError, match=f"cell.jacobian: .*{message}"):
            testing.assert_cell(cell, params, x, checks=["jacobian"])

    def test_zeros_that_an_initialiser_leaves_do_not_hide_a_wrong_structure(self):
        cell, params = GATED["rnn"]
        quiet = params._replace(w_h=jnp.zeros_like(params.w_h))
        with pytest.raises(AssertionError, match=r"cell.jacobian: 'diagonal', but"):
            testing.assert_cell(cell._replace(jacobian="diagonal"), quiet, X, checks=["jacobian"])

    def test_arrays_of_the_state_that_act_on_each_other_are_named(self):
        with pytest.raises(AssertionError, match=r"state\[0\].ravel\(\)\[0\] acts on state\[1\].ravel\(\)\[0\]"):
            testing.assert_cell(PAIRS._replace(jacobian="diagonal"), None, X, checks=["jacobian"])


class TestTime:
    def test_a_derivative_that_is_none_for_inputs_that_do_not_count_is_named(self):
        def step(p, state, x):
            """Where a step does not count its input is zero, and the norm of that has no derivative."""
            scaled = x * rows(p.start, x.shape[:-1])
            return linear_step(p, state, scaled / jnp.sqrt(jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)))

        params = Linear(normal(2, 2), normal(2), normal(2))
        with pytest.raises(AssertionError, match="recurrent, gradients: with respect to parameters"):
            testing.assert_cell(F.Cell(linear_zero, step), params, X, checks=["time"])


def wrong_weights(params):
    kernel, weights = F.rnn_cell().fused(params)
    return kernel._replace(outside=lambda *a: jax.tree.map(lambda e: 2 * e, kernel.outside(*a))), weights


def learned_start(params, batch, dtype):
    return F.RNNState(rows(params.b, batch))


def running(cell, task, options):
    """A scan that serves no reversal; what it does with resets is for the tests to say."""
    if options.reverse:
        raise NotServedError("no way back")

    def body(state, inputs):
        x, masks = inputs
        x = choose(masks.inside, x, jnp.zeros_like(x)) if masks.inside is not None else x
        new = cell.step(task.params, state, x)
        return kept(masks, new, state, cell.output(task.params, new))

    final, ys = jax.lax.scan(body, task.state, (task.xs, task.masks))
    return ys, final


class TestAlgorithms:
    @pytest.mark.parametrize(
        ("cell", "params", "message"),
        [
            (F.gru_cell(reset_after=False)._replace(fused=F.gru_cell().fused), GATED["gru"][1], "'scan': outputs"),
            (
                F.rnn_cell()._replace(fused=wrong_weights),
                GATED["rnn"][1],
                "'scan': gradients with respect to parameters",
            ),
        ],
    )
    def test_a_fused_form_of_another_layer_is_named(self, cell, params, message):
        with pytest.raises(AssertionError, match=f"cell.fused: algorithm='fused' against .*{message}"):
            testing.assert_cell(cell, params, X, checks=["algorithms"])

    def test_a_start_that_is_learned_raises_no_false_alarm(self):
        cell = F.rnn_cell()._replace(zero_state=learned_start)
        testing.assert_cell(cell, GATED["rnn"][1], X, checks=["algorithms"])

    def test_each_of_the_table_is_checked_where_it_serves(self, monkeypatch):
        """One that ignores resets is caught; that it does not go back is its right."""
        monkeypatch.setitem(algorithms.ALGORITHMS, "running", running)
        with pytest.raises(
            AssertionError, match="cell: algorithm='running' against 'scan', lengths, mask, resets: out"
        ):
            testing.assert_cell(LINEAR, LINEAR_PARAMS, X, checks=["algorithms"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": ["afine"]}, "checks: expected some of"),
        ({"checks": ["affine"], "cell": HEADS, "params": HEADS_PARAMS}, "got 'affine' without cell.affine"),
        ({"x": X[0]}, r"x: expected floats \(batch, time, \*features\) with 3 axes for feature_axes=1"),
        ({"x": X[:, :3]}, "at least 4 steps"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, message):
    options = {"cell": LINEAR, "params": LINEAR_PARAMS, "x": X, **options}
    with pytest.raises(ValueError, match=message):
        testing.assert_cell(options.pop("cell"), options.pop("params"), options.pop("x"), **options)
