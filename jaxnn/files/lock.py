"""One process at a time: a file lock that the operating system drops when its process ends."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock file `path` during the `with` and removes it afterwards.

    The file that a killed process leaves behind does not lock other processes out.

    Args:
        path: The lock file, in a folder that exists. Threads of one process exclude each other too.
        on_wait: Called once before waiting for another holder of the lock; None raises instead of waiting.

    Raises:
        BlockingIOError: If the lock is held elsewhere and `on_wait` is None.
        OSError: If the file cannot be made.
    """
    from filelock import FileLock, Timeout  # here: `jaxnn.testing` works without it

    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if on_wait is None:
                raise BlockingIOError from None
            on_wait()
            lock.acquire()
    except OSError as error:
        # Some network file systems have no locks; better unguarded (checksums still hold) than never.
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        if lock.is_locked:
            # Before the release: a process that waits on a removed file opens a new one.
            with contextlib.suppress(OSError):  # Windows does not remove an open file
                path.unlink()
        lock.release()
