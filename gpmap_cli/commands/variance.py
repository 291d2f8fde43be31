"""`gpmap variance`: the variance that each epistasis order explains, and genetic correlations between environments."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.commands.devices import choose_device
from gpmap_cli.commands.terminal import progress_bar, show_result
from gpmap_cli.commands.variance_landscapes import Landscapes, find_landscapes, nothing_estimated
from gpmap_cli.config.schema import Config
from gpmap_cli.data_source import open_source
from gpmap_cli.dataset.coding import GenotypeCoding, PhenotypeScale
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.covariate_projection import project_out
from gpmap_cli.errors import InputError
from gpmap_cli.ld_pruning.dataset_pruning import prune
from gpmap_cli.ld_pruning.deciding import deciding_samples
from gpmap_cli.report.landscape_figure import draw_landscapes
from gpmap_cli.report.variance_tables import (
    coefficient_columns,
    component_rows,
    correlation_by_order_rows,
    correlation_rows,
    csv_text,
    order_rows,
    shown_components,
    shown_orders,
)
from gpmap_cli.run_dir.layout import RunDirectory, RunLog
from gpmap_cli.run_dir.model_tables import write_table
from gpmap_cli.run_dir.provenance import provenance
from gpmap_cli.variance.components import VarianceComponents
from gpmap_cli.variance.haseman_elston import haseman_elston, num_sample_pairs
from gpmap_cli.variance.landscape_variance import METHOD, LandscapeVariance
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
        _check(dataset, dataset.phenotypes, root)
        landscapes = find_landscapes(dataset, root)
        found, methods = _estimate(dataset, config, device, landscapes)
        names = dataset.environment_names
        directory.write_text("variance.csv", csv_text(component_rows(found, names, methods)))
        directory.write_text(
            "genetic_correlation.csv", csv_text(correlation_rows(found, names, landscapes.correlations))
        )
        _write_landscapes(directory, dataset, landscapes)
        directory.write_json("variance.json", _facts(found, methods, landscapes, dataset))
        directory.write_json("provenance.json", provenance(started, source.identity(), None, device))
        shown = shown_components(found, names, methods)
        if landscapes.found:
            shown += "\n\n" + shown_orders(landscapes.found, names, root.order)
        show_result(shown, directory.path)


def _estimate(
    dataset: Dataset, config: Config, device: str, landscapes: Landscapes
) -> tuple[VarianceComponents, tuple[str, ...]]:
    """The components of all environments, and by which method each has them."""
    number, order = len(dataset.environment_names), config.root.order
    others = np.array([e for e in range(number) if e not in landscapes.found], dtype=np.intp)
    if len(others):
        estimated = _estimate_from_samples(dataset, config, device, others)
    else:
        estimated = nothing_estimated(number, order)
    methods = tuple(METHOD if e in landscapes.found else estimated.method for e in range(number))
    return landscapes.put_into(estimated, order), methods


def _estimate_from_samples(
    dataset: Dataset, config: Config, device: str, which: NDArray[np.intp]
) -> VarianceComponents:
    """By Haseman-Elston regression, for the correlations in all environments, refined by REML in those of `which`."""
    root = config.root
    _check_size(dataset, root)
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
        noise = noise_profile(phenotypes, dataset.phenotype_std)[:, which]
    own = standardised[:, which]
    operations = reml_operations(own, dataset.num_loci, root.order)
    by_reml = root.method == "reml" or (root.method == "auto" and (root.weighted or operations <= _MOST_FOR_REML))
    log.info(
        "%d samples, %d loci, %d environments; components up to order %d by %s",
        *(dataset.num_samples, dataset.num_loci, len(which), root.order),
        "REML" if by_reml else "Haseman-Elston regression",
    )
    with progress_bar("kernels", num_sample_pairs(dataset.num_samples, num_probes), "pair") as advance:
        found = haseman_elston(genotypes, standardised, root.order, device, root.seed, num_probes, advance, covariates)
    if by_reml:
        count = num_maxima(own, dataset.num_loci, root.order)
        with progress_bar("restricted likelihood", count, "maximum") as advance:
            refined = refine_by_reml(found.of(which), genotypes, own, device, root.seed, advance, covariates, noise)
        found = replace(found.with_variances_of(which, refined), method=refined.method)
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


def _check_size(dataset: Dataset, root: Any) -> None:
    operations = float(dataset.num_samples) ** 2 * dataset.num_loci * root.order
    if operations > _MOST_OPERATIONS:
        raise InputError(
            f"{dataset.num_samples} samples at {dataset.num_loci} loci would take {operations:.1g} operations",
            "prune the loci (prune.max_abs_r=0.94) or take fewer samples (data.num_samples=20000)",
        )


def _write_landscapes(directory: RunDirectory, dataset: Dataset, landscapes: Landscapes) -> None:
    """Tables and the figure of the environments that are complete landscapes, if any is."""
    names = dataset.environment_names
    if landscapes.landscape is None or not landscapes.found:
        return
    directory.write_text("variance_by_order.csv", csv_text(order_rows(landscapes.found, names), digits=17))
    if landscapes.correlations:
        rows = correlation_by_order_rows(landscapes.correlations, names)
        directory.write_text("genetic_correlation_by_order.csv", csv_text(rows))
    columns, highest = coefficient_columns(landscapes.landscape, landscapes.found, names, dataset.locus_ids)
    if highest < landscapes.landscape.num_loci:
        log.info("coefficients.csv.gz has the coefficients of up to %d loci: there are too many others", highest)
    write_table(directory, "coefficients", columns)
    draw_landscapes(landscapes.found, names, directory.path)


def _facts(
    found: VarianceComponents, methods: tuple[str, ...], landscapes: Landscapes, dataset: Dataset
) -> dict[str, Any]:
    names = dataset.environment_names

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        keys = [key for key in row if key not in ("environment", "component", "method")]
        return {key: float(row[key]) if np.isfinite(row[key]) else None for key in keys}

    environments: dict[str, Any] = {name: {} for name in names}
    for row in component_rows(found, names, methods):
        environments[row["environment"]][row["component"]] = plain(row)
    return {
        "method": ", ".join(dict.fromkeys(methods)),
        "num_samples": dataset.num_samples,
        "num_loci": dataset.num_loci,
        "total_variance": dict(zip(names, map(float, found.total), strict=True)),
        "environments": environments,
        "methods": dict(zip(names, methods, strict=True)),
        "why_not_walsh_hadamard": {name: why for name, why in zip(names, landscapes.why_not, strict=True) if why},
        "complete_landscapes": {names[e]: _landscape_facts(one) for e, one in landscapes.found.items()},
    }


def _landscape_facts(found: LandscapeVariance) -> dict[str, Any]:
    noise = found.noise
    return {
        "num_loci": found.num_loci,
        "num_genotypes": len(found.coefficients),
        "variance_within_genotypes": found.within,
        "noise": None if noise is None else noise.source,
        "noise_degrees_of_freedom": None if noise is None or np.isinf(noise.freedom) else noise.freedom,
        "coefficient_std_error": None if noise is None else found.coefficient_std_error,
    }
