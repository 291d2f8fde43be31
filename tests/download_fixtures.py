"""Fixtures of the tests of `source=download`."""

from __future__ import annotations

import pytest
import yaml
from download_server import CONTENT, running_server, sha256

from gpmap_cli.prepare.download import web
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.download import Settings, prepare


@pytest.fixture
def server(monkeypatch):
    """A server of its own for every test, which no proxy stands before."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with running_server() as files:
        yield files


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts, which are noted instead of waited."""
    noted = []
    monkeypatch.setattr(web, "sleep", noted.append)
    return noted


@pytest.fixture
def out(tmp_path):
    return tmp_path / "raw"


@pytest.fixture
def fetch(server, tmp_path, out, waits):
    """fetch(entry) downloads the registry's one deposit; by default one file `a.gz` of CONTENT at `/a`."""

    def run(entry=None, overwrite=False, **job):
        if entry is None:
            entry = [{"file": "a.gz", "url": f"{server.root}/a", "sha256": sha256(CONTENT)}]
        registry = tmp_path / "registry.yaml"
        registry.write_text(yaml.safe_dump({"mine": entry}))
        return prepare(Settings(deposit="mine", registry=str(registry)), Job(str(out), overwrite, **job))

    return run
