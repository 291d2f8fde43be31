"""Crosses in the format of R/qtl2: the control file and its tables, against what R holds and by hand."""

from __future__ import annotations

import json
import math
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rqtl_examples import GRAV, IRON, NAMES, assert_as_in_r, crosses, held_by_r, needs_rqtl, put, zipped

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.crosses.rqtl2 import read_rqtl2
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.rqtl2 import Settings, prepare
from gpmap_cli.settings import Group

NAN = math.nan


def read(path):
    return read_rqtl2(Settings(path=str(path)))


def refused(path):
    with pytest.raises(InputError) as trouble:
        read(path)
    [problem] = trouble.value.problems
    assert problem.hint
    assert problem.message.isprintable()
    return problem.message


@needs_rqtl
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["json", "yaml", "directory", "zip", "nested zip"])
def test_crosses_of_r(tmp_path, name, kind):
    path = crosses() / name
    if kind == "json":
        path = path / "control.json"
    elif kind == "yaml":
        control = json.loads((path / "control.json").read_text())
        files = {file.name: file.read_text() for file in path.iterdir() if file.suffix == ".csv"}
        path = put(tmp_path / "cross", files, **{"c.yaml": yaml.safe_dump(control)}) / "c.yaml"
    elif "zip" in kind:
        path = zipped(path, tmp_path / "cross.zip", "folder/" if "nested" in kind else "")
    dataset, lines = read(path)
    assert_as_in_r(dataset, name)
    _, _, places = held_by_r(name)
    expected = pd.read_csv(crosses() / name / "pmap.csv")["pos"].to_numpy() * 1e6
    assert dataset.positions.tolist() == np.rint(expected).astype(int).tolist()
    assert dataset.sample_ids.tolist() == [f"m{n}" for n in range(1, len(dataset.sample_ids) + 1)]
    if name == "listeria":
        assert "128 genotypes are only partly known (not BB, not AA): missing" in lines
    if (places["chr"] == "X").any():
        assert any("loci on the X chromosome" in line for line in lines)


@needs_rqtl
def test_a_cross_of_r_from_the_command_line(gpmap, tmp_path):
    zipped(crosses() / "listeria", tmp_path / "listeria.zip")
    result = gpmap("prepare", "source=rqtl2", "source.path=listeria.zip", "out=x.h5")
    assert (result.returncode, result.stdout) == (0, "x.h5\n"), result.stderr
    with DatasetFile(tmp_path / "x.h5") as file:
        assert file.provenance["source_file"] == "listeria.zip"
    result = gpmap("train", "model=ridge", "data=file", "data.path=x.h5", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr


def test_an_intercross(tmp_path):
    dataset, lines = read(put(tmp_path / "iron", IRON))
    assert dataset.genotypes.tolist() == [[0, 1, -1, 2], [2, 0, 1, 1], [1, -1, 0, -1], [0, 0, 2, 0]]
    assert (dataset.ploidy, dataset.genotypes.dtype) == (2, np.int8)
    assert dataset.sample_ids.tolist() == ["1", "2", "3", "4"]
    assert dataset.environment_names == ("liver", "spleen")
    np.testing.assert_array_equal(dataset.phenotypes, [[-2, 140.75], [NAN, 100], [80.5, NAN], [NAN, NAN]])
    assert dataset.chromosomes.tolist() == ["1", "1", "2", "X"]
    assert dataset.positions.tolist() == [52418656, 86377953, 37451062, 99359814]
    for line in (
        "f2, intercross: copies of the second allele, 0 to 2",
        "1 genotypes of males are heterozygous on the X chromosome: missing",
        "1 loci on the X chromosome; the only X of 3 males counts like the homozygote of its allele",
        "the allele that is counted is `B`",
        "missing genotypes: 3 of 16",
        "missing phenotypes: 4 of 8",
        "iron_pheno.csv: 3 of 4 genotyped samples are in it",
        "1 samples have genotypes and no phenotypes: `4`",
        "1 samples have phenotypes and no genotypes, and are left out: `9`",
        "gmap: 4 of 4 markers are on it; 0 are not, and 1 on it have no genotypes",
        "genetic positions (cM) are left out: a dataset file holds base pairs",
        "left out: `covar`, `phenocovar`, `cross_info`",
    ):
        assert line in lines
    assert dataset.provenance["source_file"].startswith("iron.yaml, iron_geno.csv, ")
    assert len(dataset.provenance["source_sha256"]) == 64


def test_inbred_lines(tmp_path):
    dataset, lines = read(put(tmp_path / "grav2", GRAV) / "grav2.yaml")
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 0, 1], [1, -1, 1]], 1)
    assert dataset.chromosomes.tolist() == ["1", "1", "1"]
    assert dataset.positions is None
    assert "riself, recombinant inbred lines by selfing: 0 is AA and 1 is BB, ploidy 1" in lines
    assert "the allele that is counted is `C`" in lines


