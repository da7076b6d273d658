import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from jaxnn.files import locked

LOCK = Path("x.lock")


def test_lock_file_is_gone_afterwards_even_after_an_error():
    def fail():
        with locked(LOCK, lambda: None):
            assert LOCK.exists()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not LOCK.exists()


def test_a_file_left_by_a_killed_process_is_no_hindrance():
    LOCK.touch()
    with locked(LOCK, lambda: pytest.fail("waited for nobody")):
        pass


def test_threads_exclude_each_other():
    inside, most, entered = 0, 0, 0

    def work():
        nonlocal inside, most, entered
        for _ in range(3):
            with locked(LOCK, lambda: None):
                inside += 1
                most, entered = max(most, inside), entered + 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 12)


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX's")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_used_unguarded(monkeypatch, code):
    import fcntl

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)), locked(LOCK, lambda: None):
            pass
    else:
        with locked(LOCK, lambda: None):
            pass
