"""What a scan will cost, from blocks of it that are computed to see: candidates, seconds, bytes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from gpmap_cli.scan.background import Residuals
from gpmap_cli.scan.candidates import Block, Candidates, num_entries
from gpmap_cli.scan.exact_tests import terms_at_once, test_terms
from gpmap_cli.scan.products import DTYPES, timed
from gpmap_cli.scan.search import Found, Options, Search, spread_of_blocks
from gpmap_cli.scan.single_loci import scan_loci

_BLOCKS, _TURNS = 6, 2
_LIBRARIES = 100_000_000  # bytes that products allocate when they are first used
_FREED_LATE = 1.3  # what a process holds over what it uses


@dataclass(frozen=True)
class Estimate:
    """candidates: sets of loci; operations: multiplications and additions of the products; seconds; bytes."""

    candidates: int
    operations: float
    seconds: float
    num_bytes: int


def estimate(genotypes: torch.Tensor, residuals: Residuals, order: int, options: Options) -> Estimate:
    """Of the scan of sets of `order` loci in all environments, the exact tests of what is kept included.

    Some blocks, evenly spread over the work, are computed for some environments, and some terms tested.
    """
    phenotypes = residuals.phenotypes
    device = str(genotypes.device)
    num_bytes = bytes_needed(genotypes, residuals, order, options)
    if order == 1:
        none = Options(options.arithmetic, options.num_terms, 0, options.seed)
        seconds = timed(lambda: scan_loci(genotypes, phenotypes, none), device) * (3 + options.permutations) / 3
        candidates, operations = len(genotypes), 0.0
    else:
        search = Search(genotypes, phenotypes, order, options)
        candidates = len(search.candidates)
        seconds, operations = _search_seconds(search, options, device, genotypes.shape[1])
    seconds += _test_seconds(genotypes, residuals, order, min(candidates, options.num_terms), device)
    return Estimate(candidates, operations, seconds, num_bytes)


def _search_seconds(search: Search, options: Options, device: str, num_samples: int) -> tuple[float, float]:
    """Seconds and operations of all blocks, from some of them."""
    found = Found.nothing(search.candidates, search.num_environments, options.num_terms, options.permutations)
    blocks = list(spread_of_blocks(search.candidates, _BLOCKS))
    if not blocks:
        return 0.0, 0.0
    products = search.visit(blocks[0], found, only_some=True)  # and what libraries do at first use

    def seconds(block: Block) -> float:
        return timed(lambda: search.visit(block, found, only_some=True), device)

    rates = [
        statistics.median(seconds(block) for _ in range(_TURNS)) / (num_entries(block) * products) for block in blocks
    ]
    entries = search.candidates.num_computed * search.num_products
    return statistics.mean(rates) * entries, 2.0 * entries * num_samples


def _test_seconds(genotypes: torch.Tensor, residuals: Residuals, order: int, num_terms: int, device: str) -> float:
    if len(genotypes) < order or num_terms == 0:
        return 0.0
    few = min(num_terms, terms_at_once(order, residuals))  # each batch has costs of its own
    rng = np.random.default_rng(0)
    loci = np.stack([np.sort(rng.permutation(len(genotypes))[:order]) for _ in range(few)]).astype(np.int32)
    test_terms(genotypes, residuals, 0, loci[:2])
    seconds = timed(lambda: test_terms(genotypes, residuals, 0, loci), device)
    return seconds * num_terms / few * residuals.phenotypes.residuals.shape[1]


def bytes_needed(genotypes: torch.Tensor, residuals: Residuals, order: int, options: Options) -> int:
    """What a scan holds at its largest, besides the data as they were read."""
    num_loci, num_samples = genotypes.shape
    num_environments = residuals.phenotypes.residuals.shape[1]
    size = torch.empty(0, dtype=DTYPES[options.arithmetic]).element_size()
    held = genotypes.numel() * size + num_samples * num_environments * (6 * 8 + 3 * size)
    held += num_samples * num_environments * options.permutations * (2 if size == 1 else size)
    held += sum(one.basis.numel() * 8 * 2 for one in residuals.projections)
    held += sum(one.root.numel() * 8 for one in residuals.projections if one.root is not None)
    while_projecting = (5 * 8 * num_loci**2 + 2 * 8192 * num_loci * 8) if residuals.has_loci else 0
    working = max(
        while_projecting, _block_bytes(num_loci, num_samples, order, size), _test_bytes(num_loci, order, size)
    )
    return _LIBRARIES + int(_FREED_LATE * (held + working))


def _block_bytes(num_loci: int, num_samples: int, order: int, size: int) -> int:
    candidates = Candidates(num_loci, order) if 2 <= order <= 4 else None
    if candidates is None or not candidates.blocks:
        return 0
    largest = max(candidates.blocks, key=num_entries)
    rows, columns = largest.weighted.stop - largest.weighted.start, largest.plain.stop - largest.plain.start
    digits = 2 if size == 1 else 1
    plain = columns * num_samples * size if order == 4 else 0
    listed = sum(layout.weighted.loci.nbytes + layout.plain.loci.nbytes for layout in candidates.layouts)
    return plain + 2 * digits * rows * 16_384 * size + rows * columns * 4 * (2 * digits + 5) + 2 * listed


def _test_bytes(num_loci: int, order: int, size: int) -> int:
    parts = sum(1 for size in range(2, order + 1) for _ in combinations(range(order), size)) or 1
    columns, terms = 1024, 1024 // parts
    per_sample = (columns + 2 * order * terms + num_loci) if size == 1 else 8 * 3 * columns + 8 * num_loci
    return per_sample * (32_768 if size == 1 else 8192) + 8 * 4 * columns * num_loci + 8 * columns * parts
