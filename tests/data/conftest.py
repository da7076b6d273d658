"""A real HTTP server on loopback, whose faults a test chooses."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from jaxnn.data.table import TABLE
from tests.data.forms import COUNTS


class Site(ThreadingHTTPServer):
    """Serves `files`; everything else says what goes wrong, in order, a request each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.etag: str | None = None
        self.ranges = True  # whether Range is understood
        self.lengths = True  # whether Content-Length is sent
        self.shift = 0  # how far a partial answer starts from where it was asked to
        self.statuses: list[int] = []  # what the next requests are answered with, instead of the file
        self.cuts: list[int] = []  # after how many bytes of the body the next answers break off
        self.gate: threading.Event | None = None  # the second half of a body waits for it
        self.requests: list[dict[str, str]] = []  # the headers that came
        self.arrived = threading.Event()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """A client that went away is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        site = self.server
        site.requests.append(dict(self.headers))
        site.arrived.set()
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        body = site.files.get(self.path[1:])
        if body is None:
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, site.etag)
        start = int(asked[1]) if asked and site.ranges and same else 0
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            start += site.shift
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.lengths:
            self.send_header("Content-Length", str(len(body) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        body = body[start:]
        if site.cuts:
            body = body[: site.cuts.pop(0)]
        half = len(body) // 2
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:half])
            if site.gate:
                site.gate.wait(30)
            self.wfile.write(body[half:])


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        if server.gate:
            server.gate.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def body():
    """A file longer than several blocks of the transfer."""
    return np.random.default_rng(7).bytes(300_001)


@pytest.fixture
def small_tables(monkeypatch, tmp_path):
    """Published data sets of a few pictures, which nobody serves; a cache and a home of this test's own."""
    for name, published in TABLE.items():
        monkeypatch.setitem(TABLE, name, published._replace(counts=COUNTS, hosts=()))
    monkeypatch.setenv("JAXNN_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KERAS_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
