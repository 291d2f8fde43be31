"""Rounds of scan, selection and joint fit, until nothing new passes.

A round tests all sets of up to k loci against what the model so far leaves over (`scan.search`), adds those that come
near the threshold to the candidates, and selects among these and the terms that are in (`selection`) in each
environment: interactions beside the polygenic background of all loci, so that none is taken for what the additive
effects of its neighbourhood explain; single loci without it, beside the interactions. All is then fitted jointly
(`joint_fit`). Of all rounds the one with the best validation R^2 counts.

A term passes with a two-sided p-value of at most alpha / (K M), of M candidates of its order and K orders
(Bonferroni). P-values are those of tests beside all other terms of the environment, of terms that were chosen for being
large: effects are too large by what chance added to them, the less the clearer a term is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import Samples
from gpmap_cli.scan.p_values import least_t, log10_p
from gpmap_cli.scan.products import Arithmetic, choose_arithmetic, locus_major
from gpmap_cli.scan.search import Hooks, Options, Phenotypes, Stopped, scan_order
from gpmap_cli.sparse_terms.columns import Moments, fitted_values, moments, orders_of, widened
from gpmap_cli.sparse_terms.joint_fit import JointFit, Validation, fit
from gpmap_cli.sparse_terms.selection import Sums, joint_tests, select, without_background

_NEAR = 1.0  # |z| by which a scan, of residuals that others still stand in, may fall short of the threshold

State = dict[str, NDArray]


@dataclass(frozen=True)
class Plan:
    """What is searched: orders, the level of all tests together, candidates kept of each scan, and how many rounds."""

    orders: tuple[int, ...]
    alpha: float
    num_candidates: int
    max_rounds: int
    seed: int


@dataclass
class Selected:
    """The terms of a model (T, k), which environments chose each (T, E), and the loci that each chose (L, E)."""

    terms: NDArray[np.int32]
    chosen: NDArray[np.bool_]
    loci: NDArray[np.bool_]

    def same(self, other: Selected) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True))


@dataclass
class Fitted:
    """A model of selected terms: effects and errors (P, E) of loci and terms, intercept (E,), penalties (E, 3).

    t, log10_p: (P, E) of the tests of what an environment chose, 0 elsewhere.
    """

    selected: Selected
    effects: NDArray[np.float64]
    std_errors: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalties: NDArray[np.float64]
    t: NDArray[np.float64]
    log10_p: NDArray[np.float64]
    validation_r2: NDArray[np.float64]


@dataclass
class Watch:
    """Whom a search tells what it does, and a state to go on from."""

    note: Callable[[str], None] = lambda text: None
    save: Callable[[State], None] = lambda state: None
    stop: Callable[[], bool] = lambda: False
    state: Mapping[str, NDArray] | None = None


@dataclass
class _Rounds:
    """How far a search is: selections so far, the best model's number, and what the scans of this round found."""

    selections: list[Selected] = field(default_factory=list)
    found: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    def state(self) -> State:
        arrays: State = {"num_rounds": np.array(len(self.selections)), "scanned": np.array(sorted(self.found))}
        for order, loci in self.found.items():
            arrays[f"found_{order}"] = loci
        for number, one in enumerate(self.selections):
            arrays |= {f"{name}_{number}": value for name, value in vars(one).items()}
        return arrays

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> _Rounds:
        numbers = range(int(state["num_rounds"]))
        names = ("terms", "chosen", "loci")
        return cls(
            [Selected(*(state[f"{name}_{number}"] for name in names)) for number in numbers],
            {int(order): state[f"found_{order}"] for order in state["scanned"]},
        )


