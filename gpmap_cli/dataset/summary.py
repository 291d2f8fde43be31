"""What is in a dataset file, in short: sizes, genotypes, phenotypes, splits, truth, provenance.

Genotypes are read one row block at a time, so a file larger than memory can be described.
"""

from __future__ import annotations

import numpy as np

from gpmap_cli.dataset.contents import FORMAT, FORMAT_VERSION, SPLIT_NAMES
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.phenotype_statistics import Distribution, distribution
from gpmap_cli.dataset.statistics import GenotypeCounts, count_genotypes
from gpmap_cli.dataset.text import fact, plain, table


def summarise(file: DatasetFile) -> list[str]:
    """The lines that describe a dataset file, at most 80 columns wide."""
    distributions = [distribution(column) for column in file.phenotypes().T]
    return [
        *sizes(file),
        *genotypes(file, count_genotypes(file)),
        *phenotypes(file, distributions),
        *origin(file),
    ]


def sizes(file: DatasetFile) -> list[str]:
    """Name, format, and how many samples, loci and environments there are."""
    loci = str(file.num_loci)
    if file.chromosomes is not None:
        loci += f" on {len(set(file.chromosomes.tolist()))} chromosomes"
    return [
        *fact("file", file.path.name),
        *fact("format", f"{FORMAT}, version {FORMAT_VERSION}"),
        *fact("samples", str(file.num_samples)),
        *fact("loci", loci),
        *fact("environments", str(len(file.environment_names))),
        *fact("ploidy", str(file.ploidy)),
    ]


def genotypes(file: DatasetFile, counts: GenotypeCounts) -> list[str]:
    """How they are stored, how many are missing, the range of allele frequencies, how many loci are constant."""
    whole = file.num_samples * file.num_loci
    missing = counts.num_missing
    calls = "calls" if file.genotype_type.kind == "i" else "dosages"
    lines = fact(
        "genotypes", f"{file.genotype_type} {calls}, {missing} of {whole} missing ({100 * missing / whole:.2f} %)"
    )
    frequency = counts.allele_frequency
    if len(frequency):
        lines += fact(
            "allele freq.",
            f"{frequency.min():.4f} to {frequency.max():.4f}, median {np.median(frequency):.4f} (alternative allele)",
        )
    return lines + fact("constant loci", str(int(counts.is_constant.sum())))


def phenotypes(file: DatasetFile, distributions: list[Distribution]) -> list[str]:
    """One line for each environment, in the phenotype's own units; `ceiling` is the highest R^2 any model can reach."""
    if not file.environment_names:
        return fact("phenotypes", "none")
    header = ["environment", "count", "missing", "mean", "sd", "min", "max"]
    if file.noise_ceiling_r2:
        header.append("ceiling")
    rows = [header]
    for name, found in zip(file.environment_names, distributions, strict=True):
        moments = (found.mean, found.sd, found.minimum, found.maximum)
        row = [plain(name), str(found.count), str(found.missing)]
        row += [f"{value:.4g}" if found.count else "-" for value in moments]
        if file.noise_ceiling_r2:
            row.append(f"{file.noise_ceiling_r2[name]:.4f}")
        rows.append(row)
    known_errors = ["measurement errors are known (phenotype_std)"] if file.has_phenotype_std else []
    return ["", *table(rows), *known_errors, ""]


def origin(file: DatasetFile) -> list[str]:
    """Splits and folds, environment covariates, what is known of the truth, and where the data come from."""
    truth = fact("truth", ", ".join(file.truth_names)) if file.truth_names else []
    return [*_labels(file), *_covariates(file), *truth, *_provenance(file)]


def _labels(file: DatasetFile) -> list[str]:
    lines = []
    for name, labels in file.splits.items():
        parts = (f"{int((labels == part).sum())} {word}" for part, word in enumerate(SPLIT_NAMES))
        lines += fact(f"split {name}", ", ".join(parts))
    for name, folds in file.folds.items():
        numbers, counts = np.unique(folds, return_counts=True)
        sizes = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else str(counts.min())
        lines += fact(f"folds {name}", f"{len(numbers)} folds of {sizes} samples")
    return lines


def _covariates(file: DatasetFile) -> list[str]:
    lines = []
    for name, values in file.covariates.items():
        lines += fact("covariate", f"{name}: " + " ".join(f"{value:.4g}" for value in values))
    return lines


def _provenance(file: DatasetFile) -> list[str]:
    """What made the file and from what, then the texts: source, citation, licence, notes."""
    lines = []
    for name, value in sorted(
        file.provenance.items(), key=lambda item: (item[0] in ("citation", "license", "notes"), item)
    ):
        lines += fact(name, str(value))
    return lines
