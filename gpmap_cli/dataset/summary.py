"""What is in a dataset file, as text: sizes, genotypes, phenotypes, splits, truth, provenance.

Genotypes are read one row block at a time, so a file larger than memory can be described.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import is_known
from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, SPLIT_NAMES
from gpmap_cli.dataset.file import DatasetFile

_WIDTH = 80
_LABEL = 15  # so that a SHA-256 stays on one line
_MIN_NAME = 8


def summarise(file: DatasetFile) -> list[str]:
    """The lines that describe a dataset file, at most 80 columns wide."""
    return [
        *_fact("file", file.path.name),
        *_fact("format", f"{FORMAT}, version {FORMAT_VERSION}"),
        *_fact("samples", str(file.num_samples)),
        *_fact("loci", _loci(file)),
        *_fact("environments", str(len(file.environment_names))),
        *_fact("ploidy", str(file.ploidy)),
        *_genotypes(file),
        *_phenotypes(file),
        *_labels(file),
        *_covariates(file),
        *([] if not file.truth_names else _fact("truth", ", ".join(file.truth_names))),
        *_provenance(file),
    ]


def _fact(label: str, text: str) -> list[str]:
    """A labelled line, folded under itself when it is long."""
    label = f"{_plain(label)} ".ljust(_LABEL)
    folded = textwrap.wrap(label + _plain(text), _WIDTH, subsequent_indent=" " * _LABEL, break_on_hyphens=False)
    return folded if text else [label.rstrip()]


def _loci(file: DatasetFile) -> str:
    if file.chromosomes is None:
        return str(file.num_loci)
    return f"{file.num_loci} on {len(set(file.chromosomes.tolist()))} chromosomes"


@dataclass(frozen=True)
class AlleleCounts:
    """Of each locus: how many genotypes are known, their sum, and the smallest and largest; all (L,)."""

    known: NDArray[np.int64]
    total: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Loci where all known genotypes are the same (or none is known)."""
        return ~(self.smallest < self.largest)


def count_alleles(file: DatasetFile) -> AlleleCounts:
    """Counts over all samples, one row block at a time."""
    known = np.zeros(file.num_loci, np.int64)
    total = np.zeros(file.num_loci)
    smallest, largest = np.full(file.num_loci, np.inf), np.full(file.num_loci, -np.inf)
    for _, block in file.row_blocks():
        is_there = is_known(block)
        known += is_there.sum(axis=0)
        if is_there.all():
            total += block.sum(axis=0, dtype=np.float64)
            low, high = block.min(axis=0), block.max(axis=0)
        else:
            total += np.where(is_there, block, 0).sum(axis=0, dtype=np.float64)
            low = np.where(is_there, block, np.inf).min(axis=0)
            high = np.where(is_there, block, -np.inf).max(axis=0)
        smallest, largest = np.minimum(smallest, low), np.maximum(largest, high)
    return AlleleCounts(known, total, smallest, largest)


def _genotypes(file: DatasetFile) -> list[str]:
    counts = count_alleles(file)
    whole = file.num_samples * file.num_loci
    missing = whole - int(counts.known.sum())
    calls = "calls" if file.genotype_type.kind == "i" else "dosages"
    lines = _fact(
        "genotypes", f"{file.genotype_type} {calls}, {missing} of {whole} missing ({100 * missing / whole:.2f} %)"
    )
    typed = counts.known > 0
    if typed.any():
        frequency = counts.total[typed] / (file.ploidy * counts.known[typed])
        lines += _fact(
            "allele freq.",
            f"{frequency.min():.4f} to {frequency.max():.4f}, median {np.median(frequency):.4f} (alternative allele)",
        )
    return lines + _fact("constant loci", str(int(counts.is_constant.sum())))


def _phenotypes(file: DatasetFile) -> list[str]:
    """One line for each environment, in the phenotype's own units; `ceiling` is the highest R^2 any model can reach."""
    if not file.environment_names:
        return _fact("phenotypes", "none")
    header = ["environment", "count", "missing", "mean", "sd", "min", "max"]
    if file.noise_ceiling_r2:
        header.append("ceiling")
    rows = [header]
    for name, column in zip(file.environment_names, file.phenotypes().T, strict=True):
        known = column[~np.isnan(column)].astype(np.float64)
        moments = [known.mean(), known.std(), known.min(), known.max()] if len(known) else []
        row = [_plain(name), str(len(known)), str(len(column) - len(known))]
        row += [f"{value:.4g}" for value in moments] or ["-"] * 4
        if file.noise_ceiling_r2:
            row.append(f"{file.noise_ceiling_r2[name]:.4f}")
        rows.append(row)
    known_errors = ["measurement errors are known (phenotype_std)"] if file.has_phenotype_std else []
    return ["", *_table(rows), *known_errors, ""]


def _plain(text: str) -> str:
    """One line of printable characters: a stranger's file shall not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _table(rows: list[list[str]]) -> list[str]:
    """Aligned columns: the first to the left and cut where it must be, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    first = min(first, max(_MIN_NAME, _WIDTH - sum(others) - 2 * len(others)))
    lines = []
    for name, *cells in rows:
        shown = name if len(name) <= first else name[: first - 3] + "..."
        lines.append("  ".join([shown.ljust(first), *map(str.rjust, cells, others)]))
    return lines


def _labels(file: DatasetFile) -> list[str]:
    lines = []
    for name, labels in file.splits.items():
        parts = (f"{int((labels == part).sum())} {word}" for part, word in enumerate(SPLIT_NAMES))
        lines += _fact(f"split {name}", ", ".join(parts))
    for name, folds in file.folds.items():
        numbers, counts = np.unique(folds, return_counts=True)
        sizes = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts.min())
        lines += _fact(f"folds {name}", f"{len(numbers)} folds of {sizes} samples")
    return lines


def _covariates(file: DatasetFile) -> list[str]:
    lines = []
    for name, values in file.covariates.items():
        lines += _fact("covariate", f"{name}: " + " ".join(f"{value:.4g}" for value in values))
    return lines


def _provenance(file: DatasetFile) -> list[str]:
    """What made the file and from what, then the texts: source, citation, licence, notes."""
    lines = []
    for name, value in sorted(
        file.provenance.items(), key=lambda item: (item[0] in ("citation", "license", "notes"), item)
    ):
        lines += _fact(name, str(value))
    return lines
