"""The checks of `assert_sequence_invariant`, and what they share: the layer under test and random arguments."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxnn.testing.comparison import assert_same, wide
from jaxnn.testing.floating import as_array
from jaxnn.testing.oracle import name_of
from jaxnn.testing.trees import at, compiled, gradients, random_like, stacked, total

Tree = Any
Layer = Callable[..., tuple[Any, Tree]]
SequenceCheck = Literal["padding", "streaming", "chunks", "reversal", "gradients", "resets", "mask"]


class Subject:
    """The layer under test, compiled, with a random state, lengths, a mask and the tolerance for all checks."""

    def __init__(
        self,
        layer: Layer,
        params: Tree,
        x: jax.Array,
        step: Callable[..., Tree] | None,
        output: Callable[..., Tree] | None,
        reverses: Sequence[bool],
        reduction: int | None,
        roundings: int | None,
        state: Tree | None,
        seed: int,
    ) -> None:
        self.name, self.params, self.x, self.step = name_of(layer), params, x, step
        self.output_of = output or (lambda _, state: jax.tree.leaves(state)[0])
        self.reverses = reverses
        self.inner = layer  # inside programs
        self._compiled = compiled(layer, static_argnames="reverse")
        self.batch, self.time = x.shape[:2]
        self.output, like = jax.eval_shape(layer, params, x)
        self.state = random_like(like, seed) if state is None else state
        self.weights = jax.tree.map(np.asarray, random_like((self.output, self.state), 0))
        # From 0 to all steps, both included.
        self.lengths = np.linspace(0, self.time, self.batch).round().astype(np.int32)
        self.within = np.arange(self.time) < self.lengths[:, None]
        # The mask counts the same number of steps as the lengths, but anywhere, so that cut sequences have the same few
        # shapes. The first and the last step of the last sequence do not count.
        rng = np.random.default_rng(seed)
        self.mask = np.stack([rng.permutation(self.time) < length for length in self.lengths])
        self.mask[-1] = [False, *(np.arange(self.time - 2) % 2 == 0), False]
        self.reduction, self.roundings = sums(params, self.time, reduction, roundings)

    def layer(self, x: jax.Array, **options: Any) -> tuple[Tree, Tree]:
        """Runs the layer; each combination of options compiles once, since those that are off are left out."""
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        found: tuple[Tree, Tree] = self._compiled(self.params, x, self.state, **given)
        return found

    def close(self, got: Tree, expected: Tree, what: str) -> None:
        """Asserts that two results agree."""
        assert_same(got, expected, self.reduction, self.roundings, f"{self.name}, {what}")

    def by_themselves(self, counts: np.ndarray, *, reverse: bool) -> tuple[Tree, Tree]:
        """Runs each sequence alone, cut to the steps that count; other outputs are zero, final states are stacked."""

        def run(params: Tree, x: jax.Array, state: Tree) -> dict[int, tuple[Tree, Tree]]:
            return {
                n: self.inner(params, x[n, steps], at(state, n), reverse=reverse)
                for n, steps in enumerate(map(np.flatnonzero, counts))
                if steps.size
            }

        alone, outputs, finals = compiled(run)(self.params, self.x, self.state), [], []
        for n, steps in enumerate(map(np.flatnonzero, counts)):
            y, final = jax.tree.map(lambda o: np.zeros(o.shape[1:], o.dtype), self.output), at(self.state, n)
            if steps.size:
                own, final = alone[n]
                y = jax.tree.map(lambda o, like, steps=steps: _placed(o, like, steps), own, y)
            outputs.append(y)
            finals.append(final)
        return stacked(outputs), stacked(finals)

    def gradients_by_themselves(self, counts: np.ndarray, *, reverse: bool) -> tuple[Tree, Tree, Tree]:
        """Gradients of the weighted sum of the results of `by_themselves`: by parameters, inputs and initial state."""

        def derived(params: Tree, x: jax.Array, state: Tree, weights: Tree) -> Any:
            def weighed(params: Tree, x: jax.Array, state: Tree) -> jax.Array:
                result = self.inner(params, x, state, reverse=reverse) if len(x) else (weights[0], state)
                return total(result, weights)

            return gradients(weighed)(params, x, state)

        def run(params: Tree, xs: jax.Array, state: Tree, weights: Tree) -> list[Any]:
            found = []
            for n, steps in enumerate(map(np.flatnonzero, counts)):
                y, final = at(weights, n)
                found.append(derived(params, xs[n, steps], at(state, n), (at(y, steps), final)))
            return found

        of_params, of_x, of_state = [], [], []
        alone = compiled(run)(self.params, self.x, self.state, self.weights)
        for x, steps, found in zip(np.asarray(self.x), map(np.flatnonzero, counts), alone, strict=True):
            by_params, by_x, by_start = found
            of_params.append(by_params)
            of_x.append(_placed(by_x, x, steps))
            of_state.append(by_start)
        return jax.tree.map(lambda *each: sum(map(wide, each)), *of_params), stacked(of_x), stacked(of_state)

    def ways(self, check: str) -> Iterator[tuple[bool, str]]:
        """The directions to check in: whether `reverse`, and the name of the check in messages."""
        for reverse in self.reverses:
            yield reverse, f"{check}, reverse" if reverse else check

    def filled(self, counts: np.ndarray, filling: float) -> jax.Array:
        """The inputs, with `filling` at the steps that do not count."""
        values = np.asarray(self.x)
        return as_array(np.where(_with_axes(counts, values.ndim), values, np.asarray(filling, values.dtype)))


def _check_padding(s: Subject) -> None:
    for reverse, what in s.ways("padding"):
        y, _ = s.layer(s.x, lengths=s.lengths, reverse=reverse)
        for n, length in enumerate(s.lengths.tolist()):
            if any(np.any(np.asarray(leaf)[n, length:]) for leaf in jax.tree.leaves(y)):
                raise AssertionError(f"{s.name}, {what}: outputs past the length {length} are not zero")
        _check_counting(s, what, "past the lengths", s.within, reverse, lengths=s.lengths)


def _check_mask(s: Subject) -> None:
    for reverse, what in s.ways("mask"):
        y, _ = s.layer(s.x, mask=s.mask, reverse=reverse)
        if any(np.any(np.asarray(leaf)[~s.mask]) for leaf in jax.tree.leaves(y)):
            raise AssertionError(f"{s.name}, {what}: outputs of steps that do not count are not zero")
        _check_counting(s, what, "at steps that do not count", s.mask, reverse, mask=s.mask)
        _check_gradients_of_counting(s, f"{what}, gradients", s.mask, reverse, mask=s.mask)


def _check_counting(s: Subject, what: str, where: str, counts: np.ndarray, reverse: bool, **given: Any) -> None:
    y, final = s.layer(s.x, **given, reverse=reverse)
    expected, state = s.by_themselves(counts, reverse=reverse)
    s.close(y, expected, f"{what}: outputs against the sequences by themselves")
    s.close(final, state, f"{what}: final state against the sequences by themselves")
    for filling in (np.nan, np.inf, 1e3):
        got = s.layer(s.filled(counts, filling), **given, reverse=reverse)
        _same(got, (y, final), f"{s.name}, {what}: {filling} {where} has an effect")


def _check_streaming(s: Subject) -> None:
    y, final = s.layer(s.x)

    @compiled
    def step(params: Tree, state: Tree, x: jax.Array) -> tuple[Tree, Tree]:
        new = s.step(params, state, x)  # type: ignore[misc]
        return new, s.output_of(params, new)

    state, outputs = s.state, []
    for t in range(s.time):
        state, output = step(s.params, state, np.asarray(s.x)[:, t])
        outputs.append(output)
    s.close(y, jax.tree.map(lambda *o: np.stack(o, axis=1), *outputs), "streaming: outputs against a loop of steps")
    s.close(final, state, "streaming: final state against a loop of steps")


def _check_chunks(s: Subject) -> None:
    parts = list(itertools.pairwise([0, 1, s.time // 2, s.time]))

    def run(params: Tree, x: jax.Array, state: Tree, *, reverse: bool) -> tuple[list[Tree], Tree]:
        outputs: dict[int, Tree] = {}
        for start, stop in reversed(parts) if reverse else parts:
            outputs[start], state = s.inner(params, x[:, start:stop], state, reverse=reverse)
        return [outputs[start] for start, _ in parts], state

    for reverse, what in s.ways("chunks"):
        y, final = s.layer(s.x, reverse=reverse)
        in_order, state = compiled(run, static_argnames="reverse")(s.params, s.x, s.state, reverse=reverse)
        joined = jax.tree.map(lambda *o: np.concatenate(o, axis=1), *in_order)
        s.close(y, joined, f"{what}: outputs against the chunks'")
        s.close(final, state, f"{what}: final state against the last chunk's")


def _check_reversal(s: Subject) -> None:
    # Position t of a sequence of length n is filled from n - 1 - t, and padding from itself.
    steps = np.arange(s.time)
    for lengths in (None, s.lengths):
        ends = np.full(s.batch, s.time) if lengths is None else lengths
        source = np.where(steps < ends[:, None], ends[:, None] - 1 - steps, steps)

        def flip(tree: Tree, source: np.ndarray = source) -> Tree:
            return jax.tree.map(lambda a: np.take_along_axis(np.asarray(a), _with_axes(source, a.ndim), axis=1), tree)

        y, final = s.layer(s.x, lengths=lengths, reverse=True)
        expected, state = s.layer(as_array(flip(s.x)), lengths=lengths)
        what = "reversal" if lengths is None else "reversal within the lengths"
        s.close(y, flip(expected), f"{what}: outputs against the reversed sequence")
        s.close(final, state, f"{what}: final state against the reversed sequence")


def _check_gradients(s: Subject) -> None:
    steps, n, t = np.arange(s.time), s.batch - 1, s.time // 2
    for reverse, what in s.ways("gradients"):
        _check_gradients_of_counting(s, what, s.within, reverse, lengths=s.lengths)

        def one_output(x: jax.Array, reverse: bool = reverse) -> jax.Array:
            return total(at(s.inner(s.params, x, s.state, reverse=reverse)[0], (n, t)))

        reached = _reached(one_output, s.x)
        if reached[n, steps < t if reverse else steps > t].any():
            raise AssertionError(f"{s.name}, {what}: the output at step {t} depends on inputs that come after it")
        if reached[:n].any():
            raise AssertionError(f"{s.name}, {what}: the output of one sequence depends on another of the batch")


def _check_gradients_of_counting(s: Subject, what: str, counts: np.ndarray, reverse: bool, **given: Any) -> None:
    def together(params: Tree, x: jax.Array, state: Tree) -> jax.Array:
        return total(s.inner(params, x, state, **given, reverse=reverse), s.weights)

    got = compiled(gradients(together))(s.params, s.filled(counts, np.nan), s.state)
    expected = s.gradients_by_themselves(counts, reverse=reverse)
    for kind, ours, theirs in zip(("parameters", "inputs", "the initial state"), got, expected, strict=True):
        s.close(ours, theirs, f"{what}: with respect to {kind}, against the sequences by themselves")


def _check_resets(s: Subject) -> None:
    resets = np.zeros((s.batch, s.time), np.bool_)
    for n in range(s.batch):
        resets[n, [1 + n % (s.time - 1), s.time - 1]] = True
    resets[0, 0] = True  # at the first step: the initial state has no effect
    cut = 1 + (s.batch - 1) % (s.time - 1)  # of the last sequence: its first part ends here

    def by_parts(params: Tree, x: jax.Array, state: Tree, *, reverse: bool) -> list[tuple[list[Tree], Tree]]:
        found = []
        for n in range(s.batch):
            bounds = sorted({0, *np.flatnonzero(resets[n]).tolist(), s.time})
            parts = list(itertools.pairwise(bounds))
            now: Tree | None = at(state, n)
            made: dict[int, Tree] = {}
            for number, (start, stop) in enumerate(reversed(parts) if reverse else parts):
                if number > 0 or (not reverse and resets[n, 0]):
                    now = None
                made[start], now = s.inner(params, x[n, start:stop], now, reverse=reverse)
            found.append(([made[start] for start, _ in parts], now))
        return found

    for reverse, what in s.ways("resets"):
        y, final = s.layer(s.x, resets=resets, reverse=reverse)
        alone = compiled(by_parts, static_argnames="reverse")(s.params, s.x, s.state, reverse=reverse)
        expected = stacked([jax.tree.map(lambda *o: np.concatenate(o), *parts) for parts, _ in alone])
        state = stacked([final for _, final in alone])
        s.close(y, expected, f"{what}: outputs against the parts by themselves")
        s.close(final, state, f"{what}: final state against the last part by itself")

        def across(x: jax.Array, reverse: bool = reverse) -> jax.Array:
            y, _ = s.inner(s.params, x, s.state, resets=resets, reverse=reverse)
            return total(at(y, (-1, slice(cut) if reverse else slice(cut, None))))

        reached = _reached(across, s.x)[-1]
        if np.any(reached[cut:] if reverse else reached[:cut]):
            raise AssertionError(f"{s.name}, {what}: a gradient passes the reset at step {cut}")


CHECKS: dict[SequenceCheck, Callable[[Subject], None]] = {
    "padding": _check_padding,
    "streaming": _check_streaming,
    "chunks": _check_chunks,
    "reversal": _check_reversal,
    "gradients": _check_gradients,
    "resets": _check_resets,
    "mask": _check_mask,
}


def sums(params: Tree, time: int, reduction: int | None, roundings: int | None) -> tuple[int, int]:
    """The numbers behind a recurrence's tolerance: products per sum, and roundings over all steps."""
    return reduction or max([1, *(np.size(leaf) for leaf in jax.tree.leaves(params))]), roundings or 8 * time


def _placed(rows: jax.typing.ArrayLike, like: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Zeros like an array, with the given rows at some of its steps."""
    whole = np.zeros_like(like)
    whole[steps] = rows
    return whole


def _with_axes(array: np.ndarray, axes: int) -> np.ndarray:
    """The array with axes of size one added at its end, up to a number of axes."""
    return array.reshape(*array.shape, *(1,) * (axes - array.ndim))


def _reached(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> np.ndarray:
    """Bool `(batch, time)`: the inputs on which a number depends."""
    gradient = np.asarray(compiled(jax.grad(function))(x))
    return np.any(gradient.reshape(*gradient.shape[:2], -1) != 0, axis=-1)


def _same(got: Tree, expected: Tree, message: str) -> None:
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if not np.array_equal(np.asarray(ours), np.asarray(theirs)):
            raise AssertionError(message)
