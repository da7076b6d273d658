import itertools
import os
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from jaxnn.data import DownloadError, copies, load, loading
from jaxnn.data.published import Host
from jaxnn.data.table import TABLE
from tests.data import forms
from tests.data.forms import assert_is

REAL = dict(TABLE)
TORCHVISION, KERAS, HUB = Path("data"), Path("~/.keras/datasets"), Path("~/.cache/huggingface/hub")

COPIES = {
    "CIFAR-10, binary": ("cifar10", forms.write_binary, TORCHVISION / "cifar-10-batches-bin"),
    "CIFAR-10, torchvision": ("cifar10", forms.write_python, TORCHVISION / "cifar-10-batches-py"),
    "CIFAR-10, Keras": ("cifar10", forms.write_python, KERAS / "cifar-10-batches-py-target/cifar-10-batches-py"),
    "CIFAR-10, Keras of old": ("cifar10", forms.write_python, KERAS / "cifar-10-batches-py"),
    "CIFAR-10, Hub": ("cifar10", forms.write_parquet, HUB / "datasets--uoft-cs--cifar10/snapshots/1a/plain_text"),
    "CIFAR-100, binary": ("cifar100", forms.write_binary, TORCHVISION / "cifar-100-binary"),
    "CIFAR-100, torchvision": ("cifar100", forms.write_python, TORCHVISION / "cifar-100-python"),
    "CIFAR-100, Keras": ("cifar100", forms.write_python, KERAS / "cifar-100-python-target/cifar-100-python"),
    "CIFAR-100, Hub": ("cifar100", forms.write_parquet, HUB / "datasets--uoft-cs--cifar100/snapshots/1a/cifar100"),
    "MNIST, torchvision": ("mnist", forms.write_idx, TORCHVISION / "MNIST/raw"),
    "MNIST, Keras": ("mnist", forms.write_npz, KERAS),
    "MNIST, Hub": ("mnist", forms.write_parquet, HUB / "datasets--ylecun--mnist/snapshots/1a/mnist"),
    "Fashion-MNIST, torchvision": ("fashion-mnist", forms.write_idx, TORCHVISION / "FashionMNIST/raw"),
    "Fashion-MNIST, Keras": ("fashion-mnist", forms.write_idx_gz, KERAS / "fashion-mnist"),
    "Fashion-MNIST, Hub": (
        "fashion-mnist",
        forms.write_parquet,
        HUB / "datasets--zalando-datasets--fashion_mnist/snapshots/1a/fashion_mnist",
    ),
}


