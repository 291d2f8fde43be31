"""Which files of a directory are the yeast deposit: genotypes in the order of their parts, phenotypes by environment.

Genotypes are `geno_data.txt`, or its parts `geno_data_1.txt` to `geno_data_k.txt`, plain or gzip; or one file of
another name that begins with `geno_data`, or of any name when it is named itself. Phenotypes are
`pheno_data_<environment>.txt` beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gpmap_cli.errors import InputError, did_you_mean, listing
from gpmap_cli.prepare.tables.text_table import shown
from gpmap_cli.simulate.yeast_environments import ENVIRONMENTS

_GENOTYPES = re.compile(r"geno_data(?:_(\d+))?\.txt(?:\.gz)?")
_PHENOTYPES = re.compile(r"pheno_data_(.+)\.txt(?:\.gz)?")
_LIKE_GENOTYPES, _LIKE_PHENOTYPES = "geno_data", "pheno_data"
_HINT = "see gpmap prepare source=dryad --help for the files that belong into it"


@dataclass(frozen=True)
class DepositFiles:
    """The genotype files in order, the phenotype file of each environment, and lines about others called alike."""

    genotypes: list[Path]
    phenotypes: dict[str, Path]
    lines: list[str]


def find_files(path: Path, environments: tuple[str, ...] | None) -> DepositFiles:
    """The deposit in a directory, or beside the genotype file that is named."""
    directory = path.parent if path.is_file() else path
    found = _listed(directory)
    genotypes = _named_itself(path, found) if path.is_file() else _genotype_files(directory, found)
    named = _phenotype_files(directory, found)
    alike = [
        one.name
        for one in found
        if one.name.startswith((_LIKE_GENOTYPES, _LIKE_PHENOTYPES))
        and one not in genotypes
        and one not in named.values()
    ]
    lines = [f"not read, though called alike: {listing(map(shown, alike))}"] if alike else []
    return DepositFiles(genotypes, _chosen(directory, named, environments, alike), lines)


def _listed(directory: Path) -> list[Path]:
    if not directory.is_dir():
        what = "this is no ordinary file" if directory.exists() else "there is no such directory"
        raise InputError(f"{directory}: {what}", "source.path is the directory that holds the deposit's files")
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as trouble:
        raise InputError(f"{directory}: cannot be read ({trouble.strerror})", "check the permissions") from trouble


def _named_itself(path: Path, found: list[Path]) -> list[Path]:
    """The file that is named; a part of several is refused, since its rows would meet the phenotypes of the first."""
    if path.name.startswith(_LIKE_PHENOTYPES):
        raise InputError(
            f"{path}: phenotypes, by its name", "source.path is the directory of the deposit, or its genotype file"
        )
    parts = [one for one in found if (match := _GENOTYPES.fullmatch(one.name)) and match[1]]
    if path in parts and len(parts) > 1:
        raise InputError(
            f"{path}: one of {len(parts)} parts of the genotypes", f"name their directory: source.path={path.parent}"
        )
    return [path]


def _genotype_files(directory: Path, found: list[Path]) -> list[Path]:
    """One file, or the parts 1 to k in order; a part that lacks or is there twice is refused."""
    parts: dict[int, Path] = {}
    for path in found:
        match = _GENOTYPES.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1] or 0)
        if number in parts:
            raise InputError(
                f"{directory}: {parts[number].name} and {path.name} are the same part", "leave only one of them there"
            )
        parts[number] = path
    if not parts:
        return [_the_only_one(directory, found)]
    if 0 in parts and len(parts) > 1:
        raise InputError(
            f"{directory}: {parts[0].name} beside {len(parts) - 1} numbered parts",
            "leave either the whole file or its parts there",
        )
    numbers = sorted(parts)
    absent = [number for number in range(1, numbers[-1]) if number not in parts]
    if absent:
        raise InputError(
            f"{directory}: part {absent[0]} of the genotypes lacks, between {parts[numbers[0]].name} and"
            f" {parts[numbers[-1]].name}",
            "rows align by order, so every part must be there",
        )
    return [parts[number] for number in numbers]


def _the_only_one(directory: Path, found: list[Path]) -> Path:
    """The only file that is called like genotypes, as those are who put the parts into one file."""
    alike = [path for path in found if path.name.startswith(_LIKE_GENOTYPES) and path.is_file()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(
            f"{directory}: {len(alike)} files may hold the genotypes: {listing(shown(path.name) for path in alike)}",
            f"name the one: source.path={alike[0]}",
        )
    raise InputError(f"{directory}: no geno_data_*.txt.gz in it", _HINT)


def _phenotype_files(directory: Path, found: list[Path]) -> dict[str, Path]:
    """The file of each environment that is there."""
    files: dict[str, Path] = {}
    for path in found:
        match = _PHENOTYPES.fullmatch(path.name)
        if match is None:
            continue
        if match[1] in files:
            raise InputError(
                f"{directory}: {files[match[1]].name} and {path.name} are the same environment",
                "leave only one of them there",
            )
        files[match[1]] = path
    return files


def _chosen(
    directory: Path, files: dict[str, Path], wanted: tuple[str, ...] | None, alike: list[str]
) -> dict[str, Path]:
    """The files of the wanted environments; of all, in the published order and others after them, if None is given."""
    if wanted is not None:
        for name in wanted:
            if name not in files:
                raise InputError(
                    f"{directory}: no pheno_data_{name}.txt in it",
                    did_you_mean(name, files, "source.environments=") if files else _HINT,
                )
        return {name: files[name] for name in wanted}
    if not files:
        raise InputError(
            f"{directory}: no pheno_data_ENVIRONMENT.txt in it"
            + (f", but {listing(map(shown, alike), 3)}" if alike else ""),
            "put the phenotypes beside the genotypes; source.environments=[] imports genotypes alone",
        )
    ordered = [name for name in ENVIRONMENTS if name in files]
    return {name: files[name] for name in [*ordered, *sorted(set(files) - set(ordered))]}