class TermSearch:
    """The search in one dataset: training samples choose terms, validation samples penalties and the round."""

    def __init__(
        self,
        train: Samples,
        validation: Samples,
        background: NDArray[np.float64],
        plan: Plan,
        device: str,
        watch: Watch,
    ) -> None:
        """background: (E,) penalties of the additive effects of all loci, a first guess."""
        self.plan, self.watch, self._train, self._validation = plan, watch, train, validation
        self._arithmetic: Arithmetic = choose_arithmetic(train.genotypes, device)
        self._genotypes = locus_major(train.genotypes, self._arithmetic, device)
        held_out: Arithmetic = self._arithmetic if validation.genotypes.is_plus_minus_one else "float32"
        self._held_out = locus_major(validation.genotypes, held_out, device)
        self._background = background
        self.num_loci, self.num_environments = train.genotypes.num_loci, train.phenotypes.shape[1]
        num_orders = len(plan.orders) + 1
        self._log_level = {
            order: math.log10(plan.alpha / num_orders / comb(self.num_loci, order)) for order in (1, *plan.orders)
        }
        self._fits: list[Fitted] = []

    def run(self) -> Fitted:
        """Search to the end; the model of the best round."""
        rounds = _Rounds() if self.watch.state is None else _Rounds.from_state(self.watch.state)
        if not rounds.selections:
            width = max(self.plan.orders, default=2)
            nothing = np.empty((0, width), np.int32)
            chosen = np.zeros((self.num_loci, self.num_environments), bool)
            rounds.selections.append(self._selected(Selected(nothing, chosen[:0], chosen)))
        for one in rounds.selections:  # one after the other, as each begins with the penalties of the one before
            self._fits.append(self._fitted(one))
            self._say()
        while len(rounds.selections) <= self.plan.max_rounds and self.plan.orders:
            last = self._fits[-1]
            candidates = self._candidates(last, rounds)
            new = self._selected(_with(last.selected, candidates, self.num_environments))
            rounds.found = {}
            if new.same(last.selected):
                break
            rounds.selections.append(new)
            self._fits.append(self._fitted(new))
            self._save(rounds)
            self._say()
        score = [np.nan_to_num(one.validation_r2, nan=-np.inf).mean() for one in self._fits]
        # Without validation samples the last round.
        best = int(np.argmax(score)) if np.isfinite(score).any() else len(score) - 1
        self.watch.note(f"sparse_epistasis: round {best} of {len(score) - 1} counts")
        return self._fits[best]

    def _save(self, rounds: _Rounds) -> None:
        self.watch.save(rounds.state())
        if self.watch.stop():
            raise Stopped

    def _say(self) -> None:
        number, one = len(self._fits) - 1, self._fits[-1]
        orders = orders_of(one.selected.terms)
        counts = ", ".join(f"{int((orders == order).sum())} of order {order}" for order in self.plan.orders)
        num_loci = int(one.selected.loci.any(axis=1).sum())
        r2 = float(np.nanmean(one.validation_r2)) if np.isfinite(one.validation_r2).any() else float("nan")
        self.watch.note(f"sparse_epistasis: round {number}: {num_loci} loci, {counts}; validation R^2 {r2:.4f}")

    def _candidates(self, last: Fitted, rounds: _Rounds) -> NDArray[np.int32]:
        """Terms that come near the threshold against what the model leaves over, (C, k)."""
        left = self._train.phenotypes - fitted_values(
            self._train.genotypes, last.selected.terms, last.effects, last.intercept
        )
        measured = ~np.isnan(left)
        left = np.where(measured, left - np.nanmean(left, axis=0), 0.0)
        phenotypes = Phenotypes(left, measured)
        for order in self.plan.orders:
            if order in rounds.found or comb(self.num_loci, order) == 0:
                continue
            options = Options(self._arithmetic, self.plan.num_candidates, 0, self.plan.seed)
            found = scan_order(self._genotypes, phenotypes, order, options, Hooks(stop=self.watch.stop))
            near = []
            for top, count in zip(found.top, phenotypes.num_measured, strict=True):
                least = least_t(self._log_level[order], max(float(count) - 2, 1.0)) - _NEAR
                near.append(top.loci[np.abs(top.z) >= least])
            rounds.found[order] = np.unique(np.concatenate(near), axis=0).astype(np.int32)
            self._save(rounds)
        width = last.selected.terms.shape[1]
        return np.concatenate([widened(rounds.found[order], width) for order in sorted(rounds.found)])

    def _selected(self, candidates: Selected) -> Selected:
        """Of these terms, those that pass beside each other, with the loci that pass beside them."""
        terms, num_loci = candidates.terms, self.num_loci
        chosen, loci = np.zeros_like(candidates.chosen), np.zeros_like(candidates.loci)
        orders = orders_of(terms)
        for columns, sums in self._moments(terms, self._train, self._genotypes):
            df = sums.num_samples - 1.0
            levels = {order: least_t(level, max(df - 1, 1.0)) for order, level in self._log_level.items()}
            of_terms = torch.tensor([levels[int(order)] for order in orders], dtype=torch.float64)
            of_loci = torch.full((num_loci,), levels[1], dtype=torch.float64)
            for at, environment in enumerate(columns):
                penalty = float(self._background[environment])
                beside = self._beside_loci(sums, at, df, penalty)
                begin = np.flatnonzero(candidates.chosen[:, environment]).tolist()
                inside = select(beside, of_terms.to(beside.gram.device), begin) if len(terms) else []
                chosen[inside, environment] = True
                alone = self._beside_terms(sums, at, df, inside)
                loci[select(alone, of_loci.to(alone.gram.device), []), environment] = True
        kept = chosen.any(axis=1)
        return Selected(terms[kept], chosen[kept], loci)

    def _beside_loci(self, sums: Moments, column: int, df: float, penalty: float) -> Sums:
        return without_background(
            sums.gram, sums.cross[:, column], float(sums.squares[column]), df, self.num_loci, penalty
        )

    def _beside_terms(self, sums: Moments, column: int, df: float, inside: list[int]) -> Sums:
        """Sums of the loci, less what the chosen terms explain."""
        num, device = self.num_loci, sums.gram.device
        order = torch.tensor([*(num + one for one in inside), *range(num)], device=device)
        gram, cross = sums.gram[order][:, order], sums.cross[order, column]
        return without_background(gram, cross, float(sums.squares[column]), df - len(inside), len(inside), 0.0)

    def _moments(
        self, terms: NDArray[np.int32], samples: Samples, genotypes: torch.Tensor
    ) -> list[tuple[list[int], Moments]]:
        """By environments that are measured in the same samples."""
        known = ~np.isnan(samples.phenotypes)
        patterns = Phenotypes(np.zeros(known.shape), known).patterns()[0]
        found = []
        for columns in patterns:
            y = samples.phenotypes[:, columns]
            found.append((columns.tolist(), moments(genotypes, terms, y, known[:, columns[0]])))
        return found

    def _fitted(self, selected: Selected) -> Fitted:
        """The joint fit of selected terms in all environments, and their tests."""
        terms = selected.terms
        shape = (self.num_loci + len(terms), self.num_environments)
        effects, errors, t, log10_p = (np.zeros(shape) for _ in range(4))
        each = np.full(shape[1], np.nan)
        made = Fitted(selected, effects, errors, np.zeros(shape[1]), np.zeros((shape[1], 3)), t, log10_p, each)
        held_out = {
            environment: Validation(sums, at)
            for columns, sums in self._moments(terms, self._validation, self._held_out)
            for at, environment in enumerate(columns)
        }
        for columns, sums in self._moments(terms, self._train, self._genotypes):
            for at, environment in enumerate(columns):
                groups = self._groups(selected, environment, sums.gram.device)
                first = self._first(environment, sums.num_samples)
                one = fit(sums, at, groups, first, held_out[environment])
                self._keep(made, environment, one)
                self._test(made, environment, at, sums)
        return made

    def _groups(self, selected: Selected, environment: int, device: torch.device) -> list[torch.Tensor]:
        loci, own = selected.loci[:, environment], selected.chosen[:, environment]
        mine = np.concatenate([np.flatnonzero(loci), self.num_loci + np.flatnonzero(own)])
        groups = (np.flatnonzero(~loci), mine, self.num_loci + np.flatnonzero(~own))
        return [torch.from_numpy(np.asarray(group, np.int64)).to(device) for group in groups]

    def _first(self, environment: int, num_samples: int) -> tuple[float, ...]:
        """Penalties to begin with: of the last round, or of all loci as given and next to none of chosen terms."""
        if self._fits:
            return tuple(self._fits[-1].penalties[environment])
        return float(self._background[environment]), 1e-4 * num_samples, float(num_samples)

    @staticmethod
    def _keep(made: Fitted, environment: int, one: JointFit) -> None:
        made.effects[:, environment] = one.effects.cpu().numpy()
        made.std_errors[:, environment] = one.std_errors.cpu().numpy()
        made.intercept[environment] = one.intercept
        made.penalties[environment] = one.penalties
        made.validation_r2[environment] = one.validation_r2

    def _test(self, made: Fitted, environment: int, column: int, sums: Moments) -> None:
        """t and p of what the environment chose: terms beside the background, loci beside the terms."""
        selected, df = made.selected, sums.num_samples - 1.0
        inside = np.flatnonzero(selected.chosen[:, environment]).tolist()
        loci = np.flatnonzero(selected.loci[:, environment]).tolist()
        for chosen, offset, over in (
            (inside, self.num_loci, lambda: self._beside_loci(sums, column, df, float(self._background[environment]))),
            (loci, 0, lambda: self._beside_terms(sums, column, df, inside)),
        ):
            if chosen:
                _, _, t, left = joint_tests(over(), chosen)
                rows = offset + np.array(chosen)
                made.t[rows, environment] = t.cpu().numpy()
                made.log10_p[rows, environment] = log10_p(made.t[rows, environment], left)


def _with(selected: Selected, candidates: NDArray[np.int32], num_environments: int) -> Selected:
    """The selected terms and after them candidates that are not among them."""
    known = {tuple(row) for row in selected.terms.tolist()}
    new = np.array([tuple(row) not in known for row in candidates.tolist()], bool)
    terms = np.concatenate([selected.terms, candidates[new]])
    chosen = np.concatenate([selected.chosen, np.zeros((int(new.sum()), num_environments), bool)])
    return Selected(terms, chosen, selected.loci)
