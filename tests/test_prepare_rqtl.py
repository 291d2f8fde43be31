"""R/qtl's one-file CSV: what `write.cross` wrote is read as R holds it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rqtl_examples import NAMES, assert_as_in_r, crosses, held_by_r, needs_rqtl

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.crosses.rqtl import read_rqtl
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.rqtl import Settings, prepare
from gpmap_cli.settings import Group

NAN = math.nan
CODES = {"hyper": ("BB", "BA", "AA"), "listeria": ("CC", "CB", "BB", "not BB", "not CC")}
F2 = "y,sex,id,m1,m2,x1\n,,,1,1,X\n,,,0,5.5,3\n1.5,m,a,A,H,B\nNA,f,b,-,B,H\n2,0,c,D,C,A\n-,1,d,B,A,H\n"


def read(tmp_path, content, **options):
    path = tmp_path / "cross.csv"
    path.write_text(content, encoding="utf-8")
    return read_rqtl(Settings(path=str(path), **options))


def refused(tmp_path, content, **options):
    with pytest.raises(InputError) as trouble:
        read(tmp_path, content, **options)
    [problem] = trouble.value.problems
    assert problem.hint
    return problem.message


@needs_rqtl
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rotated", [False, True])
def test_what_write_cross_wrote(name, rotated):
    path = crosses() / f"{name}{'_rotated' if rotated else ''}.csv"
    options = {"genotypes": CODES[name]} if name in CODES else {}
    dataset, lines = read_rqtl(Settings(path=str(path), format="csvr" if rotated else "csv", **options))
    assert_as_in_r(dataset, name)
    simulated = name in ("riself", "dh", "bc")
    expected = (
        [f"line {n}" for n in range(40, 0, -1)] if simulated else [str(n) for n in range(len(dataset.sample_ids))]
    )
    assert dataset.sample_ids.tolist() == expected
    if name == "listeria":
        assert "128 genotypes are only partly known (not BB, not AA): missing" in lines
    found = {"hyper": "bc", "bc": "bc", "listeria": "f2", "fake.f2": "f2"}.get(name, "dh")
    assert any(f"taken as crosstype {found}" in line for line in lines)


@needs_rqtl
def test_crosses_of_r_from_the_command_line(gpmap, tmp_path):
    words = ("source=rqtl", f"source.path={crosses() / 'listeria.csv'}", "source.genotypes=[CC,CB,BB,not BB,not CC]")
    result = gpmap("prepare", *words, "out=x.h5")
    assert (result.returncode, result.stdout) == (0, "x.h5\n"), result.stderr
    with DatasetFile(tmp_path / "x.h5") as file:
        assert file.load().genotypes.shape == held_by_r("listeria")[0].shape
    result = gpmap("train", "model=ridge", "data=file", "data.path=x.h5", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr


def test_an_intercross(tmp_path):
    dataset, lines = read(tmp_path, F2)
    assert dataset.genotypes.tolist() == [[0, 1, 2], [-1, 2, 1], [-1, -1, 0], [2, 0, -1]]
    assert (dataset.ploidy, dataset.sample_ids.tolist()) == (2, ["a", "b", "c", "d"])
    assert (dataset.environment_names, dataset.chromosomes.tolist()) == (("y",), ["1", "1", "X"])
    np.testing.assert_array_equal(dataset.phenotypes, [[1.5], [NAN], [2], [NAN]])
    assert dataset.positions is None
    assert "taken as crosstype f2, since all three genotypes occur (source.crosstype says otherwise)" in lines
    assert "2 genotypes are only partly known (not BB, not AA): missing" in lines
    assert "1 genotypes of males are heterozygous on the X chromosome: missing" in lines
    assert "no phenotypes, left out: `sex`, `id`" in lines
    assert "genetic positions (cM) are left out: a dataset file holds base pairs" in lines
    assert "missing genotypes: 4 of 12" in lines


def test_without_positions(tmp_path):
    dataset, lines = read(tmp_path, F2.replace(",,,0,5.5,3\n", ""))
    assert dataset.genotypes.tolist() == [[0, 1, 2], [-1, 2, 1], [-1, -1, 0], [2, 0, -1]]
    assert not any("genetic positions" in line for line in lines)


def test_rotated(tmp_path):
    columns = [line.split(",") for line in F2.splitlines()]
    rotated = "".join(",".join(row) + "\n" for row in zip(*columns, strict=True))
    assert read(tmp_path, rotated, format="csvr")[0].genotypes.tolist() == read(tmp_path, F2)[0].genotypes.tolist()


def test_a_backcross_and_inbred_lines(tmp_path):
    content = "y,m1,x1\n,1,X\n1,A,A\n2,H,H\n3,-,B\n4,H,q\n"
    dataset, lines = read(tmp_path, content)
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 0], [1, 1], [-1, 1], [1, -1]], 1)
    assert "1 genotypes on the X chromosome are the second allele alone (males): 1" in lines
    assert "1 genotypes have a code that is none of source.genotypes: missing (`q` 1 times)" in lines
    dataset, lines = read(tmp_path, content.replace("H", "B"))
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 0], [1, 1], [-1, 1], [1, -1]], 1)
    dataset, lines = read(tmp_path, content, crosstype="riself")
    assert dataset.genotypes.tolist() == [[0, 0], [-1, -1], [-1, 1], [-1, -1]]
    assert "3 genotypes are heterozygous in a cross without heterozygotes: missing" in lines
    dataset, lines = read(tmp_path, content.replace("1,A,A", "1,B,A"), crosstype="bc")
    assert dataset.genotypes[0].tolist() == [-1, 0]
    assert "1 genotypes have a code that a backcross does not know: missing" in lines


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "fewer than 3 lines"),
        ("y,m\n,1\n", {}, "fewer than 3 lines"),
        ("y,m\n,1\n,5\n", {}, "a header and no rows"),
        ("m,y\n1,\nA,5\n", {}, "csv:2: begins with `1`, not with a blank"),
        ("y,z\n,\n1,2\n3,4\n", {}, None),
        ("y,m,z\n,1,\n1,A,2\n", {}, "csv:2: marker `z` has no chromosome"),
        ("y,m\n,1,1\n1,A\n", {}, "csv:2: 3 values, and the table has 2 columns"),
        ("y,m\n,1\n1,A\n2\n", {}, "csv:4: 1 values, and the table has 2 columns"),
        ("y,m,m\n,1,1\n1,A,A\n", {}, "csv:1: columns 2 and 3 are both called `m`"),
        ("y,m\n,1\n,x\n1,A\n", {}, "csv:3: `x` is not the position of marker `m`"),
        ("y,m\n,1\n,inf\n1,A\n", {}, "csv:3: `inf` is not the position of marker `m`"),
        ("y,m\n,1\n1,q\n2,-\n", {}, "no genotype has one of the codes `A`, `H`, `B`, `D`, `C`; found `q` 1 times"),
        ("y,id,m\n,,1\n1,a,A\n2,a,A\n", {}, "csv:4: `a` in column `id` is on line 3 already"),
        ("y,m\n,1\n1,A\nhigh,A\n", {}, "csv:4: `high` in column `y` is not a finite number"),
        ("y,m\n,1\n1,A\n", {"format": "csvr"}, "fewer than 3 lines"),
    ],
)
def test_what_is_refused(tmp_path, content, options, message):
    found = refused(tmp_path, content, **options)
    assert message is None or message in found
    with pytest.raises(InputError):
        prepare(Settings(path=str(tmp_path / "cross.csv"), **options), Job(str(tmp_path / "out.h5")))
    assert [path.name for path in tmp_path.iterdir()] == ["cross.csv"]


def test_settings():
    group = Group("source.", "rqtl")
    assert Settings(path="x").problems(group) == []
    assert [problem.message for problem in Settings().problems(group)] == ["source.path is not set"]
    for codes in (("A",), ("A", "A"), ("A", ""), tuple("ABCDEF")):
        assert "2 to 5 different codes" in Settings(path="x", genotypes=codes).problems(group)[0].message
    assert "share a code" in Settings(path="x", genotypes=("A", "-")).problems(group)[0].message
