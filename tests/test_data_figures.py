"""The figures of `gpmap info figures=DIR`: that they hold the numbers, that nothing is cut, and who gets none."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from dataset_examples import example

from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.file import DatasetFile
from gpmap_cli.dataset.survey import Survey, survey
from gpmap_cli.dataset.writer import write_dataset
from gpmap_cli.report.data_figures import (
    draw_allele_frequency,
    draw_correlation,
    draw_dataset,
    draw_ld_decay,
    draw_phenotypes,
)

NAMES = ["allele_frequency", "ld_decay", "phenotypes", "environment_correlation"]
ALL = (draw_allele_frequency, draw_ld_decay, draw_phenotypes, draw_correlation)


def surveyed(dataset: Dataset, directory: Path) -> Survey:
    path = directory / "figures_of.h5"
    write_dataset(path, dataset, overwrite=True)
    with DatasetFile(path) as file:
        return survey(file)


def segregants(num_samples: int = 300, num_environments: int = 3, names: str = "env {}") -> Dataset:
    """A cross with two chromosomes, correlated environments, an outlier and a few missing phenotypes."""
    rng = np.random.default_rng(0)
    switches = rng.random((num_samples, 80)) < np.where(np.arange(80) % 40, 0.02, 0.5)
    y = rng.normal(size=(num_samples, 1)) + rng.normal(size=(num_samples, num_environments))
    y[5, 0], y[:7, 1:2] = 40, np.nan
    return replace(
        example(num_samples, 80),
        genotypes=np.bitwise_xor.accumulate(switches, axis=1).view(np.int8),
        chromosomes=np.repeat(["I", "II"], 40),
        positions=np.tile(np.arange(1, 41) * 5000, 2),
        phenotypes=y.astype(np.float32),
        phenotype_std=None,
        environment_names=tuple(names.format(number) for number in range(num_environments)),
        covariates={},
        truth={},
    )


@pytest.fixture
def found(tmp_path):
    return surveyed(segregants(), tmp_path)


class TestWhatIsDrawn:
    def test_allele_frequencies_are_counted_whole(self, found):
        (axes,) = draw_allele_frequency(found).axes
        frequency = found.genotypes.allele_frequency
        assert sum(bar.get_height() for bar in axes.patches) == 80
        for bar in axes.patches:
            inside = (frequency >= bar.get_x()) & (frequency < bar.get_x() + bar.get_width())
            assert bar.get_height() == inside.sum()
        low, high = axes.get_xlim()
        assert low < frequency.min()
        assert frequency.max() < high

    @pytest.mark.parametrize("share", [(0, 0.5, 1), (0.3, 0.3, 0.3), (0, 0, 0), (0.97, 0.99, 1)])
    def test_frequencies_at_the_ends_are_counted_too(self, tmp_path, share):
        genotypes = (np.arange(100)[:, None] < 100 * np.array(share)).astype(np.int8)
        dataset = replace(example(100, 3), genotypes=genotypes, chromosomes=None, positions=None)
        (axes,) = draw_allele_frequency(surveyed(dataset, tmp_path)).axes
        assert sum(bar.get_height() for bar in axes.patches) == 3
        low, high = axes.get_xlim()
        assert all(low <= bar.get_x() and bar.get_x() + bar.get_width() <= high for bar in axes.patches)

    def test_ld_decay_is_on_a_log_axis_with_its_baselines(self, found):
        figure = draw_ld_decay(found)
        (axes,) = figure.axes
        lines = {line.get_label(): line for line in axes.get_lines()}
        np.testing.assert_array_equal(lines["same chromosome"].get_xdata(), found.ld.mean_distance)
        np.testing.assert_array_equal(lines["same chromosome"].get_ydata(), found.ld.mean_r2)
        assert set(lines["other chromosomes"].get_ydata()) == {found.ld.unlinked_r2}
        assert set(lines["by chance"].get_ydata()) == {1 / 299}
        assert axes.get_xscale() == "log"
        assert (axes.get_xlabel(), axes.get_title()) == ("distance (bp)", "80 of 80 loci, 300 of 300 samples")
        assert [label.get_text() for label in axes.get_xticklabels()] == ["5k", "10k", "20k", "50k", "100k", "200k"]
        assert len({line.get_linestyle() for line in lines.values()}) == 3  # told apart without colour
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)

    def test_loci_at_one_position_have_no_place_on_a_log_axis(self, tmp_path):
        dataset = segregants()
        positions = np.where(np.arange(80) % 40 < 2, 5000, dataset.positions)
        decay = surveyed(replace(dataset, positions=positions), tmp_path)
        assert decay.ld.lower[0] == 0
        (axes,) = draw_ld_decay(decay).axes
        assert len(axes.get_lines()[0].get_xdata()) == len(decay.ld.lower) - 1
        assert axes.get_xlim() == (5000, 200000)
        apart = surveyed(replace(dataset, chromosomes=None, positions=None), tmp_path)
        (axes,) = draw_ld_decay(apart).axes
        assert axes.get_xlabel() == "distance (loci)"
        assert [line.get_label() for line in axes.get_lines()] == ["pairs of loci", "by chance"]

    def test_phenotypes_are_small_multiples(self, found):
        figure = draw_phenotypes(found)
        assert [axes.get_title() for axes in figure.axes] == ["env 0\nn = 300", "env 1\nn = 293", "env 2\nn = 300"]
        for axes, one in zip(figure.axes, found.distributions, strict=True):
            assert sum(bar.get_height() for bar in axes.patches) == one.count
            assert set(axes.get_lines()[0].get_xdata()) == {one.mean}
        assert list(figure.axes[0].get_lines()[1].get_xdata()) == [40]
        assert len(figure.axes[1].get_lines()) == 1
        assert "beyond 5 sd" in figure.get_supxlabel()

    def test_environments_without_a_phenotype_have_no_panel(self, tmp_path):
        dataset = segregants(num_environments=70)
        dataset.phenotypes[:, 2] = np.nan
        figure = draw_phenotypes(surveyed(dataset, tmp_path))
        assert len(figure.axes) == 60
        assert figure.axes[2].get_title().startswith("env 3")
        assert figure.get_suptitle() == "the first 60 of 69 environments"

    @pytest.mark.parametrize(("number", "values"), [(3, True), (20, True), (21, False), (61, False)])
    def test_correlations_are_written_where_they_fit(self, tmp_path, number, values):
        found = surveyed(segregants(num_environments=number), tmp_path)
        figure = draw_correlation(found)
        axes = figure.axes[0]
        r = found.correlation.r
        np.testing.assert_array_equal(axes.images[0].get_array(), r)
        assert axes.images[0].get_clim() == (-1, 1)
        assert len(axes.texts) == (number**2 if values else 0)
        if values:
            written = {(t.get_position()[1] - 1, t.get_position()[0] - 1): t.get_text() for t in axes.texts}
            assert written[1, 2] == f"{r[1, 2]:.2f}"
        named = [label.get_text() for label in axes.get_yticklabels()] == list(found.environment_names)
        assert named == (number <= 60)

    def test_what_is_undefined_is_grey(self, tmp_path):
        dataset = segregants()
        dataset.phenotypes[:, 1] = 2
        axes = draw_correlation(surveyed(dataset, tmp_path)).axes[0]
        assert axes.images[0].get_array().mask.tolist() == [[False, True, False], [True] * 3, [False, True, False]]
        assert [text.get_text() for text in axes.texts].count("-") == 5

    @pytest.mark.parametrize(
        ("number", "names"),
        [
            (1, "e{}"),
            (2, r"_$\nonsense{{$ {}"),
            (2, "Kälte \x1b {}"),
            (7, "a rather long name of an environment, number {}"),
            (18, "a rather long name of an environment, number {}"),
        ],
    )
    def test_nothing_is_cut_or_covered(self, tmp_path, names, number):
        found = surveyed(segregants(num_environments=number, names=names), tmp_path)
        for draw in ALL if number > 1 else ALL[:3]:
            figure = draw(found)
            figure.draw_without_rendering()
            whole = figure.bbox
            boxes = [axes.get_tightbbox() for axes in figure.axes] + [box.get_window_extent() for box in figure.legends]
            for box in boxes:
                assert whole.x0 - 1 <= box.x0 < box.x1 <= whole.x1 + 1, draw.__name__
                assert whole.y0 - 1 <= box.y0 < box.y1 <= whole.y1 + 1, draw.__name__
            for one, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:one]), draw.__name__


class TestFiles:
    def test_each_figure_is_a_picture_and_a_drawing_the_same_bytes_twice(self, found, tmp_path):
        for directory in ("one", "two"):
            (tmp_path / directory).mkdir()
        written, left_out = draw_dataset(found, tmp_path / "one")
        assert left_out == []
        assert [path.name for path in written] == [f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
        again, _ = draw_dataset(found, tmp_path / "two")
        for one, two in zip(written, again, strict=True):
            assert one.read_bytes() == two.read_bytes()
            if one.suffix == ".png":
                assert min(matplotlib.image.imread(one).shape[:2]) > 300
            else:
                root = ElementTree.fromstring(one.read_bytes())
                assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(path.name for path in written)

    @pytest.mark.parametrize(
        ("changes", "missing"),
        [
            ({"phenotypes": np.empty((300, 0), np.float32), "environment_names": ()}, NAMES[2:]),
            ({"phenotypes": np.full((300, 3), np.nan, np.float32)}, NAMES[2:]),
            ({"phenotypes": np.ones((300, 1), np.float32), "environment_names": ("a",)}, NAMES[3:]),
            ({"phenotypes": np.ones((300, 3), np.float32)}, NAMES[3:]),
            ({"genotypes": np.ones((300, 80), np.int8)}, NAMES[1:2]),
            ({"genotypes": np.full((300, 80), -1, np.int8)}, NAMES[:2]),
            ({"chromosomes": np.array([f"c{number}" for number in range(80)])}, NAMES[1:2]),
            ({"positions": None, "chromosomes": None}, []),
        ],
    )
    def test_what_cannot_be_drawn_is_left_out_with_its_reason(self, tmp_path, changes, missing):
        written, left_out = draw_dataset(surveyed(replace(segregants(), **changes), tmp_path), tmp_path)
        assert [line.split(" left out: ")[0] for line in left_out] == missing
        assert all(line.split(" left out: ")[1] for line in left_out)
        assert {path.stem for path in written} == set(NAMES) - set(missing)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 2)])
    def test_the_smallest_datasets_draw_what_they_have(self, tmp_path, shape):
        rng = np.random.default_rng(0)
        dataset = replace(
            example(*shape),
            genotypes=rng.integers(0, 2, shape).astype(np.int8),
            phenotypes=np.ones((shape[0], 3), "f4"),
        )
        written, _ = draw_dataset(surveyed(dataset, tmp_path), tmp_path)
        assert {"allele_frequency.png", "phenotypes.svg"} <= {path.name for path in written}


class TestCommand:
    @pytest.fixture
    def file(self, tmp_path):
        write_dataset(tmp_path / "cross.h5", segregants(60))
        return "cross.h5"

    def test_it_names_what_it_wrote(self, gpmap, file, tmp_path):
        result = gpmap("info", file, "figures=new/figures")
        assert result.returncode == 0
        written = [line.removeprefix("wrote ") for line in result.stdout.splitlines() if line.startswith("wrote ")]
        assert written == [f"new/figures/{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
        assert all((tmp_path / path).stat().st_size > 1000 for path in written)
        assert "add figures=DIR" not in result.stdout
        assert gpmap("info", file, "figures=new/figures").returncode == 0  # and writes over its own

    def test_it_says_what_it_left_out(self, gpmap, tmp_path):
        write_dataset(tmp_path / "one.h5", replace(segregants(60), phenotypes=np.ones((60, 3), np.float32)))
        result = gpmap("info", "one.h5", "figures=figures")
        assert "no figure      environment_correlation left out: no two environments vary over" in result.stdout
        assert not list((tmp_path / "figures").glob("environment*"))

    @pytest.mark.parametrize("figures", ["cross.h5", "cross.h5/inside", "''", "x" * 300, "[a,b]"])
    def test_places_for_no_figures_are_refused_before_reading(self, gpmap, file, tmp_path, figures):
        before = sorted(tmp_path.iterdir())
        result = gpmap("info", file, f"figures={figures}")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("error: figures")
        assert "hint: " in result.stderr
        assert sorted(tmp_path.iterdir()) == before

    def test_a_directory_that_may_not_be_written_to_is_refused(self, gpmap, file, monkeypatch):
        monkeypatch.setattr("gpmap_cli.commands.info.os.access", lambda *_: False)
        result = gpmap("info", file, "figures=figures")
        assert (result.returncode, result.stdout) == (2, "")
        assert "figures=figures: cannot be written to" in result.stderr

    def test_a_full_disk_leaves_no_half_figure(self, gpmap, file, tmp_path, monkeypatch):
        def full(self, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        result = gpmap("info", file, "figures=figures")
        assert result.returncode == 2
        assert "No space left on device" in result.stderr
        assert not list((tmp_path / "figures").iterdir())

    def test_figures_are_of_one_dataset_file(self, gpmap, file, tmp_path):
        (tmp_path / "run").mkdir()
        for paths in ((file, file), ("run",)):
            result = gpmap("info", *paths, "figures=figures")
            assert result.returncode == 2
            assert "one dataset file" in result.stderr

    def test_a_file_that_is_refused_leaves_no_directory(self, gpmap, tmp_path):
        (tmp_path / "broken.h5").write_bytes(b"not HDF5")
        assert gpmap("info", "broken.h5", "figures=figures").returncode == 2
        assert gpmap("info", "absent.h5", "figures=figures").returncode == 2
        assert not (tmp_path / "figures").exists()
