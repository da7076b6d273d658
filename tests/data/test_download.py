import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jaxnn
from jaxnn.data.download import DownloadError, download

NAME = "pictures.tar.gz"


def fetch(site, target=NAME, **options):
    return download(site.url(NAME), target, **{"progress": False, "backoff": 0.0, **options})


def left(folder="."):
    return sorted(os.listdir(folder))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def served(site, body):
    site.files[NAME] = body
    return site


def test_whole_file_arrives_checked_and_nothing_else_is_left(served, body):
    checks = {"md5": hashlib.md5(body).hexdigest().upper(), "sha256": sha256(body), "size": len(body)}
    path = fetch(served, "new/folder/" + NAME, **checks)
    assert path.read_bytes() == body
    assert left("new/folder") == [NAME]
    assert "Range" not in served.requests[0]
    assert served.requests[0]["Accept-Encoding"] == "identity"


def test_without_checks_and_without_a_length_it_still_arrives(served, body):
    served.lengths = False
    assert fetch(served).read_bytes() == body


def test_a_file_that_is_there_is_checked_and_not_fetched(served, body):
    fetch(served)
    assert fetch(served, sha256=sha256(body)).read_bytes() == body
    assert len(served.requests) == 1


def test_another_file_at_the_target_is_named_and_left_alone(served, body):
    Path(NAME).write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"it has 4 bytes, the published file 300,001; move it away"):
        fetch(served, size=len(body))
    with pytest.raises(ValueError, match="its SHA256 is"):
        fetch(served, sha256=sha256(body))
    assert Path(NAME).read_bytes() == b"mine"
    assert left() == [NAME]
    assert not served.requests


@pytest.mark.parametrize("etag", [None, '"v1"'])
def test_a_cut_transfer_continues_where_it_stopped(served, body, etag):
    served.etag, served.cuts = etag, [150_000]
    assert fetch(served, sha256=sha256(body)).read_bytes() == body
    assert len(served.requests) == 2
    assert served.requests[1]["Range"] == "bytes=150000-"
    assert served.requests[1].get("If-Range") == etag
    assert left() == [NAME]


def test_a_poor_line_gets_there_as_long_as_each_attempt_brings_more(served, body):
    served.etag, served.cuts = '"v1"', [40_000] * 7
    assert fetch(served, attempts=2).read_bytes() == body
    assert len(served.requests) == 8


def test_attempts_that_bring_nothing_end(served):
    served.etag, served.cuts = '"v1"', [50_000] + [0] * 9
    with pytest.raises(DownloadError, match=r"the connection closed after 50,000 of 300,001 bytes"):
        fetch(served, attempts=3)
    assert len(served.requests) == 3
    assert left() == [NAME + ".part", NAME + ".part.etag"]


def test_a_later_call_continues_where_an_earlier_one_stopped(served, body):
    served.etag, served.cuts = '"v1"', [100_000]
    with pytest.raises(DownloadError):
        fetch(served, attempts=1)
    assert fetch(served).read_bytes() == body
    assert served.requests[1]["Range"] == "bytes=100000-"
    assert left() == [NAME]


def test_without_etag_or_checksum_nothing_is_continued(served, body):
    served.cuts = [100_000]
    assert fetch(served).read_bytes() == body
    assert "Range" not in served.requests[1]


def test_a_weak_etag_is_no_ground_to_continue(served, body):
    served.etag, served.cuts = 'W/"v1"', [100_000]
    assert fetch(served).read_bytes() == body
    assert "Range" not in served.requests[1]


def test_a_server_without_range_starts_again(served, body):
    served.ranges, served.cuts = False, [150_000]
    assert fetch(served, sha256=sha256(body)).read_bytes() == body
    assert served.requests[1]["Range"] == "bytes=150000-"


def test_a_file_that_changed_meanwhile_starts_again(served, body):
    served.etag, served.cuts = '"v1"', [150_000]
    with pytest.raises(DownloadError):
        fetch(served, attempts=1)
    served.etag, served.files[NAME] = '"v2"', body[::-1]
    assert fetch(served).read_bytes() == body[::-1]


def test_a_partial_answer_from_elsewhere_is_refused(served, body):
    served.shift, served.cuts = 1, [150_000]
    assert fetch(served, sha256=sha256(body)).read_bytes() == body
    assert [request.get("Range") for request in served.requests] == [None, "bytes=150000-", None]


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * 300_001, b"x" * 400_000], ids=["short", "equal", "long"])
@pytest.mark.parametrize("sized", [True, False])
def test_a_stale_part_proves_wrong_and_is_fetched_anew(served, body, stale, sized):
    Path(NAME + ".part").write_bytes(stale)
    size = len(body) if sized else None
    assert fetch(served, sha256=sha256(body), size=size).read_bytes() == body
    assert left() == [NAME]


def test_a_part_that_was_whole_already_is_only_checked(served, body):
    Path(NAME + ".part").write_bytes(body)
    assert fetch(served, sha256=sha256(body), size=len(body)).read_bytes() == body
    assert not served.requests


