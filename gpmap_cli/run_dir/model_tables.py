"""Tables by which a fitted model can be read, with the names of loci and environments and the phenotype's own units."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gpmap_cli.dataset.coding import PhenotypeScale
from gpmap_cli.run_dir.layout import RunDirectory
from gpmap_cli.run_dir.writing import write_whole

_OF_LOCI, _OF_ENVIRONMENTS = ("locus", "locus_2", "locus_3", "locus_4"), ("environment", "environment_2")
# Differences of phenotypes, and phenotypes themselves.
_DIFFERENCES, _PHENOTYPES = ("effect", "std_error", "slope"), ("phenotype",)


def write_tables(
    directory: RunDirectory,
    tables: Mapping[str, Mapping[str, NDArray]],
    locus_ids: tuple[str, ...],
    environment_names: tuple[str, ...],
    scale: PhenotypeScale,
) -> None:
    """Files of all tables that `models.base.Model.tables` describes: `<name>.csv.gz`, or a name that ends in .csv.

    scale: how the phenotypes were standardised.
    """
    # One more name than there are loci: a locus of -1 takes the last, which is empty.
    names_of_loci = np.array([*locus_ids, ""], dtype=object)
    names_of_environments = np.array(environment_names, dtype=object)
    for name, columns in tables.items():
        written: dict[str, NDArray] = {}
        for column, values in columns.items():
            if column in _OF_LOCI:
                written[column] = names_of_loci[values]
            elif column in _OF_ENVIRONMENTS:
                written[column] = names_of_environments[values]
            elif column in _DIFFERENCES:
                written[column] = values * scale.std[columns["environment"]]
            elif column in _PHENOTYPES:
                written[column] = values * scale.std[columns["environment"]] + scale.mean[columns["environment"]]
            else:
                written[column] = values
        write_table(directory, name, written)


def write_table(directory: RunDirectory, name: str, columns: Mapping[str, NDArray]) -> None:
    """`<name>.csv.gz`, or `<name>` itself if that ends in .csv; no time goes into the archive."""
    text_of_table = table_text(columns)
    if name.endswith(".csv"):
        directory.write_text(name, text_of_table)
        return

    def write(stream: IO[bytes]) -> None:
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as archive:
            archive.write(text_of_table.encode("utf-8"))

    write_whole(directory.path / f"{name}.csv.gz", write)


def table_text(columns: Mapping[str, NDArray]) -> str:
    """A table as CSV; what is undefined is empty."""
    import pandas as pd

    return str(pd.DataFrame(dict(columns)).to_csv(index=False, float_format="%.9g", lineterminator="\n"))
