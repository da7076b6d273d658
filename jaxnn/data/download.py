"""Downloads one published file, whole and checked, or not at all."""

# Why not a library: `pooch`, which usually downloads data sets, restarts an interrupted transfer from nothing, and
# 170 MB over a poor line may then never arrive. urllib is enough for one GET with a Range.

import contextlib
import http.client
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from jaxnn.counts import check_count
from jaxnn.data.progress import DownloadProgress
from jaxnn.data.published import File
from jaxnn.files import locked

_CHUNK = 1 << 16
_MAY_HELP = {408, 416, 425, 429, 500, 502, 503, 504}  # with any other status of HTTP a second try fails too


class DownloadError(OSError):
    """A file could not be downloaded, or differs from the published one."""


class FailedError(Exception):
    """A transfer failed; the message is the reason alone."""

    def __init__(self, reason: str, *, may_help: bool, rate: float | None = None) -> None:
        super().__init__(reason)
        self.may_help = may_help
        """Whether trying again may help."""
        self.rate = rate
        """Bytes a second, of a server that sends fewer than wanted."""


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
    """Downloads `url` to `target`, unless it exists, and checks it before the file gets its name.

    The bytes are written to `target` + `.part`, which is renamed when its size and checksums are right. An interrupted
    transfer is retried and resumes where it stopped, in this call or in a later one (HTTP Range; If-Range if the server
    gives a strong ETag). It starts again if the server cannot resume, if the server's file has changed, if neither an
    ETag nor a checksum could detect a wrong continuation, or if the checksum is wrong. If several processes or threads
    download the same target, one does and the others wait.

    Args:
        url: An `http` or `https` address. The usual environment variables for proxies apply.
        target: The file to create; missing folders are created too.
        md5: Hexadecimal MD5 of the published file.
        sha256: Hexadecimal SHA-256 of the published file.
        size: Its length in bytes.
        progress: Whether to show a bar on stderr (plain lines without rich or without a terminal).
        attempts: Number of attempts in a row that may fail without any new byte.
        backoff: Seconds before the second attempt; doubled before each further one.
        timeout: Seconds within which the server must send something.

    Returns:
        `target`.

    Raises:
        DownloadError: If the server cannot be reached, has no such file, or has another file than the published one;
            the message says how to download the file by hand.
        ValueError: If `url` is not HTTP, `attempts` is below 1, or `target` is another file than the published one
            (which is not changed).

    Example:
        >>> download("https://example.org/pictures.tar.gz", "pictures.tar.gz", size=1_234)  # doctest: +SKIP
        PosixPath('pictures.tar.gz')
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url: expected an address with http:// or https://, got {url!r}")
    check_count("attempts", attempts)
    target = Path(target)
    shown = DownloadProgress(target.name, progress)
    try:
        file = File(target.name, md5, sha256, size)
        fetch(url, target, file, shown, attempts=attempts, backoff=backoff, timeout=timeout)
    except FailedError as failure:
        raise DownloadError(
            f"{url}: the download failed: {failure}; run again later, or download that file by hand to {target}."
        ) from failure
    return target


def fetch(
    url: str,
    target: Path,
    file: File,
    shown: DownloadProgress,
    *,
    attempts: int = 4,
    backoff: float = 1.0,
    timeout: float = 30.0,
    slowest: float = 0.0,
) -> None:
    """`download` for callers who know a second place to get the file: a failure raises `FailedError`.

    A server that sends fewer than `slowest` bytes per second over `timeout` seconds is given up; the bytes that have
    arrived are kept.
    """
    if file.is_at(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)

    lock = target.with_name(target.name + ".lock")
    with locked(lock, on_wait=lambda: shown.say(f"{target.name}: another process is downloading it; waiting")), shown:
        if file.is_at(target):
            return
        part = _Part(target)
        tries, furthest = 0, part.size()
        while True:
            try:
                _attempt(url, part, file, shown, timeout, slowest)
                break
            except FailedError as failure:
                # While attempts bring new bytes, the download ends even over a poor line.
                tries = 1 if part.size() > furthest else tries + 1
                furthest = max(furthest, part.size())
                if not failure.may_help or tries >= attempts:
                    raise
                seconds = backoff * 2 ** (tries - 1)
                shown.say(f"{target.name}: {failure}; trying again in {seconds:g} s")
                time.sleep(seconds)
        part.file.replace(target)
        part.drop()


class _Part:
    """The bytes that have arrived and their ETag; both outlive the process."""

    def __init__(self, target: Path) -> None:
        self.file = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.etag")

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def etag(self) -> str | None:
        # Latin-1, as headers are. A note that a crash truncated is no ETag and is not sent.
        note = self._note.read_text(encoding="latin-1") if self._note.exists() else ""
        return note if re.fullmatch(r'"[!#-~\x80-\xff]*"', note) else None

    def start(self, etag: str | None) -> None:
        """Removes the bytes so far; the next bytes belong to `etag`."""
        self.drop()
        self.file.touch()
        # A weak one, W/"...", promises the same meaning, not the same bytes.
        if etag and etag.startswith('"'):
            self._note.write_text(etag, encoding="latin-1")

    def drop(self) -> None:
        # The note is removed first: an ETag must never be beside bytes of another file.
        self._note.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def _attempt(url: str, part: _Part, file: File, shown: DownloadProgress, timeout: float, slowest: float) -> None:
    """Tries once; returns when `part` is the whole published file."""
    could_tell = part.etag() or file.md5 or file.sha256
    if not could_tell or (file.size is not None and part.size() > file.size):
        part.drop()
    before = part.size()
    # A process can be stopped between the last byte and the renaming; then nothing is left to download.
    if not before or before != file.size:
        with _network_errors():
            _receive(url, part, file.size, shown, timeout, slowest)
    if problem := file.problem(part.file):
        part.drop()
        # A file that arrived whole in this attempt would arrive the same again.
        raise FailedError(f"the downloaded file is not the published one: {problem}", may_help=before > 0)


def _receive(url: str, part: _Part, size: int | None, shown: DownloadProgress, timeout: float, slowest: float) -> None:
    """Appends the missing bytes to `part`, or downloads all of them if the server cannot resume."""
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
                raise FailedError("the server sent another part than the requested one", may_help=True)
            length = stated[2]
        else:
            done = 0
            length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if None not in (size, total) and size != total:
            raise FailedError(
                f"the server offers a file of {total:,} bytes, the published one has {size:,}", may_help=False
            )
        if not done:
            part.start(response.headers.get("ETag"))
        shown(done, total)
        since, before = time.monotonic(), done
        with part.file.open("ab") as file:
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if size is not None and done > size:  # a server that states no length may never end
                    raise FailedError(f"the server sends more than the {size:,} bytes published", may_help=False)
                file.write(chunk)
                shown(done, total)
                seconds = time.monotonic() - since
                if slowest and seconds >= timeout and done != total:
                    if done - before < slowest * seconds:
                        rate = (done - before) / seconds
                        reason = f"the server sends only {rate / 1024:.0f} KiB a second"
                        raise FailedError(reason, may_help=False, rate=rate)
                    since, before = since + seconds, done
    if total is not None and done < total:  # http.client does not report a connection that closes too early
        raise FailedError(f"the connection closed after {done:,} of {total:,} bytes", may_help=True)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Turns errors of the network into `FailedError`; errors of the disk pass."""
    try:
        yield
    except urllib.error.HTTPError as error:  # a URLError too, so it comes first
        error.close()
        raise FailedError(
            f"the server answered {error.code} {error.reason}", may_help=error.code in _MAY_HELP
        ) from error
    except urllib.error.URLError as error:
        # Without a network no name is found: trying again would only delay the error.
        final = isinstance(error.reason, ssl.SSLCertVerificationError | socket.gaierror)
        raise FailedError(f"the server cannot be reached ({error.reason})", may_help=not final) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise FailedError(f"the transfer broke off ({error or type(error).__name__})", may_help=True) from error
