"""Fetching one published file so that it is there whole and right, or not at all."""

# Why not a library: `pooch`, the one that data sets are usually fetched with, starts a broken transfer again
# from nothing, and 170 MB over a poor line may then never arrive. urllib is enough for one GET with a Range.

import contextlib
import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from jaxnn.data.progress import DownloadProgress
from jaxnn.files import locked

_CHUNK = 1 << 16
_MAY_HELP = {408, 416, 425, 429, 500, 502, 503, 504}  # other statuses of HTTP refuse for good


class DownloadError(OSError):
    """A file could not be fetched, or is not what was published."""


class _FailedError(Exception):
    """One attempt failed."""

    def __init__(self, reason: str, *, may_help: bool) -> None:
        super().__init__(reason)
        self.may_help = may_help
        """Whether trying again may help."""


class Checks(NamedTuple):
    """What is known beforehand of a published file; None is not checked.

    Attributes:
        md5: hexadecimal MD5.
        sha256: hexadecimal SHA-256.
        size: length in bytes.
    """

    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def problem(self, path: Path) -> str | None:
        """What is wrong with the file at `path`; None where it is as published."""
        got = path.stat().st_size
        if self.size is not None and got != self.size:
            return f"it has {got:,} bytes, the published file {self.size:,}"
        for name, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected is None:
                continue
            digest = hashlib.new(name, usedforsecurity=False)  # Python in FIPS mode has no MD5 otherwise
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != expected.lower():
                return f"its {name.upper()} is {digest.hexdigest()}, the published file's {expected.lower()}"
        return None


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    progress: bool = True,
    attempts: int = 4,
    backoff: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Fetches `url` to `target` unless it is there already, and checks it before anybody can use it.

    The bytes arrive in `target` + `.part`, which is renamed once its size and checksums are right. A broken
    transfer is tried again and goes on where it stopped, in this call or in a later one (HTTP Range; If-Range
    where the server gives a strong ETag). It starts from nothing where the server cannot do that, where its
    file has changed, where nothing could tell a wrong continuation (neither ETag nor checksum), or where the
    checksum proves one wrong. Of several processes or threads that want the same target, one fetches it and
    the others wait.

    Args:
        url: an `http` or `https` address. The usual environment variables for proxies count.
        target: the file to make; missing folders are made too.
        md5: hexadecimal MD5 of the published file.
        sha256: hexadecimal SHA-256 of the published file.
        size: its length in bytes.
        progress: show a bar on stderr (plain lines where rich is missing or nobody watches).
        attempts: how often in a row it may fail without getting any further.
        backoff: seconds before the second attempt; doubled before each further one.
        timeout: seconds within which the server must answer or send something.

    Returns:
        `target`.

    Raises:
        DownloadError: the server cannot be reached, has no such file, or has another one than was published;
            the message says what to fetch by hand and where to put it.
        ValueError: `url` is not HTTP, `attempts` is below 1, or another file than the published one is at
            `target` already (it is left as it is).

    Example:
        >>> download("https://example.org/pictures.tar.gz", "pictures.tar.gz", size=1_234)  # doctest: +SKIP
        PosixPath('pictures.tar.gz')
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url must start with http:// or https://; got {url!r}")
    if attempts < 1:
        raise ValueError(f"attempts must be 1 or more; got {attempts}")
    target, checks = Path(target), Checks(md5, sha256, size)
    if _is_there(target, checks):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)

    lock = target.with_name(target.name + ".lock")
    shown = DownloadProgress(target.name, progress)
    with locked(lock, on_wait=lambda: shown.say(f"{target.name}: another process is fetching it; waiting")), shown:
        if _is_there(target, checks):
            return target
        part = _Part(target)
        tries, furthest = 0, part.size()
        while True:
            try:
                _attempt(url, part, checks, timeout, shown)
                break
            except _FailedError as failure:
                # As long as attempts bring more, a poor line gets there in the end.
                tries = 1 if part.size() > furthest else tries + 1
                furthest = max(furthest, part.size())
                if not failure.may_help or tries >= attempts:
                    raise DownloadError(
                        f"could not download {url}: {failure}. "
                        f"Run again later, or fetch that file by hand and put it at {target}"
                    ) from failure
                seconds = backoff * 2 ** (tries - 1)
                shown.say(f"{target.name}: {failure}; trying again in {seconds:g} s")
                time.sleep(seconds)
        part.file.replace(target)
        part.drop()
    return target


