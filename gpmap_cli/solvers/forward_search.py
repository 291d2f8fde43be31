"""Forward search for additive loci and then for interacting pairs among them, stopped by cross-validation.

For each environment with phenotype y (standardised), weights w and genotypes x (N samples x L loci, coded), find a set
S of loci and a set T of pairs of them, and fit by weighted least squares, with mu the training means,

    y_i = b + sum_{l in S} a_l (x_il - mu_l) + sum_{(l,m) in T} c_lm (x_il - mu_l) (x_im - mu_m) + e_i.

One at a time, the locus enters that lowers the residual sum of squares of the joint fit most; then, with all of S kept,
the pair. (While both loci are in the fit, centring their product does not change it; it makes a_l the average effect at
the training allele frequencies.) The whole search is repeated among the training samples of each of F folds; the number
of terms is the one with the least squared error in the held-out samples, or the fewest within its standard error. A
search is over when that error has reached no new minimum for a while (`_patience`).

Cost of S: a pass over the data, N L multiply-adds, for each distinct locus that enters in any fold (those of all folds
and, as memory allows, of all environments in the same pass), and |S| L for each term and fold; memory 8 (F + 1) |S| L
bytes for each environment of the pass. Cost of T with K = |S|: N K^3 / 6 once and N K^2 for each pair, F + 1 times;
memory 4 (F + 1) (K + |T|) K^2 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import CodedGenotypes
from gpmap_cli.solvers.fold_sums import FoldSums, PairSums, at_loci
from gpmap_cli.solvers.forward_terms import ForwardTerms, fit_terms
from gpmap_cli.solvers.growing_fit import GrowingFit

# By default at most one term of either kind for so many samples.
_SAMPLES_PER_TERM = 10
# Memory for the searches that share their passes, and the number of loci that it is reckoned with.
_SEARCH_BYTES, _USUAL_LOCI = 2**30, 256
# Loci whose sums are read along with those that are needed: the next ones to enter are often among them.
_READ_ALONG = 8
_MOST_MOVES = 20
_REPORT_EVERY = 25


@dataclass(frozen=True)
class SearchOptions:
    """max_additive, max_pairs: most terms, None for one per ten samples; refine: loci to each side, 0 for none."""

    max_additive: int | None = None
    max_pairs: int | None = None
    one_standard_error: bool = False
    refine: int = 0


def forward_search(
    genotypes: CodedGenotypes,
    phenotypes: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    folds: NDArray[np.intp],
    options: SearchOptions,
    environment_names: Sequence[str],
    device: str,
    note: Callable[[str], None],
) -> list[ForwardTerms]:
    """The terms of each environment of phenotypes (N, E), NaN missing; samples are in folds (N,) 0..F-1.

    weights (N, E): of mean 1 in each environment, None for equal ones; where the phenotype is missing they are ignored.
    """
    known = ~np.isnan(phenotypes)
    weights = np.where(known, 1.0 if weights is None else weights, 0.0)
    y = np.where(known, phenotypes, 0.0)
    sums = FoldSums(genotypes, y, weights, folds, device)
    searches = [_Search(sums, column, y, weights, folds, options) for column in range(y.shape[1])]
    loci = min(_USUAL_LOCI, max(search.most_loci for search in searches) + 1)
    together = max(1, _SEARCH_BYTES // (8 * (sums.num_folds + 1) * loci * genotypes.num_loci))
    found = []
    for start in range(0, len(searches), together):
        batch = searches[start : start + together]
        paths = _search_loci(sums, batch, options.refine, environment_names, note)
        for search, path in zip(batch, paths, strict=True):
            name = environment_names[search.environment]

            def say(text: str, name: str = name) -> None:
                note(f"{name}: {text}")

            terms = search.finish(path, genotypes, device, say)
            additive = int((terms.loci[:, 1] < 0).sum())
            say(
                f"{additive} additive loci (cross-validated R^2"
                f" {terms.additive_cv_r2:.4f}), {len(terms.loci) - additive} pairs ({terms.final_cv_r2:.4f})"
            )
            found.append(terms)
    return found


class _Path:
    """The fits to the training samples of each fold and, last, to all samples, growing side by side.

    held_weights (F,): of each fold's held-out samples; total: the sum of squares of y about its mean.
    """

    def __init__(self, fits: list[GrowingFit], held_weights: NDArray[np.float64], total: float, most: int) -> None:
        self.fits = fits
        self._held_weights, self._total, self._most = held_weights, total, most
        self._errors: list[list[float]] = []
        self._chosen: list[list[list[int]]] = []
        self.record()

    def record(self) -> None:
        """A term has entered every fit, or, at first, none."""
        self._errors.append([fit.held_out_error() for fit in self.fits[:-1]])
        self._chosen.append([fit.in_order_of_entry for fit in self.fits])

    @property
    def num_terms(self) -> int:
        return len(self._errors) - 1

    @property
    def is_over(self) -> bool:
        best = int(np.argmin(self._error()))
        waited_enough = self.num_terms - best >= _patience(best)
        return self.num_terms >= self._most or waited_enough or self.fits[-1].best() is None

    def _error(self) -> NDArray[np.float64]:
        """Squared error of all held-out samples by number of terms."""
        return np.array(self._errors).sum(axis=1)

    def cv_r2(self, num_terms: int) -> float:
        """Of the held-out samples, about the mean of all samples."""
        defined = self._total > 0 and len(self._held_weights) > 0
        return float(1 - self._error()[num_terms] / self._total) if defined else float("nan")

    @property
    def reached(self) -> str:
        return f"cross-validated R^2 {self.cv_r2(self.num_terms):.4f}"

    def best(self, one_standard_error: bool) -> int:
        """The number of terms with the least error, or the fewest within its standard error over folds."""
        error = self._error()
        best = int(np.argmin(error))
        if not one_standard_error or len(self._held_weights) < 2:
            return best
        of_folds = np.array(self._errors[best]) / self._held_weights
        allowed = of_folds.std(ddof=1) / np.sqrt(len(of_folds)) * self._held_weights.sum()
        return int(np.argmax(error <= error[best] + allowed))

    def chosen(self, num_terms: int) -> list[NDArray[np.intp]]:
        """The first so many candidates of each fit, in order of entry."""
        return [np.array(candidates, dtype=np.intp) for candidates in self._chosen[num_terms]]


def _patience(best: int) -> int:
    """How many more terms than the best number of them are tried."""
    return max(10, best // 4)


class _Search:
    """One environment's samples and folds."""

    def __init__(
        self,
        sums: FoldSums,
        environment: int,
        phenotypes: NDArray[np.float64],
        weights: NDArray[np.float64],
        folds: NDArray[np.intp],
        options: SearchOptions,
    ) -> None:
        self.environment, self._sums, self._options = environment, sums, options
        self._rows = np.flatnonzero(weights[:, environment] > 0)
        self._y, self._weights = phenotypes[self._rows, environment], weights[self._rows, environment]
        self._fold_of_row = folds[self._rows]
        held, counts = np.unique(self._fold_of_row, return_counts=True)
        held = held if len(held) > 1 else held[:0]  # a fold that holds out everything leaves nothing to learn from
        self.folds: list[int | None] = [*held.tolist(), None]
        self._held_weights = np.array([sums.moments(environment, fold).weight for fold in held])
        whole = sums.moments(environment)
        self._total = max(0.0, whole.y_square - whole.y**2 / whole.weight)
        self._fit_for = len(self._rows) - int(counts.max()) - 2
        self.most_loci = self._most(options.max_additive, 0)

    def _most(self, wanted: int | None, already: int) -> int:
        """Terms that may enter: as many as wanted, and no more than the smallest training set can tell apart."""
        most = len(self._rows) // _SAMPLES_PER_TERM if wanted is None else wanted
        return max(0, min(most, self._fit_for - already))

    def begin(self) -> _Path:
        """No locus chosen yet."""
        whole = self._sums.moments(self.environment)
        held_out = [self._sums.moments(self.environment, fold) for fold in self.folds[:-1]]
        fits = [*(GrowingFit(whole - held, held) for held in held_out), GrowingFit(whole)]
        return _Path(fits, self._held_weights, self._total, self.most_loci)

    def enter(self, fit: GrowingFit, fold: int | None, locus: int, position: int | None = None) -> None:
        """A locus enters the fit without this fold, in the place of the one at `position` if there is one."""
        train, held = self._sums.column(self.environment, locus), None
        if fold is not None:
            held = self._sums.column(self.environment, locus, fold)
            train = train - held
        if position is None:
            fit.enter(locus, train, held)
        else:
            fit.move(position, locus, train, held)

    def finish(self, path: _Path, genotypes: CodedGenotypes, device: str, note: Callable[[str], None]) -> ForwardTerms:
        """Take the best number of loci, search for pairs among them, and fit all terms."""
        number = path.best(self._options.one_standard_error)
        sets = path.chosen(number)
        curve = [path.cv_r2(terms) for terms in range(number + 1)]
        loci = np.stack([sets[-1], np.full(number, -1)], axis=1)
        used = np.unique(np.concatenate(sets))
        here = at_loci(genotypes, used, self._rows)
        most = self._most(self._options.max_pairs, number)
        if number > 1 and most > 0:
            path.fits.clear()  # their directions are not needed any more
            places = [np.searchsorted(used, np.sort(chosen)) for chosen in sets]
            pairs, pair_curve = self._search_pairs(here, places, most, device, note)
            loci = np.concatenate([loci, used[pairs]])
            curve += pair_curve
        columns = np.where(loci >= 0, np.searchsorted(used, loci), -1)
        return replace(fit_terms(here, self._y, self._weights, columns, curve), loci=loci)

    def _search_pairs(
        self,
        genotypes: CodedGenotypes,
        sets: list[NDArray[np.intp]],
        most: int,
        device: str,
        note: Callable[[str], None],
    ) -> tuple[NDArray[np.intp], list[float]]:
        """Pairs (T, 2) of the last set in order of entry, and the cross-validated R^2 with each of them.

        sets: by fold, and last of all samples, the loci found, as columns of the genotypes.
        """
        sums = []
        for fold, loci in zip(self.folds, sets, strict=True):
            held = np.zeros(len(self._rows), bool) if fold is None else self._fold_of_row == fold
            order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
            here = at_loci(genotypes, loci, order)
            sums.append(PairSums(here, self._y[order], self._weights[order], int((~held).sum()), device))
        path = _Path([_with_loci(part) for part in sums], self._held_weights, self._total, most)
        while not path.is_over:
            for fit, part in zip(path.fits, sums, strict=True):
                candidate = fit.best()
                if candidate is not None:
                    fit.enter(candidate, part.column(candidate, 0), part.column(candidate, 1))
            path.record()
            if path.num_terms % _REPORT_EVERY == 0:
                note(f"{path.num_terms} pairs of {len(sets[-1])} loci, {path.reached}")
        number = path.best(self._options.one_standard_error)
        entered = path.chosen(number)[-1][len(sets[-1]) :]
        pairs = np.stack([sets[-1][of[entered] - 1] for of in sums[-1].candidates], axis=1)
        return pairs, [path.cv_r2(terms) for terms in range(1, number + 1)]


