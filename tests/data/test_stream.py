import contextlib
import os
import pickle
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import data
from jaxnn.data import Examples
from tests.train.children import read_until, start

pytest.importorskip("grain")

INDICES = np.random.default_rng(0).permutation(12).reshape(4, 3)


class Squares:
    """A source of a person's own: one example at a time, decoded in Python."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {"number": np.int32(index), "square": np.full(2, index**2)}


class Selecting(Squares):
    """A source with a `take` of another meaning, as Hugging Face's `Dataset` has it."""

    def take(self, n):
        return range(12)[: int(n)]


class Broken(Squares):
    def __getitem__(self, index):
        raise OSError(f"example {index} is damaged")


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (12, 4, 4, 1), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(12, dtype=np.int32))
    return Examples(tmp_path / "images.npy", tmp_path / "labels.npy")


def test_batches_come_in_the_given_order_from_arrays_files_and_sources(files):
    arrays = Examples(np.load(files.images), np.load(files.labels))
    for source in (arrays, data.ArrayFiles(files)):
        batches = list(data.Stream(source).batches(INDICES))
        np.testing.assert_array_equal([batch.labels for batch in batches], INDICES)
        np.testing.assert_array_equal([batch.images for batch in batches], arrays.images[INDICES])
        assert batches[0].images.dtype == np.uint8
    for source in (Squares(), Selecting()):
        batches = list(data.Stream(source).batches(INDICES))
        np.testing.assert_array_equal([batch["square"][:, 0] for batch in batches], INDICES**2)
    for array in (arrays.images, jnp.asarray(arrays.images)):
        np.testing.assert_array_equal(list(data.Stream(array).batches(INDICES)), arrays.images[INDICES])


def test_it_continues_anywhere():
    stream = data.Stream(Squares(), threads=2, ahead=1)
    np.testing.assert_array_equal([batch["number"] for batch in stream.batches(INDICES[3:])], INDICES[3:])
    assert list(stream.batches(INDICES[4:])) == []


def test_files_are_mapped_and_pickled_by_name(files, monkeypatch):
    monkeypatch.chdir(files.images.parent)
    source = data.ArrayFiles(Examples("images.npy", "labels.npy"))
    monkeypatch.chdir("/")  # worker processes start after a sink changed directories
    assert isinstance(source._arrays.images, np.memmap)
    assert len(pickle.dumps(source)) < 500
    assert pickle.loads(pickle.dumps(source))[3].labels == 3


def test_processes_read_in_the_same_order(files):
    stream = data.Stream(data.ArrayFiles(files), workers=2)
    np.testing.assert_array_equal([batch.labels for batch in stream.batches(INDICES)], INDICES)


def test_a_worker_that_dies_is_reported():
    class Deadly:
        """Kills the process that reads one of the examples; a local class, so that it is pickled as a whole."""

        def __len__(self):
            return 12

        def __getitem__(self, index):
            if index == INDICES[2, 1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.int32(index)

    with pytest.raises(data.WorkerDiedError, match=r"died after batch [012] of 4: .* exit code -9"):
        list(data.Stream(Deadly(), workers=1, ahead=1).batches(INDICES))


def test_workers_end_with_the_process_that_is_killed():
    code = """if True:
        import time
        from jaxnn import data
        class Slow:
            def __len__(self):
                return 1
            def __getitem__(self, index):
                print("reading", flush=True)
                time.sleep(600)
        list(data.Stream(Slow(), workers=1).batches([[0]]))
    """
    with start("-c", code) as process:
        read_until(process, "reading")
        process.kill()
        process.communicate(timeout=60)  # until the last process closes the pipe


def test_what_a_source_raises_is_seen():
    with pytest.raises(OSError, match="is damaged"):
        list(data.Stream(Broken()).batches(INDICES))


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        (
            [{"x": np.zeros(3)}, {"x": np.zeros(3)}, {"x": np.zeros(4)}],
            r"got \(3,\) at \['x'\] of example 7 and \(4,\) of",
        ),
        ([(0, np.zeros(2)), (0, np.zeros(2)), (0,)], r"got \(2,\) at \[1\] of example 7 and nothing of"),
        ([[1.0], [2.0], [3.0, 4.0]], r"got nothing at \[1\] of example 7 and \(\) of"),
        ([np.zeros(3), np.zeros(3), np.zeros((1, 3))], r"got \(3,\) of example 7 and \(1, 3\) of"),
    ],
)
def test_an_example_of_another_shape_is_named(examples, told):
    source = dict(zip((7, 1, 4), examples, strict=True))
    with pytest.raises(ValueError, match=f"{told} example 4; pad or cut them"):
        list(data.Stream(_Table(source)).batches(np.array([[7, 1, 4]])))


class _Table:
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return self.examples[index]


def test_a_file_whose_header_states_fewer_examples_than_there_are_is_named(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((12, 4), np.uint8))
    whole = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(whole.replace(b"(12, 4)", b"( 2, 4)"))
    with pytest.raises(ValueError, match=r"images.npy, which states shape \(2, 4\) of uint8, got"):
        data.ArrayFiles(tmp_path / "images.npy")


def test_a_file_with_a_flipped_bit_in_its_header_is_named(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((12, 4), np.uint8))
    whole = (tmp_path / "images.npy").read_bytes()
    for at in range(0, 8 * 128, 7):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        (tmp_path / "images.npy").write_bytes(damaged)
        with contextlib.suppress(ValueError):  # any other exception fails, and so does another shape
            assert len(data.ArrayFiles(tmp_path / "images.npy")) == 12


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(ValueError, match="workers: expected a whole number of at least 0, got -1"):
        data.Stream(Squares(), workers=-1)
    with pytest.raises(ValueError, match="source: expected at least one example, got none"):
        data.Stream((np.zeros((0, 2)),))
    with pytest.raises(ValueError, match=r"source: expected arrays that share one leading length.*\(3,\), \(4,\)"):
        data.Stream((np.zeros(3), np.zeros(4)))
    (tmp_path / "notes.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"files: expected .*notes.npy to be a whole .npy file"):
        data.ArrayFiles(tmp_path / "notes.npy")
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"files: expected .*many.npz to be a .npy file, got an archive"):
        data.ArrayFiles(tmp_path / "many.npz")
    with pytest.raises(FileNotFoundError):
        data.ArrayFiles(tmp_path / "nothing.npy")
