"""What is in a dataset file, at length: the summary, and what a geneticist asks of data before fitting anything.

Missingness, allele frequencies and heterozygosity, LD decay, distributions and correlations of the phenotypes,
and what the data themselves say about heritability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.linkage import LdDecay
from gpmap_cli.dataset.phenotype_statistics import OUTLIER_SD, Correlations
from gpmap_cli.dataset.statistics import GenotypeCounts, heterozygosity
from gpmap_cli.dataset.summary import genotypes, origin, phenotypes, sizes
from gpmap_cli.dataset.survey import Survey
from gpmap_cli.dataset.text import bar, cut, fact, note, plain, shades, table

_MOST_IN_MATRIX = 8  # environments that fit into 80 columns
_LONGEST_NAME = 20
_MUCH_MISSING = 0.1
_NUM_CLASSES = 20  # of the histograms
_BAR = 25


def describe(file: DatasetFile, found: Survey) -> list[str]:
    """The lines that describe a dataset file and what was found in it, at most 80 columns wide."""
    sections = [
        [*sizes(file), *genotypes(file, found.genotypes), *_frequencies(found.genotypes)],
        _missing(found.genotypes, file),
        _ld(found.ld, file),
        phenotypes(file, list(found.distributions)),
        _distributions(found),
        _heritability(found),
        _correlation(found),
        origin(file),
    ]
    lines: list[str] = []
    for section in sections:
        while section and not section[0]:
            section = section[1:]
        while section and not section[-1]:
            section = section[:-1]
        lines += [*([""] if lines and section else []), *section]
    return lines


def _frequencies(counts: GenotypeCounts) -> list[str]:
    """The distribution of allele frequencies, rare alleles, and heterozygosity of diploids."""
    frequency = counts.allele_frequency
    if len(frequency) == 0:
        return []
    quantiles = np.quantile(frequency, [0.05, 0.25, 0.75, 0.95])
    heights, _ = np.histogram(frequency, _NUM_CLASSES, (0, 1))
    minor = np.minimum(frequency, 1 - frequency)
    lines = fact("quantiles", ", ".join(f"{value:.4f}" for value in quantiles) + " (5, 25, 75, 95 % of loci)")
    lines += [f"{'frequencies':15}0 {shades(heights)} 1"]
    lines += fact("minor allele", f"below 0.05 at {(minor < 0.05).sum()} loci, below 0.01 at {(minor < 0.01).sum()}")
    found = heterozygosity(counts)
    if found is not None:
        inbreeding = "undefined" if found.inbreeding is None else f"{found.inbreeding:.3f}"
        lines += fact(
            "heterozygosity",
            f"observed {found.observed:.4f} (samples {found.lowest:.4f} to {found.highest:.4f}), expected"
            f" {found.expected:.4f}, inbreeding F = {inbreeding}",
        )
    return lines


def _missing(counts: GenotypeCounts, file: DatasetFile) -> list[str]:
    """How missing genotypes are spread over loci and over samples."""
    if counts.num_missing == 0:
        return []
    rows = [["missing genotypes", "median", "95 % quantile", "highest", "above 10 %", "highest at"]]
    for name, shares, ids in (
        ("by locus", counts.missing_by_locus, file.locus_ids),
        ("by sample", counts.missing_by_sample, file.sample_ids),
    ):
        values = (np.median(shares), np.quantile(shares, 0.95), shares.max())
        above = int((shares > _MUCH_MISSING).sum())
        worst = cut(plain(str(ids[shares.argmax()])), _LONGEST_NAME)
        rows.append([name, *(f"{100 * value:.2f} %" for value in values), str(above), worst])
    return table(rows)


def _ld(ld: LdDecay | str, file: DatasetFile) -> list[str]:
    """Mean r2 by class of distance, and between chromosomes."""
    if isinstance(ld, str):
        return fact("LD decay", f"not estimated: {ld}")
    unit = {"bp": "distance", "position": "distance (position)", "loci": "distance (loci)"}[ld.unit]
    rows = [[unit, "pairs", "mean r2", bar(0, _BAR)]]
    for lower, upper, pairs, r2 in zip(ld.lower, ld.upper, ld.num_pairs, ld.mean_r2, strict=True):
        rows.append([_span(lower, upper, ld.unit), str(pairs), f"{r2:.4f}", bar(r2, _BAR)])
    if ld.unlinked_r2 is not None:
        rows.append(["other chromosomes", str(ld.num_unlinked), f"{ld.unlinked_r2:.4f}", bar(ld.unlinked_r2, _BAR)])
    how = (
        f"LD decay: r2 of {ld.num_loci} polymorphic of {file.num_loci} loci in {ld.num_samples} of"
        f" {file.num_samples} samples; by chance alone it is {ld.chance_r2:.4f}, 1 / (samples - 1)."
    )
    if ld.unit == "loci":
        how += " Positions are not known: distance is counted in loci, in the order of the file."
    if not ld.has_chromosomes:
        how += " Chromosomes are not named: all loci are taken as on one."
    return [*note(how), *table(rows)]


def _span(lower: float, upper: float, unit: str) -> str:
    """A class of distances in words."""
    if lower == 0:
        return "same position"
    if unit == "bp":
        return f"{_base_pairs(lower)} to {_base_pairs(upper)}"
    return f"{lower:.0f} to {upper - 1:.0f}" if upper - lower > 1 else f"{lower:.0f}"


def _base_pairs(distance: float) -> str:
    """A distance in bp, kb, Mb or Gb."""
    for size, unit in ((10**9, "Gb"), (10**6, "Mb"), (10**3, "kb")):
        if distance >= size:
            return f"{distance / size:g} {unit}"
    return f"{distance:g} bp"


def _distributions(found: Survey) -> list[str]:
    """Shape of each environment's phenotypes: skewness, outliers, ties at the ends (censoring?), a histogram."""
    if not found.environment_names:
        return []
    histogram = "from min to max".ljust(_NUM_CLASSES + 2)
    rows = [["environment", "skewness", f"beyond {OUTLIER_SD:g} sd", "at min", "at max", histogram]]
    for name, one, values in zip(found.environment_names, found.distributions, found.phenotypes.T, strict=True):
        known = values[~np.isnan(values)].astype(np.float64)
        heights = np.histogram(known, _NUM_CLASSES)[0] if len(known) else np.zeros(_NUM_CLASSES)
        skewness = "-" if one.skewness is None else f"{round(one.skewness, 3) + 0.0:.3f}"
        counts = map(str, (one.num_outliers, one.num_lowest, one.num_highest))
        rows.append([plain(name), skewness, *counts, shades(heights)])
    return table(rows)


