"""The folder that holds what a run leaves behind."""

import dataclasses
import io
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnn.files import replacing
from jaxnn.train.checkpoint.options import CheckpointWarning
from jaxnn.train.run.environment import command_line, environment


class RunFolder:
    """A folder with a run's configuration, metrics and plots.

    Attributes:
        path: The folder.

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
        """Opens a folder that exists.

        Raises:
            ValueError: If there is no such folder.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"path: there is no run folder {self.path}; RunFolder.create makes one")

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Any = None) -> "RunFolder":
        """Makes a new folder, and never uses one that exists: `runs/lenet5` becomes `runs/lenet5-2`, `-3` and
        so on.

        Args:
            path: The folder wished for; the run folder's `path` tells which it became.
            config: What the run was started with, a mapping or dataclass; written to `config.json`.

        Returns:
            The run folder.

        Raises:
            ValueError: If the path ends with no name.
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
                    path.mkdir()  # atomic: of two runs that start together one gets the name
                    break
                except FileExistsError:
                    number += 1
                    path = wished.with_name(f"{wished.name}-{number}")
        except OSError as error:
            blocked = path.parent.exists() and not path.parent.is_dir()
            reason = f"{path.parent} is a file" if blocked else error.strerror
            raise OSError(
                f"path: the run folder {path} cannot be made ({reason}); choose one that can be written to"
            ) from error
        run = cls(path)
        if config is not None:
            run.save_config(config)
        return run

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def save_config(self, config: Any) -> None:
        """Writes `config.json`.

        Args:
            config: A mapping or dataclass; what JSON does not know is written as text.
        """
        if dataclasses.is_dataclass(config) and not isinstance(config, type):
            config = dataclasses.asdict(config)
        self.write_json("config.json", dict(config))

    def write_json(self, name: str, values: Any) -> None:
        """Writes a file of the folder whole, the results of a run for instance.

        Args:
            name: Of the file, such as `result.json`.
            values: What JSON knows; what it does not know is written as text.
        """
        text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
        with replacing(self / name) as beside:
            # A path that is not UTF-8 has half characters, which JSON knows by the same escapes as Python.
            beside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def save_environment(self) -> None:
        """Writes `environment.json`, on what the run runs, and `command.txt`, the line that starts it again.

        Without a program to start, in an interactive session, there is no `command.txt`.
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
        with open(self / "metrics.jsonl", "ab", buffering=0) as file:
            before = file.tell()
            try:
                _write_all(file, _line(record))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)  # no half line
                raise

    def rewind(self, history: Sequence[Mapping[str, Any]], *, after: int = 0) -> None:
        """Makes `metrics.jsonl` end with `history`: what a run had logged beyond its checkpoint goes.

        A file with lines that are no records is first renamed to `metrics-damaged.jsonl`, with a warning; its other
        lines are kept.

        Args:
            history: Records of epochs after `after`.
            after: Lines whose `epoch` is up to this one stay as they are.
        """
        path = self / "metrics.jsonl"
        if not history and not path.exists():
            return
        records, damage = self._read()
        if damage:
            aside = _free(self / "metrics-damaged.jsonl")
            os.replace(path, aside)
            text = f"{damage}; it was put aside as {aside.name}, and the checkpoint's history written in its place"
            warnings.warn(text, CheckpointWarning, stacklevel=4)
        kept = [record for record in records if _epoch(record) <= after]
        with replacing(path) as beside, open(beside, "wb", buffering=0) as file:
            _write_all(file, b"".join(_line(record) for record in [*kept, *history]))
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """The records logged so far, one a line of `metrics.jsonl`.

        Raises:
            ValueError: If a line is no record; the message names the file and the line.
        """
        records, damage = self._read()
        if damage:
            raise ValueError(f"{damage}; mend or remove that line")
        return records

    def holds_metrics(self, after: int = 0) -> bool:
        """Whether `metrics.jsonl` holds anything of epochs after `after`, readable or not."""
        records, damage = self._read()
        return bool(damage) or any(_epoch(record) > after for record in records)

    def _read(self) -> tuple[list[dict[str, Any]], str]:
        """The records, and what is wrong with the first line that is none."""
        path = self / "metrics.jsonl"
        records, damage = [], ""
        # What follows the last line's end was cut off by a process that was killed.
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line.decode("utf-8"))
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__}")
                records.append(record)
            except (ValueError, RecursionError) as error:
                damage = damage or f"{path}, line {number}: expected a record, names and values in JSON, got {error}"
        return records, damage


def _epoch(record: Mapping[str, Any]) -> float:
    """The epoch of a record; one that has none is of no epoch that stays."""
    epoch = record.get("epoch", math.inf)
    return epoch if isinstance(epoch, int | float) else math.inf


def _free(path: Path) -> Path:
    """The path, or one with a number if that exists."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _line(record: Mapping[str, Any]) -> bytes:
    plain = {name: _plain(value) for name, value in record.items()}
    return (json.dumps(plain, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_all(file: io.FileIO, text: bytes) -> None:
    view = memoryview(text)
    while view:  # a file without a buffer may take a part only
        view = view[file.write(view) :]
