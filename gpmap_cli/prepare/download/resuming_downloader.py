"""A downloader that goes on where an earlier attempt, or an earlier run, was cut off.

It follows pooch's downloader protocol, so `pooch.retrieve(url, ..., downloader=ResumingDownloader())` takes it too.
The rest of a file is asked for with `Range: bytes=N-`, guarded by `If-Range` with the ETag or Last-Modified that came
with its first byte, so that two versions of a file are never spliced; a server that knows no ranges sends all of it
again. Comparing the digest of what came is the caller's part.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.download import web
from gpmap_cli.progress import Progress, no_progress
from gpmap_cli.run_dir.writing import write_json

if TYPE_CHECKING:
    import requests


@dataclass
class ResumingDownloader:
    """Brings a file to its whole length.

    `size` is the length that the repository publishes, if it does; `note` is a file that tells a later run what the
    part is a part of (URL, validator, length): without it only the attempts of one call resume. `name` is what the
    file will be called, and `page` where a person finds the deposit.
    """

    name: str = ""
    size: int | None = None
    note: Path | None = None
    page: str = ""
    progress: Progress = no_progress
    _noted: dict[str, Any] = field(default_factory=dict, init=False)
    _bar: ExitStack = field(default_factory=ExitStack, init=False)
    _advance: Callable[[int], object] | None = field(default=None, init=False)
    _shown: int = field(default=0, init=False)

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: Any = None) -> None:
        """Download `url` into `output_file`, keeping what is there already where the note says that it fits."""
        import requests

        part = Path(output_file)
        self._noted, self._advance, self._shown = self._read_note(url), None, 0
        with requests.Session() as session, ExitStack() as self._bar:
            web.persistently(url, lambda: self._attempt(session, url, part), lambda: _length(part))

    def _attempt(self, session: requests.Session, url: str, part: Path) -> None:
        held = _length(part) if self._noted.get("validator") else 0
        if held and held == self._noted["total"]:
            self._show(held, held)
            return
        # Without `identity` a server may pack what it sends, and the bytes would not be those that were published.
        headers = {"Accept-Encoding": "identity"}
        if held:
            headers |= {"Range": f"bytes={held}-", "If-Range": self._noted["validator"]}
        with web.answer(session, url, headers, self.page, with_token=True) as response:
            self._refuse_page(response, url)
            start, total = self._place(response, url, held, part)
            if self.size is not None and total is not None and total != self.size:
                self._forget(part)
                raise InputError(
                    f"{web.shown(url)}: the server announces {total} bytes, and {self.size} are published",
                    web.look_at(self.page),
                )
            total = self.size if total is None else total
            if start == 0:
                part.write_bytes(b"")  # before the note, which must never describe another version's bytes
                self._write_note(url, _validator(response), total)
            _refuse_what_does_not_fit(part, total, start)
            self._receive(response, url, part, start, total)

    def _refuse_page(self, response: requests.Response, url: str) -> None:
        """Servers that want to see a person answer with a page for one, and with status 200."""
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if is_page and not self.name.endswith((".html", ".htm")):
            raise InputError(
                f"{web.shown(url)}: the server answered with a web page instead of the file",
                "it may want to see a person: download the file in a browser, put it into `out` and run the same "
                f"command again, which checks it{web.see(self.page)}",
            )

    def _place(self, response: requests.Response, url: str, held: int, part: Path) -> tuple[int, int | None]:
        """Where in the file the body of this answer begins, and how long the file is; None: not said."""
        if response.status_code == 200:
            length = response.headers.get("Content-Length", "")
            return 0, int(length) if length.isdecimal() else None
        if response.status_code not in (206, 416):
            raise InputError(f"{web.shown(url)}: answered with status {response.status_code}", web.look_at(self.page))
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        noted = self._noted.get("total")
        total = int(said[2]) if said is not None and said[2] != "*" else noted
        # A 206 need not repeat the date of the last change: by answering it the server says that If-Range held.
        is_same = _validator(response) in (None, self._noted.get("validator")) and noted in (None, total)
        if said is None or int(said[1]) != held or not is_same:  # a 416 says nothing of the kind
            self._forget(part)
            raise web.Failed("not the file of which there is a part; beginning anew", wait=0)
        return held, total

    def _receive(self, response: requests.Response, url: str, part: Path, start: int, total: int | None) -> None:
        """Write the body, whose first byte is byte `start` of the file, at its place."""
        import urllib3

        position = start
        with part.open("r+b") as stream:
            stream.seek(start)
            self._show(position, total)
            try:
                for chunk in response.raw.stream(web.CHUNK, decode_content=False):
                    position += len(chunk)
                    if total is not None and position > total:
                        self._forget(part)
                        raise InputError(
                            f"{web.shown(url)}: sends more than the {total} bytes announced", web.look_at(self.page)
                        )
                    stream.write(chunk)
                    self._show(position, total)
            except urllib3.exceptions.HTTPError as trouble:
                of = "" if total is None else f" of {total}"
                raise web.Failed(f"broke off after {position}{of} bytes ({web.heart_of(trouble)})") from trouble
        if total is not None and position < total:
            raise web.Failed(f"broke off after {position} of {total} bytes")

    def _show(self, position: int, total: int | None) -> None:
        """Move the bar, which is there from the first answer on, when the length is known."""
        if self._advance is None:
            self._advance = self._bar.enter_context(self.progress(self.name, total, "B"))
        self._advance(position - self._shown)
        self._shown = position

    def _read_note(self, url: str) -> dict[str, Any]:
        if self.note is None:
            return {}
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(noted, dict) or noted.get("url") != url or not isinstance(noted.get("validator"), str):
            return {}
        return noted if isinstance(noted.get("total", ""), (int, type(None))) else {}

    def _write_note(self, url: str, validator: str | None, total: int | None) -> None:
        self._noted = {"url": url, "validator": validator, "total": total}
        if self.note is not None:
            write_json(self.note, self._noted)

    def _forget(self, part: Path) -> None:
        self._noted = {}
        part.unlink(missing_ok=True)
        if self.note is not None:
            self.note.unlink(missing_ok=True)


def _refuse_what_does_not_fit(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise OSError(errno.ENOSPC, f"{total - start} bytes are to come, {free} are free")


def _validator(response: requests.Response) -> str | None:
    """What `If-Range` may carry: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
