"""`gpmap prepare source=download`: the command, what is checked, what is kept, registries and listings."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from download_server import CONTENT, OTHER, SIZE, Remote, md5, names, only_fetched, refusal, sha256

from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.settings import Pruning
from gpmap_cli.prepare.download import web
from gpmap_cli.prepare.download.deposits import KNOWN, find_deposit
from gpmap_cli.prepare.sources.download import Settings

pytest_plugins = ("download_fixtures",)


# -- from the command line -------------------------------------------------------------------------------


def test_the_command(gpmap, server, tmp_path):
    server["/a"] = Remote(CONTENT)
    entry = {
        "files": [{"file": "a.gz", "url": f"{server.root}/a", "sha256": sha256(CONTENT)}],
        "next": "gpmap prepare source=dryad source.path={out} out=yeast.h5",
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"mine": entry}))
    result = gpmap("prepare", "source=download", "name=mine", "source.registry=registry.yaml", "out=new/my raw")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "new/my raw\n"
    assert only_fetched(tmp_path / "new" / "my raw")
    assert f"fetched a.gz: 0.3 MB, sha256 {sha256(CONTENT)}" in result.stderr
    assert "next: gpmap prepare source=dryad source.path='new/my raw' out=yeast.h5" in result.stderr
    digests = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "new/my raw", capture_output=True)
    assert digests.returncode == 0


REFUSED = {
    "no name": (("source=download",), "choose one of `yeast_nguyenba2022`, `yeast_zenodo_split` with name=..."),
    "unknown name": (("source=download", "name=yeast_nguyenba2021"), "did you mean name=yeast_nguyenba2022?"),
    "two names": (("source=download", "name=a", "source.deposit=b"), "mean the same"),
    "other source": (("source=arrays", "source.path=x.h5", "name=a"), "name is not a setting of source=arrays"),
    "pruned": (("source=download", "name=yeast_zenodo_split", "prune.max_abs_r=0.9"), "leave prune.max_abs_r out"),
    "no registry": (("source=download", "name=a", "source.registry=nowhere.yaml"), "nowhere.yaml: there is no such"),
}


def test_name_and_pruning_are_checked_with_the_rest_of_the_configuration(gpmap, tmp_path):
    result = gpmap("prepare", "source=download", "name=yeast_nguyenba2021", "prune.max_abs_r=0.9", "source.dposit=x")
    assert result.returncode == 2
    assert "error: out is not set" in result.stderr
    assert "did you mean source.deposit?" in result.stderr
    result = gpmap("prepare", "source=download", "name=yeast_nguyenba2021", "prune.max_abs_r=0.9", "overwrite=maybe")
    for text in (
        "did you mean name=yeast_nguyenba2022?",
        "makes no dataset to prune",
        "out is not set",
        "overwrite must",
    ):
        assert text in result.stderr
    assert result.stderr.count("error: ") == 4
    other = gpmap("prepare", "source=notebook_checkpoint", "name=a", "prune.max_abs_r=0.9", "source.path=x", "out=y")
    assert "source=notebook_checkpoint makes no dataset to prune" in other.stderr
    assert "name is not a setting of source=notebook_checkpoint" in other.stderr


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_misuse(gpmap, tmp_path, words, text):
    result = gpmap("prepare", *words, "out=raw")
    assert result.returncode == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert names(tmp_path) == []


def test_source_deposit_is_the_same_as_name(gpmap):
    result = gpmap("prepare", "source=download", "source.deposit=yeast_zenodo", "out=raw")
    assert "did you mean name=yeast_zenodo_split?" in result.stderr


@pytest.mark.parametrize("absent", ["pooch", "requests"])
def test_without_the_packages(gpmap, monkeypatch, tmp_path, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    result = gpmap("prepare", "source=download", "name=yeast_zenodo_split", "out=raw")
    assert result.returncode == 2
    assert "hint: pip install 'gpmap-cli[download]'" in result.stderr
    assert names(tmp_path) == []


# -- what came is checked --------------------------------------------------------------------------------


@pytest.mark.parametrize("drops", [[], [1000]], ids=["whole", "resumed"])
def test_a_wrong_digest_is_refused_and_nothing_left(fetch, server, out, drops):
    server["/a"] = Remote(OTHER, drops=list(drops))
    told = refusal(fetch)
    assert "a.gz" in told
    assert f"its sha256 is {sha256(OTHER)}, and the registry of deposits says {sha256(CONTENT)}" in told
    assert not out.exists()


def test_more_than_announced_is_refused(fetch, server, out):
    server["/a"] = Remote(CONTENT + b"x", chunked=True)
    server.put_json("/listing", {"files": [{"key": "a.gz", "size": SIZE, "checksum": f"md5:{md5(CONTENT)}"}]})
    entry = {
        "files": [{"file": "a.gz", "url": f"{server.root}/a"}], "listing": f"{server.root}/listing", "api": "zenodo"
    }  # fmt: skip
    assert "sends more than the 300000 bytes announced" in refusal(fetch, entry)
    assert not out.exists()
    server["/a"] = Remote(CONTENT + b"x")
    assert "announces 300001 bytes, and 300000 are published" in refusal(fetch, entry)
    assert not out.exists()
    server["/a"] = Remote(CONTENT, chunked=True)
    fetch(entry)
    assert only_fetched(out)


def test_less_than_published_is_not_taken_for_whole(fetch, server, out):
    server["/a"] = Remote(CONTENT[:-1], chunked=True)
    assert "broke off after 299999 of 300000 bytes" in refusal(fetch, zenodo(server))
    assert not (out / "a.gz").exists()


def test_a_broken_chunked_answer_is_resumed(fetch, server, out):
    server["/a"] = Remote(CONTENT, chunked=True, drops=[150])
    fetch()
    assert server.ranges("/a") == [None, "bytes=99-"]
    assert only_fetched(out)


def test_no_room(fetch, server, out, monkeypatch):
    server["/a"] = Remote(CONTENT)
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SIZE - 1))
        assert "no room left (300000 bytes are to come, 299999 are free)" in refusal(fetch)
    out.mkdir(exist_ok=True)
    part = out / ".a.gz.part"
    part.unlink()
    part.symlink_to("/dev/full")
    assert f"no room left ({os.strerror(errno.ENOSPC)})" in refusal(fetch)
    assert not (out / "a.gz").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_to(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    out.mkdir(mode=0o500)
    assert "cannot be written to" in refusal(fetch)


def test_out_is_a_file(fetch, out):
    out.write_text("mine")
    assert "cannot be written to" in refusal(fetch)
    assert out.read_text() == "mine"


def test_two_runs_do_not_share_a_directory(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another run is downloading" in refusal(fetch)
    os.close(handle)
    fetch()
    assert only_fetched(out)


# -- what is there already -------------------------------------------------------------------------------


def test_right_files_are_kept_and_wrong_ones_replaced_only_when_told(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    entry = [
        {"file": name, "url": f"{server.root}/{url}", "sha256": sha256(CONTENT)}
        for name, url in (("a.gz", "a"), ("b.gz", "b"), ("c.gz", "c"))
    ]
    out.mkdir()
    (out / "a.gz").write_bytes(CONTENT)
    for name in ("b.gz", "c.gz"):
        (out / name).write_bytes(OTHER)
    told = refusal(fetch, entry)
    assert told.count("overwrite=true") == 2
    assert told.count(f"its sha256 is {sha256(OTHER)}, and the registry of deposits says {sha256(CONTENT)}") == 2
    assert server.requests == []
    server["/b"], server["/c"] = Remote(CONTENT), Remote(OTHER)
    refusal(fetch, entry, overwrite=True)
    assert (out / "b.gz").read_bytes() == CONTENT
    assert (out / "c.gz").read_bytes() == OTHER  # what came was no better
    server["/c"] = Remote(CONTENT)
    lines = fetch(entry, overwrite=True)
    assert [line.split(":")[0] for line in lines[:3]] == ["kept a.gz", "kept b.gz", "fetched c.gz"]
    assert server.ranges("/a") == []
    assert len(server.ranges("/b")) == 1
    assert names(out) == ["SHA256SUMS", "a.gz", "b.gz", "c.gz"]


def test_what_was_recorded_holds_until_it_is_disregarded(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    entry = zenodo(server)
    fetch(entry)
    server.requests.clear()
    assert fetch(entry)[0].startswith("kept a.gz")
    assert server.requests == []  # nobody is asked about what is known
    (out / "a.gz").unlink()
    server["/a"] = Remote(OTHER, etag='"v2"')
    zenodo(server, checksum=f"md5:{md5(OTHER)}")
    told = refusal(fetch, entry)
    assert f"its sha256 is {sha256(OTHER)}, and {out}/SHA256SUMS says {sha256(CONTENT)}" in told
    assert names(out) == ["SHA256SUMS"]
    fetch(entry, overwrite=True)
    assert only_fetched(out, OTHER)


def test_other_lines_of_sha256sums_stay(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    out.mkdir()
    other = f"{'0' * 64} *mine.txt\n"
    (out / "SHA256SUMS").write_text(other)
    fetch()
    assert (out / "SHA256SUMS").read_text() == f"{'0' * 64}  mine.txt\n{sha256(CONTENT)}  a.gz\n"
    (out / "SHA256SUMS").write_text("what is this\n")
    assert "`what is this` is not a digest and a name" in refusal(fetch)


# -- registries and listings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../a", "a/b", "/etc/a", "..", ".", "", ".a", "-a", "~a", "a\\b", "a\nb", "a\0b", "c:a", "SHA256SUMS", "a" * 250],
)
def test_names_that_would_land_elsewhere(fetch, server, out, name):
    server["/a"] = Remote(CONTENT)
    told = refusal(fetch, [{"file": name, "url": f"{server.root}/a", "sha256": sha256(CONTENT)}])
    assert "cannot be the name of a file here" in told
    assert server.requests == []
    assert not out.exists()


REGISTRIES = {
    "no mapping": ("- a", "not a registry"),
    "empty": ("", "not a registry"),
    "no YAML": ("a: [", "not a readable YAML file"),
    "no list": ("mine: 3", "not a list of files"),
    "no files": ("mine: {page: x}", "not a list of files"),
    "no file": ("mine: [3]", "not a list of files"),
    "unknown key": ("mine: [{file: a, url: 'https://a', sha265: b}]", "did you mean"),
    "no hash": ("mine: [{file: a, url: 'https://a'}]", "lacks url or sha256, and there is no listing"),
    "no url": (f"mine: [{{file: a, sha256: {'a' * 64}}}]", "lacks url or sha256, and there is no listing"),
    "bad hash": ("mine: [{file: a, url: 'https://a', sha256: abc}]", "not a SHA-256"),
    "open url": (f"mine: [{{file: a, url: 'http://a', sha256: {'a' * 64}}}]", "http://a is not encrypted"),
    "open listing": ("mine: {files: [{file: a}], listing: 'http://a', api: zenodo}", "http://a is not encrypted"),
    "no api": ("mine: {files: [{file: a}], listing: 'https://a'}", "belong together"),
    "unknown api": ("mine: {files: [{file: a}], listing: 'https://a', api: zenod}", "zenodo"),
    "twice": (f"mine: [{', '.join([f'{{file: a, url: https://a, sha256: {chr(97) * 64}}}'] * 2)}]", "`a` twice"),
    "object": ("mine: !!python/object/apply:os.getcwd []", "not a readable YAML file"),
}


@pytest.mark.parametrize(("text", "told"), REGISTRIES.values(), ids=REGISTRIES)
def test_registries_that_are_none(tmp_path, text, told):
    (tmp_path / "registry.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        find_deposit("mine", str(tmp_path / "registry.yaml"))
    assert told in "\n".join(refused.value.lines())


def test_the_deposits_that_are_known():
    entries = yaml.safe_load(KNOWN.read_text())
    assert list(entries) == ["yeast_nguyenba2022", "yeast_zenodo_split"]
    dryad, zenodo = (find_deposit(name, None) for name in entries)
    files = [file.file for file in dryad.files]
    assert files[:5] == [f"geno_data_{number}.txt.gz" for number in range(1, 6)]
    environments = re.search(r"environments: null +# of (.+);", (ROOT / "configs/data/yeast.yaml").read_text())[1]
    assert files[5:] == [f"pheno_data_{name}.txt" for name in environments.split()]
    assert [(file.file, file.url) for file in zenodo.files] == [
        ("datasets.zip", "https://zenodo.org/records/15313069/files/datasets.zip?download=1")
    ]
    assert "source=download name=yeast_nguyenba2022 " in (ROOT / "configs/data/yeast.yaml").read_text()


def zenodo(server, **changes):
    file = {"key": "a.gz", "size": SIZE, "checksum": f"md5:{md5(CONTENT)}", "links": {"self": f"{server.root}/a"}}
    decoy = {"key": "../evil", "size": 3, "checksum": "md5:0", "links": {"self": "https://example.org/evil"}}
    server.put_json("/api/records/1", {"id": 1, "files": [decoy, {**file, **changes}]})
    return {"files": [{"file": "a.gz"}], "listing": f"{server.root}/api/records/1", "api": "zenodo"}


def dryad(server, **changes):
    """Two pages of files, the one that is wanted on the second; links without host, as Dryad gives them."""
    server.put_json("/api/v2/datasets/doi%3A1", {"_links": {"stash:version": {"href": "/api/v2/versions/9"}}})
    file = {
        "path": "a.gz", "size": SIZE, "digest": sha256(CONTENT), "digestType": "sha-256",
        "_links": {"stash:download": {"href": "/a"}},
    }  # fmt: skip
    readme = {"path": "README.md", "size": 3, "digest": None, "digestType": None, "_links": {}}
    second = "/api/v2/versions/9/files?page=2&per_page=100"
    for path, items, links in (
        ("/api/v2/versions/9/files?per_page=100", [readme], {"next": {"href": second}}),
        (second, [{**file, **changes}], {"next": {"href": second}}),
    ):
        server.put_json(path, {"_links": links, "total": 2, "_embedded": {"stash:files": items}})
    return {"files": [{"file": "a.gz"}], "listing": f"{server.root}/api/v2/datasets/doi%3A1", "api": "dryad"}


@pytest.mark.parametrize(("listing", "algorithm", "num_requests"), [(zenodo, "md5", 1), (dryad, "sha256", 3)])
def test_the_published_digest_is_used(fetch, server, out, listing, algorithm, num_requests):
    server["/a"] = Remote(CONTENT, drops=[1000])
    entry = listing(server)
    lines = fetch(entry)
    assert f"({algorithm} as {entry['listing']} says)" in lines[0]
    assert server.ranges("/a") == [None, "bytes=1000-"]
    assert len(server.requests) == num_requests + 2
    assert only_fetched(out)
    shutil.rmtree(out)
    server["/a"] = Remote(OTHER)
    told = refusal(fetch, entry)
    expected, got = (digest(content) for content in (CONTENT, OTHER) for digest in [globals()[algorithm]])
    assert f"its {algorithm} is {got}, and {entry['listing']} says {expected}" in told
    assert not out.exists()


def test_a_file_fetched_in_a_browser_is_checked(fetch, server, out):
    out.mkdir()
    (out / "a.gz").write_bytes(CONTENT)
    assert fetch(dryad(server))[0].startswith("kept a.gz")
    assert server.ranges("/a") == []
    assert only_fetched(out)
    (out / "a.gz").write_bytes(OTHER)
    (out / "SHA256SUMS").unlink()
    assert "overwrite=true" in refusal(fetch, dryad(server))


def test_where_no_digest_is_published_that_is_said(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    entry = dryad(server, digest=None, digestType=None)
    assert "no digest of it is published" in fetch(entry)[0]
    assert only_fetched(out)
    (out / "SHA256SUMS").unlink()
    assert "no digest of it is published" in fetch(entry)[0]
    (out / "SHA256SUMS").unlink()
    (out / "a.gz").write_bytes(CONTENT[:-1])
    assert "not what it should be" in refusal(fetch, entry)


def test_the_address_of_the_registry_comes_before_the_listing_s(fetch, server, out):
    entry = zenodo(server)
    entry["files"][0]["url"] = f"{server.root}/b"
    server["/b"] = Remote(CONTENT)
    fetch(entry)
    assert server.ranges("/a") == []
    assert only_fetched(out)


def test_the_digest_of_the_registry_comes_before_the_listing_s(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    entry = zenodo(server, checksum=f"md5:{md5(OTHER)}")
    entry["files"][0]["sha256"] = sha256(CONTENT).upper()
    assert "(sha256 as the registry of deposits says)" in fetch(entry)[0]
    assert only_fetched(out)


def at_its_own_address(entry):
    return entry | {"files": [{"file": "a.gz", "url": "https://example.org/a"}]}


LISTINGS = {
    "missing": (lambda server: zenodo(server, key="a.gzip"), "did you mean a.gzip?"),
    "missing, with an address": (lambda server: at_its_own_address(zenodo(server, key="b")), "a.gz is not in"),
    "open": (lambda server: zenodo(server, links={"self": "http://example.org/a"}), "not encrypted"),
    "no link": (lambda server: zenodo(server, links=None), "a.gz is not in the listing"),
    "no page": (lambda server: zenodo(server) | {"listing": f"{server.root}/nowhere"}, "status 404"),
    "other form": (lambda server: zenodo(server) | {"api": "dryad"}, "not the listing of files that dryad"),
    "and back": (lambda server: dryad(server) | {"api": "zenodo"}, "not the listing of files that zenodo"),
}


@pytest.mark.parametrize(("listing", "text"), LISTINGS.values(), ids=LISTINGS)
def test_listings_that_do_not_help(fetch, server, out, listing, text):
    server["/a"] = Remote(CONTENT)
    assert text in refusal(fetch, listing(server))
    assert not out.exists()
    out.mkdir()
    refusal(fetch, listing(server))
    assert names(out) == []


def test_a_listing_that_is_no_json_or_endless(fetch, server, monkeypatch):
    entry = zenodo(server)
    server["/api/records/1"] = Remote(b"<html>")
    assert "not JSON" in refusal(fetch, entry)
    monkeypatch.setattr(web, "_MAX_LISTING", 5)
    assert "implausibly long" in refusal(fetch, entry)


def test_a_listing_that_breaks_off_is_asked_for_again(fetch, server, out):
    server["/a"] = Remote(CONTENT)
    entry = zenodo(server)
    server["/api/records/1"].drops = [10, 0, -1]
    server["/api/records/1"].statuses = [(503, {})]
    fetch(entry)
    assert only_fetched(out)


def test_nothing_is_pruned():
    [problem] = Settings(deposit="yeast_zenodo_split").job_problems(None, Pruning(max_abs_r=0.9))
    assert "source=download makes no dataset to prune" in problem.message
