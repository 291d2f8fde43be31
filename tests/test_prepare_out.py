"""Where `gpmap prepare` may write: an input is never replaced by what is made of it, and nothing is read in vain."""

from __future__ import annotations

import shutil
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest
from array_examples import arrays, save
from dataset_examples import example
from deposit_examples import COUNTS, write_deposit

from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.prepare import sources
from gpmap_cli.prepare.out import MAKE_DIRECTORIES, PATHS

TABLE = "id,l1,l2\ns1,0,1\ns2,1,0\n"
TRAITS = "id,y\ns1,0.5\ns2,1.5\n"
NO_FILES = {"name", "sample_column", "mutant_column", "sequence_column", "reference", "deposit"}
# Words of the command, and the input that `out` names.
ONE_FILE = {
    "arrays": ("source.path=raw.h5", "raw.h5"),
    "arrays by another name": ("source.path=raw.h5", "link.h5"),
    "csv": ("source.path=genotypes.csv", "genotypes.csv"),
    "csv: its phenotypes": ("source.path=genotypes.csv source.phenotypes=traits.csv", "traits.csv"),
    "csv: its map": ("source.path=genotypes.csv source.map=map.csv", "map.csv"),
    "dataset": ("source.path=a.h5", "a.h5"),
    "dataset by another name": ("source.path=a.h5", "sub/../link_a.h5"),
    "rqtl": ("source.path=cross.csv", "cross.csv"),
    "variant_strings": ("source.path=scores.csv", "scores.csv"),
    "vcf": ("source.path=cross.vcf", "cross.vcf"),
    "vcf: its phenotypes": ("source.path=cross.vcf source.phenotypes=traits.csv", "traits.csv"),
    "zenodo_split": ("source.path=datasets.zip", "datasets.zip"),
    "plink1 by a file": ("source.path=cross.bim", "cross.bim"),
    "rqtl2 zipped": ("source.path=cross.zip", "cross.zip"),
    "dryad by a file": ("source.path=deposit/geno_data.txt", "deposit/geno_data.txt"),
}
SEVERAL_FILES = {
    "arrays": ("source.path=raw", "raw/genotypes.npy"),
    "dryad": ("source.path=deposit", "deposit/geno_data.txt"),
    "dryad: phenotypes": ("source.path=deposit", "deposit/pheno_data_23C.txt"),
    "dryad by a file": ("source.path=deposit/geno_data.txt", "deposit/pheno_data_23C.txt"),
    "dryad by a link": ("source.path=links", "deposit/geno_data.txt"),
    "rqtl2": ("source.path=cross.yaml", "cross_geno.csv"),
    "zenodo_split": ("source.path=split", "split/datasets/geno_train.npy"),
    "plink1": ("source.path=cross", "cross.bed"),
    "plink1 by a file": ("source.path=cross.bed", "cross.fam"),
    "plink2": ("source.path=cross", "cross.pvar.zst"),
}


@pytest.fixture
def inputs(tmp_path):
    """Inputs of every kind, those of the first sources good, the others only there: they are not looked into."""
    save(tmp_path, "h5", arrays())
    write_dataset(tmp_path / "a.h5", example())
    for name, content in (("genotypes.csv", TABLE), ("traits.csv", TRAITS), ("map.csv", "locus,chr\nl1,I\nl2,I\n")):
        (tmp_path / name).write_text(content)
    names = ["cross.csv", "scores.csv", "cross.vcf", "datasets.zip", "cross.zip", "cross.yaml", "cross_geno.csv"]
    names += [f"cross{suffix}" for suffix in (".bed", ".bim", ".fam", ".pgen", ".pvar.zst", ".psam")]
    for name in names:
        (tmp_path / name).write_text("precious")
    for name in ("sub", "raw", "links", "split/datasets"):
        (tmp_path / name).mkdir(parents=True)
    np.save(tmp_path / "raw" / "genotypes.npy", np.array([[0, 1], [1, 0]], np.int8))
    np.save(tmp_path / "split" / "datasets" / "geno_train.npy", np.ones((2, 2)))
    write_deposit(tmp_path / "deposit", parts=1, compressed=False)
    for link, to in (("link.h5", "raw.h5"), ("link_a.h5", "a.h5"), ("links/geno_data.txt", "deposit/geno_data.txt")):
        (tmp_path / link).symlink_to(tmp_path / to)
    return tmp_path


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    "case", [*(("one", name) for name in ONE_FILE), *(("several", name) for name in SEVERAL_FILES)], ids="-".join
)
def test_an_input_is_not_replaced(gpmap, inputs, case, overwrite):
    kind, name = case
    words, out = (ONE_FILE if kind == "one" else SEVERAL_FILES)[name]
    before = contents(inputs)
    source = name.replace(":", " ").split()[0]
    counts = ["source.loci_per_chromosome=[5,0,7,4]"] if source == "dryad" else []
    result = gpmap("prepare", f"source={source}", *words.split(), *counts, f"out={out}", f"overwrite={overwrite}")
    assert result.returncode == 2, result.stderr
    said = "are the same file" if kind == "one" else "may be one of the files that source.path reads"
    assert said in result.stderr
    assert "hint: give `out` another name" in result.stderr
    assert contents(inputs) == before


def test_a_dataset_file_among_the_inputs_may_be_replaced(gpmap, inputs):
    counts = f"source.loci_per_chromosome=[{','.join(map(str, COUNTS))}]"
    words = ("prepare", "source=dryad", "source.path=deposit", counts, "out=deposit/yeast.h5")
    assert gpmap(*words).returncode == 0
    assert "already there" in gpmap(*words).stderr
    assert gpmap(*words, "overwrite=true").returncode == 0
    shutil.copy(inputs / "a.h5", inputs / "cross.h5")
    result = gpmap("prepare", "source=csv", "source.path=genotypes.csv", "out=cross.h5", "overwrite=true")
    assert result.returncode == 0, result.stderr
    with DatasetFile(inputs / "cross.h5") as file:
        assert file.num_samples == 2


@pytest.mark.parametrize("source", [name for name in sources.names() if name not in MAKE_DIRECTORIES])
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_in_the_way_is_told_before_anything_is_read(gpmap, tmp_path, source, overwrite):
    """The inputs are not there, so that reading would be told of first."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there.h5").write_text("precious")
    words = ("prepare", f"source={source}", "source.path=nowhere", f"overwrite={overwrite}")
    assert "there: this is a directory" in gpmap(*words, "out=there").stderr
    assert ("there.h5: the file is already there" in gpmap(*words, "out=there.h5").stderr) != overwrite
    assert (tmp_path / "there.h5").read_text() == "precious"


def test_a_checkpoint_inside_the_directory_that_would_go(gpmap, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("command: prepare")
    (tmp_path / "run" / "epoch_3.pt").write_text("precious")
    words = ("prepare", "source=notebook_checkpoint", "source.path=run/epoch_3.pt", "out=run", "overwrite=true")
    assert "source.path is in this directory, which would be replaced" in gpmap(*words).stderr
    assert (tmp_path / "run" / "epoch_3.pt").exists()


def test_every_setting_that_may_name_a_file_is_known():
    for source in sources.names():
        hints = get_type_hints(sources.settings_class(source))
        texts = {item.name for item in fields(sources.settings_class(source)) if hints[item.name] in (str, str | None)}
        assert texts <= NO_FILES | set(PATHS), source
