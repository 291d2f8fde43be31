"""How far estimated effects, pair effects and attention point at the true terms of a simulation."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.explain.differences import Effects
from gpmap_cli.explain.true_terms import Truth
from gpmap_cli.metrics import auroc, pearson_r

# Differences that are smaller than this, in standard deviations of the phenotype, are rounding: they rank nothing.
ROUNDING = 1e-9
ANY = "any"  # all epistasis orders together


def symmetric_attention(maps: dict[str, NDArray], environment: int, num_loci: int) -> dict[str, NDArray[np.float64]]:
    """How much two loci attend to each other in one environment, (L, L) by layer and `mean` over the layers.

    The mean over heads of (A + A') / 2; a token of the environment is left out. maps: as models offer them.
    """
    found = {}
    for name, layer in maps.items():
        one = layer[environment if len(layer) > 1 else 0].mean(axis=0)[:num_loci, :num_loci]
        found[name] = (one + one.T) / 2
    return {"mean": np.mean(list(found.values()), axis=0), **found}


def score_environment(
    truth: Truth,
    environment: int,
    main: Effects,
    pairs: Effects,
    loci: NDArray[np.intp],
    attention: dict[str, NDArray[np.float64]],
    std: float,
) -> dict[str, Any]:
    """AUROC and correlations of one environment, for `metrics.json`; what is undefined is None.

    main: of all L loci. pairs: of all pairs of `loci` (K,). attention: symmetric (L, L) maps by name. std: of the
    phenotype. For pairs of order k the true ones are together in a term of that order, the others in no term of any
    order. Pairs that were not looked at score below all that were. Attention is of all pairs.
    """
    num_loci = len(main.mean)
    least = ROUNDING * std
    first, second = loci[np.triu_indices(len(loci), k=1)[0]], loci[np.triu_indices(len(loci), k=1)[1]]
    all_pairs = np.triu_indices(num_loci, k=1)
    by_order = truth.pairs(environment, num_loci)
    in_any = np.zeros((num_loci, num_loci), dtype=bool)
    for together in by_order.values():
        in_any |= together
    scores = {
        "rms": _above(pairs.rms[:, environment], least),
        "mean": _above(np.abs(pairs.mean[:, environment]), least),
    }
    found: dict[str, Any] = {}
    for order, together in [*((str(order), together) for order, together in by_order.items()), (ANY, in_any)]:
        compared = together | ~in_any
        kept = compared[first, second]
        true = together[first, second][kept]
        num_true = int(together[all_pairs].sum())
        num_false = int(compared[all_pairs].sum()) - num_true
        one = {f"auroc_{name}": _auroc(true, values[kept], num_true, num_false) for name, values in scores.items()}
        of_all = compared[all_pairs]
        for name, values in attention.items():
            suffix = "" if name == "mean" else f"_{name}"
            one[f"auroc_attention{suffix}"] = auroc(together[all_pairs][of_all], values[all_pairs][of_all])
        found[order] = {"num_true": num_true, "num_other": num_false, **one}
    if "2" in found:
        true_effects = truth.pair_effects(environment, num_loci)[first, second]
        is_true = true_effects != 0
        estimated = pairs.mean[:, environment]
        found["2"]["effect_r"] = pearson_r(true_effects, estimated)
        found["2"]["effect_r_true_pairs"] = pearson_r(true_effects[is_true], estimated[is_true])
    return {"effects": _score_main(truth, environment, main, least), "pairs": found}


def score_sets(
    truth: Truth, environment: int, sets: NDArray[np.intp], effects: Effects, num_loci: int, std: float
) -> dict[str, Any]:
    """AUROC of one environment for sets of k loci (S, k), ascending, being the loci of a true term of order k.

    The others are in no term together; those that were not looked at score below all that were.
    """
    size = sets.shape[1]
    lowest = truth.lowest_order(environment, sets)
    by_order = truth.num_sets(environment, size)
    num_true, num_in_any = by_order.get(size, 0), sum(by_order.values())
    num_false = comb(num_loci, size) - num_in_any
    kept = np.isnan(lowest) | (lowest == size)
    true = lowest[kept] == size
    found: dict[str, Any] = {"num_true": num_true, "num_other": num_false, "num_true_looked_at": int(true.sum())}
    for name, values in (("rms", effects.rms), ("mean", np.abs(effects.mean))):
        score = _above(values[kept, environment], ROUNDING * std)
        found[f"auroc_{name}"] = _auroc(true, score, num_true, num_false)
    return found


def _score_main(truth: Truth, environment: int, main: Effects, least: float) -> dict[str, Any]:
    """Of single loci: which have an additive effect, by mean; which are in a term of any order, by RMS."""
    num_loci = len(main.mean)
    true_effects = truth.main_effects(environment, num_loci)
    in_a_term = true_effects != 0
    for terms in truth.terms.values():
        in_a_term[terms.acting(environment).ravel()] = True
    estimated = main.mean[:, environment]
    return {
        "num_additive": int((true_effects != 0).sum()),
        "num_in_a_term": int(in_a_term.sum()),
        "auroc_mean": auroc(true_effects != 0, _above(np.abs(estimated), least)),
        "auroc_rms": auroc(in_a_term, _above(main.rms[:, environment], least)),
        "effect_r": pearson_r(true_effects, estimated),
    }


def _above(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    return np.where(values < least, 0.0, values)


def _auroc(true: NDArray[np.bool_], scores: NDArray, num_true: int, num_false: int) -> float | None:
    """AUROC among num_true + num_false things of which only some have a score: the rest tie below them all."""
    if num_true == 0 or num_false == 0:
        return None
    true_here, false_here = int(true.sum()), len(true) - int(true.sum())
    among = auroc(true, scores)
    won = 0.0 if among is None else among * true_here * false_here
    won += true_here * (num_false - false_here) + 0.5 * (num_true - true_here) * (num_false - false_here)
    return float(won / (num_true * num_false))
