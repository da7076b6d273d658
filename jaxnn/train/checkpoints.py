"""Checkpoints of training: written beside it, whole or not at all, checked when read, and never of another run."""

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.train.fingerprint import fingerprint
from jaxnn.train.state import TrainState

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another model, configuration or data."""


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written or read, and training goes on without it."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where, how often and how many checkpoints `fit` keeps.

    A checkpoint holds everything that training follows from: parameters, optimiser state, variables, random
    key, step (and so the position in the data), the history so far and `config`. Orbax writes it while training
    goes on, beside its final place, and renames it when it is whole.

    Attributes:
        folder: Where they are; made if it does not exist.
        resume: Goes on from the newest one in `folder`, or starts where there is none. Without it a folder
            that holds checkpoints is an error.
        every: Epochs from one checkpoint to the next. The last epoch is always saved.
        seconds: Also saves inside an epoch once so many seconds went by since the last one, if `fit` runs an epoch
            in chunks. None never does.
        keep: How many of the newest ones to keep.
        best: Keeps the one that is best by this name of the history too: the lowest, or the highest where the name
            ends with `accuracy`. None keeps no such one.
        config: What must be the same when a run is taken up again: names and values that JSON knows.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> data = jnp.eye(2), jnp.ones(2)
        >>> def run(epochs, resume):
        ...     state = train.create_state(jnp.zeros(2), optax.adam(0.1), jax.random.key(0))
        ...     saved = train.Checkpoints("runs/toy/checkpoints", resume=resume)
        ...     return train.fit(
        ...         state, data, loss_fn, epochs=epochs, batch_size=1, progress=False, checkpoints=saved
        ...     )
        >>> state, history = run(2, resume=False)
        >>> state, history = run(3, resume=True)  # trains one epoch more
        >>> [record["epoch"] for record in history]
        [1, 2, 3]
    """

    folder: str | os.PathLike[str]
    resume: bool = False
    every: int = 1
    seconds: float | None = 60.0
    keep: int = 2
    best: str | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"seconds: expected a time that is not negative, or None, got {self.seconds}")


@dataclasses.dataclass
class Position:
    """How far training is, apart from its state: what the history needs to go on.

    Attributes:
        history: The records of whole epochs.
        sums: Of the epoch that is under way: the sum over its examples of each metric, and of `examples`.
        seconds: How long that epoch has trained so far.
    """

    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


