"""Transfers from a server on this machine that breaks off, stalls, changes, lies or redirects."""

from __future__ import annotations

import gzip
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pooch
import pytest
import requests
import yaml
from download_server import CONTENT, OTHER, SIZE, Remote, names, only_fetched, refusal, sha256

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.download import web
from gpmap_cli.prepare.download.resuming_downloader import ResumingDownloader

pytest_plugins = ("download_fixtures",)


# -- interrupted transfers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drops", "ranges"),
    {
        "before the head": ([-1], [None, None]),
        "before the first byte": ([0], [None, None]),
        "after the first byte": ([1], [None, "bytes=1-"]),
        "half-way": ([150_000], [None, "bytes=150000-"]),
        "before the last byte": ([SIZE - 1], [None, f"bytes={SIZE - 1}-"]),
        "again and again": (
            [70_000, 0, 50_000, 1],
            [None, "bytes=70000-", "bytes=70000-", "bytes=120000-", "bytes=120001-"],
        ),
        "more often than is tried without gain": ([9] * 20, [None, *(f"bytes={9 * n}-" for n in range(1, 21))]),
    }.values(),
)
def test_what_is_there_is_not_fetched_again(fetch, server, out, drops, ranges):
    server["/a"] = Remote(CONTENT, drops=list(drops))
    fetch()
    assert server.ranges("/a") == ranges
    guards = [headers.get("If-Range") for _, headers in server.requests]
    assert guards == ['"v1"' if asked else None for asked in ranges]
    assert only_fetched(out)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_a_second_run_goes_on_where_the_first_was_stopped(fetch, server, tmp_path, out, number):
    release = threading.Event()
    server["/a"] = Remote(CONTENT, stall=(200_000, release))
    entry = [{"file": "a.gz", "url": f"{server.root}/a", "sha256": sha256(CONTENT)}]
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"mine": entry}))
    words = ["prepare", "source=download", "name=mine", "source.registry=registry.yaml", "out=raw"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gpmap_cli", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Jobs in the background of a shell ignore ctrl-c, and so would theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    part = out / ".a.gz.part"
    deadline = time.monotonic() + 30
    # The piece that has not come whole yet is lost with the process.
    while not part.exists() or part.stat().st_size < 200_000 - web.CHUNK:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    release.set()
    assert stdout == b""
    if number == signal.SIGINT:
        assert process.returncode == 1
        assert stderr == b"interrupted\n"
    assert names(out) == [".a.gz.part", ".a.gz.part.json"]
    held = part.stat().st_size
    assert part.read_bytes() == CONTENT[:held]
    server["/a"].stall = None
    fetch()
    assert server.ranges("/a") == [None, f"bytes={held}-"]
    assert only_fetched(out)


def test_a_server_that_keeps_breaking_off_is_given_up(fetch, server, out, waits):
    server["/a"] = Remote(CONTENT, drops=[1000, 0, 0, 0, 0, 0])
    told = refusal(fetch)
    assert "broke off after 1000 of 300000 bytes" in told
    assert "5 times in a row" in told
    assert waits == [1, 2, 4, 8]
    assert names(out) == [".a.gz.part", ".a.gz.part.json"]
    fetch()
    assert server.ranges("/a")[-1] == "bytes=1000-"
    assert only_fetched(out)


def test_a_file_that_changed_is_not_spliced(fetch, server, out):
    server["/a"] = Remote(OTHER, etag='"old"', drops=[1000] + [0] * 4)
    refusal(fetch)
    server["/a"] = Remote(CONTENT, etag='"new"')
    fetch()
    assert server.requests[-1][1]["If-Range"] == '"old"'
    assert only_fetched(out)


@pytest.mark.parametrize("other", [OTHER, OTHER[:-5]], ids=["same length", "other length"])
def test_a_server_that_ignores_if_range_is_found_out(fetch, server, out, other):
    etag = '"old"' if len(other) != SIZE else '"older"'
    server["/a"] = Remote(other, etag=etag, drops=[1000] + [0] * 4)
    refusal(fetch)
    server["/a"] = Remote(CONTENT, etag='"old"', heeds_if_range=False)
    fetch()
    assert server.ranges("/a")[-2:] == ["bytes=1000-", None]
    assert only_fetched(out)


def test_another_range_than_asked_for_is_not_taken(fetch, server, out):
    server["/a"] = Remote(CONTENT, drops=[1000], offset=7)
    fetch()
    assert server.ranges("/a") == [None, "bytes=1000-", None]
    assert only_fetched(out)


def test_a_part_of_another_address_is_not_used(fetch, server, out):
    server["/b"] = Remote(OTHER, drops=[1000] + [0] * 4)
    refusal(fetch, [{"file": "a.gz", "url": f"{server.root}/b", "sha256": sha256(OTHER)}])
    server["/a"] = Remote(CONTENT)
    fetch()
    assert server.ranges("/a") == [None]
    assert only_fetched(out)


@pytest.mark.parametrize("note", ["", "[]", "{", '{"url": 3}', "deep"], ids=repr)
def test_a_damaged_note_makes_the_part_worthless(fetch, server, out, note):
    out.mkdir()
    (out / ".a.gz.part").write_bytes(OTHER[:1000])
    (out / ".a.gz.part.json").write_text("[" * 100_000 if note == "deep" else note)
    server["/a"] = Remote(CONTENT)
    fetch()
    assert server.ranges("/a") == [None]
    assert only_fetched(out)


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_a_whole_part_is_not_asked_for(fetch, server, out, monkeypatch):
    server["/a"] = Remote(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(pooch, "file_hash", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert names(out) == [".a.gz.part", ".a.gz.part.json"]
    fetch()
    assert server.ranges("/a") == [None]
    assert only_fetched(out)


def test_without_ranges_it_begins_again(fetch, server, out):
    server["/a"] = Remote(CONTENT, ranges=False, drops=[150_000, 100])
    fetch()
    assert server.ranges("/a") == [None, "bytes=150000-", "bytes=100-"]
    assert only_fetched(out)


def test_without_ranges_it_ends_when_it_gets_no_further(fetch, server, out, waits):
    server["/a"] = Remote(CONTENT, ranges=False, drops=[50, 10, 20, 30, 40, 45])
    assert "5 times in a row" in refusal(fetch)
    assert len(server.requests) == 5
    assert names(out) == [".a.gz.part", ".a.gz.part.json"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_spliced(fetch, server, out, etag):
    server["/a"] = Remote(CONTENT, etag=etag, drops=[1000])
    fetch()
    assert server.ranges("/a") == [None, None]
    assert only_fetched(out)


def test_the_date_of_the_last_change_will_do(fetch, server, out):
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server["/a"] = Remote(CONTENT, etag=None, last_modified=date, drops=[1000])
    fetch()
    assert server.ranges("/a") == [None, "bytes=1000-"]
    assert server.requests[-1][1]["If-Range"] == date
    assert only_fetched(out)


def test_a_part_longer_than_the_file_is_thrown_away(fetch, server, out):
    server["/a"] = Remote(CONTENT, drops=[1000] + [0] * 4)
    refusal(fetch)
    (out / ".a.gz.part").write_bytes(OTHER + OTHER)
    fetch()
    assert server.ranges("/a")[-2:] == ["bytes=600000-", None]
    assert only_fetched(out)


def test_progress_ends_at_the_length_of_the_file(fetch, server):
    server["/a"] = Remote(CONTENT, ranges=False, drops=[150_000, 100])
    moves, shown = [], []

    @contextmanager
    def progress(*words):
        shown.append(words)
        yield moves.append

    fetch(progress=progress)
    assert shown == [("a.gz", SIZE, "B")]
    assert min(moves) < 0
    assert sum(moves) == SIZE


def test_it_is_a_downloader_for_pooch(server, tmp_path, waits):
    server["/a"] = Remote(CONTENT, drops=[100_000])
    path = pooch.retrieve(
        f"{server.root}/a", sha256(CONTENT), fname="a.gz", path=tmp_path / "p", downloader=ResumingDownloader()
    )
    assert Path(path).read_bytes() == CONTENT
    assert server.ranges("/a") == [None, "bytes=100000-"]
    assert names(tmp_path / "p") == ["a.gz"]


# -- what servers answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "waited"),
    [
        ([(500, {})], [1]),
        ([(502, {}), (500, {}), (504, {}), (500, {})], [1, 2, 4, 8]),
        ([(503, {"Retry-After": "7"})], [7]),
        ([(503, {"Retry-After": "soon"})], [1]),
        ([(500, {"Retry-After": "7"})], [1]),
    ],
)
def test_a_server_in_trouble_is_asked_again(fetch, server, out, waits, answers, waited):
    server["/a"] = Remote(CONTENT, statuses=list(answers))
    fetch()
    assert waits == waited
    assert only_fetched(out)


@pytest.mark.parametrize(("seconds", "waited"), [(100, 100), (-100, 0)])
def test_a_server_may_name_a_date(fetch, server, out, waits, seconds, waited):
    date = datetime.now(UTC) + timedelta(seconds=seconds)
    server["/a"] = Remote(CONTENT, statuses=[(429, {"Retry-After": format_datetime(date, usegmt=True)})])
    fetch()
    assert waits == [pytest.approx(waited, abs=20)]
    assert only_fetched(out)


def test_a_server_that_stays_in_trouble_is_given_up(fetch, server, out, waits):
    server["/a"] = Remote(CONTENT, statuses=[(500, {})] * 5)
    assert "answered with status 500, 5 times in a row" in refusal(fetch)
    assert waits == [1, 2, 4, 8]
    assert not out.exists()


def test_a_long_wait_is_left_to_the_user(fetch, server, waits):
    server["/a"] = Remote(CONTENT, statuses=[(503, {"Retry-After": "3600"})])
    assert "3600 s" in refusal(fetch)
    assert waits == []


@pytest.mark.parametrize(
    ("status", "text"), [(404, "there is no such file"), (410, "there is no such file"), (400, "400"), (204, "204")]
)
def test_what_is_not_there_is_not_asked_for_again(fetch, server, out, status, text):
    server["/a"] = Remote(CONTENT, statuses=[(status, {})])
    assert text in refusal(fetch)
    assert len(server.requests) == 1
    assert not out.exists()


def test_nobody_there(fetch, server, out, waits):
    entry = [{"file": "a.gz", "url": "http://127.0.0.1:1/a", "sha256": sha256(CONTENT)}]
    assert "Connection refused, 5 times in a row" in refusal(fetch, entry)
    assert not out.exists()


def test_a_packed_answer_stays_as_it_came(fetch, server, out):
    packed = gzip.compress(b"geno" * 1000, mtime=0)
    server["/a"] = Remote(packed, headers={"Content-Encoding": "gzip"}, drops=[10])
    fetch([{"file": "a.gz", "url": f"{server.root}/a", "sha256": sha256(packed)}])
    assert server.requests[0][1]["Accept-Encoding"] == "identity"
    assert only_fetched(out, packed)


def test_a_web_page_instead_of_the_file(fetch, server, out):
    server["/a"] = Remote(b"<html>are you a robot?", headers={"Content-Type": "text/html; charset=utf-8"})
    assert "web page instead of the file" in refusal(fetch)
    assert not out.exists()


def test_redirects_are_followed_and_resumed(fetch, server, out):
    server["/a"] = Remote(location="/b?signature=1")
    server["/b?signature=1"] = Remote(location=f"{server.root}/c")
    server["/c"] = Remote(CONTENT, drops=[1000])
    fetch()
    assert server.ranges("/c") == [None, "bytes=1000-"]
    assert only_fetched(out)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/a", "redirected more than"),
        ("http://example.org/a?secret", "not encrypted"),
        ("ftp://example.org/a", "not a web address"),
        ("file:///etc/passwd", "not a web address"),
        ("http://me:secret@127.0.0.1/a", "user name or a password"),
    ],
)
def test_redirects_that_are_not_followed(fetch, server, out, location, text):
    server["/a"] = Remote(location=location)
    told = refusal(fetch)
    assert text in told
    assert "secret" not in told
    assert not out.exists()


def test_which_addresses_are_fetched(tmp_path):
    for url in ("https://zenodo.org/a", "http://127.0.0.1/a", "http://[::1]:80/a", "http://localhost/a"):
        assert web.check_url(url) == url
    for url in ("http://zenodo.org/a", "http://127.0.0.1.a.org/", "http://localhost.org/", "a.gz", "https://", ""):
        with pytest.raises(InputError):
            web.check_url(url)
    with pytest.raises(InputError, match="not encrypted"):
        ResumingDownloader()("http://zenodo.org/a", tmp_path / "a")
    assert web.check_url("https://b/", "https://a/")
    with pytest.raises(InputError, match=r"https://a/ leads to http://127\.0\.0\.1/b, which is not encrypted"):
        web.check_url("http://127.0.0.1/b", "https://a/")


def test_an_encrypted_answer_leads_to_no_open_one(server, monkeypatch):
    """A session that stands for https://a, whose answer leads to a server on this very machine."""
    server["/a"] = Remote(location=f"{server.root}/b")
    with requests.Session() as session:
        monkeypatch.setattr(session, "get", lambda url, **options: requests.get(f"{server.root}/a", **options))
        with pytest.raises(InputError, match="not encrypted"), web.answer(session, "https://a/", {}, ""):
            pass


def test_an_unproven_server_is_refused_at_once(monkeypatch, waits):
    def get(*args, **options):
        raise requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed")

    with requests.Session() as session:
        monkeypatch.setattr(session, "get", get)
        with pytest.raises(InputError, match="cannot prove who it is"), web.answer(session, "https://a/", {}, ""):
            pass


def test_the_token_goes_to_its_own_host_alone(fetch, server, out, monkeypatch, tmp_path):
    monkeypatch.setenv("DRYAD_TOKEN", "sesame")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server["/a"] = Remote(CONTENT)
    fetch()
    assert "Authorization" not in server.requests[-1][1]
    shutil.rmtree(out)
    monkeypatch.setitem(web.TOKENS, "127.0.0.1", "DRYAD_TOKEN")
    server["/a"] = Remote(location=server.root.replace("127.0.0.1", "localhost") + "/b")
    server["/b"] = Remote(CONTENT)
    fetch()
    assert [headers.get("Authorization") for _, headers in server.requests[-2:]] == ["Bearer sesame", None]
    server.put_json("/listing", {"files": [{"key": "a.gz"}]})
    refusal(fetch, {"files": [{"file": "b.gz"}], "listing": f"{server.root}/listing", "api": "zenodo"})
    assert "Authorization" not in server.requests[-1][1]


def test_where_a_token_is_wanted_the_hint_says_so(fetch, server, monkeypatch):
    monkeypatch.setitem(web.TOKENS, "127.0.0.1", "DRYAD_TOKEN")
    server["/a"] = Remote(CONTENT, statuses=[(401, {}), (403, {})])
    monkeypatch.delenv("DRYAD_TOKEN", raising=False)
    assert "set DRYAD_TOKEN to a token" in refusal(fetch)
    monkeypatch.setenv("DRYAD_TOKEN", "stale")
    told = refusal(fetch)
    assert "the token in DRYAD_TOKEN is not accepted" in told
    assert "stale" not in told