@pytest.fixture(autouse=True)
def small(small_tables, monkeypatch):
    """Few pictures of each, and no waiting."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def serve(monkeypatch, site, name, *hosts, folder="made"):
    """Lets hosts, `(path, form)` each, serve small data sets; returns the files by the name of the form."""
    served, layouts = {}, {}
    for layout in REAL[name].layouts:
        if not layout.files:
            continue
        form = layout.read.__name__
        place = Path(folder, layout.folders[0])
        writers = {"read_binary": forms.write_binary, "read_python": forms.write_python}
        writers |= {"read_idx_part": forms.write_idx_gz, "read_npz": forms.write_npz}
        writers[form](name, place)
        if layout.packed:
            contents = {layout.files[0].name: forms.pack(place, layout.folders[0])}
        else:
            contents = {file.name: (place / file.name).read_bytes() for file in layout.files}
        files = tuple(forms.file_of(file, content) for file, content in contents.items())
        served[form], layouts[form] = contents, layout._replace(files=files)
    shutil.rmtree(folder)
    for path, form in hosts:
        site.files |= {path + file: content for file, content in served[form].items()}
    chosen = tuple(Host(site.url(path), layouts[form]) for path, form in hosts)
    monkeypatch.setitem(TABLE, name, TABLE[name]._replace(layouts=tuple(layouts.values()), hosts=chosen))
    return served


def cached(tmp_path, name):
    return sorted(os.listdir(tmp_path / "cache" / name))


def test_the_names_are_those_of_the_table():
    assert set(get_args(loading.Name)) == {"digits", "idx", "folder", *REAL}


@pytest.mark.parametrize("name", REAL)
def test_what_the_table_says_is_well_formed(name):
    published = REAL[name]
    assert published.name == name
    assert len(set(published.classes)) == len(published.classes)
    assert len({host.url for host in published.hosts}) == len(published.hosts) >= 2
    for host in published.hosts:
        assert host.url.startswith("http")
        assert host.url.endswith("/")
        assert host.layout in published.layouts
        for file in host.layout.files:
            assert file.size > 0
            assert len(bytes.fromhex(file.md5)) == 16
            assert len(bytes.fromhex(file.sha256 or "00" * 32)) == 32


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_other_libraries_are_found_where_they_lie(copy, capsys):
    name, write, folder = COPIES[copy]
    folder = folder.expanduser()
    write(name, folder)
    assert_is(load(name, download=False), name)
    assert capsys.readouterr().err == f"{name}: read from {folder}\n"
    assert_is(load(name, folder), name)
    root = next(root.expanduser() for root in (TORCHVISION, KERAS, HUB) if folder.is_relative_to(root.expanduser()))
    assert_is(load(name, root), name)
    assert_is(load(name, download=False, progress=False), name)
    assert capsys.readouterr() == ("", "")


def test_places_of_other_libraries_can_be_elsewhere(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "mine")
    forms.write_npz("mnist", Path("mine/datasets"))
    assert_is(load("mnist", download=False), "mnist")
    monkeypatch.setenv("HF_HOME", "hf")
    forms.write_python("cifar10", Path("hf/hub/cifar-10-batches-py"))
    assert_is(load("cifar10", download=False), "cifar10")


def test_a_user_without_a_home_folder_needs_the_chosen_cache_alone(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does where nobody knows the user's folder
    with pytest.raises(FileNotFoundError, match="cifar10, since download=False, got none"):
        load("cifar10", download=False)


def test_a_copy_that_cannot_be_read_is_reported_and_the_next_is_taken(capsys):
    forms.write_binary("cifar10", TORCHVISION / "cifar-10-batches-bin")
    (TORCHVISION / "cifar-10-batches-bin/data_batch_3.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"got none.\n  .*data_batch_3\.bin: expected .* truncated"):
        load("cifar10", download=False)
    forms.write_python("cifar10", TORCHVISION / "cifar-10-batches-py")
    capsys.readouterr()
    assert_is(load("cifar10"), "cifar10")
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"cifar10: the copy in {TORCHVISION / 'cifar-10-batches-bin'} cannot be read: data")
    assert told[1] == f"cifar10: read from {TORCHVISION / 'cifar-10-batches-py'}"


def test_a_folder_without_a_copy_is_told_what_it_can_hold():
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar10", "nothing")
    told = str(caught.value)
    assert told.startswith("data_dir: expected nothing to hold cifar10 as one of cifar-10-batches-bin, cifar-10-b")
    with pytest.raises(FileNotFoundError, match=r"as one of MNIST/raw, mnist\.npz, mnist, got none"):
        load("mnist", "nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("svhn",), r"name: expected one of digits, cifar10, .*, got 'svhn'"),
        (("digits", "folder"), r"data_dir: expected None for 'digits', .*, got 'folder'"),
        (("idx",), "data_dir: expected a folder for 'idx', got None"),
        (("folder",), "data_dir: expected a folder for 'folder', got None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(*arguments)


@pytest.mark.parametrize("form", ["read_binary", "read_python"])
def test_an_archive_is_downloaded_once_checked_and_unpacked(site, monkeypatch, tmp_path, capsys, form):
    (archive,) = serve(monkeypatch, site, "cifar10", ("a/", form))[form]
    assert_is(load("cifar10"), "cifar10")
    told = capsys.readouterr().err
    assert f"cifar10: downloading from {site.url('a/')}" in told
    assert f"{archive} from 127.0.0.1: 100%" in told
    assert_is(load("cifar10"), "cifar10")
    assert_is(load("cifar10", download=False, progress=False), "cifar10")
    assert len(site.requests) == 1
    assert capsys.readouterr().err == ""
    unpacked = "cifar-10-batches-bin" if form == "read_binary" else "cifar-10-batches-py"
    assert cached(tmp_path, "cifar10") == sorted([archive, unpacked])


def test_the_next_host_is_tried_where_one_has_no_file_another_file_or_half_of_it(site, monkeypatch, capsys):
    hosts = [("none/", "read_binary"), ("wrong/", "read_binary"), ("half/", "read_python"), ("good/", "read_python")]
    served = serve(monkeypatch, site, "cifar10", *hosts)
    (binary,), (python,) = served["read_binary"], served["read_python"]
    del site.files["none/" + binary]
    site.files["wrong/" + binary] = site.files["wrong/" + binary][:-1] + b"x"
    content = site.files.pop("half/" + python)
    site.files["half/" + python] = content[:-9]
    monkeypatch.setattr(site, "lengths", False)  # so that the server does not say that half of it is missing
    assert_is(load("cifar10"), "cifar10")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cifar10: ")]
    assert told == [
        f"cifar10: downloading from {site.url('none/')}",
        f"cifar10: {site.url('none/' + binary)}: the server answered 404 Not Found",
        f"cifar10: downloading from {site.url('wrong/')}",
        told[3],
        f"cifar10: downloading from {site.url('half/')}",
        told[5],
        f"cifar10: downloading from {site.url('good/')}",
    ]
    assert "the downloaded file is not the published one: its MD5 is" in told[3]
    assert f"it has {len(content) - 9:,} bytes, the published file {len(content):,}" in told[5]


def test_what_arrived_of_a_file_is_not_asked_of_the_next_host_again(site, monkeypatch):
    served = serve(monkeypatch, site, "cifar10", ("cut/", "read_python"), ("good/", "read_python"))
    site.cuts = [20_000, 0]
    assert_is(load("cifar10", progress=False), "cifar10")
    assert [request.get("Range") for request in site.requests] == [None, "bytes=20000-", "bytes=20000-"]
    assert served


def test_files_that_one_host_had_are_not_asked_of_the_next(site, monkeypatch, tmp_path):
    files = serve(monkeypatch, site, "mnist", ("a/", "read_idx_part"), ("b/", "read_idx_part"))["read_idx_part"]
    del site.files["a/t10k-images-idx3-ubyte.gz"]
    assert_is(load("mnist", progress=False), "mnist")
    assert len(site.requests) == 5
    assert cached(tmp_path, "mnist") == sorted(files)
    assert_is(load("mnist", download=False), "mnist")


def test_the_last_host_can_have_another_form(site, monkeypatch, tmp_path):
    serve(monkeypatch, site, "mnist", ("a/", "read_idx_part"), ("b/", "read_npz"))
    del site.files["a/train-images-idx3-ubyte.gz"]
    assert_is(load("mnist", progress=False), "mnist")
    assert cached(tmp_path, "mnist") == ["mnist.npz"]


def test_all_reasons_are_reported_in_one_error_with_what_to_do(site, monkeypatch, tmp_path):
    served = serve(monkeypatch, site, "cifar10", ("a/", "read_binary"), ("b/", "read_python"))
    (binary,), (python,) = served["read_binary"], served["read_python"]
    site.files = {"b/" + python: b"x" * len(served["read_python"][python])}
    forms.write_binary("cifar10", TORCHVISION / "cifar-10-batches-bin")
    (TORCHVISION / "cifar-10-batches-bin/test_batch.bin").unlink()
    with pytest.raises(DownloadError) as caught:
        load("cifar10", progress=False)
    first, *reasons, advice = str(caught.value).splitlines()
    assert first == "cifar10: expected one of these to have it, got none:"
    assert len(reasons) == 3
    assert "cifar-10-batches-bin: expected all batches, got none named test_batch.bin" in reasons[0]
    assert reasons[1] == f"  {site.url('a/' + binary)}: the server answered 404 Not Found"
    assert reasons[2].startswith(f"  {site.url('b/' + python)}: the downloaded file is not the published one: its MD5")
    assert advice == (
        f"Download {site.url('a/' + binary)} or {site.url('b/' + python)} by hand to {tmp_path / 'cache/cifar10'}, or "
        "name a folder with a copy with data_dir (--data-dir in the experiments); the environment variable JAXNN_DATA "
        "moves the cache."
    )


def test_what_was_downloaded_by_hand_is_used(site, monkeypatch, tmp_path):
    served = serve(monkeypatch, site, "cifar10", ("a/", "read_binary"), ("b/", "read_python"))
    (tmp_path / "cache/cifar10").mkdir(parents=True)
    ((name, content),) = served["read_python"].items()
    path = tmp_path / "cache/cifar10" / name
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match=r"expected the published file, got another one: it has .*; move it away"):
        load("cifar10")
    path.write_bytes(content)
    assert_is(load("cifar10", download=False), "cifar10")
    assert not site.requests


def test_an_archive_in_data_dir_is_checked_and_unpacked_beside_itself(site, monkeypatch):
    ((name, content),) = serve(monkeypatch, site, "cifar10")["read_python"].items()
    os.mkdir("mine")
    path = Path("mine", name)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="expected the published file, got another one: it has"):
        load("cifar10", "mine")
    path.write_bytes(content)
    assert_is(load("cifar10", "mine"), "cifar10")
    assert sorted(os.listdir("mine")) == sorted([name, "cifar-10-batches-py"])


def test_of_two_that_unpack_at_once_one_wins(monkeypatch, site):
    ((name, content),) = serve(monkeypatch, site, "cifar10")["read_python"].items()
    Path(name).write_bytes(content)
    for _ in range(2):
        copies._unpack(Path(name), Path("cifar-10-batches-py"))
    assert sorted(os.listdir()) == ["cifar-10-batches-py", name]


def test_slow_hosts_are_left_for_the_next_and_the_fastest_of_them_is_asked_again(site, monkeypatch, capsys):
    # Each host is given a first chunk: the slower one in 40 seconds, the other in 20.
    clock = itertools.chain([0, 40, 60, 80], itertools.count(100, 20))
    download = sys.modules["jaxnn.data.download"]  # `data.download` is the function
    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None))
    monkeypatch.setattr(download, "_CHUNK", 40_960)
    hosts = [("slower/", "read_binary"), ("slow/", "read_python"), ("none/", "read_binary")]
    serve(monkeypatch, site, "cifar10", *hosts)
    del site.files["none/cifar-10-binary.tar.gz"]
    assert_is(load("cifar10"), "cifar10")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cifar10: ")]
    assert told == [
        f"cifar10: downloading from {site.url('slower/')}",
        f"cifar10: {site.url('slower/cifar-10-binary.tar.gz')}: the server sends only 1 KiB a second",
        f"cifar10: downloading from {site.url('slow/')}",
        f"cifar10: {site.url('slow/cifar-10-python.tar.gz')}: the server sends only 2 KiB a second",
        f"cifar10: downloading from {site.url('none/')}",
        f"cifar10: {site.url('none/cifar-10-binary.tar.gz')}: the server answered 404 Not Found",
        f"cifar10: downloading from {site.url('slow/')}",
    ]
    assert site.requests[-1]["Range"] == "bytes=40960-"


def test_without_a_network_the_error_comes_at_once(monkeypatch):
    asked, slept = [], []

    def no_names(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    monkeypatch.setattr("time.sleep", slept.append)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(TABLE, "cifar10", REAL["cifar10"])
    with pytest.raises(DownloadError) as caught:
        load("cifar10", progress=False)
    assert str(caught.value).count("the server cannot be reached") == len(asked) == len(REAL["cifar10"].hosts)
    assert not slept


def test_a_cache_that_cannot_be_written_says_what_to_do(site, monkeypatch):
    serve(monkeypatch, site, "cifar10", ("a/", "read_binary"), ("b/", "read_binary"))
    Path("file").touch()
    monkeypatch.setenv("JAXNN_DATA", "file")
    with pytest.raises(DownloadError, match="JAXNN_DATA moves the cache"):
        load("cifar10", progress=False)


def test_a_damaged_cache_is_named_and_mended_as_the_message_says(site, monkeypatch, tmp_path):
    serve(monkeypatch, site, "cifar10", ("a/", "read_binary"))
    load("cifar10", progress=False)
    folder = tmp_path / "cache/cifar10/cifar-10-batches-bin"
    (folder / "data_batch_1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=rf"got none named data_batch_1\.bin; remove {folder} and run again"):
        load("cifar10")
    shutil.rmtree(folder)
    assert_is(load("cifar10"), "cifar10")


def rewrite(path, **changes):
    with np.load(path) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **{key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_test": np.array([0, 10, 2])},
            r"mine: mnist: test\.labels: expected 0\.\.9, .* got 10 at index 1; the files",
        ),
        (
            {"x_test": np.zeros((3, 28, 27), np.uint8)},
            r"mine: expected test pictures of shape \(3, 28, 28, 1\), .*, got",
        ),
        ({"x_train": np.zeros((14, 28, 28), np.uint8)}, r"expected train pictures of shape \(15, 28, 28, 1\)"),
        ({"x_train": np.zeros((15, 28, 28))}, r"mnist\.npz: expected x_train \(N, H, W\) of uint8"),
        ({"y_train": np.zeros(15)}, r"mnist\.npz: expected x_train \(N, H, W\) of uint8 and y_train"),
        ({"y_train": np.array([{}] * 15)}, r"mnist\.npz: expected a whole \.npz .* Object arrays cannot be loaded"),
        ({"y_train": None}, r"mnist\.npz: expected a whole \.npz file with x_train and y_train, got .*y_train"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_npz_file_of_another_content_is_named(changes, message):
    forms.write_npz("mnist", Path("mine"))
    rewrite("mine/mnist.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load("mnist", "mine")


@pytest.mark.parametrize("damage", [slice(0, -30), slice(0, 0), slice(40, None)], ids=str)
def test_a_damaged_npz_file_is_named(damage):
    forms.write_npz("mnist", Path("mine"))
    path = Path("mine/mnist.npz")
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(ValueError, match=r"mnist\.npz: expected a whole \.npz file"):
        load("mnist", "mine")


def test_a_truncated_idx_file_is_named():
    forms.write_idx("fashion-mnist", Path("mine"))
    path = Path("mine/t10k-images-idx3-ubyte")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte: expected 2,352 bytes .* \(truncated\)"):
        load("fashion-mnist", "mine")