def _heritability(found: Survey) -> list[str]:
    """What measurement errors and replicated genotypes say about broad-sense heritability, by environment."""
    if not found.environment_names:
        return []
    if found.error_bound is None and found.replicate_h2 is None:
        return fact("heritability", "no measurement errors and no replicated genotypes that would tell of it")
    columns: list[list[str]] = []
    notes: list[str] = []
    if found.error_bound is not None:
        columns.append(["H2 at most", *map(_number, found.error_bound)])
        notes += note(
            "H2 at most: 1 - mean(phenotype_std^2) / var(phenotype), what measurement error leaves for broad-sense"
            " heritability; phenotype_std is the standard error of the value."
        )
    else:
        notes += note("phenotype_std is not in the file: no bound of H2 from measurement error.")
    if found.replicate_h2 is not None:
        columns.append(["H2 of replicates", *(_number(one.h2) for one in found.replicate_h2)])
        columns.append(["genotypes", *(str(one.num_genotypes) for one in found.replicate_h2)])
        columns.append(["samples", *(str(one.num_samples) for one in found.replicate_h2)])
        notes += note(
            f"H2 of replicates: intraclass correlation (one-way analysis of variance) of genotypes identical at all"
            f" loci; the file has {found.num_replicated_genotypes} such in {found.num_replicated_samples} samples."
        )
    else:
        notes += note("No two samples have identical complete genotypes: no H2 from replicates.")
    names = ["environment", *map(plain, found.environment_names)]
    return [*table([list(row) for row in zip(names, *columns, strict=True)]), *notes]


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"


def _correlation(found: Survey) -> list[str]:
    """Correlations of the environments: the matrix of a few, a summary of many."""
    names = [plain(name) for name in found.environment_names]
    if len(names) < 2:
        return []
    if found.correlation is None:
        return fact("correlations", f"left out: {len(names)} environments are too many")
    lines = note("correlation of environments, over the samples measured in both")
    if len(names) <= _MOST_IN_MATRIX:
        lines += _matrix(names, found.correlation)
    return lines if len(names) == 2 else lines + _extremes(names, found.correlation)


def _matrix(names: Sequence[str], correlation: Correlations) -> list[str]:
    """The lower triangle, environments numbered across the top."""
    width = max(len(cut(name, _LONGEST_NAME)) for name in names)
    rows = [["", *map(str, range(1, len(names)))]]
    for at, name in enumerate(names):
        label = f"{at + 1} {cut(name, _LONGEST_NAME).ljust(width)}"
        cells = ["-" if np.isnan(r) else f"{r:.2f}" for r in correlation.r[at, :at]]
        rows.append([label, *cells, *[""] * (len(names) - 1 - at)])
    return table(rows)


def _extremes(names: Sequence[str], correlation: Correlations) -> list[str]:
    """Mean correlation, and the pairs whose correlation is strongest and weakest in absolute value."""
    first, second, r = correlation.pairs()
    if len(r) == 0:
        return note("undefined: no two environments vary over samples measured in both")

    def pair(at: int) -> str:
        both = (cut(names[int(one[at])], _LONGEST_NAME) for one in (first, second))
        return f"{r[at]:.3f} ({', '.join(both)})"

    size: NDArray[np.float64] = np.abs(r)
    strongest, weakest = pair(int(size.argmax())), pair(int(size.argmin()))
    return note(f"mean {r.mean():.3f}, strongest {strongest}, weakest {weakest}")
