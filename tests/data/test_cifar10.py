import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data import DownloadError, cifar10, load_cifar10
from jaxnn.data.download import Checks

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
PER_BATCH = 3
NAMES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def write(folder, rng, classes=True):
    """The published layout, written byte for byte as its page describes it."""
    folder.mkdir(parents=True)
    images = rng.integers(0, 256, (len(NAMES) * PER_BATCH, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    for i, name in enumerate(NAMES):
        content = bytearray()
        for n in range(i * PER_BATCH, (i + 1) * PER_BATCH):
            content.append(labels[n])
            for channel in range(3):
                for row in range(32):
                    for column in range(32):
                        content.append(images[n, row, column, channel])
        (folder / name).write_bytes(content)
    if classes:
        (folder / "batches.meta.txt").write_text("\n".join(cifar10.CLASSES) + "\n\n")
    return images, labels


def pack(archive, folder):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER)
    content = Path(archive).read_bytes()
    return content, Checks(hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Batches of a few records, and a cache of this test's own."""
    monkeypatch.setattr(cifar10, "_PER_BATCH", PER_BATCH)
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:1/unreachable")
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "cache"))


@pytest.fixture
def copy(rng):
    folder = Path("copy") / FOLDER
    return folder, *write(folder, rng)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def published(monkeypatch, site, copy):
    """The archive on a server, where the loader looks for it."""
    content, checks = pack("published.tar.gz", copy[0])
    monkeypatch.setattr(cifar10, "URL", site.url(ARCHIVE))
    monkeypatch.setattr(cifar10, "CHECKS", checks)
    site.files[ARCHIVE] = content
    return site


def assert_is(dataset, copy):
    _, images, labels = copy
    held_out = 5 * PER_BATCH
    assert dataset.name == "cifar10"
    assert dataset.classes == cifar10.CLASSES
    for examples, part in ((dataset.train, slice(held_out)), (dataset.test, slice(held_out, None))):
        np.testing.assert_array_equal(examples.images, images[part])
        np.testing.assert_array_equal(examples.labels, labels[part])
        assert (examples.images.dtype, examples.labels.dtype) == (np.uint8, np.int32)
        assert examples.images.flags.c_contiguous


def test_published_sizes():
    assert 10_000 * cifar10._RECORD == 30_730_000
    assert (len(cifar10.CHECKS.md5), len(cifar10.CHECKS.sha256)) == (32, 64)


@pytest.mark.parametrize("data_dir", ["copy", f"copy/{FOLDER}", Path("copy")])
def test_a_copy_is_read(copy, data_dir):
    assert_is(load_cifar10(data_dir), copy)


def test_standard_class_names_where_the_file_of_names_is_missing(copy):
    (copy[0] / "batches.meta.txt").unlink()
    assert_is(load_cifar10("copy"), copy)


def test_class_names_are_those_of_the_copy(copy):
    (copy[0] / "batches.meta.txt").write_text("".join(f"class {i}\r\n" for i in range(10)))
    assert load_cifar10("copy").classes[3] == "class 3"


def test_class_names_that_are_no_text_are_named(copy):
    (copy[0] / "batches.meta.txt").write_bytes(b"cat\n\xff\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt: expected UTF-8, got another byte at 4"):
        load_cifar10(copy[0])


def test_wrong_number_of_class_names_is_named(copy):
    (copy[0] / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt: expected 10 classes, one per line, got 2"):
        load_cifar10("copy")


@pytest.mark.parametrize(("change", "fault"), [(-1, "truncated"), (+1, "too long"), (-99999, "truncated")])
def test_wrong_size_is_named(copy, change, fault):
    path = copy[0] / "data_batch_4.bin"
    content = path.read_bytes() + b"x"
    path.write_bytes(content[: max(0, len(content) - 1 + change)])
    with pytest.raises(ValueError, match=rf"data_batch_4\.bin: expected 9,219 bytes .* so it is {fault}; remove"):
        load_cifar10("copy")


@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
def test_label_above_nine_is_named(copy, name):
    path = copy[0] / name
    content = bytearray(path.read_bytes())
    content[2 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: expected labels 0\.\.9, got 10 in record 2 \(of 0\.\.2\)"):
        load_cifar10("copy")


def test_all_missing_batches_are_named(copy):
    (copy[0] / "data_batch_2.bin").unlink()
    (copy[0] / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"got none named data_batch_2\.bin, test_batch\.bin; remove"):
        load_cifar10("copy")


def test_a_folder_without_cifar_is_told_what_it_must_hold(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir: expected nothing to hold") as caught:
        load_cifar10("nothing")
    assert str(tmp_path / "cache") in str(caught.value)


def test_the_pickled_version_is_recognised_and_refused():
    Path("data/cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Python version, which is pickled"):
        load_cifar10("data")


def test_an_archive_in_data_dir_is_checked_and_unpacked_beside_itself(copy, monkeypatch):
    os.mkdir("mine")
    _, checks = pack(f"mine/{ARCHIVE}", copy[0])
    with pytest.raises(ValueError, match=r"got another one: it has .* download it again from http"):
        load_cifar10("mine")
    monkeypatch.setattr(cifar10, "CHECKS", checks)
    assert_is(load_cifar10("mine"), copy)
    assert sorted(os.listdir("mine")) == sorted([ARCHIVE, FOLDER])
    os.unlink(f"mine/{ARCHIVE}")
    assert_is(load_cifar10("mine"), copy)


def test_download_to_the_cache_once(published, copy, tmp_path, capsys):
    assert_is(load_cifar10(), copy)
    assert "100%" in capsys.readouterr().err
    assert_is(load_cifar10(), copy)
    assert_is(load_cifar10(download=False), copy)
    assert len(published.requests) == 1
    assert sorted(os.listdir(tmp_path / "cache/cifar10")) == sorted([ARCHIVE, FOLDER])


def test_download_is_silent_without_progress(published, copy, capsys):
    assert_is(load_cifar10(progress=False), copy)
    assert capsys.readouterr() == ("", "")


def test_a_broken_download_is_resumed(published, copy, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    published.cuts = [20_000]
    assert_is(load_cifar10(progress=False), copy)
    assert published.requests[1]["Range"] == "bytes=20000-"


def test_an_archive_put_in_the_cache_by_hand_is_used(published, copy, tmp_path):
    (tmp_path / "cache/cifar10").mkdir(parents=True)
    shutil.copy("published.tar.gz", tmp_path / "cache/cifar10" / ARCHIVE)
    assert_is(load_cifar10(download=False), copy)
    assert not published.requests


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError) as caught:
        load_cifar10(progress=False)
    message = str(caught.value)
    assert f"to {tmp_path / 'cache/cifar10' / ARCHIVE}" in message
    assert "--data-dir" in message
    assert "JAXNN_DATA" in message


def test_a_cache_that_cannot_be_written_says_what_to_do(monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("JAXNN_DATA", "file")
    with pytest.raises(DownloadError, match="JAXNN_DATA moves the cache"):
        load_cifar10(progress=False)


def test_no_download_where_it_is_not_wanted():
    with pytest.raises(FileNotFoundError, match="since download=False, got none"):
        load_cifar10(download=False)


def test_a_damaged_cache_is_named_and_mended_as_the_message_says(published, copy, tmp_path):
    load_cifar10(progress=False)
    folder = tmp_path / "cache/cifar10" / FOLDER
    (folder / "data_batch_1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"got none named data_batch_1\.bin; remove"):
        load_cifar10()
    shutil.rmtree(folder)
    assert_is(load_cifar10(), copy)
