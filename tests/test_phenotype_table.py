"""Phenotypes keyed by sample id: which columns are phenotypes, which their errors, and who matched."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpmap_cli.errors import InputError
from gpmap_cli.prepare.tables.phenotype_table import join, no_phenotypes, read_phenotypes

NAN = math.nan


def read(tmp_path, content, **options):
    path = tmp_path / "traits.csv"
    path.write_text(content, encoding="utf-8")
    return read_phenotypes(path, **options)


def refused(tmp_path, content, **options):
    with pytest.raises(InputError) as trouble:
        read(tmp_path, content, **options)
    [problem] = trouble.value.problems
    assert "traits.csv" in problem.message
    return problem


def test_all_columns_of_numbers(tmp_path):
    table = read(tmp_path, "strain,30C,sex,Kälte,empty\na,1.5,m,-2,NA\nb,NA,NA,1e3,\nc,.,f,3,nan\n")
    assert table.sample_ids == ["a", "b", "c"]
    assert table.environment_names == ("30C", "Kälte", "empty")
    np.testing.assert_array_equal(table.phenotypes, [[1.5, -2, NAN], [NAN, 1000, NAN], [NAN, 3, NAN]])
    assert table.phenotypes.dtype == np.float32
    assert table.phenotype_std is None
    assert table.lines == ["traits.csv: left out 1 columns without numbers: `sex`"]


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        ("1.5 2 -9 0 -9", 2),
        ("-0.1 0.2 -99 0 0.3", 1),
        ("-999 100 200 -5 NA", 1),
        ("-9 -8 -7 3 5", None),  # numbers like the others
        ("-8 1 2 3 4", None),
        ("-9 -9 -9 -9 NA", None),
        ("NA NA NA NA NA", None),
    ],
)
def test_numbers_that_may_mean_missing_are_pointed_at(tmp_path, cells, count):
    content = "id,y\n" + "".join(f"s{row},{cell}\n" for row, cell in enumerate(cells.split()))
    lines = read(tmp_path, content).lines
    if count is None:
        assert lines == []
    else:
        smallest = min(float(cell) for cell in cells.split() if cell != "NA")
        assert [line.split(", is read")[0] for line in lines] == [
            f"warning: traits.csv: {smallest:g} in column `y`, {count} times"
        ]
        assert read(tmp_path, content, missing=("NA", f"{smallest:g}")).lines == []


def test_a_column_of_numbers_and_texts_is_refused(tmp_path):
    problem = refused(tmp_path, "id,y\na,1\nb,high\n")
    assert problem.message.endswith("traits.csv:3: `high` in column `y` is not a finite number")
    assert "where it is missing" in problem.hint
    assert "`inf`" in refused(tmp_path, "id,y\na,1\nb,inf\n").message
    assert "1e+39 in column `y` is too large" in refused(tmp_path, "id,y\na,1e39\n").message
    assert read(tmp_path, "id,y\na,1\nb,high\n", missing=("high",)).phenotypes[0, 0] == 1


def test_errors_stand_beside_their_phenotype(tmp_path):
    table = read(tmp_path, "id,23C,23C_std,30C,37C,37C_se,x_std\na,1,0.1,2,3,,4\nb,1,0,2,3,0.3,5\n")
    assert table.environment_names == ("23C", "30C", "37C", "x_std")
    expected = np.array([[0.1, NAN, NAN, NAN], [0, NAN, 0.3, NAN]], np.float32)
    np.testing.assert_array_equal(table.phenotype_std, expected)
    assert read(tmp_path, "id,y,y_std,y_std_se,y_se\na,1,2,3,4\n").environment_names == ("y", "y_std_se", "y_se")
    problem = refused(tmp_path, "id,23C,23C_std\na,1,1\nb,1,-0.5\n")
    assert "traits.csv:3: a standard error below zero in column `23C_std`" in problem.message


def test_environments_choose_and_order(tmp_path):
    content = "id,a,b,b_se,c\ns,1,2,0.5,x\n"
    table = read(tmp_path, content, environments=("b", "a"))
    assert (table.environment_names, table.phenotypes.tolist()) == (("b", "a"), [[2, 1]])
    np.testing.assert_array_equal(table.phenotype_std, [[0.5, NAN]])
    assert refused(tmp_path, content, environments=("B",)).hint == "did you mean source.environments=b?"
    assert "there is no column `id`" in refused(tmp_path, content, environments=("id",)).message
    assert "`a` is asked for twice" in refused(tmp_path, content, environments=("a", "b", "a")).message
    mixed = "id,a,c\ns,1,x\nt,2,3\n"
    assert "`x` in column `c`" in refused(tmp_path, mixed, environments=("c",)).message


def test_labels_that_are_asked_for_are_numbered(tmp_path):
    content = "id,a,sex\ns,1,m\nt,2,f\nu,3,NA\nv,4,m\n"
    table = read(tmp_path, content, environments=("a", "sex"))
    np.testing.assert_array_equal(table.phenotypes, [[1, 1], [2, 0], [3, NAN], [4, 1]])
    assert any("labels of `sex` are numbered" in line and "data.factors=[sex]" in line for line in table.lines)
    assert read(tmp_path, content).environment_names == ("a",)


def test_the_sample_column(tmp_path):
    assert read(tmp_path, "#FID\tIID\ty\n1\ta\t2\n1\tb\t3\n").sample_ids == ["a", "b"]
    assert read(tmp_path, "#FID\tIID\ty\n1\ta\t2\n").environment_names == ("y",)
    table = read(tmp_path, "y,line\n1,a\n2,b\n", sample_column="line")
    assert (table.sample_ids, table.environment_names) == (["a", "b"], ("y",))
    problem = refused(tmp_path, "y,line\n1,a\n", sample_column="lines")
    assert problem.hint == "did you mean source.sample_column=line?"
    assert ":4: `a` in column `id` is on line 2 already" in refused(tmp_path, "id,y\na,1\nb,2\na,3\n").message
    assert ":3: an empty id in column `id`" in refused(tmp_path, "id,y\na,1\n,2\n").message
    assert "a column of phenotypes has no name" in refused(tmp_path, "id,\na,1\n").message


def test_the_join_says_who_matched(tmp_path):
    table = read(tmp_path, "id,y,y_se\nb,2,0.2\nz,9,0.9\na,1,0.1\n")
    joined = join(table, ["a", "c", "b"])
    np.testing.assert_array_equal(joined.phenotypes, np.array([[1], [NAN], [2]], np.float32))
    np.testing.assert_array_equal(joined.phenotype_std, np.array([[0.1], [NAN], [0.2]], np.float32))
    assert joined.lines == [
        "traits.csv: 2 of 3 genotyped samples are in it",
        "1 samples have genotypes and no phenotypes: `c`",
        "1 samples have phenotypes and no genotypes, and are left out: `z`",
    ]
    assert join(table, ["b", "z", "a"]).lines == ["traits.csv: 3 of 3 genotyped samples are in it"]


def test_a_join_of_strangers_is_refused(tmp_path):
    with pytest.raises(InputError, match="none of its 1 sample ids is among the 2 genotyped samples") as trouble:
        join(read(tmp_path, "id,y\na,1\n"), ["A", "B"])
    assert "source.sample_column" in trouble.value.problems[0].hint


def test_genotypes_alone():
    nothing = no_phenotypes(3)
    assert (nothing.environment_names, nothing.phenotypes.shape, nothing.phenotype_std) == ((), (3, 0), None)
    assert nothing.lines == ["no phenotypes were given"]
