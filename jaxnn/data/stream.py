"""Batches of a data set that does not fit on the device or in memory, read ahead by grain in a given order."""

import dataclasses
import multiprocessing
import os
import threading
import tokenize
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxnn import extras
from jaxnn.counts import check_count


class WorkerDiedError(RuntimeError):
    """A process that reads batches died."""


@runtime_checkable
class Source(Protocol):
    """Examples by number: a `Dataset` of PyTorch or Hugging Face, grain's `ArrayRecordDataSource`, your own class.

    Worker processes receive the source by pickle, so it should hold names of files, not their contents. A source that
    can read many examples at once also has `read_batch(indices) -> batch`.
    """

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> Any:
        """One example: a pytree of arrays and numbers."""


class ArrayFiles:
    """NumPy files as examples, memory-mapped: only the requested examples are read.

    Args:
        files: A pytree of paths of `.npy` files, which hold arrays `(examples, ...)` of one length.

    Attributes:
        files: The pytree of paths.

    Raises:
        ValueError: If a file is not a NumPy file, or lengths differ.
        OSError: If a file cannot be read.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> np.save("images.npy", np.zeros((10, 8, 8, 1), np.uint8))
        >>> np.save("labels.npy", np.arange(10, dtype=np.int32))
        >>> source = data.ArrayFiles(data.Examples("images.npy", "labels.npy"))
        >>> len(source), source.read_batch(np.array([7, 2])).labels.tolist()
        (10, [7, 2])
    """

    def __init__(self, files: Any) -> None:
        self.files, self._paths = files, jax.tree.map(os.path.abspath, files)
        self._arrays = jax.tree.map(_open, files)
        self._length = _length(self._arrays)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return jax.tree.map(lambda array: np.array(array[index]), self._arrays)

    def read_batch(self, indices: np.ndarray) -> Any:
        """Reads the examples with these indices.

        Args:
            indices: Integers `(batch,)`.

        Returns:
            A pytree of arrays `(batch, ...)`.
        """
        return jax.tree.map(lambda array: array[indices], self._arrays)

    def __reduce__(self) -> Any:
        return ArrayFiles, (self._paths,)  # a pickled memory map would hold the whole file


@dataclasses.dataclass(frozen=True)
class Stream:
    """A data set that `train.fit` reads batch by batch.

    Attributes:
        source: Any object with `len` and `source[i]`, one example, a pytree of arrays and numbers (`data.Source`); or a
            tuple, list or dictionary of NumPy arrays (memory-mapped ones too) that share their leading length.
        workers: Number of processes that read. 0 reads in threads of this process, which suffices for waiting on a disk
            or copying arrays; decoding in Python needs processes.
        threads: Number of threads that read, in each process.
        ahead: Number of batches that each process reads ahead.

    Raises:
        ValueError: If there are no examples, or a number is out of range.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> stream = data.Stream((np.arange(6) * 10, np.arange(6)))
        >>> [batch[0].tolist() for batch in stream.batches(np.array([[5, 0], [1, 4]]))]
        [[50, 0], [10, 40]]
    """

    source: Any
    workers: int = 0
    threads: int = 4
    ahead: int = 4

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("threads", 1), ("ahead", 1)):
            check_count(name, getattr(self, name), least)
        if self.examples == 0:
            raise ValueError("source: expected at least one example, got none")

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.source) if _by_number(self.source) else _length(self.source)

    def batches(self, indices: np.ndarray) -> Iterator[Any]:
        """Reads batches in the given order, several ahead; to resume, omit the batches that were seen.

        Args:
            indices: `(batches, batch)`, the indices of each batch's examples.

        Yields:
            Batches, pytrees of NumPy arrays `(batch, ...)`.

        Raises:
            WorkerDiedError: If a worker process died. Errors of the source pass through.
            ValueError: If examples of a batch differ in fields or shapes.
            ImportError: If grain is not installed.
        """
        grain = _grain()
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=max(self.ahead, self.threads))
        dataset = grain.MapDataset.source(_Batches(self.source, indices)).to_iter_dataset(options)
        if self.workers:
            workers = grain.MultiprocessingOptions(num_workers=self.workers, per_worker_buffer_size=self.ahead)
            dataset = dataset.mp_prefetch(workers, worker_init_fn=_prepare)
        iterator, done = iter(dataset), 0
        try:
            while True:
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
                except RuntimeError as error:
                    if "terminated unexpectedly" not in str(error):
                        raise
                    raise WorkerDiedError(
                        f"workers: a process that reads data died after batch {done} of {len(indices)}: {error} If it "
                        "ran out of memory, take fewer workers or a smaller ahead; resume from the last checkpoint."
                    ) from error
                yield batch
                done += 1
        finally:
            iterator.close()


class _Batches:
    """Batches by number, for grain."""

    def __init__(self, source: Any, indices: np.ndarray) -> None:
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: Any) -> Any:
        indices = self._indices[int(number)]
        if not _by_number(self._source):
            return jax.tree.map(lambda array: array[indices], self._source)
        if hasattr(self._source, "read_batch"):
            return self._source.read_batch(indices)
        examples = [self._source[int(index)] for index in indices]
        try:
            return jax.tree.map(lambda *values: np.stack(values), *examples)
        except ValueError as error:
            if ragged := _ragged(examples, indices):
                raise ValueError(ragged) from error
            raise


def _ragged(examples: list[Any], indices: np.ndarray) -> str:
    """Names the first example that is not like the first of its batch; empty if all are alike."""
    shapes = [
        {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(example)}
        for example in examples
    ]
    for number, other in zip(indices, shapes, strict=True):
        for name in [*shapes[0], *other]:
            one, two = shapes[0].get(name, "nothing"), other.get(name, "nothing")
            if one != two:
                return (
                    f"source: expected examples with the same fields and shapes, got {one}{name and f' at {name}'} of "
                    f"example {indices[0]} and {two} of example {number}; pad or cut them to one shape in the source, "
                    "and keep their lengths as a field."
                )
    return ""


def _by_number(source: Any) -> bool:
    """Whether this is a source and not a pytree of arrays; tuples, lists and dictionaries are pytrees."""
    return isinstance(source, Source) and not isinstance(source, tuple | list | dict | np.ndarray | jax.Array)


def _length(arrays: Any) -> int:
    lengths = {np.shape(array)[:1] for array in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            "source: expected arrays that share one leading length, the number of examples, or an object with __len__ "
            f"and __getitem__, got {jax.tree.map(np.shape, arrays)}"
        )
    return int(next(iter(lengths))[0])


def _open(path: Any) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # the header is Python's syntax
        raise ValueError(
            f"files: expected {os.fspath(path)} to be a whole .npy file of numbers, got another one ({error})"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"files: expected {os.fspath(path)} to be a .npy file, got an archive; save each array as a separate "
            ".npy file."
        )
    # A damaged header may state fewer examples than the file holds.
    if isinstance(array, np.memmap) and array.offset + array.nbytes != (got := os.path.getsize(path)):
        raise ValueError(
            f"files: expected {array.offset + array.nbytes:,} bytes in {os.fspath(path)}, which states shape "
            f"{array.shape} of {array.dtype}, got {got:,}; write it again."
        )
    return array


def _prepare(worker: int, workers: int) -> None:
    """Keeps a reading process off the accelerator, which training needs, and ends it when training is killed."""
    del worker, workers
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _grain() -> Any:
    with extras.needed("data.Stream: grain", "data"):
        import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's worker processes read flags, which only programs of absl parse
    return grain