@pytest.mark.parametrize("crosstype", ["riself", "risib", "dh", "haploid", "bc"])
def test_crosses_with_two_genotypes(tmp_path, crosstype):
    control = GRAV["grav2.yaml"].replace("riself", crosstype)
    assert read(put(tmp_path / "a", GRAV, **{"grav2.yaml": control}))[0].genotypes.tolist() == [[0, 0, 1], [1, -1, 1]]
    default = control.split("genotypes:")[0].replace("[A", "")
    geno = GRAV["grav2_geno.csv"].replace("L", "A").replace("C", "H" if crosstype == "bc" else "B")
    geno = "id,m1,m2,m3\n" + geno.split("\n", 1)[1]
    dataset, _ = read(put(tmp_path / "b", GRAV, **{"grav2.yaml": default, "grav2_geno.csv": geno}))
    assert (dataset.genotypes.tolist(), dataset.ploidy) == ([[0, 0, 1], [1, -1, 1]], 1)
    if crosstype != "bc":
        dataset, lines = read(put(tmp_path / "b", {}, **{"grav2_geno.csv": geno.replace("1,A", "1,H")}))
        assert dataset.genotypes.tolist() == [[-1, 0, 1], [1, -1, 1]]
        assert "1 genotypes are heterozygous in a cross without heterozygotes: missing" in lines


def test_codes_that_nobody_knows_are_missing_and_counted(tmp_path):
    path = put(tmp_path / "g", GRAV, **{"grav2_geno.csv": "id,a,b\n1,L,c\n2,C,c\n"})
    dataset, lines = read(path)
    assert dataset.genotypes.tolist() == [[0, -1], [1, -1]]
    assert "2 genotypes have a code that the control file does not know: missing (`c` 2 times)" in lines
    put(path, {"grav2_geno.csv": "id,a\n1,l\n2,c\n"})
    assert "not a single genotype has one of the codes `L`, `C`; found are `l`, `c`" in refused(path)


def test_transposed_and_several_files(tmp_path):
    control = GRAV["grav2.yaml"].replace("geno: grav2_geno.csv", "geno: [g1.csv, g2.csv]\ngeno_transposed: true")
    control = control.replace("pheno: grav2_pheno.csv", "pheno: [p1.csv, p2.csv]\npheno_transposed: true")
    files = {
        "grav2.yaml": control + "sep: ;\ncomment.char: '%'\n",
        "g1.csv": "%x\nmarker;1;2\nPVV4;L;C\nAXR-1;L;-\n",
        "g2.csv": "marker;2;3\nHH;C;L\n",
        "p1.csv": "pheno;3;1\nT0;-0.6;-\n",
        "p2.csv": "pheno;2\nT2;7\nT3;8\n",
        "grav2_gmap.csv": GRAV["grav2_gmap.csv"].replace(",", ";"),
    }
    dataset, lines = read(put(tmp_path / "g", files))
    assert dataset.sample_ids.tolist() == ["1", "2", "3"]
    assert dataset.locus_ids.tolist() == ["PVV4", "AXR-1", "HH"]
    assert dataset.genotypes.tolist() == [[0, 0, -1], [1, -1, 1], [-1, -1, 0]]
    assert "3 genotypes are missing because a sample is not in every file" in lines
    assert dataset.environment_names == ("T0", "T2", "T3")
    np.testing.assert_array_equal(
        dataset.phenotypes, np.array([[NAN, NAN, NAN], [NAN, 7, 8], [-0.6, NAN, NAN]], np.float32)
    )
    assert dataset.chromosomes.tolist() == ["1", "1", ""]
    assert "gmap: 2 of 3 markers are on it; 1 are not, and 1 on it have no genotypes" in lines


