"""Deep mutational scans: every substitution becomes a locus, whichever way the variants are written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.errors import InputError
from gpmap_cli.prepare.job import Job
from gpmap_cli.prepare.sources.variant_strings import Settings, prepare
from gpmap_cli.prepare.tables.substitutions import from_mutations, from_sequences
from gpmap_cli.prepare.tables.variant_strings import read_variant_strings
from gpmap_cli.settings import Group

NAN = math.nan
GENOTYPES = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
LOCI = ["A1G", "A1T", "C3T"]
SAMPLES = ["WT", "A1G", "A1T", "A1G:C3T"]
WRITTEN = {
    "one letter": "mutant,score\nWT,0\nA1G,1\nA1T,2\nC3T:A1G,NA\n",
    "other separators": "Mutations,score\nwildtype,0\nA1G,1\nA1T,2\n'A1G;C3T',NA\n".replace("'", '"'),
    "blanks": "aa_substitutions,score\n_wt,0\nA1G,1\nA1T,2\nA1G C3T,NA\n",
    "hgvs": "accession,hgvs_nt,hgvs_pro,score\nu#1,NA,p.=,0\nu#2,NA,p.Ala1Gly,1\nu#3,NA,p.(Ala1Thr),2\n"
    "u#4,NA,p.[Ala1Gly;Cys3Thr],NA\n",
    "hgvs with three letters and one": "hgvs_pro,score\nNP_1.1:p.=,0\np.A1G,1\np.Ala1Thr,2\np.[Ala1Gly;p.Cys3Thr],NA\n",
    "nucleotides": "hgvs_nt,score\nc.=,0\nc.1A>G,1\nc.1A>T,2\nc.[1A>G;3C>T],NA\n",
    "sequences": "mutated_sequence,score\nADC,0\nGDC,1\nTDC,2\nGDT,NA\n",
    "both": "mutant,mutated_sequence,DMS_score\nWT,ADC,0\nA1G,GDC,1\nA1T,TDC,2\nA1G:C3T,GDT,\n",
}


def read(tmp_path, content, **options):
    path = tmp_path / "scores.csv"
    path.write_text(content, encoding="utf-8")
    return read_variant_strings(Settings(path=str(path), **options))


def refused(tmp_path, content, **options):
    with pytest.raises(InputError) as trouble:
        read(tmp_path, content, **options)
    [problem] = trouble.value.problems
    assert problem.hint
    return problem.message


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_all_ways_of_writing_say_the_same(tmp_path, content):
    options = {"reference": "ADC"} if content.startswith("mutated_sequence") else {}
    dataset, lines = read(tmp_path, "# from a repository\n" + content, **options)
    assert dataset.genotypes.tolist() == GENOTYPES
    assert (dataset.genotypes.dtype, dataset.ploidy) == (np.int8, 1)
    assert dataset.locus_ids.tolist() == LOCI
    assert dataset.sample_ids.tolist() == SAMPLES
    assert dataset.positions.tolist() == [1, 1, 3]
    np.testing.assert_array_equal(dataset.phenotypes, [[0], [1], [2], [NAN]])
    assert dataset.environment_names == ("DMS_score" if "DMS_score" in content else "score",)
    assert "2 positions are mutated, 1 of them to several residues, a locus each" in lines
    assert "the unmutated sequence is among the variants" in lines
    assert "missing phenotypes: 1 of 4" in lines


def test_without_a_reference_the_commonest_residues_are_unmutated(tmp_path):
    dataset, lines = read(tmp_path, "sequence,score\nACA,1\nGCA,2\nACT,3\nACC,4\n")
    assert dataset.locus_ids.tolist() == ["A1G", "A3C", "A3T"]
    assert "the unmutated residues are the commonest residue at each position, one of the variants" in lines[0]
    _, lines = read(tmp_path, "sequence,score\nGCA,2\nACT,3\nACA,4\nACT,5\n", duplicates="mean")
    assert "position, one of the variants" in lines[0]
    _, lines = read(tmp_path, "sequence,score\nGA,1\nCA,2\nAG,3\nAC,4\n")
    assert "position, and none of the variants" in lines[0]
    assert "no variant is unmutated" in lines


def test_residues_that_nobody_knows_are_missing(tmp_path):
    dataset, lines = read(tmp_path, "sequence,score\nADC,0\nXDC,1\nGDX,2\nTDT,3\n", reference="ADC")
    assert dataset.locus_ids.tolist() == LOCI
    assert dataset.genotypes.tolist() == [[0, 0, 0], [-1, -1, 0], [1, 0, -1], [0, 1, 1]]
    assert "missing genotypes (unknown residues): 3 of 12" in lines
    assert dataset.sample_ids.tolist() == ["WT", "A1X", "A1G:C3X", "A1T:C3T"]
    nucleotides, _ = read(tmp_path, "sequence,score\nACGA,0\nNCGA,1\nTCGN,2\n", reference="ACGA")
    assert nucleotides.genotypes.tolist() == [[0], [-1], [1]]
    protein, _ = read(tmp_path, "sequence,score\nADC,0\nNDC,1\n", reference="ADC")
    assert protein.locus_ids.tolist() == ["A1N"]
    dataset, _ = read(tmp_path, "sequence,score\nAX,0\nGX,1\nAX,2\n", duplicates="mean")
    assert dataset.locus_ids.tolist() == ["A1G"]
    dataset, _ = read(tmp_path, "sequence,score\nXA,0\nXC,1\nXD,1\nAA,1\nGA,2\nAC,2\n")
    assert dataset.locus_ids.tolist() == ["A1G", "A2C", "A2D"]


def test_an_offset(tmp_path):
    dataset, _ = read(tmp_path, "sequence,score\nADC,0\nGDC,1\n", reference="adc", offset=330)
    assert (dataset.locus_ids.tolist(), dataset.positions.tolist()) == (["A331G"], [331])
    dataset, _ = read(tmp_path, "mutant,score\nA331G,1\nC333*,1\n", offset=-330)
    assert dataset.locus_ids.tolist() == ["A1G", "C3*"]


def test_silent_mutations_and_rows_without_a_variant(tmp_path):
    dataset, lines = read(tmp_path, "mutant,score\nA1A:C3T,1\nNA,2\nA1=,3\nA1Ter,4\n".replace("A1Ter", "p.Ala1Ter"))
    assert dataset.sample_ids.tolist() == ["C3T", "WT", "A1*"]
    assert "2 mutations change nothing, and are no substitutions" in lines
    assert "1 rows name no variant in column `mutant`, and are left out" in lines


def test_several_scores_and_their_errors(tmp_path):
    content = "mutant,binding,binding_se,expression,n\nWT,1,0.1,2,7\nA1G,3,0.2,4,8\n"
    dataset, _ = read(tmp_path, content, score_columns=("expression", "binding"))
    assert dataset.environment_names == ("expression", "binding")
    np.testing.assert_array_equal(dataset.phenotype_std, np.array([[NAN, 0.1], [NAN, 0.2]], np.float32))
    assert read(tmp_path, content)[0].environment_names == ("binding", "expression", "n")
    assert "there is no column `bindung`" in refused(tmp_path, content, score_columns=("bindung",))


def test_variants_on_several_lines(tmp_path):
    content = "mutant,score,score_se\nWT,0,1\nA1G:C3T,1,3\nC3T:A1G,3,4\nA1G,NA,NA\nA1G,5,2\nC3T,NA,NA\nC3T,NA,\n"
    message = refused(tmp_path, content)
    assert "scores.csv:4: variant `A1G:C3T` is on line 3 already (3 variants are on several lines)" in message
    dataset, lines = read(tmp_path, content, duplicates="mean")
    assert dataset.sample_ids.tolist() == ["WT", "A1G:C3T", "A1G", "C3T"]
    np.testing.assert_array_equal(dataset.phenotypes, [[0], [2], [5], [NAN]])
    np.testing.assert_array_equal(dataset.phenotype_std, [[1], [2.5], [2], [NAN]])
    assert dataset.genotypes.tolist() == [[0, 0], [1, 1], [1, 0], [0, 1]]
    assert "3 variants are on several lines (3 more): mean scores" in lines


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("sequence,score\nADC,0\nAD,1\n", {}, "csv:3: a sequence of 2 residues, and the first has 3"),
        ("sequence,score\nADC,0\n", {"reference": "AD"}, "csv:2: a sequence of 3 residues, and source.reference has 2"),
        ("sequence,score\nADC,0\nA-C,1\n", {}, "csv:3: `-` at position 2 of the sequence is no residue"),
        ("sequence,score\nADC,0\nA7C,1\n", {}, "csv:3: `7` at position 2"),
        ("sequence,score\nADC,0\nAßC,1\n", {}, "csv:3: `ß` at position 2"),
        ("sequence,score\nADC,0\nADC,1\n", {"duplicates": "mean"}, "not a single substitution in 2 variants"),
        ("mutant,score\nA1G,0\nA1del,1\n", {}, "csv:3: `A1del` is no substitution"),
        ("mutant,score\nA1G,0\np.Ala1fs,1\n", {}, "csv:3: `p.Ala1fs` is no substitution"),
        ("mutant,score\nA1G,0\np.Ala1_Cys3delinsGly,1\n", {}, "is no substitution"),
        ("mutant,score\nA1G,0\nA1,1\n", {}, "csv:3: `A1` in `A1` is not a mutation"),
        ("mutant,score\nA1G,0\nA1T::C3T,1\n", {}, None),
        ("mutant,score\nA1G,0\na1t,1\n", {}, "`a1t` in `a1t` is not a mutation"),
        ("mutant,score\nA1G,0\nAla1Foo,1\n", {}, "csv:3: `Foo` in `Ala1Foo` is no amino acid"),
        ("mutant,score\nA1G,0\nC1T,1\n", {}, "csv:3: `C1T` has C at position 1, and the reference A"),
        ("mutant,score\nA1G,0\n", {"reference": "CDC"}, "csv:2: `A1G` has A at position 1, and the reference C"),
        ("mutant,score\nA1G,0\nA4G,1\n", {"reference": "ADC"}, "csv:3: position 4 of `A4G` is not in the reference"),
        ("mutant,score\nA1G,0\nA0G,1\n", {"reference": "ADC"}, "csv:3: position 0 of `A0G` is not in the reference"),
        ("mutant,score\nA1G,0\nA1T:A1G,1\n", {}, "csv:3: `A1T:A1G` changes position 1 twice"),
        ("mutant,score\nA1G,high\n", {}, "csv:2: `high` in column `score` is not a finite number"),
        ("mutant,note\nA1G,high\n", {}, "not a single column of scores"),
        ("mutant,score\nNA,1\n", {}, "no column of variants"),
        ("mutant,score\nNA,1\n", {"mutant_column": "mutant"}, "not a single variant in column `mutant`"),
        ("thing,score\nA1G,1\n", {}, "no column of variants among `thing`, `score`"),
        ("mutant,score\nA1G,1\n", {"sequence_column": "seq"}, "there is no column `seq`"),
        ("", {}, "the table is empty"),
    ],
)
def test_what_is_refused(tmp_path, content, options, message):
    if message is None:  # separators may be repeated
        assert read(tmp_path, content, **options)[0].sample_ids.tolist() == ["A1G", "A1T:C3T"]
        return
    assert message in refused(tmp_path, content, **options)
    with pytest.raises(InputError):
        prepare(Settings(path=str(tmp_path / "scores.csv"), **options), Job(str(tmp_path / "out.h5")))
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_settings():
    group = Group("source.", "variant_strings")
    found = Settings(mutant_column="a", sequence_column="b", reference="A-C").problems(group)
    assert [problem.message.split()[0] for problem in found] == [
        "source.path", "source.mutant_column", "source.reference",
    ]  # fmt: skip
    assert Settings(path="x", reference="ACD").problems(group) == []


@given(
    st.lists(st.text("ACD", min_size=5, max_size=5), min_size=1, max_size=20), st.text("ACD", min_size=5, max_size=5)
)
def test_sequences_and_their_mutations_are_the_same_variants(sequences, reference):
    def wrong(row, what, hint):
        raise AssertionError((row, what, hint))

    read = from_sequences(sequences, reference, wrong)
    written = [
        ":".join(f"{old}{at}{new}" for at, (old, new) in enumerate(zip(reference, one, strict=True), 1) if old != new)
        for one in sequences
    ]
    assert read.substitutions == from_mutations([one or "WT" for one in written], reference, wrong).substitutions
    rebuilt = []
    for found in read.substitutions:
        letters = list(reference)
        for position, residue in found:
            letters[position - 1] = residue
        rebuilt.append("".join(letters))
    assert rebuilt == sequences


def test_published_genotypes_come_back_from_their_strings(shared, tmp_path):
    """The 15 RBD mutations of the shared data, written as strings, give the same matrix."""
    import h5py

    with h5py.File(shared / "data" / "rbd_moulana2022.h5") as file:
        rows = np.sort(np.random.default_rng(0).choice(2**15, 400, replace=False))
        genotypes, names = file["genotypes"][rows], file["locus_names"].asstr()[...].tolist()
        scores = file["phenotypes"][rows, 0]
    cells = [":".join(name for name, one in zip(names, row, strict=True) if one) or "WT" for row in genotypes]
    content = "mutant,score\n" + "".join(f"{c},{s}\n" for c, s in zip(cells, scores, strict=True))
    dataset, _ = read(tmp_path, content)
    order = [dataset.locus_ids.tolist().index(name) for name in names]
    np.testing.assert_array_equal(dataset.genotypes[:, order], genotypes)
    np.testing.assert_array_equal(dataset.phenotypes[:, 0], scores)
    assert dataset.positions[order].tolist() == [int(name[1:-1]) for name in names]


def test_from_the_command_line(gpmap, tmp_path):
    rng = np.random.default_rng(0)
    sequences = np.unique(rng.choice(list("ACGT"), (150, 6)), axis=0)
    scores = (sequences == "A") @ rng.normal(size=6)
    rows = "".join(f"{''.join(s)},{y}\n" for s, y in zip(sequences, scores, strict=True))
    (tmp_path / "scan.csv").write_text("mutated_sequence,score\n" + rows)
    words = ("source=variant_strings", "source.path=scan.csv", "source.reference=AAAAAA", "source.offset=10")
    result = gpmap("prepare", *words, "out=scan.h5")
    assert (result.returncode, result.stdout) == (0, "scan.h5\n"), result.stderr
    with DatasetFile(tmp_path / "scan.h5") as file:
        assert file.locus_ids[:3].tolist() == ["A11C", "A11G", "A11T"]
    assert gpmap("train", "model=ridge", "data=file", "data.path=scan.h5", "hydra.run.dir=run").returncode == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["splits"]["test"]["mean_r2"] > 0.99
