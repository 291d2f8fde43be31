"""Asking servers: which addresses are asked at all, how often, how patiently, and what is made of a refusal."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from gpmap_cli import __version__
from gpmap_cli.errors import InputError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
log = logging.getLogger("gpmap")

ATTEMPTS = 5  # so many failures in a row, without a byte gained, are the end
LONGEST_WAIT = 120.0  # seconds; where a server asks for more, the user asks again, later
TIMEOUTS = (20.0, 60.0)  # seconds to connect, and between two pieces of an answer
CHUNK = 1 << 16  # bytes; at most so many are lost when a transfer breaks off
AGAIN = "run the same command again: it goes on where it stopped"
# Host -> the environment variable with the bearer token that it wants for files. Sent to that host alone.
TOKENS = {"datadryad.org": "DRYAD_TOKEN"}
_MAX_LISTING = 20_000_000  # bytes
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)


class Failed(Exception):
    """An attempt came to nothing, and another may do better, after `wait` seconds where the server named them."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def check_url(url: str, came_from: str | None = None) -> str:
    """The URL, when it may be fetched: https, or http on this machine; never down from https to http."""
    hint = "give an https:// address"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port is checked when it is read
    except ValueError as trouble:
        raise InputError(f"`{url}` is not a web address ({trouble})", hint) from trouble
    if parts.scheme not in ("https", "http") or not host:
        raise InputError(f"`{shown(url)}` is not a web address", hint)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"an address of {host} holds a user name or a password", "leave it out of the address")
    if parts.scheme == "http":
        if came_from is not None and urlsplit(came_from).scheme == "https":
            raise InputError(f"{shown(came_from)} leads to {shown(url)}, which is not encrypted", hint)
        if not _is_this_machine(host):
            raise InputError(f"{shown(url)} is not encrypted, so anybody on the way could change it", hint)
    return url


def shown(url: str) -> str:
    """The URL without its query, which may hold what gives access and is of no help to a reader."""
    return url.partition("?")[0]


def fetch_json(url: str, page: str = "") -> Any:
    """What a repository says about a deposit. `page` is where a person finds it."""
    import requests
    import urllib3

    def attempt() -> bytes:
        with answer(session, url, {"Accept": "application/json"}, page) as response:
            if response.status_code != 200:
                raise InputError(f"{shown(url)}: answered with status {response.status_code}", look_at(page))
            content = b""
            try:
                for chunk in response.raw.stream(CHUNK, decode_content=True):
                    content += chunk
                    if len(content) > _MAX_LISTING:
                        raise InputError(f"{shown(url)}: the answer is implausibly long", look_at(page))
            except urllib3.exceptions.HTTPError as trouble:
                raise Failed(heart_of(trouble)) from trouble
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and response.raw.tell() < int(length):  # urllib3 before 2 says nothing of it
                raise Failed("the connection was dropped")
            return content

    with requests.Session() as session:
        content = persistently(url, attempt)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as trouble:
        raise InputError(f"{shown(url)}: the answer is not JSON", look_at(page)) from trouble


def persistently(url: str, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
    """Try until it works; give up after failures in a row that brought it no further than it ever was."""
    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except Failed as trouble:
            now = reached()
            failures = 1 if now > furthest else failures + 1
            furthest = max(now, furthest)
            wait = 2.0 ** (failures - 1) if trouble.wait is None else trouble.wait
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{shown(url)}: {trouble}, {ATTEMPTS} times in a row", f"check the network and {AGAIN}"
                ) from trouble
            if wait > LONGEST_WAIT:
                raise InputError(f"{shown(url)}: {trouble}, to come back in {wait:.0f} s", AGAIN) from trouble
            log.info("%s: %s; trying again in %.0f s", shown(url), trouble, wait)
            sleep(wait)


@contextmanager
def answer(
    session: requests.Session, url: str, headers: dict[str, str], page: str, with_token: bool = False
) -> Iterator[requests.Response]:
    """The answer at the end of all redirects, its body unread. Each of them is checked like the first address."""
    import requests

    headers = {"User-Agent": f"gpmap-cli/{__version__}", **headers}
    asked = check_url(url)
    for _ in range(_MAX_REDIRECTS + 1):
        variable = TOKENS.get(urlsplit(url).hostname or "") if with_token else None
        token = _Token(variable)
        try:
            response = session.get(
                url, headers=headers, auth=token, stream=True, allow_redirects=False, timeout=TIMEOUTS
            )
        except (requests.ConnectionError, requests.Timeout) as trouble:
            if "CERTIFICATE_VERIFY_FAILED" in str(trouble):
                raise InputError(f"{shown(url)}: cannot prove who it is ({heart_of(trouble)})", AGAIN) from trouble
            raise Failed(heart_of(trouble)) from trouble
        except (requests.RequestException, UnicodeError) as trouble:
            raise InputError(f"{shown(url)}: cannot be fetched ({trouble})", look_at(page)) from trouble
        if response.status_code not in _REDIRECTS:
            break
        target = urljoin(url, response.headers.get("Location", ""))
        response.close()
        url = check_url(target, url)
    else:
        raise InputError(f"{shown(asked)}: redirected more than {_MAX_REDIRECTS} times", look_at(page))
    try:
        _refuse_status(response, asked, page, token)
        yield response
    finally:
        response.close()


def _refuse_status(response: requests.Response, url: str, page: str, token: _Token) -> None:
    status = response.status_code
    if status in _WORTH_ANOTHER_TRY:
        # Some servers name a time in every answer; here it is a request.
        wait = _seconds(response.headers.get("Retry-After", "")) if status in (429, 503) else None
        raise Failed(f"the server answered with status {status}", wait)
    if status in (401, 403):
        known = f"the token in {token.variable} is not accepted" if token.is_set else "not given to just anybody"
        how = f"set {token.variable} to a token from your account there, or " if token.variable else ""
        raise InputError(
            f"{shown(url)}: {known} (status {status})",
            f"{how}download the files in a browser, put them into `out` and run the same command again, which checks "
            f"them and fetches only what is missing{see(page)}",
        )
    if status in (404, 410):
        raise InputError(f"{shown(url)}: there is no such file (status {status})", look_at(page))


class _Token:
    """Sends a token from the environment, or nothing; being there, it keeps requests from sending ~/.netrc's."""

    def __init__(self, variable: str | None) -> None:
        self.variable = variable
        self._token = os.environ.get(variable, "").strip() if variable is not None else ""

    @property
    def is_set(self) -> bool:
        return bool(self._token)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.is_set:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def heart_of(trouble: Exception) -> str:
    """The few words that matter in a nested exception of requests or urllib3."""
    text = str(trouble)
    found = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)|(CERTIFICATE_VERIFY_FAILED[^'\")]*)", text)
    if found is not None:
        return (found[1] or found[2]).strip()
    return "no answer in time" if "timed out" in text.lower() else "the connection was dropped"


def see(page: str) -> str:
    """Where to look, at the end of a hint."""
    return f" ({page})" if page else ""


def look_at(page: str) -> str:
    """A hint for what only the people who keep the deposit can know."""
    return f"see what has become of the deposit: {page}" if page else "see in a browser what has become of the deposit"


def _seconds(retry_after: str) -> float | None:
    """How long a Retry-After header asks to wait, in seconds or until a date."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