@pytest.mark.parametrize(
    ("pmap", "positions", "line"),
    [
        ("marker,chr,pos\nPVV4,1,1\nAXR-1,1,2.5\n", None, "positions left out: 1 of 3 markers have none on pmap"),
        ("marker,chr,pos\nPVV4,1,1\nAXR-1,1,\nHH.335C-Col/PhyA,1,2\n", None, "positions left out: 1 of 3"),
        ("marker,chr,pos\nPVV4,1,7\nAXR-1,1,3000000\nHH.335C-Col/PhyA,1,8\n", [7, 3000000, 8], "is in base pairs"),
        ("marker,chr,pos\nPVV4,1,7.5\nAXR-1,1,3000000\nHH.335C-Col/PhyA,1,8\n", None, "neither in Mbp nor in"),
        (
            "marker,chr,pos\nPVV4,2,1\nAXR-1,1,2.5\nHH.335C-Col/PhyA,1,3\n",
            [1000000, 2500000, 3000000],
            "1 markers are on",
        ),
    ],
)
def test_physical_maps(tmp_path, pmap, positions, line):
    control = GRAV["grav2.yaml"] + "pmap: pmap.csv\n"
    dataset, lines = read(put(tmp_path / "g", GRAV, **{"grav2.yaml": control, "pmap.csv": pmap}))
    assert (None if dataset.positions is None else dataset.positions.tolist()) == positions
    assert dataset.chromosomes.tolist() == ["1", "1", "1"]
    assert line in "\n".join(lines)


def test_sexes(tmp_path):
    path = put(tmp_path / "iron", IRON)
    put(
        path,
        {"iron.yaml": IRON["iron.yaml"].replace("covar: sex", "file: sexes.csv"), "sexes.csv": "id,s\n3,m\n1,f\n2,?\n"},
    )
    _, lines = read(path)
    assert "2 samples have no sex that the control file knows, and count as females" in lines
    assert "1 genotypes of males are heterozygous on the X chromosome: missing" in lines
    put(path, {"iron.yaml": IRON["iron.yaml"].replace("covar: sex", "covar: sexe")})
    assert "`sex` names the covariate `sexe`, which no table of `covar` holds" in refused(path)
    put(path, {"iron.yaml": IRON["iron.yaml"].split("sex:")[0] + "x_chr: X\nna.strings: ['-', NA]\n"})
    dataset, lines = read(path)
    assert "1 loci on the X chromosome; sexes are not given, so they are read like the others" in lines
    assert dataset.genotypes[2, 3] == 1


def test_genotypes_alone(tmp_path):
    files = {"c.json": '{"crosstype": "dh", "geno": "g.csv"}', "g.csv": "id,a\n1,A\n2,B\n"}
    dataset, lines = read(put(tmp_path / "x", files))
    assert (dataset.environment_names, dataset.genotypes.tolist()) == ((), [[0], [1]])
    assert "no map: chromosomes are not known" in lines
    assert "no phenotypes were given" in lines


# -- what is refused -------------------------------------------------------------------------------------


