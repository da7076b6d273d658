"""A warning when a compiled function is compiled again, which names the argument that changed."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_SHOWN = 3


class RetraceWarning(UserWarning):
    """A training function was compiled again, for arguments of other shapes, dtypes, weak types or shardings."""


class _Counter:
    """How many programs this process compiled, or took from a cache on disk."""

    number = 0

    @classmethod
    def listen(cls, event: str, duration_secs: float, **details: str | int) -> None:
        """Counts an event of JAX."""
        if event == "/jax/core/compile/backend_compile_duration":
            cls.number += 1


# If JAX renames its event, nothing is counted and no warning is given.
jax.monitoring.register_event_duration_secs_listener(_Counter.listen)


def compilations() -> int:
    """How many programs this process has compiled: if the number grows during a call, the call compiled."""
    return _Counter.number


class Watch:
    """Records what a function was compiled for, and warns where it is compiled for something else.

    It does not warn if the arguments have another structure, or the first one (the state) other shapes: that is another
    model. It warns once.

    Args:
        function: The function, whose parameters name what changed.

    Attributes:
        first: Whether no call was looked at yet.

    Example:
        >>> import numpy as np, warnings
        >>> from jaxnn.train.step.retrace import Watch
        >>> watch = Watch(lambda state, batch: ...)
        >>> watch.look((0.0, {"images": np.ones((128, 8, 8))}), {})
        >>> with warnings.catch_warnings(record=True, action="always") as told:
        ...     watch.look((0.0, {"images": np.ones((80, 8, 8))}), {})
        >>> str(told[0].message).split(": ")[1][:72]
        "batch['images'] was float32 (128, 8, 8) and is float32 (80, 8, 8); give "
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.first = True
        self._function = function
        self._seen: dict[Any, list[_Kind]] = {}
        self._warned = False

    def look(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records the arguments of a call that compiled, and warns if they differ from those before."""
        self.first = False
        if self._warned:
            return
        named = inspect.signature(self._function).bind(*args, **kwargs).arguments
        leaves, structure = jax.tree_util.tree_flatten_with_path(dict(named))
        kinds = [_kind(leaf) for _, leaf in leaves]
        carried = next(iter(named))
        shapes = tuple(kind.shape for (path, _), kind in zip(leaves, kinds, strict=True) if path[0].key == carried)
        before = self._seen.setdefault((structure, shapes), kinds)
        changed = [(path, was, now) for (path, _), was, now in zip(leaves, before, kinds, strict=True) if was != now]
        if not changed:
            return
        self._warned = True
        told = [
            f"{path[0].key}{jax.tree_util.keystr(path[1:])} was {was.beside(now)} and is {now.beside(was)}"
            for path, was, now in changed
        ]
        more = f" (and {len(told) - _SHOWN} more)" if len(told) > _SHOWN else ""
        advice = _advice(changed[0][1], changed[0][2])
        warnings.warn(
            f"{self._function.__name__} was compiled again: {', '.join(told[:_SHOWN])}{more}; {advice}.",
            RetraceWarning,
            stacklevel=3,
        )


class _Kind(NamedTuple):
    """Properties of an array for which JAX compiles: if one changes, it compiles again."""

    shape: tuple[int, ...]
    dtype: Any
    weak: bool
    sharding: Any

    def beside(self, other: "_Kind") -> str:
        """The kind in words; weak type and sharding where they differ from the other's."""
        text = f"{self.dtype} {self.shape}"
        if self.weak != other.weak:
            text += " of weak type" if self.weak else " of its own type"
        if self.sharding != other.sharding:
            text += " on no device in particular" if self.sharding is None else f" on {self.sharding}"
        return text


def _kind(leaf: Any) -> _Kind:
    if isinstance(leaf, jax.Array):
        # Arrays of random keys have neither a weak type nor a word on where they are committed to.
        weak, committed = getattr(leaf, "weak_type", False), getattr(leaf, "committed", False)
        return _Kind(leaf.shape, leaf.dtype, weak, leaf.sharding if committed else None)
    return _Kind(jnp.shape(leaf), jnp.result_type(leaf), isinstance(leaf, int | float | complex), None)


def _advice(was: _Kind, now: _Kind) -> str:
    if was.shape != now.shape:
        return (
            "give all batches one shape: leave a short last one out, or fill it up with examples of weight 0, as "
            "train.make_epoch does"
        )
    if was.dtype != now.dtype:
        return "convert it once, before the loop"
    if was.weak != now.weak:
        return "give it a dtype: jnp.asarray(x, jnp.float32) instead of a number of Python"
    return "place it once, before the loop: jax.device_put, or state and batch of train.parallel()"
