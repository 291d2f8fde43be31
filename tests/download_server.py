"""A file server on this machine that misbehaves as it is told, and what tests of `source=download` share."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from gpmap_cli.errors import InputError

CONTENT = np.random.default_rng(1).bytes(300_000)
OTHER = np.random.default_rng(2).bytes(300_000)
SIZE = len(CONTENT)


@dataclass
class Remote:
    """What is at one path. Lists are used up, one entry a request; then the server behaves."""

    content: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    offset: int = 0  # what is added to the start of a range that is asked for
    drops: list[int] = field(default_factory=list)  # hang up after so many bytes of the body; -1: before the head
    statuses: list[tuple[int, dict]] = field(default_factory=list)
    location: str | None = None
    headers: dict = field(default_factory=dict)
    chunked: bool = False
    stall: tuple[int, threading.Event] | None = None  # after so many bytes of the body wait


class Server:
    """`server[path] = Remote(...)`; `server.requests` are (path, headers) as they came."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"
        self.remotes = {}
        self.requests = []

    def __setitem__(self, path, remote):
        self.remotes[path] = remote

    def __getitem__(self, path):
        return self.remotes[path]

    def put_json(self, path, value):
        self[path] = Remote(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def ranges(self, path):
        """The Range headers of the requests for a path."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        try:
            self._answer()
        except OSError:  # the client has gone, which is what some tests are about
            self.close_connection = True

    def _answer(self):
        self.files.requests.append((self.path, dict(self.headers)))
        remote = self.files.remotes.get(self.path)
        if remote is None:
            return self._head(404, {"Content-Length": "0"})
        if remote.statuses:
            status, headers = remote.statuses.pop(0)
            return self._head(status, {"Content-Length": "0", **headers})
        if remote.location is not None:
            return self._head(302, {"Content-Length": "0", "Location": remote.location})
        drop = remote.drops.pop(0) if remote.drops else None
        if drop == -1:
            return self._hang_up()
        start, size = 0, len(remote.content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range") in (None, remote.etag, remote.last_modified)
        headers = {"ETag": remote.etag, "Last-Modified": remote.last_modified, **remote.headers}
        status = 200
        if asked and remote.ranges and (unchanged or not remote.heeds_if_range):
            start, status = int(asked[1]) + remote.offset, 206
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            if start >= size:
                return self._head(416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"})
        body = remote.content[start:]
        if remote.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:99], body[99:]) if piece)
            body += b"0\r\n\r\n"
        else:
            headers["Content-Length"] = str(len(body))
        self._head(status, headers)
        if remote.stall is not None:
            length, event = remote.stall
            self.wfile.write(body[:length])
            self.wfile.flush()
            event.wait(30)
            return self._hang_up()
        self.wfile.write(body if drop is None else body[:drop])
        return self._hang_up() if drop is not None else None

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _hang_up(self):
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@contextmanager
def running_server():
    """A server that runs until the block is left."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    httpd.daemon_threads = True
    files = httpd.RequestHandlerClass.files = Server(httpd.server_address[1])
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        httpd.shutdown()
        thread.join()
        httpd.socket.close()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def md5(content):
    return hashlib.md5(content).hexdigest()


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def refusal(fetch, *arguments, **options):
    with pytest.raises(InputError) as refused:
        fetch(*arguments, **options)
    return "\n".join(refused.value.lines())


def only_fetched(out, content=CONTENT):
    """The file is right, recorded, and nothing else is left, hidden or not."""
    assert (out / "a.gz").read_bytes() == content
    assert names(out) == ["SHA256SUMS", "a.gz"]
    assert (out / "SHA256SUMS").read_text() == f"{sha256(content)}  a.gz\n"
    return True
