"""Unpacks an archive without trusting it."""

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

_BLOCK = 512
_CHUNK = 1 << 20
_LONGEST_EXTENSION = 1 << 16  # bytes of a long name or of a pax header
_LONGEST_NAME, _LONGEST_PATH, _DEEPEST_PATH = 255, 1024, 64  # bytes, bytes, folders: what file systems take
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_EXTENSIONS = {tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE}
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def unpack_tar(archive: str | os.PathLike[str], folder: str | os.PathLike[str], *, root: str | None = None) -> Path:
    """Unpacks a tar archive (plain, gzip, bzip2 or xz) to `folder`, which appears whole or not at all.

    Only plain files and folders are written, below `folder`. Owners, permissions, links, devices and sparse files are
    not taken from the archive. The whole archive is read and checked before the first file is written: the checksum of
    every header, the end marks, and the checksums of the compression.

    Args:
        archive: The archive.
        folder: The folder to make; must not exist. It is filled under a temporary name beside it, then renamed.
        root: The archive's one top-level folder, whose *contents* become `folder`; None keeps the archive's paths below
            `folder`.

    Returns:
        `folder`.

    Raises:
        FileExistsError: If `folder` exists, or another process makes it at the same time.
        ValueError: If the archive is damaged or ends early, or if a member is not a plain file or folder, lies outside
            `root`, collides with another member, or has a path that is absolute, leads out of the folder, or is too
            long for file systems.

    Example:
        >>> import tarfile
        >>> from pathlib import Path
        >>> _ = Path("a.txt").write_text("hello")
        >>> with tarfile.open("a.tar.gz", "w:gz") as tar:
        ...     tar.add("a.txt", "pack/a.txt")
        >>> unpack_tar("a.tar.gz", "unpacked", root="pack").joinpath("a.txt").read_text()
        'hello'
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: expected no such folder, got one; move it away to unpack {archive} there.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as aside:
        unpacked = Path(aside) / "unpacked"
        unpacked.mkdir()
        try:
            for member in _members(archive):
                _safe_path(member, archive, root)
            for member in _members(archive):
                _write(member, unpacked / _safe_path(member, archive, root))
        except tarfile.TarError as error:
            raise ValueError(
                f"{archive}: expected a whole archive, got a truncated or damaged one ({error}); download it again."
            ) from error
        try:
            unpacked.rename(folder)
        except OSError as error:
            if folder.exists():
                raise FileExistsError(f"{folder}: another process made it at the same time") from error
            raise
    return folder


class _Member(NamedTuple):
    """A member of an archive; `content` yields its bytes and is valid until the next member is read."""

    name: str
    type: bytes
    content: Iterator[bytes]


# Not `tarfile.open`: it treats a damaged header, or the end of the file, as the end of the archive, follows negative
# sizes backwards, and recurses through extended headers.
def _members(archive: Path) -> Iterator[_Member]:
    """Reads an archive from its first byte to its last; raises `tarfile.TarError` where it is damaged."""
    with archive.open("rb") as file:
        start = file.read(max(map(len, _OPENERS)))
    opener: Any = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), open)
    with opener(archive, "rb") as file:
        extensions: dict[bytes, dict[str, bytes]] = {}
        while any(block := _read(file, _BLOCK)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if header.type in _EXTENSIONS:
                if header.type in extensions:
                    raise tarfile.ReadError("a member has two extended headers of one kind")
                extensions[header.type] = _extension(file, header)
                continue
            stated = {key: value for extension in extensions.values() for key, value in extension.items()}
            extensions = {}
            name = stated["path"].decode("utf-8", "surrogateescape") if "path" in stated else header.name
            size = _size(stated["size"]) if "size" in stated else header.size
            if size < 0:
                raise tarfile.ReadError(f"{name!r} states a size of {size} bytes")
            content = _content(file, size if header.type in _FILES else 0)
            yield _Member(name, header.type, content)
            for _ in content:  # what the caller did not read
                pass
        if extensions.keys() - {tarfile.XGLTYPE}:
            raise tarfile.ReadError("an extended header has no member")
        if any(_read(file, _BLOCK)):
            raise tarfile.ReadError("the end marks are not whole")
        while rest := _some(file, _CHUNK):
            if any(rest):
                raise tarfile.ReadError("the archive continues after the end marks")


def _extension(file: IO[bytes], header: tarfile.TarInfo) -> dict[str, bytes]:
    """Reads the fields that an extended header sets for the next member."""
    if not 0 <= header.size <= _LONGEST_EXTENSION:
        raise tarfile.ReadError(f"an extended header states a size of {header.size} bytes")
    content = b"".join(_content(file, header.size))
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0")}
    stated = {}
    while content:
        digits = content[:8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = content[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or length > len(content) or content[length - 1 : length] != b"\n":
            raise tarfile.ReadError("a pax header is malformed")
        stated[key.decode("utf-8", "replace")] = value
        content = content[length:]
    if any(key.startswith("GNU.sparse.") for key in stated):
        raise tarfile.ReadError("it holds a sparse file, which is not supported")
    if header.type == tarfile.XGLTYPE and stated.keys() & {"path", "size"}:
        raise tarfile.ReadError("one path or size is stated for all members")
    return stated


def _size(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise tarfile.ReadError(f"a pax header states a size of {value[:20]!r}")
    return int(value)


def _content(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yields the next `size` bytes, then skips the rest of their last block."""
    filling = -size % _BLOCK
    while size:
        chunk = _read(file, min(size, _CHUNK))
        size -= len(chunk)
        yield chunk
    _read(file, filling)


