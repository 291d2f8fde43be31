"""The import direction, and rules about who may import what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "gpmap_cli"
# From the top to the bottom; a module imports from its own row or from rows below it.
ROWS = (
    ("__main__",),
    ("commands",),
    ("launchers",),
    ("config", "report"),
    ("prepare",),
    ("run_dir", "data_source"),
    ("models", "simulate"),
    ("sparse_terms",),
    ("variance", "explain", "scan"),
    ("solvers", "layers"),
    ("training",),
    ("ld_pruning",),
    ("dataset", "metrics"),
    ("settings", "random_streams", "progress", "native_code"),
    ("errors",),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_there_are_files():
    assert len(FILES) > 40
    assert {part(path) for path in FILES} - {"__init__"} <= set(ROW_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    if part(path) == "__init__":
        return
    for module in imports(path):
        pieces = module.split(".")
        if pieces[0] == "gpmap_cli" and len(pieces) > 1 and pieces[1] in ROW_OF:
            assert ROW_OF[pieces[1]] >= ROW_OF[part(path)], f"{path.relative_to(PACKAGE)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_may_import_what(path):
    names = {module.split(".")[0] for module in imports(path)}
    where = part(path)
    if where not in ("__main__", "config", "launchers"):
        assert not names & {"hydra", "omegaconf"}
    if where not in ("dataset", "prepare"):
        assert "h5py" not in names
    assert not names & {"pickle"} or path.name == "notebook_checkpoint.py"  # there only the error's class


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda path: path.stem)
def test_models_do_not_import_each_other(path):
    others = {other.stem for other in (PACKAGE / "models").glob("*.py")} - {"__init__", "base", path.stem}
    for module in imports(path):
        pieces = module.split(".")
        if pieces[:2] == ["gpmap_cli", "models"]:
            assert not set(pieces[2:]) & others
    if path.stem != "__init__":
        assert not imports(path) & {"pathlib", "tqdm", "sys", "os"}


@pytest.mark.parametrize(
    ("what", "home"),
    [
        ('"4NQO"', "simulate/yeast_environments.py"),
        ("4_?289", "simulate/yeast_settings.py"),  # SNPs on chromosome XV
        (r"file_sha256\(.*\}  \{", "dataset/hdf5.py"),  # the digest of what sha256sum prints
    ],
)
def test_what_is_known_stands_in_one_place(what, home):
    holders = [path.relative_to(PACKAGE).as_posix() for path in FILES if re.search(what, path.read_text())]
    assert holders == [home]


def test_no_file_is_too_long():
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 400] == []
