"""A fitted model with all it needs to predict phenotypes of raw genotypes, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpmap_cli import models
from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding, PhenotypeScale, Projection
from gpmap_cli.dataset.contents import Dataset
from gpmap_cli.dataset.disk_genotypes import StoredGenotypes, select_loci
from gpmap_cli.dataset.fixed_effects import FixedEffects
from gpmap_cli.dataset.reaction_norms import KnownEnvironments
from gpmap_cli.errors import InputError, Problem, listing
from gpmap_cli.models.base import Model
from gpmap_cli.run_dir.checkpoints import load_arrays, save_arrays
from gpmap_cli.settings import Group, fill


@dataclass(frozen=True)
class PredictedStd:
    """Standard deviations (N, E) of genetic values, and of phenotypes measured with the usual error (or None)."""

    genetic: NDArray[np.float64]
    with_noise: NDArray[np.float64] | None

    def columns(self, which: list[int]) -> PredictedStd:
        """Only these environments."""
        with_noise = None if self.with_noise is None else self.with_noise[:, which]
        return PredictedStd(self.genetic[:, which], with_noise)


@dataclass
class FittedPredictor:
    """Genotypes of N samples at L loci -> phenotypes (N, E) in their own units.

    locus_ids is None for a model that came without names: its loci and environments match by order.
    """

    model: Model
    coding: GenotypeCoding
    scale: PhenotypeScale
    locus_ids: tuple[str, ...] | None
    environment_names: tuple[str, ...]
    fixed: FixedEffects | None = None
    environments: KnownEnvironments | None = None

    @property
    def matches_by_order(self) -> bool:
        return self.locus_ids is None

    def predict(
        self, genotypes: StoredGenotypes, covariates: Mapping[str, NDArray[np.float64]] | None = None
    ) -> NDArray[np.float64]:
        """Phenotypes (N, E) of stored genotypes (N, L) in the model's own order of loci.

        covariates: values (N,) by name; those that the model knows and that are not given are at their training mean.
        """
        coded = self._coded(genotypes, covariates or {})
        predicted = self.scale.restore(self.model.predict(coded))
        if self.fixed is None or coded.projection is None:
            return predicted
        return predicted + coded.projection.design @ self.fixed.of_phenotypes

    @property
    def environment_covariates(self) -> tuple[str, ...]:
        """The covariates by which the model itself is told of environments; none where it knows them apart."""
        return tuple(getattr(self.model.settings, "environment_covariates", None) or ())

    def predict_new(
        self,
        genotypes: StoredGenotypes,
        covariates: Mapping[str, NDArray[np.float64]] | None,
        new: Sequence[Mapping[str, float]],
    ) -> NDArray[np.float64]:
        """Phenotypes (N, n) in their own units in `new` environments, each known by the values of its covariates.

        From the predictions for known environments, as reaction norms (`dataset/reaction_norms.py`) combine them.
        """
        if self.environments is None:
            raise InputError(
                "the model knows no covariates of its environments", "train it again, with data that have them"
            )
        known = self.predict(genotypes, covariates)
        predicted = np.empty((len(known), len(new)))
        degree = getattr(self.model.settings, "covariate_degree", None)
        for number, one in enumerate(new):
            norms, rows = self.environments.norms(tuple(one), degree)
            predicted[:, number] = known[:, rows] @ norms.weights(np.array([list(one.values())]))[0]
        return predicted

    def _coded(self, genotypes: StoredGenotypes, covariates: Mapping[str, NDArray[np.float64]]) -> CodedGenotypes:
        if self.fixed is None:
            return CodedGenotypes(genotypes, self.coding)
        design = self.fixed.design(covariates, len(genotypes))
        return CodedGenotypes(genotypes, self.coding, Projection(design, self.fixed.of_genotypes))

    def predict_std(
        self, genotypes: StoredGenotypes, covariates: Mapping[str, NDArray[np.float64]] | None = None
    ) -> PredictedStd | None:
        """How uncertain the predictions are, in the phenotypes' own units; None from a model that knows not."""
        genetic = self.model.predict_std(self._coded(genotypes, covariates or {}))
        if genetic is None:
            return None
        noise = self.model.noise_std
        with_noise = None if noise is None else np.hypot(genetic, noise) * self.scale.std
        return PredictedStd(genetic * self.scale.std, with_noise)

    def attention_maps(
        self, genotypes: StoredGenotypes, covariates: Mapping[str, NDArray[np.float64]] | None = None
    ) -> dict[str, NDArray] | None:
        """Attention maps averaged over the samples, as `models.base.Model.attention_maps` has them."""
        return self.model.attention_maps(self._coded(genotypes, covariates or {}))

    def genotypes_of(self, dataset: Dataset) -> StoredGenotypes:
        """The dataset's genotypes at the model's loci, in the model's order. A locus that lacks is refused."""
        if dataset.ploidy != self.coding.ploidy:
            raise InputError(
                f"the model was fitted to genotypes of ploidy {self.coding.ploidy}, these have {dataset.ploidy}",
                "use data of the same ploidy",
            )
        if self.locus_ids is None:
            if dataset.num_loci != self.model.num_loci:
                raise InputError(
                    f"the model has {self.model.num_loci} loci and the data have {dataset.num_loci};"
                    " the model came without locus ids, so they match by order",
                    "use data of the same loci in the same order",
                )
            return dataset.genotypes
        place = {locus: column for column, locus in enumerate(dataset.locus_ids.tolist())}
        absent = [locus for locus in self.locus_ids if locus not in place]
        if absent:
            raise InputError(
                f"{len(absent)} of the model's {len(self.locus_ids)} loci are not in the data: {listing(absent, 5)}",
                "use data genotyped at the same loci, with the same locus ids",
            )
        columns = np.array([place[locus] for locus in self.locus_ids])
        if len(columns) == dataset.num_loci and (columns == np.arange(len(columns))).all():
            return dataset.genotypes
        return select_loci(dataset.genotypes, columns)

    def save(self, path: Path) -> None:
        """Write the model to a file that `load` reads, whole or not at all."""
        arrays: dict[str, NDArray] = {}
        for part, state in (
            ("model", self.model.state()),
            ("coding", self.coding.state()),
            ("scale", self.scale.state()),
        ):
            arrays.update({f"{part}/{name}": array for name, array in state.items()})
        facts: dict[str, Any] = {
            "settings": asdict(self.model.settings),
            "locus_ids": self.locus_ids,
            "environment_names": self.environment_names,
        }
        if self.fixed is not None:
            fixed, facts["covariates"] = self.fixed.state()
            arrays.update({f"fixed/{name}": array for name, array in fixed.items()})
        if self.environments is not None:
            arrays.update({f"environments/{name}": array for name, array in self.environments.state().items()})
        path.parent.mkdir(exist_ok=True)
        save_arrays(path, arrays, facts)

    @classmethod
    def load(cls, path: Path, device: str = "cpu", precision: str = "float32") -> FittedPredictor:
        """Read a fitted model; only this program's own models are made, and nothing in the file is executed."""
        arrays, facts = load_arrays(path)
        parts: dict[str, dict[str, NDArray]] = {
            name: {} for name in ("model", "coding", "scale", "fixed", "environments")
        }
        hint = "use another run, or train again"
        try:
            for name, array in arrays.items():
                part, key = name.split("/", 1)
                parts[part][key] = array
            name = str(facts["settings"]["name"])
            problems: list[Problem] = []
            settings = fill(models.settings_class(name), facts["settings"], Group("model.", name), problems)
            if settings is None:
                raise InputError(problems)
            model = models.model_class(name).from_state(settings, parts["model"])
            model.device, model.precision = device, precision
            locus_ids, known = facts["locus_ids"], parts["environments"]
            names, scale = tuple(map(str, facts["environment_names"])), PhenotypeScale.from_state(parts["scale"])
            return cls(
                model,
                GenotypeCoding.from_state(parts["coding"]),
                scale,
                None if locus_ids is None else tuple(map(str, locus_ids)),
                names,
                FixedEffects.from_state(parts["fixed"], facts["covariates"]) if parts["fixed"] else None,
                KnownEnvironments.from_state(names, scale, known) if known else None,
            )
        except InputError:
            raise
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as trouble:
            raise InputError(f"{path}: the checkpoint is damaged ({trouble!r})", hint) from trouble