def _read(file: IO[bytes], count: int) -> bytes:
    """Reads exactly `count` bytes."""
    content = _some(file, count)
    if len(content) < count:
        raise tarfile.ReadError("it ends early")
    return content


def _some(file: IO[bytes], count: int) -> bytes:
    """Reads `count` bytes, or those up to the end."""
    try:
        return file.read(count)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's error, not the decompressor's
            raise
        raise tarfile.ReadError(str(error)) from error


def _safe_path(member: _Member, archive: Path, root: str | None) -> PurePosixPath:
    """Returns the path of `member` below the folder; raises if that path is not safe."""
    name, folder = member.name, member.type == tarfile.DIRTYPE
    path = PurePosixPath(name)
    # A backslash or a colon is a plain character here, but a separator or a drive on Windows.
    if path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0"):
        raise ValueError(
            f"{archive}: expected paths that stay in its folder, got {name!r}, which could lead out; "
            "nothing was unpacked."
        )
    lengths = [len(os.fsencode(part)) for part in path.parts]
    if sum(lengths) > _LONGEST_PATH or len(lengths) > _DEEPEST_PATH or max(lengths, default=0) > _LONGEST_NAME:
        raise ValueError(
            f"{archive}: expected paths that file systems can hold, got {name[:80]!r}..., which is too long; "
            "nothing was unpacked."
        )
    if not folder and member.type not in _FILES:
        raise ValueError(
            f"{archive}: expected plain files and folders, got {name!r}, which is a link, a device or sparse; "
            "nothing was unpacked."
        )
    if root is None:
        return path
    if not path.is_relative_to(root) or (path == PurePosixPath(root) and not folder):
        raise ValueError(
            f"{archive}: expected all members in its folder {root!r}, got {name!r} outside; nothing was unpacked."
        )
    return path.relative_to(root)


def _write(member: _Member, path: Path) -> None:
    """Writes one member to `path`."""
    folder = member.type == tarfile.DIRTYPE
    try:
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
        if not folder:
            with path.open("xb") as file:
                file.writelines(member.content)
    except (FileExistsError, NotADirectoryError) as error:
        raise tarfile.ExtractError(f"{member.name!r} occurs twice") from error
