"""One process at a time: the operating system's file lock, which goes when its process goes."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            # Some network file systems have no locks; better unguarded (checksums still hold) than never.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
        return True


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path` during the `with`; it is gone afterwards.

    A process that is killed lets go of it too: what is left is an empty file, which stands in nobody's way.

    Args:
        path: the lock file, in a folder that exists. Threads of one process exclude each other as well.
        on_wait: called once if somebody else holds it; it may raise, in order not to wait.

    Raises:
        OSError: the file cannot be made.
    """
    waiting = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Whoever held it removed it before letting go: a lock on a file that is gone locks nobody out.
            if _take(handle) and _is_at(handle, path):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not waiting:
            on_wait()
            waiting = True
        time.sleep(0.1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove a file that somebody has open
            path.unlink()
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
