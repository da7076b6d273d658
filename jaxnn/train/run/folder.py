"""The folder of a run."""

import dataclasses
import io
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnn.files.replace import free_path, replacing
from jaxnn.train.checkpoint.options import CheckpointWarning
from jaxnn.train.run.environment import command_line, environment


class RunFolder:
    """A folder with the configuration, metrics and plots of a run.

    Args:
        path: A folder that exists; `RunFolder.create` makes one.

    Attributes:
        path: The folder.

    Raises:
        ValueError: If there is no such folder.

    Example:
        >>> from jaxnn import train
        >>> run = train.RunFolder.create("runs/lenet5", {"epochs": 2})
        >>> run.log({"epoch": 1, "train_loss": 0.5})
        >>> print(run.path.as_posix(), run.metrics())
        runs/lenet5 [{'epoch': 1, 'train_loss': 0.5}]
        >>> train.RunFolder.create("runs/lenet5").path.as_posix()
        'runs/lenet5-2'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._absolute = self.path.absolute()
        if not self.path.is_dir():
            raise ValueError(
                f"path: expected a run folder, got {os.fspath(path)!r}, which does not exist; RunFolder.create "
                "makes one."
            )

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Any = None) -> "RunFolder":
        """Makes a new folder; if `runs/lenet5` exists, `runs/lenet5-2`, `runs/lenet5-3` and so on.

        Args:
            path: The preferred folder; the one made is the result's `path`.
            config: The configuration of the run, a mapping or dataclass; written to `config.json`.

        Returns:
            The run folder.

        Raises:
            ValueError: If the path has no final name.
            OSError: If the folder cannot be made.
        """
        path = Path(path)
        if path.name in ("", ".."):
            raise ValueError(f"path: expected a path that ends with the new folder's name, got {os.fspath(path)!r}")
        wished, number = path, 1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    path.mkdir()  # atomic: only one of two runs that start together gets the name
                    break
                except FileExistsError:
                    number += 1
                    path = wished.with_name(f"{wished.name}-{number}")
        except OSError as error:
            blocked = path.parent.exists() and not path.parent.is_dir()
            reason = f"{path.parent} is a file" if blocked else error.strerror
            raise OSError(
                f"path: the run folder {path} cannot be made ({reason}); choose one that can be written to."
            ) from error
        run = cls(path)
        if config is not None:
            run.save_config(config)
        return run

    def __truediv__(self, name: str) -> Path:
        # All files are in one folder, also after a sink changed directories; until then paths read as they were given.
        folder = self.path if self.path.absolute() == self._absolute else self._absolute
        return folder / name

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def save_config(self, config: Any) -> None:
        """Writes `config.json`.

        Args:
            config: A mapping or dataclass; values that JSON cannot hold are written as text.
        """
        if dataclasses.is_dataclass(config) and not isinstance(config, type):
            config = dataclasses.asdict(config)
        self.write_json("config.json", dict(config))

    def write_json(self, name: str, values: Any) -> None:
        """Writes a JSON file into the folder atomically, for example the results of a run.

        Args:
            name: Name of the file, for example `result.json`.
            values: The contents; values that JSON cannot hold are written as text.
        """
        text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
        with replacing(self / name) as beside:
            # A path that is not UTF-8 has half characters, which JSON knows by the same escapes as Python.
            beside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def save_environment(self) -> None:
        """Writes `environment.json` (versions, devices, commit) and `command.txt`, the command that repeats the run.

        An interactive session has no `command.txt`.
        """
        self.write_json("environment.json", environment())
        command = command_line()
        if command is not None:
            with replacing(self / "command.txt") as beside:
                beside.write_text(command + "\n", encoding="utf-8", errors="surrogateescape")

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`; it is on the disk when this returns.

        Args:
            record: Names and numbers, or lists of them. JSON has no NaN and infinity: they are written as null.
        """
        with open(self / "metrics.jsonl", "a+b", buffering=0) as file:
            before = _whole_lines(file)
            try:
                file.truncate(before)
                _write_all(file, _line(record))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)  # no half line
                raise

    def rewind(self, history: Sequence[Mapping[str, Any]], *, after: int = 0) -> None:
        """Cuts `metrics.jsonl` after `history`, the records up to the checkpoint.

        If lines are damaged, the file is first renamed to `metrics-damaged.jsonl`, with a warning; its other lines are
        kept.

        Args:
            history: Records of epochs after `after`.
            after: Lines whose `epoch` is up to this one do not change.
        """
        path = self / "metrics.jsonl"
        if not history and not path.exists():
            return
        records, damage = self._read()
        if damage:
            aside = free_path(self / "metrics-damaged.jsonl")
            os.replace(path, aside)
            text = f"{damage}; it was put aside as {aside.name}, and the checkpoint's history written in its place"
            warnings.warn(text, CheckpointWarning, stacklevel=4)
        kept = [record for record in records if _epoch(record) <= after]
        with replacing(path) as beside, open(beside, "wb", buffering=0) as file:
            _write_all(file, b"".join(_line(record) for record in [*kept, *history]))
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """Reads the records logged so far, one per line of `metrics.jsonl`.

        Returns:
            The records.

        Raises:
            ValueError: If a line is not a record; the message names the file and the line.
        """
        records, damage = self._read()
        if damage:
            raise ValueError(f"{damage}; repair or remove that line.")
        return records

    def holds_metrics(self, after: int = 0) -> bool:
        """Whether `metrics.jsonl` holds lines of epochs after `after`, readable or not.

        Args:
            after: The epoch.

        Returns:
            Whether it does.
        """
        records, damage = self._read()
        return bool(damage) or any(_epoch(record) > after for record in records)

    def _read(self) -> tuple[list[dict[str, Any]], str]:
        """Reads the records, and describes the first damaged line."""
        path = self / "metrics.jsonl"
        records, damage = [], ""
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # see `_whole_lines`
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line.decode("utf-8"))
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__}")  # quoted below
                records.append(record)
            except (ValueError, RecursionError) as error:
                damage = damage or f"{path}, line {number}: expected a record, names and values in JSON, got {error}"
        return records, damage


def _epoch(record: Mapping[str, Any]) -> float:
    """Returns the epoch of a record; infinity without one, so that `rewind` drops the record."""
    epoch = record.get("epoch", math.inf)
    return epoch if isinstance(epoch, int | float) else math.inf


def _line(record: Mapping[str, Any]) -> bytes:
    plain = {name: _plain(value) for name, value in record.items()}
    return (json.dumps(plain, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole_lines(file: io.FileIO) -> int:
    """The size of a file without the part of a line that a killed process may have left at its end."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 1, 0))
    if file.read(1) in (b"", b"\n"):
        return end
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _write_all(file: io.FileIO, text: bytes) -> None:
    view = memoryview(text)
    while view:  # a file without a buffer may write only a part
        view = view[file.write(view) :]
