"""`gpmap scan`: every set of so many loci tested for epistasis, the strongest terms and how sure they are.

`progress.npz` holds what an interrupted scan has seen; it is gone once the scan is completed.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.commands.devices import choose_device
from gpmap_cli.commands.run_status import run_to_the_end
from gpmap_cli.commands.scan_data import ScanData, load_scan_data
from gpmap_cli.commands.scan_model import source_of
from gpmap_cli.commands.terminal import progress_bar, show_result
from gpmap_cli.config.schema import Config, load_config
from gpmap_cli.data_source import Source
from gpmap_cli.errors import InputError, Interrupted
from gpmap_cli.report.scan_figures import draw_scan
from gpmap_cli.report.scan_tables import (
    Scanned,
    duration,
    environment_facts,
    estimates_shown,
    leads_columns,
    shown,
    terms_columns,
)
from gpmap_cli.run_dir.checkpoints import load_arrays, save_arrays
from gpmap_cli.run_dir.layout import COMPLETED, RUNNING, RunDirectory
from gpmap_cli.run_dir.model_tables import table_text
from gpmap_cli.run_dir.provenance import peak_memory_mb, provenance
from gpmap_cli.scan.candidates import Candidates
from gpmap_cli.scan.estimate import Estimate, estimate
from gpmap_cli.scan.lead_terms import Lead, lead_terms
from gpmap_cli.scan.products import peak
from gpmap_cli.scan.results import Terms, judged
from gpmap_cli.scan.search import Found, Hooks, Options, State, Stopped, scan_order
from gpmap_cli.scan.single_loci import scan_loci
from gpmap_cli.settings import num_bytes
from gpmap_cli.training.context import Stop

log = logging.getLogger("gpmap")

_WORTH_A_PEAK = 1e12  # operations: the peak of products takes a second to measure
_MOST_MERGED = 2000  # of an environment: all products of two terms are held
_PROGRESS, _TERMS, _LEADS = "progress.npz", "terms.csv", "lead_terms.csv"


def run(config: Config, path: Path, in_sweep: bool = False) -> None:
    """Scan from a checked configuration in the run directory `path`; a dry run writes nothing."""
    source = source_of(config)
    source.check()
    if config.root.dry_run:
        _dry_run(config, source, path)
        return
    directory = RunDirectory(path)
    if in_sweep and directory.holds_a_run:
        if not _is_same(directory.read_config(), config):
            raise InputError(
                f"{path}: this directory holds a run of another configuration", "choose another hydra.sweep.dir"
            )
        if (directory.read_metrics() or {}).get("status") == COMPLETED:
            log.info("%s is completed already", path)
            show_result("", path)
            return
        scan = _Scan(config, directory, source)
    else:
        scan = _Scan(config, directory, source)
        scan.prepare()  # what is refused leaves no directory
        directory.claim({"command": "scan", **config.mapping()})
    scan.go()


def resume(path: Path) -> None:
    """Continue the scan in `path` with its own configuration, to the result it would have had uninterrupted."""
    directory = RunDirectory(path)
    stored = directory.read_config()
    if stored.pop("command", None) != "scan":
        raise InputError(f"{path}: this is no run of gpmap scan", "name a directory that `gpmap scan` wrote")
    config = load_config("scan", stored)
    if (directory.read_metrics() or {}).get("status") == COMPLETED:
        log.info("%s is completed already", path)
        show_result("", path)
        return
    source = source_of(config)
    source.check()
    log.info("resuming %s", path)
    _Scan(config, directory, source).go()


def _is_same(stored: dict[str, Any], config: Config) -> bool:
    try:
        command = stored.pop("command", None)
        return command == "scan" and load_config("scan", stored).mapping() == config.mapping()
    except InputError:
        return False


def _dry_run(config: Config, source: Source, path: Path) -> None:
    """Say what the scan would take."""
    data = load_scan_data(config, source, path, choose_device(config.root.device, "float64", True), None)
    print(estimates_shown(_estimates(config, data, refuse=False)), flush=True)
    log.info("dry run: nothing was written")


def _options(config: Config, data: ScanData) -> Options:
    return Options(data.arithmetic, config.scan.num_terms, config.scan.permutations, config.root.seed)


def _estimates(config: Config, data: ScanData, refuse: bool) -> dict[int, Estimate]:
    """By order; to be refused where it would take longer, or more memory, than it may."""
    found = {}
    limit = None if config.root.memory_limit is None else num_bytes(config.root.memory_limit)
    for order in sorted(config.scan.order):
        one = estimate(data.genotypes, data.residuals(order), order, _options(config, data))
        if refuse and limit is not None and one.num_bytes > limit:
            raise InputError(
                f"order {order} needs {one.num_bytes / 1e9:.2f} GB, more than memory_limit={config.root.memory_limit}",
                "allow more, or take fewer samples (data.num_samples) or loci (prune.max_abs_r=0.94)",
            )
        found[order] = one
    seconds = sum(one.seconds for one in found.values())
    if refuse and seconds > 3600 * config.root.max_hours:
        raise InputError(
            f"the scan is expected to take {duration(seconds)}, longer than max_hours={config.root.max_hours:g}",
            "allow more hours, or take a lower order, fewer loci (prune.max_abs_r=0.94), environments or permutations",
        )
    return found


class _Scan:
    """One run of the command."""

    def __init__(self, config: Config, directory: RunDirectory, source: Source) -> None:
        self._config, self._directory, self._source = config, directory, source
        self._started = datetime.now().astimezone()
        self._stop = Stop()
        self._device = choose_device(config.root.device, "float64", needs_float64=True)
        self._data: ScanData | None = None
        self._estimates: dict[int, Estimate] = {}
        self._text = ""
        self._metrics: dict[str, Any] = {
            "status": RUNNING,
            "command": "scan",
            "data": source.name,
            "run": config.root.run,
            "seed": config.root.seed,
            "orders": {},
            "seconds": {"load": None, "scan": None, "tests": None},
            "peak_memory_mb": None,
        }

    def prepare(self) -> None:
        """Read the data and see what the scan will take."""
        began = time.perf_counter()
        progress = self._directory.path / _PROGRESS
        arithmetic = load_arrays(progress)[1].get("arithmetic") if progress.exists() else None
        self._data = load_scan_data(self._config, self._source, self._directory.path, self._device, arithmetic)
        self._metrics["seconds"]["load"] = time.perf_counter() - began
        # One that goes on was accepted when it began, on whatever machine that was.
        self._estimates = _estimates(self._config, self._data, refuse=not self._directory.holds_a_run)

    def go(self) -> None:
        """Run to the end, or leave word of why not."""
        run_to_the_end(self._scan_all, self._show, self._directory, self._metrics, self._stop, "scan")

    def _show(self) -> None:
        show_result(self._text, self._directory.path)

    def _scan_all(self) -> None:
        if self._data is None:
            self.prepare()
        data, config = self._data, self._config
        assert data is not None
        facts = self._source.identity()
        self._directory.write_json(
            "provenance.json", provenance(self._started, facts, data.split_sha256, self._device) | {"ended": None}
        )
        for line in data.said:
            log.info("%s", line)
        log.info("expected to take\n%s", estimates_shown(self._estimates))
        states = self._read_progress()
        results: list[list[Terms]] = []
        seconds = {"scan": 0.0, "tests": 0.0}
        scanned = data.scanned(config.scan.alpha)
        for order in sorted(config.scan.order):
            residuals = data.residuals(order)
            log.info("order %d, over %s", order, residuals.method)
            is_long = self._estimates[order].operations > _WORTH_A_PEAK
            fastest = peak(data.arithmetic, self._device) if is_long else None
            found = self._found(order, states)
            began = time.perf_counter()
            names = range(len(scanned.environment_names))
            terms = [judged(found, data.genotypes, residuals, e, config.scan.alpha) for e in names]
            took = time.perf_counter() - began
            seconds["scan"] += found.seconds
            seconds["tests"] += took
            results.append(terms)
            self._metrics["orders"][str(order)] = self._facts(scanned, found, terms, took, fastest)
        self._directory.write_text(_TERMS, table_text(terms_columns(scanned, results)))
        draw_scan(
            scanned, results, {order: data.residuals(order).df for order in config.scan.order}, self._directory.path
        )
        self._text = shown(scanned, results)
        wanted = config.scan.intervals
        if scanned.chromosomes is not None if wanted is None else wanted:
            self._text += self._write_leads(scanned, results)
        self._metrics |= {
            "status": COMPLETED,
            "num_samples": data.num_samples,
            "num_loci": len(data.genotypes),
            "arithmetic": data.arithmetic,
            "peak_memory_mb": peak_memory_mb(),
        }
        self._metrics["seconds"] |= seconds
        self._directory.write_json("provenance.json", provenance(self._started, facts, data.split_sha256, self._device))
        self._directory.write_metrics(self._metrics)
        (self._directory.path / _PROGRESS).unlink(missing_ok=True)

    def _write_leads(self, scanned: Scanned, results: list[list[Terms]]) -> str:
        """`lead_terms.csv`, and a line of text for each order."""
        data, alpha = self._data, self._config.scan.alpha
        assert data is not None
        found: list[tuple[Terms, list[Lead]]] = []
        lines = []
        for by_environment in results:
            number = merged = 0
            for terms in by_environment:
                passing = terms.loci[terms.bonferroni <= alpha][:_MOST_MERGED]
                level = float(np.log10(alpha / terms.num_candidates))
                residuals = data.residuals(terms.order)
                leads = lead_terms(data.genotypes, residuals, terms.environment, passing, level, scanned.chromosomes)
                found.append((terms, leads))
                number, merged = number + len(leads), merged + len(passing)
                facts = self._metrics["orders"][str(terms.order)]["environments"]
                facts[scanned.environment_names[terms.environment]]["num_leads"] = len(leads)
            if merged:
                order = by_environment[0].order
                lines.append(f"order {order}: {merged:,} terms beyond Bonferroni's threshold are {number:,} lead terms")
        self._directory.write_text(_LEADS, table_text(leads_columns(scanned, found)))
        return "".join(f"\n{line}" for line in ["", *lines]) if lines else ""

    def _found(self, order: int, states: dict[int, State]) -> Found:
        """The scan of one order, from where it was left."""
        data, options = self._data, _options(self._config, self._data)  # type: ignore[arg-type]
        assert data is not None
        phenotypes = data.residuals(order).phenotypes
        if order == 1:
            return scan_loci(data.genotypes, phenotypes, options)
        self._stop.deferred = True
        total = Candidates(len(data.genotypes), order).num_computed
        with progress_bar(f"order {order}", total, "set") as advance:

            def save(state: State) -> None:
                states[order] = state
                self._write_progress(states)

            hooks = Hooks(advance, save, lambda: self._stop.requested)
            try:
                found = scan_order(data.genotypes, phenotypes, order, options, hooks, states.get(order))
            except Stopped:
                raise Interrupted from None
        self._stop.deferred = False
        save(found.state())
        if self._stop.requested:
            raise Interrupted
        return found

    def _facts(
        self, scanned: Scanned, found: Found, terms: list[Terms], tests: float, fastest: float | None
    ) -> dict[str, Any]:
        expected = self._estimates[found.order]
        took = found.seconds + tests
        log.info("order %d took %s, expected %s", found.order, duration(took), duration(expected.seconds))
        throughput = None
        if fastest is not None and found.seconds > 0:
            rate = expected.operations / found.seconds
            throughput = {"operations_per_second": rate, "peak": fastest, "share_of_peak": rate / fastest}
        return {
            "num_candidates": found.num_candidates,
            "background": self._data.residuals(found.order).method,  # type: ignore[union-attr]
            "seconds": took,
            "expected_seconds": expected.seconds,
            "expected_bytes": expected.num_bytes,
            "throughput": throughput,
            "environments": {
                name: environment_facts(scanned, one)
                for name, one in zip(scanned.environment_names, terms, strict=True)
            },
        }

    def _read_progress(self) -> dict[int, State]:
        path = self._directory.path / _PROGRESS
        if not path.exists():
            return {}
        states: dict[int, State] = {}
        for name, values in load_arrays(path)[0].items():
            order, _, part = name.partition("/")
            states.setdefault(int(order), {})[part] = values
        return states

    def _write_progress(self, states: dict[int, State]) -> None:
        arrays: dict[str, NDArray[np.generic]] = {
            f"{order}/{name}": values for order, state in states.items() for name, values in state.items()
        }
        assert self._data is not None
        save_arrays(self._directory.path / _PROGRESS, arrays, {"arithmetic": self._data.arithmetic})