def grav(**changes):
    """The control file of the inbred lines with other values."""
    control = yaml.safe_load(GRAV["grav2.yaml"])
    control.update({key.replace("_strings", ".strings").replace("_char", ".char"): v for key, v in changes.items()})
    return yaml.safe_dump({key: value for key, value in control.items() if value is not ...})


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ("", "it holds no keys"),
        ("just words", "it holds no keys"),
        ("[1, 2]", "it holds no keys"),
        ("a: [1", "not a control file in YAML or JSON"),
        ("a: !!python/object/apply:os.system [touch exploded]", "not a control file in YAML or JSON"),
        ("a: 2001-99-99\ncrosstype: dh", "not a control file in YAML or JSON"),
        ("[" * 1000, "not a control file in YAML or JSON"),
        ("a: &x [1]\nb: {*x : 2}", "not a control file in YAML or JSON"),
        ("\0", "not a control file in YAML or JSON"),
        (grav(geno=...), "`geno` is missing"),
        (grav(crosstype=...), "`crosstype` is missing"),
        (grav(crosstype="do"), "`crosstype` is `do`, which is not a cross of two lines"),
        (grav(crosstype=["f2"]), "`crosstype` is not a text"),
        (grav(founder_geno="f.csv"), "`founder_geno` tells of more than two founders"),
        (grav(geno={"a": "b"}), "`geno` is neither a text nor a list of texts"),
        (grav(geno=[["a"]]), "`geno` is neither a text nor a list of texts"),
        (grav(geno=[]), "`geno` is an empty list"),
        (grav(pheno=True), "`pheno` is neither"),
        (grav(geno_transposed="yes"), "`geno_transposed` is neither true nor false"),
        (grav(genotypes=["L", "C"]), "`genotypes` is not a list of names and values"),
        (grav(genotypes={"L": 0, "C": 1}), "`genotypes` numbers `L` by `0`, not 1 to 5"),
        (grav(genotypes={"L": 1, "C": 6}), "`genotypes` numbers `C` by `6`"),
        (grav(genotypes={"L": 1, "C": [2]}), "`genotypes` is not a list of names and values"),
        (grav(genotypes={}), "`genotypes` is empty"),
        (grav(sep="::"), "`sep` is `::`, not one character"),
        (grav(na_strings={"a": 1}), "`na.strings` is neither a text nor"),
        (grav(sex="sex"), "`sex` is not a list of names and values"),
        (grav(geno="nowhere.csv"), "nowhere.csv: there is no such file"),
        (grav(geno="."), "this is a directory"),
        (grav(geno=["grav2_geno.csv", "grav2_geno.csv"]), "marker `PVV4` is in grav2_geno.csv too"),
        (grav(pheno=["grav2_pheno.csv", "grav2_pheno.csv"]), "phenotype `T0` is in two files of `pheno`"),
        (grav(gmap=["grav2_gmap.csv", "grav2_gmap.csv"]), "grav2_gmap.csv:2: marker `PVV4` is on the map already"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_control_files_that_are_refused(tmp_path, monkeypatch, control, message, packed):
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path / "g", GRAV, **{"grav2.yaml": control})
    if packed:
        path = zipped(path, tmp_path / "g.zip")
    if packed:
        message = message.replace("this is a directory", "there is no such file in the archive")
    assert message in refused(path)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(InputError):
        prepare(Settings(path=str(path)), Job(str(tmp_path / "out.h5")))
    assert not list(tmp_path.glob("*out.h5*"))