def test_a_wrong_checksum_is_refused_at_once_and_nothing_is_kept(served):
    with pytest.raises(DownloadError, match=r"not the published one: its SHA256 is .*by hand to pictures"):
        fetch(served, sha256="0" * 64)
    assert len(served.requests) == 1
    assert left() == []


def test_a_wrong_length_is_refused_before_the_transfer(served):
    with pytest.raises(DownloadError, match="offers a file of 300,001 bytes, the published one has 299,999"):
        fetch(served, size=299_999)
    assert left() == []


def test_missing_file_is_reported_at_once_with_what_to_do(site):
    with pytest.raises(DownloadError) as caught:
        fetch(site)
    assert str(caught.value) == (
        f"{site.url(NAME)}: the download failed: the server answered 404 Not Found; "
        f"run again later, or download that file by hand to {NAME}."
    )
    assert len(site.requests) == 1


def test_a_busy_server_is_asked_again_ever_later(served, body, monkeypatch, capsys):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    served.statuses = [503, 429, 500]
    assert fetch(served, backoff=0.5, progress=True).read_bytes() == body
    assert slept == [0.5, 1.0, 2.0]
    assert f"{NAME}: the server answered 503 Service Unavailable; trying again in 0.5 s" in capsys.readouterr().err


def test_a_server_that_refuses_is_tried_as_often_as_asked(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DownloadError, match=r"the server cannot be reached \(.*refused.*\)"):
            download(f"http://127.0.0.1:{closed.getsockname()[1]}/x", "x", progress=False, attempts=3)
    assert slept == [1.0, 2.0]


def test_a_server_that_falls_silent_is_given_up(served):
    served.gate = threading.Event()
    with pytest.raises(DownloadError, match="the transfer broke off"):
        fetch(served, timeout=1, attempts=1)


def test_an_answer_that_is_not_http_is_reported(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DownloadError, match="nonsense"):
            download(f"http://127.0.0.1:{listening.getsockname()[1]}/x", "x", progress=False, attempts=1)
        thread.join()


def test_trouble_with_the_disk_is_not_taken_for_the_network(served):
    os.mkdir(NAME + ".part")
    with pytest.raises(OSError, match="part") as caught:
        fetch(served)
    assert not isinstance(caught.value, DownloadError)
    assert len(served.requests) <= 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/x", "x"])
def test_only_http_is_fetched(url):
    with pytest.raises(ValueError, match="url: expected an address with http"):
        download(url, "x")


def test_attempts_must_be_positive(served):
    with pytest.raises(ValueError, match="attempts: expected a whole number of at least 1, got 0"):
        fetch(served, attempts=0)


def test_a_killed_process_leaves_what_came_to_the_next(served, body):
    served.gate = threading.Event()
    checks = {"sha256": sha256(body)}
    child = _child(served, **checks)
    _wait_for(lambda: os.path.exists(NAME + ".part") and os.path.getsize(NAME + ".part") > 0)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    had = os.path.getsize(NAME + ".part")
    assert os.path.exists(NAME + ".lock")
    served.gate.set()
    assert fetch(served, **checks).read_bytes() == body
    assert served.requests[1]["Range"] == f"bytes={had}-"
    assert left() == [NAME]


def test_of_two_processes_one_fetches_and_the_other_waits(served, body):
    served.gate = threading.Event()
    first = _child(served)
    assert served.arrived.wait(300)
    second = _child(served)
    assert second.stderr.readline() == f"{NAME}: another process is downloading it; waiting\n"
    served.gate.set()
    for child in (first, second):
        _, errors = child.communicate(timeout=300)
        assert child.returncode == 0, errors
    assert len(served.requests) == 1
    assert Path(NAME).read_bytes() == body
    assert left() == [NAME]


def test_of_many_threads_one_fetches(served, body):
    contents = []
    threads = [threading.Thread(target=lambda: contents.append(fetch(served).read_bytes())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [body] * 6
    assert len(served.requests) == 1
    assert left() == [NAME]


def _child(site, **options):
    code = f"from jaxnn.data import download; download({site.url(NAME)!r}, {NAME!r}, **{options!r})"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=_environment())


def _environment():
    return {**os.environ, "PYTHONPATH": str(Path(jaxnn.__file__).parents[1])}


def _wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_server_that_sends_more_than_was_published_is_not_followed(served, body):
    served.lengths = False
    with pytest.raises(DownloadError, match="sends more than the 70,000 bytes published"):
        fetch(served, size=70_000)
    assert os.path.getsize(NAME + ".part") <= 70_000


@pytest.mark.parametrize("note", [b"\xff\0", b'"a"\r\nX: y', b""])
def test_a_damaged_note_beside_a_part_is_not_sent(served, body, note):
    Path(NAME + ".part").write_bytes(body[:100])
    Path(NAME + ".part.etag").write_bytes(note)
    assert fetch(served, sha256=sha256(body)).read_bytes() == body
    assert "If-Range" not in served.requests[0]
