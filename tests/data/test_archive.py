import io
import os
import stat
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data.archive import unpack_tar

ARCHIVE = "a.tar.gz"


def pack(*members, name=ARCHIVE, mode="w:gz"):
    """Each member is (name, content) or a TarInfo."""
    with tarfile.open(name, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size, info.mode = len(member[1]), 0o4777
            tar.addfile(info, io.BytesIO(member[1]))
    return name


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_and_folders_arrive(mode):
    pack(special("pack", tarfile.DIRTYPE), ("./pack/a.bin", b"a" * 3), ("pack/sub/b.bin", b""), mode=mode)
    unpacked = unpack_tar(ARCHIVE, "x/out")
    assert (unpacked / "pack/a.bin").read_bytes() == b"aaa"
    assert (unpacked / "pack/sub/b.bin").read_bytes() == b""
    assert os.listdir("x") == ["out"]


def test_modes_are_not_taken_from_the_archive():
    path = unpack_tar(pack(("a", b"x")), "out") / "a"
    assert not path.stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


def test_root_becomes_the_folder():
    unpacked = unpack_tar(pack(("pack/a", b"x"), ("pack/b/c", b"y")), "out", root="pack")
    assert sorted(path.as_posix() for path in unpacked.rglob("*")) == ["out/a", "out/b", "out/b/c"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..", "a\\..\\evil", "C:evil"])
@pytest.mark.parametrize("root", [None, "a"])
def test_a_path_that_leads_out_is_refused_before_anything_is_written(name, root):
    pack(("a/good", b"x"), (name, b"evil"))
    with pytest.raises(ValueError, match=r"a path that could lead out of its folder; nothing was unpacked"):
        unpack_tar(ARCHIVE, "in/out", root=root)
    assert sorted(os.listdir()) == [ARCHIVE, "in"]
    assert os.listdir("in") == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind):
    pack(("good", b"x"), special("bad", kind, "good"), ("bad/evil", b"y"))
    with pytest.raises(ValueError, match=r"'bad', which is a link or a device"):
        unpack_tar(ARCHIVE, "out")
    assert os.listdir() == [ARCHIVE]


@pytest.mark.parametrize("name", ["other/a", "packed/a", "pack"])
def test_what_stands_outside_the_root_is_refused(name):
    with pytest.raises(ValueError, match=r"outside its folder 'pack'"):
        unpack_tar(pack((name, b"x")), "out", root="pack")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_members_in_each_others_way_are_refused(names):
    with pytest.raises(ValueError, match="comes twice"):
        unpack_tar(pack(*((name, b"x") for name in names)), "out")
    assert os.listdir() == [ARCHIVE]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_named(mode, keep):
    pack(("a", np.random.default_rng(0).bytes(50_000)), mode=mode)
    content = Path(ARCHIVE).read_bytes()
    Path(ARCHIVE).write_bytes(content[: int(keep * 50_000)])
    with pytest.raises(ValueError, match=rf"{ARCHIVE} is truncated or damaged"):
        unpack_tar(ARCHIVE, "out")
    assert os.listdir() == [ARCHIVE]


@pytest.mark.parametrize("at", [5_000, -6])
def test_a_flipped_byte_in_a_gzip_is_noticed(at):
    pack(("a", np.random.default_rng(0).bytes(50_000)))
    content = bytearray(Path(ARCHIVE).read_bytes())
    content[at] ^= 0xFF
    Path(ARCHIVE).write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
        unpack_tar(ARCHIVE, "out")


def test_a_folder_that_exists_is_left_alone():
    Path("out").mkdir()
    Path("out/mine").touch()
    with pytest.raises(FileExistsError, match="out exists already"):
        unpack_tar(pack(("a", b"x")), "out")
    assert os.listdir("out") == ["mine"]


def test_of_many_that_unpack_at_once_one_wins_and_the_folder_is_whole():
    pack(*((f"pack/{i}", bytes([i]) * 1000) for i in range(20)))
    outcomes = []

    def work():
        try:
            outcomes.append(unpack_tar(ARCHIVE, "out", root="pack"))
        except FileExistsError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, Path) for outcome in outcomes) == 1
    assert len(os.listdir("out")) == 20
    assert sorted(os.listdir()) == [ARCHIVE, "out"]
