import gzip
import io
import os
import stat
import tarfile
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.data import archive, unpack_tar

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
    with pytest.raises(ValueError, match=r"which could lead out; nothing was unpacked"):
        unpack_tar(ARCHIVE, "in/out", root=root)
    assert sorted(os.listdir()) == [ARCHIVE, "in"]
    assert os.listdir("in") == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind):
    pack(("good", b"x"), special("bad", kind, "good"), ("bad/evil", b"y"))
    with pytest.raises(ValueError, match=r"'bad', which is a link, a device or sparse"):
        unpack_tar(ARCHIVE, "out")
    assert os.listdir() == [ARCHIVE]


@pytest.mark.parametrize("name", ["other/a", "packed/a", "pack"])
def test_what_stands_outside_the_root_is_refused(name):
    with pytest.raises(ValueError, match=r"all members in its folder 'pack', got .* outside"):
        unpack_tar(pack((name, b"x")), "out", root="pack")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_members_in_each_others_way_are_refused(names):
    with pytest.raises(ValueError, match="occurs twice"):
        unpack_tar(pack(*((name, b"x") for name in names)), "out")
    assert os.listdir() == [ARCHIVE]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_named(mode, keep):
    pack(("a", np.random.default_rng(0).bytes(50_000)), mode=mode)
    content = Path(ARCHIVE).read_bytes()
    Path(ARCHIVE).write_bytes(content[: int(keep * 50_000)])
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: expected a whole archive, got a truncated or damaged one"):
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
    with pytest.raises(FileExistsError, match="out: expected no such folder"):
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


def header(name="b", size=b"00000000000\0", kind=b"0"):
    """One header block, written field by field, with its checksum."""
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[100:108], block[124:136], block[156:157], block[257:265] = b"0000644\0", size, kind, b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def filled(content):
    return content + bytes(-len(content) % 512)


def pax(kind=b"x", **records):
    """A pax header with its records."""
    lines = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
        lines += str(length).encode() + rest
    return header("pax", b"%011o\0" % len(lines), kind) + filled(lines)


GOOD = header("a", b"00000000003\0") + filled(b"abc")
END = bytes(1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it ends early"),
        (GOOD, "it ends early"),
        (GOOD + bytes(512), "it ends early"),
        (GOOD + bytes(512) + b"x" * 512, "the end marks are not whole"),
        (GOOD + END + GOOD, "continues after the end marks"),
        (GOOD + header("b", b"\xff" * 10 + b"\xfe\0") + END, "size of -512 bytes"),
        (GOOD + header("b", b"-0000001000\0") + END, "size of -512 bytes"),
        (GOOD + header("b", b"\x80" + bytes(3) + b"\x7f" + bytes(7)) + END, "it ends early"),
        (GOOD + header("b", b"00000002000\0") + filled(b"short") + END[:600], "it ends early"),
        (GOOD + bytes([GOOD[0] ^ 4]) + GOOD[1:] + END, "bad checksum"),
        (GOOD + header("b", b"\xff" * 12, b"x") + END, "extended header states a size of -1"),
        (GOOD + header("b", b"77777777777\0", b"L") + END, "extended header states a size of 8589934591"),
        (pax(path="b") * 2000 + GOOD + END, "two extended headers of one kind"),
        (
            (header("b", b"00000000002\0", b"L") + filled(b"b\0")) * 2000 + GOOD + END,
            "two extended headers of one kind",
        ),
        (GOOD + pax(path="b") + END, "an extended header has no member"),
        (pax(size="-512") + GOOD + END, "states a size of b'-512'"),
        (pax(size="1" + "0" * 30) + GOOD + END, "states a size of b'1000"),
        (pax(size="4000") + GOOD + END, "it ends early"),
        (header("x", b"00000000012\0", b"x") + filled(b"99 path=b\n") + GOOD + END, "a pax header is malformed"),
        (header("x", b"00000000012\0", b"x") + filled(b"-9 path=b\n") + GOOD + END, "a pax header is malformed"),
        (pax(GNU__sparse__size="8000000000") + GOOD + END, "it holds a sparse file"),
        (pax(b"g", path="b") + GOOD + END, "one path or size is stated for all members"),
        (header("b", kind=b"S") + END, "a link, a device or sparse"),
        (header("b", kind=b"K") + END, "a link, a device or sparse"),
        (pax(path="../b") + GOOD + END, "could lead out"),
        (pax(path="b" * 300) + GOOD + END, "which is too long"),
        (pax(path="b/" * 900) + GOOD + END, "which is too long"),
        (pax(path="/".join(["b" * 99] * 20)) + GOOD + END, "which is too long"),
        (header(".") + END, "occurs twice"),
    ],
)
@pytest.mark.parametrize("open_", [open, gzip.open])
def test_what_no_archive_of_data_holds_is_refused(content, message, open_):
    with open_(ARCHIVE, "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=message) as caught:
        unpack_tar(ARCHIVE, "out")
    assert ARCHIVE in str(caught.value)
    assert os.listdir() == [ARCHIVE]


def test_nothing_is_written_before_all_of_it_is_read(monkeypatch):
    Path(ARCHIVE).write_bytes(GOOD + header("b", b"00000010000\0"))
    written = []
    monkeypatch.setattr(archive, "_write", lambda member, path: written.append(path))
    with pytest.raises(ValueError, match="ends early"):
        unpack_tar(ARCHIVE, "out")
    assert not written


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_other_alphabets_arrive(form):
    names = ["d" * 60 + "/" + "f" * 90, "a"]
    if form != tarfile.USTAR_FORMAT:
        names += ["ü" * 90 + "/" + "é" * 50]
    with tarfile.open(ARCHIVE, "w:gz", format=form, pax_headers={"comment": "for all"}) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 3, 1.5
            tar.addfile(info, io.BytesIO(b"abc"))
    out = unpack_tar(ARCHIVE, "out")
    assert all((out / name).read_bytes() == b"abc" for name in names)
    assert sum(path.is_file() for path in out.rglob("*")) == len(names)


CONTENT = {"pack/a": b"abc" * 50, "pack/" + "long" * 30: b"x" * 700, "pack/c": b""}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    mode=st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.none() | st.integers(0, 7),
)
def test_an_archive_with_a_flipped_bit_or_cut_short_unpacks_whole_or_not_at_all(mode, where, bit):
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, ARCHIVE), Path(folder, "out")
        pack(*CONTENT.items(), name=path, mode=mode)
        damaged = bytearray(path.read_bytes())
        # What stands in a plain archive outside its headers has no checksum.
        blocks = range(0, 512 * 20, 512)
        headers = [at for at in blocks if damaged[at + 257 : at + 262] == b"ustar" or not any(damaged[at : at + 512])]
        at = int(where * len(damaged))
        if mode == "w" and bit is not None:
            at = headers[at % len(headers)] + at % 512
        if bit is None:
            del damaged[at:]
        else:
            damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        refused = None
        try:
            unpack_tar(path, out)
        except ValueError as error:
            refused = str(error)
        if refused is not None:
            assert str(path) in refused
            assert os.listdir(folder) == [ARCHIVE]
        else:
            files = {file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()}
            assert files == CONTENT
