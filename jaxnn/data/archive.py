"""Unpacking an archive from elsewhere without trusting it."""

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath


def unpack_tar(archive: str | os.PathLike[str], folder: str | os.PathLike[str], *, root: str | None = None) -> Path:
    """Unpacks a tar archive (plain, gzip, bzip2 or xz) to `folder`, which appears whole or not at all.

    Only plain files and folders are written, below `folder`; nothing else that an archive can ask for
    (owners, permissions, links, devices) is taken from it. Every member is checked before one is written.

    Args:
        archive: the archive.
        folder: the folder to make; must not exist. It is filled beside, under another name, and then renamed.
        root: the archive's one top-level folder, whose *contents* are to become `folder`; None keeps the
            archive's own paths below `folder`.

    Returns:
        `folder`.

    Raises:
        FileExistsError: `folder` exists already, or another process made it meanwhile.
        ValueError: the archive is damaged, or a member is a link or a device, has a path that is absolute or
            leads out of the folder, stands outside `root`, or is in the way of another one.

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
        raise FileExistsError(f"{folder} exists already; move it away to unpack {archive} there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as aside:
        unpacked = Path(aside) / "unpacked"
        unpacked.mkdir()
        try:
            with tarfile.open(archive) as tar:
                paths = [(member, _safe_path(member, archive, root)) for member in tar]
                # On to the very end, where the checksum of the compression stands; tarfile stops before it.
                while tar.fileobj and tar.fileobj.read(1 << 20):
                    pass
                for member, path in paths:
                    _write(tar, member, unpacked / path)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, LZMAError) as error:
            raise ValueError(f"{archive} is truncated or damaged ({error}); fetch it again") from error
        try:
            unpacked.rename(folder)
        except OSError as error:
            if folder.exists():
                raise FileExistsError(f"{folder} was made by another process meanwhile") from error
            raise
    return folder


def _safe_path(member: tarfile.TarInfo, archive: Path, root: str | None) -> PurePosixPath:
    """Where `member` goes, below the folder; raises where that is not safe."""
    path = PurePosixPath(member.name)
    # A backslash or a colon is a plain character here, a separator or a drive on Windows; data needs neither.
    if path.is_absolute() or ".." in path.parts or any(mark in member.name for mark in "\\:\0"):
        raise ValueError(
            f"{archive} holds {member.name!r}, a path that could lead out of its folder; nothing was unpacked"
        )
    if not (member.isreg() or member.isdir()):
        raise ValueError(
            f"{archive} holds {member.name!r}, which is a link or a device, not a file; nothing was unpacked"
        )
    if root is None:
        return path
    if not path.is_relative_to(root) or (path == PurePosixPath(root) and not member.isdir()):
        raise ValueError(f"{archive} holds {member.name!r} outside its folder {root!r}; nothing was unpacked")
    return path.relative_to(root)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Copies one member's bytes to `path`."""
    # Not `tar.extract(..., filter="data")`: the first patch releases of Python 3.11 do not have the filter,
    # and copying the bytes ourselves leaves it nothing to filter: no links, no modes, no owners.
    content = tar.extractfile(member)  # None for a folder
    try:
        (path.parent if content else path).mkdir(parents=True, exist_ok=True)
        if content:
            with content, path.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
    except (FileExistsError, NotADirectoryError) as error:
        raise tarfile.ExtractError(f"{member.name!r} comes twice") from error
