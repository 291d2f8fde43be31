"""The wheel, installed into an empty environment, does the same from another directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest
from conftest import ROOT


def run(*words, **options):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built the long way, through the source distribution, so that what that lacks the wheel lacks too."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, ROOT)
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that holds this wheel and, to spare the gigabytes, borrows its requirements from ours."""
    directory = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", directory / "venv")
    python = directory / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", wheel)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # .pth: after the environment's own directory, and our editable install's own .pth files are not read there.
    with open(os.path.join(site, "borrowed.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return directory


@pytest.mark.slow
def test_wheel_holds_configurations_data_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    assert len(configs) > 20
    assert {f"gpmap_cli/{name}" for name in configs} <= set(names)
    assert "gpmap_cli/package_data/rbd_moulana2022.h5" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"gpmap_cli", wheel.name.split("-py3")[0] + ".dist-info"}


@pytest.mark.slow
def test_installed_it_works_from_another_directory(installed, tmp_path):
    gpmap = installed / "venv" / "bin" / "gpmap"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = run(
        installed / "venv" / "bin" / "python", "-c", "import gpmap_cli; print(gpmap_cli.__file__)", cwd=tmp_path
    )
    assert str(installed) in where
    options = {"cwd": tmp_path, "env": environment}
    assert "train" in run(gpmap, "--help", **options)
    output = run(
        gpmap, "train", "model=pairwise", "data=rbd", "data.environments=[ACE2]", "data.num_samples=3000", **options
    )
    directory = tmp_path / output.splitlines()[-1]
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["splits"]["test"]["environments"]["ACE2"]["r2"] > 0.9
    provenance = json.loads((directory / "provenance.json").read_text())
    assert provenance["git_commit"] is None
    run(gpmap, "train", "-m", "model=mean,ridge", "data.num_samples=200", "hydra.sweep.dir=sweep", **options)
    run(gpmap, "report", "sweep", **options)
    run(gpmap, "predict", f"run={output.splitlines()[-1]}", **options)
