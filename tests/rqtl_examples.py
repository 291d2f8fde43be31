"""Crosses that R/qtl wrote, once per process, and what R itself holds of them."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

NAMES = ["hyper", "listeria", "fake.f2", "riself", "dh", "bc"]


@cache
def _has_rqtl() -> bool:
    if shutil.which("Rscript") is None:
        return False
    found = "quit(status = !all(nzchar(c(system.file(package = 'qtl'), system.file(package = 'jsonlite')))))"
    return subprocess.run(["Rscript", "-e", found], capture_output=True).returncode == 0


needs_rqtl = pytest.mark.skipif(not _has_rqtl(), reason="Rscript with the packages qtl and jsonlite is not there")


@cache
def crosses() -> Path:
    """The directory that `rqtl_crosses.R` has filled."""
    directory = Path(tempfile.mkdtemp(prefix="gpmap-crosses-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    script = Path(__file__).with_name("rqtl_crosses.R")
    subprocess.run(["Rscript", str(script), str(directory)], check=True, capture_output=True, text=True, timeout=120)
    return directory


def held_by_r(name: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Copies of the second allele (N x L, NaN missing), traits (N x E), and the map, as R holds them."""
    copies, traits, places = (
        pd.read_csv(crosses() / f"{name}_{kind}.txt", dtype={"chr": str}) for kind in ("copies", "traits", "map")
    )
    return copies, traits, places


def assert_as_in_r(dataset, name, rows=None):
    """Genotypes, traits and chromosomes are those that R holds."""
    copies, traits, places = held_by_r(name)
    assert dataset.locus_ids.tolist() == list(copies.columns)
    known = np.where(dataset.genotypes < 0, np.nan, dataset.genotypes)
    np.testing.assert_array_equal(known, copies.to_numpy(float))
    assert np.isnan(known).any()
    assert dataset.environment_names == tuple(traits.columns)
    np.testing.assert_array_equal(dataset.phenotypes, traits.to_numpy(np.float32))
    assert dataset.chromosomes.tolist() == places["chr"].tolist()
    assert dataset.ploidy == (2 if name in ("listeria", "fake.f2") else 1)


# In the layout of the sample data of R/qtl2, an intercross of mice ...
IRON = {
    "iron.yaml": """# a comment
crosstype: f2
geno: iron_geno.csv
pheno: iron_pheno.csv
phenocovar: iron_phenocovar.csv
covar: iron_covar.csv
gmap: iron_gmap.csv
pmap: iron_pmap.csv
alleles:
- S
- B
genotypes:
  SS: 1
  SB: 2
  BB: 3
sex:
  covar: sex
  f: female
  m: male
cross_info:
  covar: cross_direction
  (SxB)x(SxB): 0
  (BxS)x(BxS): 1
x_chr: X
na.strings:
- '-'
- NA
""",
    "iron_geno.csv": "id,D1Mit18,D1Mit80,D2Mit1,DXMit16\n1,SS,SB,-,BB\n2,BB,SS,SB,SB\n3,SB,NA,SS,SB\n4,SS,SS,BB,SS\n",
    "iron_pheno.csv": "# nrow 4\nid,liver,spleen\n3,80.5,-\n1,-2,140.75\n2,NA,1e2\n9,1,1\n",
    "iron_gmap.csv": "marker,chr,pos\nD2Mit1,2,5.2\nD1Mit18,1,27.3\nD1Mit80,1,51.4\nDXMit16,X,0\nlonely,1,60\n",
    "iron_pmap.csv": "marker,chr,pos\nD1Mit18,1,52.418656\nD1Mit80,1,86.377953\nD2Mit1,2,37.451062\n"
    "DXMit16,X,99.359814\n",
    "iron_covar.csv": "id,sex,cross_direction\n1,m,(SxB)x(SxB)\n2,f,(SxB)x(SxB)\n3,m,(BxS)x(BxS)\n4,m,(BxS)x(BxS)\n",
    "iron_phenocovar.csv": "pheno,tissue\nliver,l\nspleen,s\n",
}
# ... and inbred lines of a plant, with the genetic map alone.
GRAV = {
    "grav2.yaml": "crosstype: riself\ngeno: grav2_geno.csv\npheno: grav2_pheno.csv\ngmap: grav2_gmap.csv\n"
    "alleles:\n- L\n- C\ngenotypes:\n  L: 1\n  C: 2\nna.strings:\n- '-'\n- NA\n",
    "grav2_geno.csv": "id,PVV4,AXR-1,HH.335C-Col/PhyA\n1,L,L,C\n2,C,-,C\n",
    "grav2_pheno.csv": "id,T0,T2\n1,-0.6,-1\n2,0.5,1\n",
    "grav2_gmap.csv": "marker,chr,pos\nPVV4,1,0\nAXR-1,1,6.250674\nHH.335C-Col/PhyA,1,9.303868\n",
}


def put(directory, files, **changes):
    """The files, some of them changed; a value of None takes one away."""
    directory.mkdir(exist_ok=True)
    for name, content in {**files, **changes}.items():
        if content is not None:
            (directory / name).write_text(content, encoding="utf-8")
    return directory


def zipped(directory, path, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._control.yaml", b"\0rubbish")
        for file in sorted(directory.iterdir()):
            archive.write(file, folder + file.name)
    return path
