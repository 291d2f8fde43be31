"""The files of a deposit, in a directory: what is there and right is kept, the rest is fetched, checked and put there.

A file under its own name is whole and checked. Until then it is `.NAME.part`, with `.NAME.part.json` saying what it
is a part of, and the next run goes on with it. `SHA256SUMS` records what came (`sha256sum -c` reads it).
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpmap_cli.errors import InputError, Problem, did_you_mean
from gpmap_cli.prepare.download import web
from gpmap_cli.prepare.download.deposits import SUMS, Deposit, DepositFile, Digest, Published
from gpmap_cli.prepare.download.resuming_downloader import ResumingDownloader
from gpmap_cli.prepare.job import Job
from gpmap_cli.run_dir.writing import write_text


@dataclass(frozen=True)
class _Wanted:
    """A file that must be in the directory: what it is checked against, where it is fetched, how long it is."""

    file: str
    digest: Digest | None
    url: str | None = None
    size: int | None = None


def download(deposit: Deposit, job: Job) -> list[str]:
    """Fetch what is missing and say, line by line, what there is now."""
    pooch = _pooch()
    out = Path(job.out)
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone_in(out):
            return _download(deposit, out, job, pooch)
    except OSError as trouble:
        raise _not_written(out, trouble) from trouble
    finally:
        if is_new:
            with suppress(OSError):  # it holds something
                out.rmdir()


def _download(deposit: Deposit, out: Path, job: Job, pooch: Any) -> list[str]:
    sums = _read_sums(out / SUMS)
    pinned = {} if job.overwrite else sums
    wanted = {file.file: _known(file, pinned.get(file.file), str(out / SUMS)) for file in deposit.files}
    missing = [file for file in wanted.values() if file.digest is None or not _is_there(out, file, pooch)]
    if any(file.digest is None or file.url is None for file in missing):  # else the repository need not be asked
        wanted |= _complete(missing, deposit)
        missing = [wanted[file.file] for file in missing if not _is_there(out, wanted[file.file], pooch)]
    _refuse_what_is_in_the_way(missing, out, job.overwrite, pooch)
    lines = []
    for file in wanted.values():
        path = out / file.file
        if file in missing:
            _fetch(file, path, deposit, job, pooch)
        sha256 = pooch.file_hash(str(path))
        if sums.get(file.file) != sha256:
            sums[file.file] = sha256
            write_text(out / SUMS, "".join(f"{value}  {name}\n" for name, value in sums.items()))
        did = "fetched" if file in missing else "kept"
        lines.append(f"{did} {file.file}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256} ({_checked(file)})")
    lines.append(f"{out / SUMS} records these digests: `sha256sum -c {SUMS}` checks them")
    if deposit.next:
        lines.append(f"next: {deposit.next.replace('{out}', shlex.quote(str(out)))}")
    return lines


def _pooch() -> Any:
    try:
        import pooch
        import requests  # noqa: F401  (what the downloader needs of what pooch brings)
    except ImportError as trouble:
        raise InputError(
            f"source=download needs packages that are not installed ({trouble})", "pip install 'gpmap-cli[download]'"
        ) from trouble
    return pooch


def _known(file: DepositFile, pinned: str | None, pinned_by: str) -> _Wanted:
    """What can be said about a file without asking the repository. The registry's word comes before our own."""
    if file.sha256 is not None:
        return _Wanted(file.file, Digest("sha256", file.sha256.lower(), "the registry of deposits"), file.url)
    return _Wanted(file.file, None if pinned is None else Digest("sha256", pinned, pinned_by), file.url)


def _complete(missing: list[_Wanted], deposit: Deposit) -> dict[str, _Wanted]:
    """The same files with what the repository says about them, where nothing better is known."""
    published = deposit.published()
    completed, problems = {}, []
    for wanted in missing:
        said = published.get(wanted.file, Published(None, None, None))
        url = wanted.url or said.url
        if url is None or (wanted.digest is None and wanted.file not in published):
            where = f"the listing of {deposit.name} at {web.shown(str(deposit.listing))}"
            problems.append(Problem(f"{wanted.file} is not in {where}", did_you_mean(wanted.file, published)))
            continue
        completed[wanted.file] = _Wanted(wanted.file, wanted.digest or said.digest, url, said.size)
    if problems:
        raise InputError(problems)
    return completed