def test_a_billion_laughs(tmp_path):
    lines = ["a0: &a0 [lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    path = put(tmp_path / "g", GRAV, **{"grav2.yaml": GRAV["grav2.yaml"] + "\n".join(lines)})
    assert read(path)[0].num_loci == 3
    put(path, {"grav2.yaml": "\n".join([*lines, "crosstype: dh", "geno: *a11"])})
    assert "`geno` is neither a text nor a list of texts" in refused(path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("grav2_geno.csv", "", "grav2_geno.csv: the table is empty"),
        ("grav2_geno.csv", "id,a\n", "a header and no rows"),
        ("grav2_geno.csv", "id\n1\n", "no column of genotypes"),
        ("grav2_geno.csv", "id,a,a\n1,L,C\n", "grav2_geno.csv:1: columns 2 and 3 are both called `a`"),
        ("grav2_geno.csv", "id,a\n1,L\n1,C\n", "grav2_geno.csv:3: `1` in the first column is on line 2 already"),
        ("grav2_geno.csv", "id,a\n1,L,C\n", "grav2_geno.csv:2: 3 values, and the table has 2 columns"),
        ("grav2_pheno.csv", "id,y\n7,1\n", "none of its 1 sample ids is among the 2 genotyped samples"),
        ("grav2_pheno.csv", "id,y\n1,1\n1,2\n", "grav2_pheno.csv:3: `1` in column `id` is on line 2 already"),
        ("grav2_pheno.csv", "id,y\n1,1\n2,much\n", "grav2_pheno.csv:3: `much` in column `y`"),
        ("grav2_gmap.csv", "marker,chr\na,1\n", "grav2_gmap.csv: 2 columns"),
        ("grav2_gmap.csv", "marker,chr,pos\nPVV4,1,here\n", "grav2_gmap.csv:2: `here` is not a position"),
        ("grav2_gmap.csv", "marker,chr,pos\n,1,2\n", "grav2_gmap.csv:2: a marker without a name"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_tables_that_are_refused(tmp_path, file, content, message, packed):
    path = put(tmp_path / "g", GRAV, **{file: content})
    if packed:
        path = zipped(path, tmp_path / "g.zip")
    assert message in refused(path)


def test_directories_and_files_that_hold_no_control_file(tmp_path):
    assert "there is no such file" in refused(tmp_path / "nowhere.yaml")
    assert "there is no control file" in refused(tmp_path)
    put(tmp_path / "g", GRAV, **{"other.yml": "a: 1"})
    assert "holds 2 control files: `grav2.yaml`, `other.yml`" in refused(tmp_path / "g")
    put(tmp_path / "h", GRAV, **{"other.json": "{}"})  # as in R/qtl2, the YAML file counts
    assert read(tmp_path / "h")[0].num_loci == 3
    (tmp_path / "large.yaml").write_text("#" * 2**19)
    assert "too large" in refused(tmp_path / "large.yaml")


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["/etc/x.csv", "../x.csv", "a/../../x.csv", "..\\x.csv", "C:/x.csv"])
def test_archives_that_point_out_of_themselves(tmp_path, name):
    path = archive(tmp_path / "x.zip", [*GRAV.items(), (name, "x")])
    assert "points out of the archive" in refused(path)
    named = grav(geno=name)
    path = archive(tmp_path / "y.zip", [("grav2.yaml", named), ("folder/x", "")])
    assert "there is no such file in the archive" in refused(path)


def test_archives_that_are_refused(tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "x.zip", [*GRAV.items(), ("grav2_geno.csv", "id,a\n1,L\n")])
    assert "holds `grav2_geno.csv` twice" in refused(path)
    path = archive(tmp_path / "x.zip", [("a.csv", "1")])
    assert "there is no control file" in refused(path)
    whole = archive(tmp_path / "x.zip", GRAV.items()).read_bytes()
    flagged = whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    assert flagged != whole
    (tmp_path / "x.zip").write_bytes(flagged)
    assert "is encrypted" in refused(tmp_path / "x.zip")
    for length in range(4, len(whole), 60):
        (tmp_path / "x.zip").write_bytes(whole[:length])
        refused(tmp_path / "x.zip")
    for at in range(30, len(whole), 17):  # in members and their descriptions
        (tmp_path / "x.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(InputError):
            assert read(tmp_path / "x.zip")[0].genotypes.shape == (2, 3)
    monkeypatch.setattr("gpmap_cli.dataset.physical_memory.os.sysconf", lambda name: 2**4)
    (tmp_path / "x.zip").write_bytes(whole)
    assert "GB of memory" in refused(tmp_path / "x.zip")


def test_a_zip_bomb(tmp_path):
    """Members that claim to be 4 GB each when unpacked: more than the machine holds, said before any is unpacked."""
    path = archive(tmp_path / "x.zip", [*GRAV.items(), *((f"{n}.csv", "") for n in range(200))])
    whole = bytearray(path.read_bytes())
    for at in range(len(whole)):
        if whole[at : at + 4] == b"PK\x01\x02":
            whole[at + 24 : at + 28] = b"\xf0\xff\xff\xff"
    path.write_bytes(bytes(whole))
    assert "x.zip: unpacked needs 816.0 GB of memory" in refused(path)


def test_settings():
    assert [problem.message for problem in Settings().problems(Group("source.", "rqtl2"))] == ["source.path is not set"]
    assert Settings(path="x").problems(Group("source.", "rqtl2")) == []


def test_nothing_is_left_in_the_way(tmp_path):
    path = put(tmp_path / "g", GRAV)
    lines = prepare(Settings(path=str(path)), Job(str(tmp_path / "x.h5")))
    assert lines
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g", "x.h5"]
    assert {file.name for file in Path(path).iterdir()} == set(GRAV)
