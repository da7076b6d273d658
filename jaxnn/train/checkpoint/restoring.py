"""Reading a checkpoint: only one that is whole, and of this run, model and optimiser."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import keys
from jaxnn.files.replace import free_path
from jaxnn.train.checkpoint.fingerprint import arrays, filled, fingerprints, shapes
from jaxnn.train.checkpoint.folder import saved_steps
from jaxnn.train.checkpoint.options import CheckpointError, Position
from jaxnn.train.devices import distributed
from jaxnn.train.step.state import TrainState

FORMAT = 1


class DamagedError(CheckpointError):
    """This checkpoint cannot be read, whichever run it is of."""


def restore(
    folder: str | os.PathLike[str], state: TrainState, *, best: bool = False
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Reads a checkpoint of a run, to use its model or to train from it, also while the run is training.

    Args:
        folder: The folder of `Checkpoints`.
        state: A state of the same model and optimiser, as `create_state` makes it or as `fit` returns it. Its arrays
            are not used, only their shardings.
        best: Whether to read the best checkpoint, of a run with `Checkpoints(best=...)`, instead of the newest.

    Returns:
        The state, and the records up to it.

    Raises:
        CheckpointError: If there is no such checkpoint, or it is damaged or of another model or optimiser.
        ValueError: If `best` is not a bool.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     return (batch - w) ** 2, {}
        >>> state = train.create_state(jnp.zeros(()), optax.sgd(0.6), jax.random.key(0))  # soon too high a rate
        >>> state, _ = train.fit(
        ...     state, jnp.ones(4), loss_fn, test_data=jnp.full(4, 1.2), epochs=5, batch_size=4, progress=False,
        ...     checkpoints=train.Checkpoints("runs/best/checkpoints", best="test_loss"),
        ... )
        >>> state, history = train.checkpoint.restore("runs/best/checkpoints", state, best=True)
        >>> len(history), round(float(state.params), 1)
        (1, 1.2)
    """
    if not isinstance(best, bool):
        raise ValueError(
            f"best: expected True or False, got {best!r}; the metric is that of train.Checkpoints(best=...)."
        )
    folder = Path(folder).absolute()
    if not (steps := saved_steps(folder)):
        raise CheckpointError(f"folder: expected checkpoints in {folder}, got none; give that of train.Checkpoints.")
    step = steps[-1]
    try:
        if best:
            ranked = []
            for step in steps:
                about = _about(folder / str(step))
                if about.get("best") is not None:
                    ranked.append((about["best"], about["rank"], step))
            # By the newest criterion: before the run was resumed another one may have counted.
            ranks = [(rank, step) for by, rank, step in ranked if by == ranked[-1][0] and rank is not None]
            if not ranks:
                raise CheckpointError(
                    f"best: expected a run that keeps its best checkpoint, got {folder}; train with "
                    "train.Checkpoints(best='test_loss') for one."
                )
            _, step = min(ranks)
        state, position = read(folder / str(step), state, None)
    except DamagedError as error:
        raise CheckpointError(f"folder: expected checkpoints that are whole, got {folder}/{step} ({error}).") from error
    return state, position.history


def read(folder: Path, state: TrainState, config: Mapping[str, Any] | None) -> tuple[TrainState, Position]:
    """Reads a checkpoint and checks all of it.

    Args:
        folder: The checkpoint, in the folder of its run.
        state: A state like the one that was saved, on the devices and in the shardings to restore to.
        config: What the run must have been started with; None for anything.

    Raises:
        DamagedError: If a part is missing or is not what was saved.
        CheckpointError: If it is of another run, model or optimiser, or of a later version.
    """
    import orbax.checkpoint as ocp

    about, run = _about(folder), folder.parent
    with _damage():
        before, saved_shapes = about["config"], about["arrays"]
    if config is not None:
        _check_same("the run in", run, before, config)
    named = arrays(state)
    _check_same("the model and optimiser in", run, saved_shapes, shapes(named))
    with _damage():
        like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in filled(named).items()}
        found = ocp.StandardCheckpointHandler().restore(folder / "state", args=ocp.args.StandardRestore(like))
        position = Position(**{field.name: about[field.name] for field in dataclasses.fields(Position)})
        found = named | found
    with _damage():
        numbers = fingerprints(found)
        if changed := [name for name, number in numbers.items() if number != about["fingerprints"].get(name)]:
            raise ValueError(f"{changed[0]}: expected the values that were saved, got others")
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, map(_placed, leaves, (found[name] for name in named))), position


def _placed(like: Any, found: jax.Array) -> Any:
    """Commits `found` to devices only where `like` is; otherwise a resumed run compiles other programs."""
    return keys.with_data(like, found if getattr(like, "committed", False) else jnp.array(np.asarray(found)))


def set_aside(folder: Path, step: int) -> str:
    """Renames a damaged checkpoint, in the first process, and returns its new name in every process."""
    aside = free_path(folder / f"damaged-{step}")
    if distributed.is_first():
        os.replace(folder / str(step), aside)
    return distributed.same_text(aside.name)


def _about(folder: Path) -> dict[str, Any]:
    """The description that a checkpoint holds of itself: run, arrays, position."""
    import orbax.checkpoint as ocp

    # By the handlers, not the manager: that one waits for the other processes, of which one may have failed.
    with _damage():
        about: dict[str, Any] = ocp.JsonCheckpointHandler().restore(folder / "about")
        later = about["format"] != FORMAT
    if later:
        raise CheckpointError(f"checkpoints: {folder.parent} was written by a later jaxnn; use that one.")
    return about


@contextmanager
def _damage() -> Iterator[None]:
    """Makes whatever fails, in any process, a `DamagedError` in every one."""
    error = None
    try:
        yield
    except Exception as caught:
        if distributed.shows_lost_process(caught):
            raise
        error = caught
    if reason := distributed.reason_anywhere(error):
        raise DamagedError(reason) from error


def _check_same(what: str, folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a CheckpointError that names the first thing in which two descriptions differ."""
    for name in [*before, *now]:
        was, is_now = (values.get(name, "nothing") for values in (before, now))
        if was != is_now:
            raise CheckpointError(
                f"checkpoints: {what} {folder} is another one: {name} was {was} there and is {is_now} now; "
                "pass what that run was started with, in its version of jaxnn, or start a new run in another folder."
            )
