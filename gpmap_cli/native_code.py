"""C sources of this package, compiled for this machine at their first use and kept for the next.

Nothing depends on a compiler being there: whoever asks for compiled code has another way. What is compiled is the
package's own source alone; the library goes into a directory that only its user may write to, under a name made of
everything that it depends on.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

log = logging.getLogger("gpmap")

_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# Which of these a compiler knows depends on its age and on the processor's make.
_FOR_THIS_PROCESSOR = ("-march=native", "-mcpu=native", None)
_COMPILE_SECONDS = 120
# Set to 0, nothing is compiled.
SWITCH = "GPMAP_NATIVE"


@functools.cache
def compiled(source: Path, definitions: tuple[str, ...]) -> ctypes.CDLL | None:
    """The library made of a C source with these macros (`NAME=VALUE`), or None where it cannot be had."""
    if os.environ.get(SWITCH) == "0" or os.name != "posix":
        return None
    compiler = _compiler()
    if compiler is None:
        log.info("no C compiler was found: the slower way is taken (set CC to name one)")
        return None
    try:
        return _library(source, definitions, compiler)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        log.warning("%s could not be compiled, the slower way is taken: %s", source.name, said.strip()[-500:])
        return None


def _library(source: Path, definitions: tuple[str, ...], compiler: tuple[str, ...]) -> ctypes.CDLL:
    flags = [*_FLAGS, *map(str, _FOR_THIS_PROCESSOR)]
    made_of = [source.read_text(encoding="utf-8"), *definitions, *flags, *compiler, _version(compiler), _processor()]
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:24]}.so"
    refused: OSError | None = None
    for directory in _directories():
        path = directory / name
        if not path.exists():
            _compile(source, definitions, compiler, path)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:  # a directory from which nothing may be run
            refused = error
    raise OSError(f"it could not be loaded: {refused}")


def _compile(source: Path, definitions: tuple[str, ...], compiler: tuple[str, ...], path: Path) -> None:
    """Compile under another name and rename, so that nobody loads a part."""
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        made = Path(directory) / path.name
        for flag in _FOR_THIS_PROCESSOR:
            flags = [*_FLAGS, *([flag] if flag else []), *(f"-D{each}" for each in definitions)]
            command = [*compiler, *flags, str(source), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
            if done.returncode == 0:
                os.replace(made, path)
                return
        done.check_returncode()


def _compiler() -> tuple[str, ...] | None:
    named = shlex.split(os.environ.get("CC", ""))
    if named:
        return tuple(named)
    found = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    return (found,) if found else None


def _version(compiler: tuple[str, ...]) -> str:
    asked = [*compiler, "--version"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=True).stdout


def _processor() -> str:
    """What this processor can do, as one home directory may be shared by machines of different makes."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features", "CPU part")}
    return "\n".join([platform.machine(), platform.processor(), *sorted(told)])


def _directories() -> list[Path]:
    """The user's cache, where nobody else can write to it, and a directory of this process."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpmap"
    found = []
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = cache.stat()
        if (
            told.st_uid == os.getuid()
            and not told.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and os.access(cache, os.W_OK)
        ):
            found.append(cache)
    except OSError as error:
        log.debug("no cache for compiled code: %s", error)
    return [*found, Path(_own_directory().name)]


@functools.cache
def _own_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gpmap-")