def _is_there(out: Path, wanted: _Wanted, pooch: Any) -> bool:
    """Whether the file is in the directory already; where nobody knows its digest its length must do."""
    path = out / wanted.file
    if not path.is_file():
        return False
    if wanted.digest is None:
        return wanted.size is not None and path.stat().st_size == wanted.size
    return bool(pooch.file_hash(str(path), alg=wanted.digest.algorithm) == wanted.digest.value)


def _refuse_what_is_in_the_way(missing: list[_Wanted], out: Path, overwrite: bool, pooch: Any) -> None:
    problems = []
    for wanted in missing:
        path = out / wanted.file
        if path.is_dir():
            problems.append(Problem(f"{path}: a directory, where a file is to be", "choose another `out`"))
        elif os.path.lexists(path) and not overwrite:
            told = f"{wanted.file} is there already and not what it should be"
            if wanted.digest is not None and path.is_file():
                told = f"{path}: {_differs(wanted.digest, pooch.file_hash(str(path), alg=wanted.digest.algorithm))}"
            problems.append(Problem(told, "choose another `out`, or replace the file with overwrite=true"))
    if problems:
        raise InputError(problems)


def _fetch(wanted: _Wanted, path: Path, deposit: Deposit, job: Job, pooch: Any) -> None:
    """Put the file at `path` once it is whole, checked and on the disk."""
    part, note = path.with_name(f".{wanted.file}.part"), path.with_name(f".{wanted.file}.part.json")
    fetch = ResumingDownloader(wanted.file, wanted.size, note, deposit.page, job.progress)
    fetch(str(wanted.url), part, pooch)
    if wanted.digest is not None:
        got = pooch.file_hash(str(part), alg=wanted.digest.algorithm)
        if got != wanted.digest.value:
            part.unlink()
            note.unlink(missing_ok=True)
            hint = "what came is thrown away; if it happens again, the file has changed since or the digest is wrong"
            if wanted.digest.said_by == str(path.with_name(SUMS)):
                hint = f"what came is thrown away; if the deposit has changed, overwrite=true disregards {SUMS}"
            raise InputError(f"{wanted.file} from {web.shown(str(wanted.url))}: {_differs(wanted.digest, got)}", hint)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    note.unlink(missing_ok=True)


def _differs(digest: Digest, got: str) -> str:
    return f"its {digest.algorithm} is {got}, and {digest.said_by} says {digest.value}"


def _checked(wanted: _Wanted) -> str:
    """What a file was compared with."""
    if wanted.digest is None:
        return "no digest of it is published, so nothing but its length was compared"
    return f"{wanted.digest.algorithm} as {wanted.digest.said_by} says"


def _read_sums(path: Path) -> dict[str, str]:
    """`SHA256SUMS` as `sha256sum` writes it: digest, two spaces (or a space and `*`), name."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        entry = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if entry is None and line.strip():
            raise InputError(f"{path}: `{line[:80]}` is not a digest and a name", "correct or remove that file")
        if entry is not None:
            found[entry[2]] = entry[1].lower()
    return found


def _not_written(directory: Path, trouble: OSError) -> InputError:
    """What to say when the disk does not take what comes."""
    if trouble.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return InputError(f"{directory}: no room left ({trouble.strerror})", f"make room and {web.AGAIN}")
    return InputError(f"{directory}: cannot be written to ({trouble})", "choose another `out`")


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keeps two runs from writing the same parts; where there are no such locks, nothing does."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as trouble:
            hint = "wait until it has ended, or choose another `out`"
            raise InputError(f"{directory}: another run is downloading into it", hint) from trouble
        except OSError:  # some network file systems lock no directories
            pass
        yield
    finally:
        os.close(handle)
