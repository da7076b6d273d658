"""What every recurrent layer promises about time: padding, streaming, direction, gradients, resets."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.testing.comparison import assert_close
from jaxnn.testing.floating import as_array
from jaxnn.testing.oracle import name_of

Tree = Any
SequenceCheck = Literal["padding", "streaming", "chunks", "reversal", "gradients", "resets"]
Direction = Literal["forward", "backward"]
Layer = Callable[..., tuple[jax.Array, Tree]]


def assert_sequence_invariant(
    layer: Layer,
    params: Tree,
    x: jax.typing.ArrayLike,
    *,
    checks: Sequence[SequenceCheck] | None = None,
    step: Callable[[Tree, Tree, jax.Array], Tree] | None = None,
    directions: Sequence[Direction] = ("forward", "backward"),
    reduction: int | None = None,
    roundings: int | None = None,
    seed: int = 0,
) -> None:
    """Asserts that a recurrent layer treats time as it should, whatever its formula is.

    The lengths are chosen here, from 0 to the whole time, and so are the initial state and the resets. ``layer(params,
    x[:n])`` on one sequence without padding is the truth that the rest is compared with.

    - ``"padding"``: with ``lengths``, each sequence gives what it gives by itself, cut to its length: outputs, final
      state, and zeros past the end; length 0 returns the initial state. What stands past the end has no effect, not
      even NaN and infinity. With ``reverse=True`` too.
    - ``"streaming"``: a loop of ``step`` gives the layer's outputs and final state.
    - ``"chunks"``: a sequence cut in chunks, each started with the final state of the one before, gives what the whole
      gives. A layer that goes backwards gets its chunks last to first.
    - ``"reversal"``: ``reverse=True`` gives the outputs of the sequence turned round within its length, turned back,
      and the same final state: that of the first step, not of the last.
    - ``"gradients"``: gradients with respect to parameters, inputs and initial state are those of the sequences by
      themselves: zero for what stands past a length and finite though it is NaN. No output depends on an input that
      comes later in the layer's direction, nor on another sequence of the batch.
    - ``"resets"``: a sequence with ``resets`` gives what its parts give by themselves, each from a zero state; the
      gradient of a part's outputs with respect to other parts is zero.

    Args:
        layer: ``layer(params, x, state=None, *, lengths=None, reverse=False, resets=None) -> (y, state)`` with ``x``
            of shape ``(*batch, time, features)``, states and resets as in `functional.lstm`. Options are bound with
            `functools.partial`.
        params: Its parameters, any pytree.
        x: ``(batch, time, features)`` floats, at least 2 sequences of at least 4 steps; their number is that of the
            lengths tried.
        checks: Which checks to make. Default: all, ``"streaming"`` where ``step`` is given.
        step: ``step(params, state, x) -> state`` with ``x`` of shape ``(*batch, features)``; the state's first leaf is
            the output. For ``"streaming"``.
        directions: Directions to check padding, chunks, gradients and resets in; "backward" is ``reverse=True``.
        reduction: Number of products in each sum, for the tolerance; see `tolerance`. Default: the size of the largest
            leaf of ``params``.
        roundings: See `tolerance`. Default: 8 a time step.
        seed: Seed of the initial state.

    Raises:
        AssertionError: If a check fails; names the check and the worst element.
        ValueError: If a check is unknown, ``x`` does not fit, or ``"streaming"`` lacks its ``step``.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> from jaxnn import testing
        >>> k0, k1 = jax.random.split(jax.random.key(0))
        >>> params, x = F.init_gru(k0, features=2, hidden=3), jax.random.normal(k1, (3, 5, 2))
        >>> testing.assert_sequence_invariant(F.gru, params, x, checks=["streaming"], step=F.gru_step)
        >>> def forgets_resets(params, x, state=None, resets=None, **options):
        ...     return F.gru(params, x, state, **options)
        >>> testing.assert_sequence_invariant(forgets_resets, params, x, checks=["resets"])
        Traceback (most recent call last):
        ...
        AssertionError: forgets_resets, resets: outputs against the parts by themselves: ...
    """
    unknown = set(checks or ()) - set(_CHECKS)
    if unknown:
        raise ValueError(f"checks must be among {sorted(_CHECKS)}, got {sorted(unknown)}")
    chosen = checks if checks is not None else [c for c in _CHECKS if c != "streaming" or step is not None]
    if "streaming" in chosen and step is None:
        raise ValueError("the check 'streaming' needs step=, the layer's own step")
    values = as_array(x)
    if values.ndim != 3 or values.shape[0] < 2 or values.shape[1] < 4 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            "x must be floats (batch, time, features) with at least 2 sequences of at least 4 steps, "
            f"got {values.dtype} {values.shape}"
        )
    if not directions or set(directions) - {"forward", "backward"}:
        raise ValueError(f"directions must be a choice of 'forward', 'backward', got {directions}")
    with jax.default_matmul_precision("highest"):
        subject = _Subject(
            layer, params, values, step, [d == "backward" for d in directions], reduction, roundings, seed
        )
        for check in chosen:
            _CHECKS[check](subject)


class _Subject:
    """The layer under test, compiled, with what all checks need: a random state, lengths, and the tolerance."""

    def __init__(
        self,
        layer: Layer,
        params: Tree,
        x: jax.Array,
        step: Callable[..., Tree] | None,
        reverses: Sequence[bool],
        reduction: int | None,
        roundings: int | None,
        seed: int,
    ) -> None:
        self.name, self.params, self.x, self.step = name_of(layer), params, x, step
        self.reverses = reverses
        self.layer: Callable[..., Any] = jax.jit(layer, static_argnames="reverse")
        self.batch, self.time, _ = x.shape
        rng = np.random.default_rng(seed)
        self.output, like = jax.eval_shape(layer, params, x)
        self.state = jax.tree.map(lambda s: as_array(rng.normal(size=s.shape).astype(s.dtype)), like)
        # From nothing to everything, the ends included.
        self.lengths = np.linspace(0, self.time, self.batch).round().astype(np.int32)
        self.reduction = reduction or max([1, *(leaf.size for leaf in jax.tree.leaves(params))])
        self.roundings = roundings or 8 * self.time

    def close(self, got: Tree, expected: Tree, what: str) -> None:
        # Both sides round: the roundings of two results part them.
        assert_close(
            got,
            expected,
            reduction=4 * self.reduction,
            roundings=4 * self.roundings,
            what=f"{self.name}, {what}",
        )

    def by_themselves(self, params: Tree, x: jax.Array, state: Tree, *, reverse: bool) -> tuple[jax.Array, Tree]:
        """Each sequence cut to its length and run alone; outputs are padded with zeros, final states stacked."""
        outputs, finals = [], []
        for n, length in enumerate(self.lengths.tolist()):
            start = _at(state, n)
            if length == 0:
                y, final = jnp.zeros(self.output.shape[1:], self.output.dtype), start
            else:
                y, final = self.layer(params, x[n, :length], start, reverse=reverse)
                y = jnp.pad(y, ((0, self.time - length), (0, 0)))
            outputs.append(y)
            finals.append(final)
        return jnp.stack(outputs), jax.tree.map(lambda *leaves: jnp.stack(leaves), *finals)

    def padded(self, filling: float) -> jax.Array:
        """The inputs, with ``filling`` past each length."""
        past = np.arange(self.time)[:, None] >= self.lengths[:, None, None]
        values = np.asarray(self.x)
        return as_array(np.where(past, np.asarray(filling, values.dtype), values))


def _check_padding(s: _Subject) -> None:
    for reverse in s.reverses:
        what = "padding, reverse" if reverse else "padding"
        y, final = s.layer(s.params, s.x, s.state, lengths=s.lengths, reverse=reverse)
        for n, length in enumerate(s.lengths.tolist()):
            if np.any(np.asarray(y)[n, length:]):
                raise AssertionError(f"{s.name}, {what}: outputs past the length {length} are not zero")
        expected, state = jax.jit(partial(s.by_themselves, reverse=reverse))(s.params, s.x, s.state)
        s.close(y, expected, f"{what}: outputs against the sequences by themselves")
        s.close(final, state, f"{what}: final state against the sequences by themselves")
        for filling in (np.nan, np.inf, 1e3):
            got = s.layer(s.params, s.padded(filling), s.state, lengths=s.lengths, reverse=reverse)
            _same(got, (y, final), f"{s.name}, {what}: {filling} past the lengths has an effect")


def _check_streaming(s: _Subject) -> None:
    y, final = s.layer(s.params, s.x, s.state)
    step, state, outputs = jax.jit(s.step), s.state, []  # type: ignore[arg-type]
    for t in range(s.time):
        state = step(s.params, state, np.asarray(s.x)[:, t])
        outputs.append(np.asarray(jax.tree.leaves(state)[0]))
    s.close(y, np.stack(outputs, axis=1), "streaming: outputs against a loop of steps")
    s.close(final, state, "streaming: final state against a loop of steps")


def _check_chunks(s: _Subject) -> None:
    cuts = [0, 1, s.time // 2, s.time]
    for reverse in s.reverses:
        y, final = s.layer(s.params, s.x, s.state, reverse=reverse)
        parts, state = list(itertools.pairwise(cuts)), s.state
        outputs: dict[int, np.ndarray] = {}
        for start, stop in reversed(parts) if reverse else parts:
            part, state = s.layer(s.params, np.asarray(s.x)[:, start:stop], state, reverse=reverse)
            outputs[start] = np.asarray(part)
        joined = np.concatenate([outputs[start] for start, _ in parts], axis=1)
        what = "chunks, reverse" if reverse else "chunks"
        s.close(y, joined, f"{what}: outputs against the chunks'")
        s.close(final, state, f"{what}: final state against the last chunk's")


def _check_reversal(s: _Subject) -> None:
    # Position t of a sequence of length n is filled from n - 1 - t, and padding from itself.
    steps = np.arange(s.time)
    for lengths in (None, s.lengths):
        ends = np.full(s.batch, s.time) if lengths is None else lengths
        turned = np.where(steps < ends[:, None], ends[:, None] - 1 - steps, steps)
        flip = lambda a, turned=turned: np.take_along_axis(np.asarray(a), turned[..., None], axis=1)  # noqa: E731
        y, final = s.layer(s.params, s.x, s.state, lengths=lengths, reverse=True)
        expected, state = s.layer(s.params, as_array(flip(s.x)), s.state, lengths=lengths)
        what = "reversal" if lengths is None else "reversal within the lengths"
        s.close(y, flip(expected), f"{what}: outputs against the sequence turned round")
        s.close(final, state, f"{what}: final state against the sequence turned round")


def _check_gradients(s: _Subject) -> None:
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda a: as_array(rng.normal(size=a.shape).astype(a.dtype)), (s.output, s.state))
    steps, n, t = np.arange(s.time), s.batch - 1, s.time // 2

    def projected(result: Tree) -> jax.Array:
        products = jax.tree.map(lambda a, w: jnp.sum(jnp.real(a * w).astype(jnp.float32)), result, weights)
        return sum(jax.tree.leaves(products), start=jnp.float32(0))

    for reverse in s.reverses:
        what = "gradients, reverse" if reverse else "gradients"

        def together(params: Tree, x: jax.Array, state: Tree, reverse: bool = reverse) -> jax.Array:
            return projected(s.layer(params, x, state, lengths=s.lengths, reverse=reverse))

        def apart(params: Tree, x: jax.Array, state: Tree, reverse: bool = reverse) -> jax.Array:
            return projected(s.by_themselves(params, x, state, reverse=reverse))

        def one_output(x: jax.Array, reverse: bool = reverse) -> jax.Array:
            return jnp.sum(s.layer(s.params, x, s.state, reverse=reverse)[0][n, t])

        got = _gradients(together)(s.params, s.padded(np.nan), s.state)
        expected = _gradients(apart)(s.params, s.x, s.state)
        for kind, ours, theirs in zip(("parameters", "inputs", "the initial state"), got, expected, strict=True):
            s.close(ours, theirs, f"{what}: with respect to {kind}, against the sequences by themselves")

        reached = np.any(np.asarray(jax.jit(jax.grad(one_output))(s.x)) != 0, axis=-1)
        if reached[n, steps < t if reverse else steps > t].any():
            raise AssertionError(f"{s.name}, {what}: the output at step {t} depends on inputs that come after it")
        if reached[:n].any():
            raise AssertionError(f"{s.name}, {what}: the output of one sequence depends on another of the batch")


def _check_resets(s: _Subject) -> None:
    resets = np.zeros((s.batch, s.time), np.bool_)
    for n in range(s.batch):
        resets[n, [1 + n % (s.time - 1), s.time - 1]] = True
    resets[0, 0] = True  # at the first step: the initial state has no effect
    cut = 1 + (s.batch - 1) % (s.time - 1)  # of the last sequence: its first part ends here

    def by_parts(params: Tree, x: jax.Array, state: Tree, *, reverse: bool) -> tuple[jax.Array, Tree]:
        outputs, finals = [], []
        for n in range(s.batch):
            bounds = sorted({0, *np.flatnonzero(resets[n]).tolist(), s.time})
            parts = list(itertools.pairwise(bounds))
            now, made = _at(state, n), {}
            for number, (start, stop) in enumerate(reversed(parts) if reverse else parts):
                if number > 0 or (not reverse and resets[n, 0]):
                    now = jax.tree.map(jnp.zeros_like, now)
                made[start], now = s.layer(params, x[n, start:stop], now, reverse=reverse)
            outputs.append(jnp.concatenate([made[start] for start, _ in parts]))
            finals.append(now)
        return jnp.stack(outputs), jax.tree.map(lambda *leaves: jnp.stack(leaves), *finals)

    for reverse in s.reverses:
        what = "resets, reverse" if reverse else "resets"
        y, final = s.layer(s.params, s.x, s.state, resets=resets, reverse=reverse)
        expected, state = jax.jit(partial(by_parts, reverse=reverse))(s.params, s.x, s.state)
        s.close(y, expected, f"{what}: outputs against the parts by themselves")
        s.close(final, state, f"{what}: final state against the last part by itself")

        def across(x: jax.Array, reverse: bool = reverse) -> jax.Array:
            outputs = s.layer(s.params, x, s.state, resets=resets, reverse=reverse)[0][-1]
            return jnp.sum(outputs[:cut] if reverse else outputs[cut:])

        reached = np.asarray(jax.jit(jax.grad(across))(s.x))[-1]
        if np.any(reached[cut:] if reverse else reached[:cut]):
            raise AssertionError(f"{s.name}, {what}: a gradient passes the reset at step {cut}")


_CHECKS: dict[str, Callable[[_Subject], None]] = {
    "padding": _check_padding,
    "streaming": _check_streaming,
    "chunks": _check_chunks,
    "reversal": _check_reversal,
    "gradients": _check_gradients,
    "resets": _check_resets,
}


def _gradients(function: Callable[..., jax.Array]) -> Callable[..., tuple[Tree, ...]]:
    """Gradients by parameters, inputs and initial state, compiled."""
    return jax.jit(jax.grad(function, argnums=(0, 1, 2)))


def _at(tree: Tree, n: Any) -> Tree:
    return jax.tree.map(lambda leaf: leaf[n], tree)


def _same(got: Tree, expected: Tree, message: str) -> None:
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if not np.array_equal(np.asarray(ours), np.asarray(theirs)):
            raise AssertionError(message)