def _with_loci(sums: PairSums) -> GrowingFit:
    """A fit that has all the loci, and no pair yet."""
    fit = GrowingFit(sums.moments(0), sums.moments(1))
    for locus, products in enumerate(sums.cross()):
        fit.enter(locus, products, sums.held_cross[locus])
    return fit


def _search_loci(
    sums: FoldSums,
    searches: Sequence[_Search],
    refine: int,
    environment_names: Sequence[str],
    note: Callable[[str], None],
) -> list[_Path]:
    """The loci of several environments, all of which have one more at every step."""
    paths = [search.begin() for search in searches]
    while True:
        running = [(search, path) for search, path in zip(searches, paths, strict=True) if not path.is_over]
        if not running:
            return paths
        fits = [
            (search, fold, fit)
            for search, path in running
            for fold, fit in zip(search.folds, path.fits, strict=True)
            if fit.best() is not None
        ]
        entering = [fit.best() or 0 for _, _, fit in fits]
        along = [(search.environment, peak) for search, path in running for peak in path.fits[-1].peaks(_READ_ALONG)]
        sums.fetch([(search.environment, locus) for (search, _, _), locus in zip(fits, entering, strict=True)], along)
        for (search, fold, fit), locus in zip(fits, entering, strict=True):
            search.enter(fit, fold, locus)
        if refine:
            _refine(sums, fits, refine)
        for search, path in running:
            path.record()
            if path.num_terms % _REPORT_EVERY == 0:
                note(f"{environment_names[search.environment]}: {path.num_terms} loci, {path.reached}")


def _refine(sums: FoldSums, fits: Sequence[tuple[_Search, int | None, GrowingFit]], window: int) -> None:
    """Move chosen loci to neighbours that fit better, the one that gains most first, until none does."""
    for _ in range(_MOST_MOVES):
        moves = [(*part, move) for part in fits if (move := part[2].best_move(window)) is not None]
        sums.fetch([(search.environment, locus) for search, _, _, (_, locus) in moves])
        for search, fold, fit, (position, locus) in moves:
            search.enter(fit, fold, locus, position)
        fits = [(search, fold, fit) for search, fold, fit, _ in moves]
