"""`gpmap variance`: the variance that each epistasis order explains, and genetic correlations between environments."""

from __future__ import annotations

import csv
import io
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.commands.devices import choose_device
from gpmap_cli.commands.terminal import progress_bar, show_result
from gpmap_cli.config.schema import Config
from gpmap_cli.data_source import open_source
from gpmap_cli.dataset.coding import GenotypeCoding, PhenotypeScale
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.covariate_projection import project_out
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import deciding_samples
from gpmap_cli.report.tables import aligned
from gpmap_cli.run_dir.layout import RunDirectory, RunLog
from gpmap_cli.run_dir.provenance import provenance
from gpmap_cli.variance.components import VarianceComponents
from gpmap_cli.variance.haseman_elston import haseman_elston, num_sample_pairs
from gpmap_cli.variance.reml import noise_profile, num_maxima, refine_by_reml, reml_operations

log = logging.getLogger("gpmap")

_TIMES_HELD = 2  # genotypes are held whole, and as the samples that are measured

_MOST_OPERATIONS = 1e15  # some hours on two cores
_MOST_FOR_REML = 3e14


def run(config: Config, path: Path) -> None:
    """Estimate from a checked configuration in the run directory `path`."""
    started = datetime.now().astimezone()
    root = config.root
    source = open_source(config.data, root.seed)
    source.check()
    device = choose_device(root.device, "float64", needs_float64=True)
    directory = RunDirectory(path)
    directory.claim({"command": "variance", **config.mapping()})
    with RunLog(directory):
        dataset = source.load(root.genotype_bytes(_TIMES_HELD), directory.path)
        if config.prune.is_on:
            deciding = deciding_samples(config.prune, dataset)
            dataset, said = prune(dataset, deciding, config.prune, progress_bar, directory.path)
            log.info("%s", said)
        found = _estimate(dataset, config, device)
        names = dataset.environment_names
        directory.write_text("variance.csv", _csv(_component_rows(found, names)))
        directory.write_text("genetic_correlation.csv", _csv(_correlation_rows(found, names)))
        directory.write_json("variance.json", _facts(found, names, dataset))
        directory.write_json("provenance.json", provenance(started, source.identity(), None, device))
        show_result(_shown(found, names), directory.path)


def _estimate(dataset: Dataset, config: Config, device: str) -> VarianceComponents:
    root = config.root
    _check(dataset, dataset.phenotypes, root)
    coding = GenotypeCoding.learn(dataset.genotypes, dataset.ploidy)
    factors = getattr(config.data, "factors", None) or ()
    genotypes, phenotypes, fixed, said = project_out(dataset, coding, factors, np.arange(dataset.num_samples))
    for line in said:
        log.info("%s; shares are of what is left", line)
    covariates = None if fixed is None else fixed.design(dataset.sample_covariates, dataset.num_samples)
    scale = PhenotypeScale.learn(phenotypes)
    standardised = scale.standardise(phenotypes)
    num_probes = root.num_probes
    noise = None
    if root.weighted and dataset.phenotype_std is not None:
        noise = noise_profile(phenotypes, dataset.phenotype_std)
    operations = reml_operations(standardised, dataset.num_loci, root.order)
    by_reml = root.method == "reml" or (root.method == "auto" and (root.weighted or operations <= _MOST_FOR_REML))
    log.info(
        "%d samples, %d loci, %d environments; components up to order %d by %s",
        *(dataset.num_samples, dataset.num_loci, len(dataset.environment_names), root.order),
        "REML" if by_reml else "Haseman-Elston regression",
    )
    with progress_bar("kernels", num_sample_pairs(dataset.num_samples, num_probes), "pair") as advance:
        found = haseman_elston(genotypes, standardised, root.order, device, root.seed, num_probes, advance, covariates)
    if by_reml:
        count = num_maxima(standardised, dataset.num_loci, root.order)
        with progress_bar("restricted likelihood", count, "maximum") as advance:
            found = refine_by_reml(found, genotypes, standardised, device, root.seed, advance, covariates, noise)
    return found.in_units(scale.std)


def _check(dataset: Dataset, phenotypes: NDArray, root: Any) -> None:
    if not dataset.environment_names:
        raise InputError("the data have no phenotypes", "use data with phenotypes")
    for name, column in zip(dataset.environment_names, phenotypes.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known) < 3 or known.min() == known.max():
            what = "is constant" if len(known) >= 3 else f"has {len(known)} phenotypes"
            raise InputError(
                f"environment `{name}` {what}: it has no variance to share out",
                "leave it out with data.environments=[...]",
            )
    if root.weighted and dataset.phenotype_std is None:
        raise InputError(
            "weighted=true needs measurement errors, and the data have no `phenotype_std`",
            "leave weighted out, or use data with `phenotype_std`",
        )
    if root.weighted and root.method == "haseman_elston":
        raise InputError(
            "method=haseman_elston knows of no measurement errors", "use method=reml, or leave weighted out"
        )
    operations = float(dataset.num_samples) ** 2 * dataset.num_loci * root.order
    if operations > _MOST_OPERATIONS:
        raise InputError(
            f"{dataset.num_samples} samples at {dataset.num_loci} loci would take {operations:.1g} operations",
            "prune the loci (prune.max_abs_r=0.94) or take fewer samples (data.num_samples=20000)",
        )


Row = dict[str, Any]


def _component_rows(found: VarianceComponents, names: tuple[str, ...]) -> list[Row]:
    low, high = found.share_interval
    return [
        {
            "environment": name,
            "component": component,
            "variance": found.variance[e, k],
            "std_error": found.std_error[e, k],
            "share": found.share[e, k],
            "share_std_error": found.share_std_error[e, k],
            "share_ci95_low": low[e, k],
            "share_ci95_high": high[e, k],
        }
        for e, name in enumerate(names)
        for k, component in enumerate(found.names)
    ]


def _correlation_rows(found: VarianceComponents, names: tuple[str, ...]) -> list[Row]:
    return [
        {
            "environment": names[e],
            "environment_2": names[f],
            "additive_genetic_correlation": found.correlation[e, f],
            "std_error": found.correlation_std_error[e, f],
        }
        for e in range(len(names))
        for f in range(e)
    ]


def _csv(rows: list[Row]) -> str:
    """Tidy; what is undefined is empty."""
    out = io.StringIO()
    if rows:
        table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({key: _number(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return f"{value:.9g}" if np.isfinite(value) else ""


def _facts(found: VarianceComponents, names: tuple[str, ...], dataset: Dataset) -> dict[str, Any]:
    def plain(row: Row) -> Row:
        keys = [key for key in row if key not in ("environment", "component")]
        return {key: float(row[key]) if np.isfinite(row[key]) else None for key in keys}

    environments: dict[str, Any] = {name: {} for name in names}
    for row in _component_rows(found, names):
        environments[row["environment"]][row["component"]] = plain(row)
    return {
        "method": found.method,
        "num_samples": dataset.num_samples,
        "num_loci": dataset.num_loci,
        "total_variance": dict(zip(names, map(float, found.total), strict=True)),
        "environments": environments,
    }


def _shown(found: VarianceComponents, names: tuple[str, ...]) -> str:
    header = ["environment", *(f"{name} +- SE" for name in found.names)]
    errors = found.share_std_error
    rows = [
        [name, *(f"{share:.3f} +- {error:.3f}" for share, error in zip(found.share[e], errors[e], strict=True))]
        for e, name in enumerate(names)
    ]
    return f"share of the phenotypic variance, by {found.method}\n" + "\n".join(aligned(header, rows, 1))
