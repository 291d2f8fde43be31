"""All figures of the terms that a scan, or a model that chooses terms, has found: which are drawn, and where to."""

from __future__ import annotations

from pathlib import Path

from gpmap_cli.report.drawn_terms import DrawnTerms
from gpmap_cli.report.effect_size_figure import draw_effect_sizes
from gpmap_cli.report.manhattan_figure import draw_manhattan
from gpmap_cli.report.network_figure import draw_network
from gpmap_cli.report.pair_map_figure import draw_pair_map
from gpmap_cli.report.style import save


def draw_terms(found: DrawnTerms, directory: Path) -> list[Path]:
    """`manhattan_order_K`, `effect_sizes` and, of interactions, `pair_map` and `network`, each as PNG and SVG.

    Nothing where there is no term.
    """
    orders = found.orders
    if not orders:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for order in orders:
        written += save(draw_manhattan(found, order), directory, f"manhattan_order_{order}")
    written += save(draw_effect_sizes(found), directory, "effect_sizes")
    if orders[-1] > 1:
        written += save(draw_pair_map(found), directory, "pair_map")
        written += save(draw_network(found), directory, "network")
    return written