class Saver:
    """An open folder of checkpoints; a context manager that waits for the last one to be written."""

    def __init__(self, options: Checkpoints, config: Mapping[str, Any]):
        """Opens the folder.

        Args:
            options: What `fit` was given.
            config: What must be the same beyond `options.config`.

        Raises:
            ValueError: If the folder holds checkpoints and `resume` was not asked for.
            OSError: If it cannot be written to.
        """
        import orbax.checkpoint as ocp  # a second of importing that only those pay who save
        from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

        self._ocp, self._options = ocp, options
        self._config = json.loads(json.dumps({**options.config, **config}, default=str))
        self.folder = Path(options.folder).absolute()
        _check_writable(self.folder)
        kept = [policy.LatestN(options.keep)]
        if options.best is not None:
            kept.append(
                policy.BestN(
                    get_metric_fn=lambda metrics: metrics["rank"],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
            ),
        )
        if self._manager.all_steps() and not options.resume:
            self._manager.close()
            raise ValueError(
                f"checkpoints: {self.folder} holds those of a run already; resume=True goes on with that run, "
                "another folder starts a new one"
            )
        self._saved: int | None = self._manager.latest_step()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *error: object) -> None:
        self._finish()
        try:
            self._manager.close()
        except Exception as trouble:  # what could not be written was told already
            _warn(f"{self.folder} could not be closed: {_reason(trouble)}")

    def restore(self, state: TrainState) -> tuple[TrainState, Position]:
        """The newest checkpoint that is whole, on the devices and in the shardings of `state`.

        A damaged one is put aside under another name, and told, and an older one is taken.

        Args:
            state: A state of the same model and optimiser; it is returned where there is no checkpoint.

        Returns:
            The state, and the position in the run.

        Raises:
            CheckpointError: If the checkpoint is of another model, optimiser, configuration or data, or
                all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._read(step, state)
            except CheckpointError as error:
                if not isinstance(error, _DamagedError):
                    raise
                aside = self._set_aside(step)
                _warn(f"the checkpoint of step {step} is damaged ({error}); it was put aside as {aside}")
        if steps:
            raise CheckpointError(f"checkpoints: all of those in {self.folder} were damaged; start a new run")
        return state, Position()

    def save(self, state: TrainState, position: Position, *, wait: bool = False) -> bool:
        """Starts to write a checkpoint, once the one before is written; `wait` stays until it is on the disk.

        Returns:
            Whether it went well as far as is known; what went wrong is a `CheckpointWarning`.
        """
        step = int(state.step)
        if self._saved != step:
            self._finish()
            self._start(step, state, position)
        return self._finish() if wait else self._saved == step

    def _start(self, step: int, state: TrainState, position: Position) -> None:
        args, arrays = self._ocp.args, _named(state)
        about = {
            "format": _FORMAT,
            "config": self._config,
            "arrays": _shapes(arrays),
            "fingerprints": _fingerprints(arrays),
            **dataclasses.asdict(position),
        }
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(arrays), about=args.JsonSave(about)),
                metrics=self._rank(position),
                force=True,
            )
            self._saved = step
        except Exception as error:  # a disk can fail in as many ways as there are file systems
            self._failed(step, error)

    def _finish(self) -> bool:
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(self._saved, error)
            return False
        return True

    def _failed(self, step: int | None, error: Exception) -> None:
        self._saved = None
        good = [s for s in self._manager.all_steps(read=True) if s != step]
        last = f"the last good one is that of step {max(good)}" if good else "there is no older one"
        _warn(f"the checkpoint of step {step} could not be written to {self.folder} ({_reason(error)}); {last}")

    def _rank(self, position: Position) -> dict[str, float] | None:
        name = self._options.best
        if name is None or position.sums or not position.history:
            return None
        if name not in position.history[-1]:
            raise ValueError(f"best: the history has no {name!r}; choose one of {sorted(position.history[-1])}")
        value = position.history[-1][name]
        value = math.inf if value is None or not math.isfinite(value) else float(value)
        return {"rank": -value if name.endswith("accuracy") else value}

    def _read(self, step: int, state: TrainState) -> tuple[TrainState, Position]:
        args = self._ocp.args
        try:
            about = self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]
            if about["format"] != _FORMAT:
                raise CheckpointError(f"checkpoints: {self.folder} was written by a later jaxnn; use that one")
            config, shapes = about["config"], about["arrays"]
        except CheckpointError:
            raise
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        target = _named(state)
        _same("the run in", self.folder, config, self._config)
        _same("the model and optimiser in", self.folder, shapes, _shapes(target))
        try:
            arrays = self._manager.restore(
                step, args=args.Composite(state=args.StandardRestore(jax.tree.map(_abstract, target)))
            )["state"]
            position = Position(**{field.name: about[field.name] for field in dataclasses.fields(Position)})
            found = _fingerprints(arrays)
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        if changed := [name for name, number in found.items() if number != about["fingerprints"].get(name)]:
            raise _DamagedError(f"{changed[0]} is not what was saved")
        leaves, structure = jax.tree.flatten(state)
        restored = [_as(leaf, array) for leaf, array in zip(leaves, (arrays[name] for name in target), strict=True)]
        return jax.tree.unflatten(structure, restored), position

    def _set_aside(self, step: int) -> str:
        aside, number = self.folder / f"damaged-{step}", 1
        while aside.exists():
            number += 1
            aside = self.folder / f"damaged-{step}-{number}"
        if jax.process_index() == 0:
            os.replace(self.folder / str(step), aside)
        self._manager.reload()
        self._saved = None
        return aside.name


class _DamagedError(CheckpointError):
    """This checkpoint cannot be read, whichever run it is of."""


def _named(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their place in it, so that it can be read without jaxnn; random keys as their data."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def _as(like: jax.Array, array: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if _is_key(like) else array


def _is_key(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _shapes(arrays: Mapping[str, jax.Array]) -> dict[str, str]:
    return {name: f"{x.dtype} {x.shape}" for name, x in arrays.items()}


def _fingerprints(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    return {name: int(number) for name, number in jax.device_get(fingerprint(dict(arrays))).items()}


def _same(what: str, folder: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in [*saved, *now]:
        before, after = (values.get(name, "nothing") for values in (saved, now))
        if before != after:
            raise CheckpointError(
                f"checkpoints: {what} {folder} is another one: {name} was {before} there and is {after} now; "
                "go on with what that run was started with, or start a new run in another folder"
            )


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".can-write-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OSError(
            f"checkpoints: {folder} cannot be written to ({error.strerror}); choose a folder that can"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of the first cause, short enough to read."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def _warn(text: str) -> None:
    warnings.warn(text, CheckpointWarning, stacklevel=3)
