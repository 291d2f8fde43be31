"""Public deposits by name: which files they hold, where these are, and what they are checked against.

The registry is YAML; `deposits.yaml` beside this module describes the format and holds the deposits known by name.
Where it has no digest of a file, the one that the repository itself publishes is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

import yaml

from gpmap_cli.errors import InputError, Problem, did_you_mean, listing
from gpmap_cli.prepare.download import web
from gpmap_cli.settings import Group, fill

SUMS = "SHA256SUMS"
KNOWN = Path(__file__).with_name("deposits.yaml")
_HEX_DIGITS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32}
_MAX_PAGES = 100


@dataclass(frozen=True)
class Digest:
    """A digest of a file, and who says that it is the file's."""

    algorithm: str
    value: str
    said_by: str


@dataclass(frozen=True)
class Published:
    """What a repository says about one file."""

    url: str | None
    digest: Digest | None
    size: int | None


@dataclass(frozen=True)
class DepositFile:
    """One file of a deposit, as the registry has it."""

    file: str
    url: str | None = None
    sha256: str | None = None

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if not _is_plain(self.file):
            hint = "names of files are letters, digits and the like, without directories; none is hidden"
            found.append(Problem(f"{group.prefix}file: `{self.file}` cannot be the name of a file here", hint))
        if self.sha256 is not None and digest("sha256", self.sha256, "") is None:
            hint = "write its 64 hexadecimal digits, in quotes"
            found.append(Problem(f"{group.prefix}sha256 is not a SHA-256: `{self.sha256}`", hint))
        return found + _problems_of_url(self.url)


@dataclass(frozen=True)
class _Entry:
    """A deposit as it stands in the registry, but for its files."""

    page: str = ""
    listing: str | None = None
    api: Literal["zenodo", "dryad"] | None = None
    next: str = ""

    def problems(self, group: Group) -> list[Problem]:
        if (self.listing is None) != (self.api is None):
            return [Problem(f"{group.prefix}listing and {group.prefix}api belong together", "give both or neither")]
        return _problems_of_url(self.listing)


@dataclass(frozen=True)
class Deposit:
    """A deposit: its files, its web page, the repository's listing of it, and the command to run afterwards."""

    name: str
    files: tuple[DepositFile, ...]
    page: str = ""
    listing: str | None = None
    api: str | None = None
    next: str = ""

    def published(self) -> dict[str, Published]:
        """What the repository says about its files, by name."""
        if self.listing is None:
            return {}
        read = {"zenodo": _zenodo, "dryad": _dryad}[str(self.api)]
        try:
            return read(self.listing, self.page)
        except (AttributeError, KeyError, TypeError, IndexError) as trouble:
            raise InputError(
                f"{web.shown(self.listing)}: not the listing of files that {self.api} is known to give ({trouble!r})",
                web.look_at(self.page),
            ) from trouble


def digest(algorithm: str, value: str, said_by: str) -> Digest | None:
    """A digest as repositories write it, or None when it is none that can be checked."""
    algorithm = algorithm.lower().replace("-", "")
    is_whole = re.fullmatch("[0-9a-fA-F]+", value) and len(value) == _HEX_DIGITS.get(algorithm)
    return Digest(algorithm, value.lower(), said_by) if is_whole else None


def find_deposit(name: str | None, registry: str | None) -> Deposit:
    """The deposit of that name in a registry; None: the one that ships with the program."""
    path = KNOWN if registry is None else Path(registry)
    entries = _read_registry(path)
    if name is None:
        raise InputError("name is not set", f"choose one of {listing(entries)} with name=...")
    if name not in entries:
        where = "this program knows" if registry is None else f"in {registry}"
        raise InputError(f"`{name}` is no deposit {where}", did_you_mean(name, entries, "name="))
    return _read_deposit(name, entries[name], str(path))


def _read_registry(path: Path) -> dict[str, Any]:
    hint = f"its format is described at the top of {KNOWN}"
    if not path.is_file():
        raise InputError(f"{path}: there is no such registry of deposits", hint)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as trouble:
        raise InputError(f"{path}: not a readable YAML file ({trouble})", hint) from trouble
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: not a registry, which gives names of deposits their files", hint)
    return {str(name): entry for name, entry in entries.items()}


def _read_deposit(name: str, entry: Any, path: str) -> Deposit:
    prefix = f"{path}: {name}."
    rest = dict(entry) if isinstance(entry, Mapping) else {"files": entry}
    items = rest.pop("files", None)
    hint = f"its format is described at the top of {KNOWN}"
    if not isinstance(items, list) or not items or not all(isinstance(item, Mapping) for item in items):
        raise InputError(f"{prefix}files is not a list of files", hint)
    problems: list[Problem] = []
    made = fill(_Entry, rest, Group(prefix, "a deposit"), problems)
    files = []
    for number, item in enumerate(items):
        file = fill(DepositFile, item, Group(f"{prefix}files[{number}].", "a file of a deposit"), problems)
        if file is not None:
            files.append(file)
            if made is not None and made.listing is None and (file.url is None or file.sha256 is None):
                problems.append(Problem(f"{prefix}files[{number}] lacks url or sha256, and there is no listing", hint))
    names = [file.file for file in files]
    twice = sorted({file for file in names if names.count(file) > 1})
    if twice:
        problems.append(Problem(f"{prefix}files holds {listing(twice)} twice", "a name stands for one file"))
    if problems:
        raise InputError(problems)
    assert made is not None
    return Deposit(name, tuple(files), made.page, made.listing, made.api, made.next)


def _problems_of_url(url: str | None) -> list[Problem]:
    try:
        if url is not None:
            web.check_url(url)
    except InputError as refused:
        return list(refused.problems)
    return []


def _is_plain(name: str) -> bool:
    """Whether a file of that name lands in the directory meant, and is seen there."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= 200
        and name[0] not in ".-~"
        and name.isprintable()
        and not re.search(r'[/\\:*?"<>|]', name)
        and name.upper() != SUMS
    )


def _zenodo(url: str, page: str) -> dict[str, Published]:
    """Zenodo: {"files": [{"key", "size", "checksum": "md5:...", "links": {"self"}}]}."""
    found = {}
    for item in web.fetch_json(url, page)["files"]:
        algorithm, _, value = str(item.get("checksum") or "").rpartition(":")
        link = (item.get("links") or {}).get("self")
        found[str(item["key"])] = Published(
            None if link is None else web.check_url(urljoin(url, link), url),
            digest(algorithm or "md5", value, web.shown(url)),
            _size(item),
        )
    return found


def _dryad(url: str, page: str) -> dict[str, Published]:
    """Dryad: the dataset links to its current version, and that to pages of files with `digest` and `digestType`."""
    version = web.fetch_json(url, page)["_links"]["stash:version"]["href"]
    pages: list[str] = [f"{urljoin(url, version)}/files?per_page=100"]
    found = {}
    for address in pages:  # which grows on the way
        part = web.fetch_json(web.check_url(address, url), page)
        for item in part["_embedded"]["stash:files"]:
            links = item.get("_links") or {}
            link = (links.get("stash:download") or links.get("stash:file-download") or {}).get("href")
            found[str(item["path"])] = Published(
                None if link is None else web.check_url(urljoin(url, link), url),
                digest(str(item.get("digestType") or ""), str(item.get("digest") or ""), web.shown(url)),
                _size(item),
            )
        following = ((part.get("_links") or {}).get("next") or {}).get("href")
        if following and urljoin(url, following) not in pages and len(pages) < _MAX_PAGES:
            pages.append(urljoin(url, following))
    return found


def _size(item: Mapping[str, Any]) -> int | None:
    size = item.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
