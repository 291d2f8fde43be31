"""C sources are compiled once, into a directory that nobody else can write to; without a compiler nothing fails."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from gpmap_cli import native_code
from gpmap_cli.layers import native_attention

needs_compiler = pytest.mark.skipif(native_code._compiler() is None, reason="no C compiler on this machine")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and nothing remembered from before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(native_code.SWITCH, raising=False)
    native_code.compiled.cache_clear()
    native_attention._kernel.cache_clear()
    yield tmp_path / "cache" / "gpmap"
    native_code.compiled.cache_clear()
    native_attention._kernel.cache_clear()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "twice.c"
    path.write_text("int twice(int x) { return FACTOR * x; }\n")
    return path


@needs_compiler
def test_compiled_once_and_kept(source, cache, monkeypatch):
    assert native_code.compiled(source, ("FACTOR=2",)).twice(21) == 42
    (kept,) = cache.iterdir()
    assert kept.suffix == ".so"
    assert cache.stat().st_mode & 0o777 == 0o700
    native_code.compiled.cache_clear()
    monkeypatch.setattr(native_code, "_compile", lambda *_: pytest.fail("compiled again"))
    assert native_code.compiled(source, ("FACTOR=2",)).twice(3) == 6


@needs_compiler
def test_other_definitions_sources_and_processors_are_compiled_anew(source, cache, monkeypatch):
    native_code.compiled(source, ("FACTOR=2",))
    assert native_code.compiled(source, ("FACTOR=3",)).twice(3) == 9
    native_code.compiled.cache_clear()
    source.write_text(source.read_text().replace("* x", "+ x"))
    assert native_code.compiled(source, ("FACTOR=2",)).twice(3) == 5
    native_code.compiled.cache_clear()
    monkeypatch.setattr(native_code, "_processor", lambda: "another one")
    native_code.compiled(source, ("FACTOR=2",))
    assert len(list(cache.iterdir())) == 4


@needs_compiler
def test_nothing_is_loaded_from_where_others_can_write(source, cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert native_code.compiled(source, ("FACTOR=2",)).twice(2) == 4
    assert not list(cache.iterdir())


@needs_compiler
def test_a_cache_that_cannot_be_made_is_done_without(source, cache):
    cache.parent.write_text("a file where a directory should be")
    assert native_code.compiled(source, ("FACTOR=2",)).twice(2) == 4


def test_no_compiler_no_library(source, monkeypatch, caplog):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with caplog.at_level(logging.INFO, "gpmap"):
        assert native_code.compiled(source, ("FACTOR=2",)) is None
    assert "no C compiler" in caplog.text


@pytest.mark.parametrize("compiler", ["false", "there-is-no-such-compiler", "true"])
def test_a_broken_compiler_is_reported(compiler, source, cache, monkeypatch, caplog):
    monkeypatch.setenv("CC", compiler)
    assert native_code.compiled(source, ("FACTOR=2",)) is None
    assert "could not be compiled" in caplog.text
    assert not cache.exists() or not list(cache.iterdir())


@needs_compiler
def test_a_source_that_does_not_compile_is_reported(source, cache, caplog):
    source.write_text("int twice(int x) { return ")
    assert native_code.compiled(source, ()) is None
    assert "twice.c could not be compiled" in caplog.text
    assert not list(cache.iterdir())


def test_it_can_be_switched_off(source, monkeypatch):
    monkeypatch.setenv(native_code.SWITCH, "0")
    assert native_code.compiled(source, ("FACTOR=2",)) is None
    assert not native_attention.is_available(5, torch.float32)


@needs_compiler
def test_a_kernel_that_is_wrong_is_not_used(tmp_path, monkeypatch, caplog):
    text = native_attention._SOURCE.read_text()
    wrong = tmp_path / "attention_kernel.c"
    wrong.write_text(text.replace("sums[r][v] += rows[r * PADDED + d]", "sums[r][v] += rows[r * PADDED]"))
    assert wrong.read_text() != text
    monkeypatch.setattr(native_attention, "_SOURCE", wrong)
    assert not native_attention.is_available(5, torch.float32)
    assert "wrong numbers" in caplog.text


@needs_compiler
def test_other_precisions_have_no_kernel():
    assert native_attention.is_available(5, torch.float64)
    assert not native_attention.is_available(5, torch.float16)


@needs_compiler
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names of x86-64 processors")
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_older_processors_have_the_same_numbers(processor, monkeypatch):
    """Registers of 16 and 32 bytes, with fewer of them."""
    flags = Path("/proc/cpuinfo").read_text()
    if processor == "haswell" and not all(f" {flag} " in flags for flag in ("avx2", "fma", "bmi2")):
        pytest.skip("this processor is older")
    monkeypatch.setattr(native_code, "_FOR_THIS_PROCESSOR", (f"-march={processor}",))
    assert native_attention.is_available(5, torch.float64)
    assert native_attention.is_available(18, torch.float32)