def _is_there(target: Path, checks: Checks) -> bool:
    if not target.exists():
        return False
    problem = checks.problem(target)
    if problem:
        raise ValueError(f"{target} is not the published file: {problem}. Move it away and run again to fetch it anew")
    return True


class _Part:
    """What has arrived so far, and the ETag under which it came; both outlive the process."""

    def __init__(self, target: Path) -> None:
        self.file = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.etag")

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def etag(self) -> str | None:
        # Latin-1, as headers are. What a crash left of a note is no ETag, and not sent.
        note = self._note.read_text(encoding="latin-1") if self._note.exists() else ""
        return note if re.fullmatch(r'"[!#-~\x80-\xff]*"', note) else None

    def start(self, etag: str | None) -> None:
        """Forgets what there was; what comes now is of `etag`."""
        self.drop()
        self.file.touch()
        # A weak one, W/"...", promises the same meaning, not the same bytes.
        if etag and etag.startswith('"'):
            self._note.write_text(etag, encoding="latin-1")

    def drop(self) -> None:
        # The note goes first: it must never stand beside bytes that did not come under it.
        self._note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def _attempt(url: str, part: _Part, checks: Checks, timeout: float, shown: DownloadProgress) -> None:
    """Tries once; returns when all of the file stands in `part` and is right."""
    could_tell = part.etag() or checks.md5 or checks.sha256
    if not could_tell or (checks.size is not None and part.size() > checks.size):
        part.drop()
    before = part.size()
    # A process can be stopped between the last byte and the renaming; then there is nothing left to ask for.
    if not before or before != checks.size:
        with _network_errors():
            _receive(url, part, checks.size, timeout, shown)
    problem = checks.problem(part.file)
    if problem:
        part.drop()
        # Where all of it came just now, it would only come again.
        raise _FailedError(f"what came is not the published file: {problem}", may_help=before > 0)


def _receive(url: str, part: _Part, size: int | None, timeout: float, shown: DownloadProgress) -> None:
    """Appends to `part` what lies after its last byte, or fetches all where the server insists."""
    done, etag = part.size(), part.etag()
    headers = {"User-Agent": "jaxnn", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if etag:
            headers["If-Range"] = etag
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # its file is no longer than our part
            part.drop()
        raise
    with response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if stated is None or int(stated[1]) != done:
                part.drop()
                raise _FailedError("the server sent another part than it was asked for", may_help=True)
            length = stated[2]
        else:
            done = 0
            length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if None not in (size, total) and size != total:
            raise _FailedError(
                f"the server offers a file of {total:,} bytes, the published one has {size:,}", may_help=False
            )
        if not done:
            part.start(response.headers.get("ETag"))
        shown(done, total)
        with part.file.open("ab") as file:
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if size is not None and done > size:  # it need not have stated a length, nor ever end
                    raise _FailedError(f"the server sends more than the {size:,} bytes published", may_help=False)
                file.write(chunk)
                shown(done, total)
    if total is not None and done < total:  # http.client says nothing when a connection closes too early
        raise _FailedError(f"the connection closed after {done:,} of {total:,} bytes", may_help=True)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turns what the network can do to a transfer into `_FailedError`; errors of the disk pass."""
    try:
        yield
    except urllib.error.HTTPError as error:  # a URLError too, so it comes first
        error.close()
        raise _FailedError(
            f"the server answered {error.code} {error.reason}", may_help=error.code in _MAY_HELP
        ) from error
    except urllib.error.URLError as error:
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise _FailedError(f"the server cannot be reached ({error.reason})", may_help=not untrusted) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _FailedError(f"the transfer broke off ({error or type(error).__name__})", may_help=True) from error
