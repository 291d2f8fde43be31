"""Small deposits in the layout of the yeast data, written plainly here, cell by cell."""

from __future__ import annotations

import gzip

import numpy as np

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.dryad import Settings, prepare

COUNTS = (5, 0, 7, 4)


def probabilities(num_rows=40, num_loci=16, seed=0):
    """Posterior probabilities of four decimals, (rows, L)."""
    return np.round(np.random.default_rng(seed).beta(0.1, 0.1, (num_rows, num_loci)), 4)


def genotype_line(index, row, counts=COUNTS, separators=False, form=repr):
    cells = [form(float(value)) for value in row]
    if separators:
        for place in np.cumsum(counts)[:-1][::-1]:
            cells.insert(int(place), "2.0")
    return "\t".join([str(index), *cells]) + "\n"


def write_genotypes(directory, values, parts=2, compressed=True, **options):
    """The genotype files; gives their paths."""
    edges = [len(values) * part // parts for part in range(parts + 1)]
    paths = []
    for part in range(parts):
        number = f"_{part + 1}" if parts > 1 else ""
        lines = [genotype_line(row, values[row], **options) for row in range(edges[part], edges[part + 1])]
        path = directory / f"geno_data{number}.txt{'.gz' if compressed else ''}"
        text = "".join(lines).encode()
        path.write_bytes(gzip.compress(text, mtime=0) if compressed else text)
        paths.append(path)
    return paths


def phenotypes(num_rows=40, seed=1):
    rng = np.random.default_rng(seed)
    fitness = np.round(rng.normal(0, 0.1, num_rows), 5)
    fitness[rng.random(num_rows) < 0.1] = np.nan
    return fitness, np.round(rng.uniform(0.01, 0.02, num_rows), 5)


def write_phenotypes(directory, name, fitness, std=None, header="id\tfit\tse", ids=None, extra=""):
    lines = [] if header is None else [header]
    for row, value in enumerate(fitness):
        cells = [] if ids is False else [str(row if ids is None else ids[row])]
        cells.append("" if np.isnan(value) and row % 2 else repr(float(value)))
        if std is not None:
            cells.append(repr(float(std[row])))
        lines.append("\t".join(cells))
    (directory / f"pheno_data_{name}.txt").write_text("\n".join(lines) + "\n" + extra)


def write_deposit(directory, **options):
    """A whole small deposit; gives (probabilities, fitness by environment, standard errors by environment)."""
    directory.mkdir(exist_ok=True)
    values = probabilities()
    write_genotypes(directory, values, **options)
    measured = {name: phenotypes(seed=seed) for seed, name in enumerate(("cu", "30C", "23C"))}
    for name, (fitness, std) in measured.items():
        write_phenotypes(directory, name, fitness, std)
    return values, measured


def imported(directory, out, **options):
    """Import into `out`; gives the lines said."""
    return prepare(Settings(path=str(directory), loci_per_chromosome=COUNTS, **options), Job(str(out)))


def refusal(directory, out, **options):
    """The text of the refusal; nothing may be left at `out` or beside it."""
    before = sorted(out.parent.iterdir())
    try:
        imported(directory, out, **options)
    except InputError as trouble:
        assert sorted(out.parent.iterdir()) == before
        [problem] = trouble.problems
        assert problem.hint
        return problem.message
    raise AssertionError("the deposit was not refused")
