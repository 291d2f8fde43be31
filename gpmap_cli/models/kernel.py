"""`kernel`: Gaussian process regression on genotypes, beyond additive effects (RKHS regression, kernel GBLUP).

f(x) = mean + sum_i k(x, x_i) alpha_i over the training samples, (K + penalty W) alpha = y - mean. `gaussian`: k falls
off with the squared distance of coded genotypes, on a scale of its own for each locus where that helps; for -1/+1
genotypes the diffusion kernel of the hypercube, all orders of epistasis at once. `orders`: a variance component for
each epistasis order up to `max_order`. Bandwidths, variance components and penalty by restricted maximum likelihood
on up to `num_likelihood_samples` samples (n' ^3 for each of about 100 trials), or further by validation.

Three forms of N samples: up to 6,000 exactly in double precision (N^3 / 3 for each environment); beyond, while N^2
single-precision numbers fit memory, exactly by conjugate gradients (N^2 L once and N^2 for each of some 30 steps);
beyond, through `num_inducing` samples m (N m L + N m^2). Each environment costs that of its own, unless bandwidth is
fixed. Gianola and van Kaam 2008; de los Campos et al. 2010; Zhou et al. 2022; solvers in `gpmap_cli/solvers/kernel_*`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import Problem
from gpmap_cli.models.base import Model
from gpmap_cli.settings import Rule, Ruled, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.solvers.genotype_covariance import Covariance, LocusScale
    from gpmap_cli.solvers.kernel_families import ChoiceSamples, Family, KernelChoice
    from gpmap_cli.solvers.kernel_regression import KernelSystem, Measured
    from gpmap_cli.training.context import FitContext

_LARGEST_DENSE = 6_000
_SAMPLES_PER_LOCUS = 10  # in the likelihood's subset, for a bandwidth of each locus to be tried
_ENOUGH = 0.05  # of the penalty: what the preconditioner may leave of the kernel's diagonal
_LEAST_NOISE = 0.01  # of the mean noise variance
_OF_GAUSSIAN = ("ard", "rarity", "additive", "bandwidth")
_FORMS = ("dense", "iterative", "inducing")


@dataclass(frozen=True)
class Settings(Ruled):
    name: str = "kernel"
    kernel: Literal["gaussian", "orders"] = "gaussian"
    max_order: int = setting(3, minimum=1, maximum=20)
    ard: bool | None = None
    rarity: float | None = setting(None, minimum=0, maximum=2)
    additive: bool = False
    bandwidth: float | None = setting(None, above=0)
    penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["auto", "reml", "validation"] = "auto"
    num_likelihood_samples: int = setting(1500, minimum=50)
    num_inducing: int = setting(2000, minimum=10)
    memory_limit_gb: float | None = setting(None, above=0)
    weighted: bool = False
    standard_deviations: bool = False

    def rules(self) -> tuple[Rule, ...]:
        return (*(partial(self._misplaced, key) for key in _OF_GAUSSIAN), self._bandwidth_problems)

    def _misplaced(self, key: str, prefix: str) -> Iterator[Problem]:
        if self.kernel == "orders" and getattr(self, key) not in (None, False):
            hint = f"leave {prefix}{key} out, or set {prefix}kernel=gaussian"
            yield Problem(f"{prefix}{key} belongs to kernel=gaussian", hint)

    def _bandwidth_problems(self, prefix: str) -> Iterator[Problem]:
        if self.kernel == "gaussian" and self.ard and self.bandwidth is not None:
            what = f"{prefix}ard chooses a bandwidth for each locus, and {prefix}bandwidth fixes one"
            yield Problem(what, "leave one of the two out")


class Kernel(Model):
    """Kernel regression on all training samples."""

    name = "kernel"
    needs_float64 = True
    settings: Settings

    @classmethod
    def needs_validation(cls, settings: Settings) -> bool:
        return False  # restricted likelihood chooses where there are none

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.solvers.covariance_groups import same_covariances

        noise = self._relative_noise(train)
        choices = self._choices(train, noise, validation, context)
        self._covariances: list[Covariance] = [choice.covariance for choice in choices]
        self._penalty = np.array([choice.penalty for choice in choices])
        self._form = self._form_for(int((noise > 0).sum(axis=0).max()), context)
        self._alpha = np.zeros(noise.shape)
        self._mean, self._genetic_variance = np.zeros(noise.shape[1]), np.zeros(noise.shape[1])
        for columns in same_covariances(self._covariances):
            self._solve(columns, train, noise, validation, context)
        self._genotypes, self._noise = train.genotypes, noise
        if self._form == "inducing" and not self.settings.standard_deviations:
            kept = np.flatnonzero((self._alpha != 0).any(axis=1))
            self._genotypes, self._noise, self._alpha = train.genotypes.take(kept), noise[:0], self._alpha[kept]
        self._genotypes = self._genotypes.in_memory()

    def _relative_noise(self, train: Samples) -> NDArray[np.float64]:
        """Noise variance of each phenotype relative to its environment's mean, (N, E); 0 where missing.

        Errors below a tenth of the usual one count as a tenth: no sample is known that much better than the others.
        """
        import numpy as np

        from gpmap_cli.solvers.missing import row_weights

        known = ~np.isnan(train.phenotypes)
        if not self.settings.weighted:
            return known.astype(np.float64)
        weights = row_weights(train.phenotypes, train.phenotype_std)
        noise = np.where(known, 1 / np.where(known, weights, 1.0), 0.0)
        relative = noise * (known.sum(axis=0) / noise.sum(axis=0))
        return np.where(known, np.maximum(relative, _LEAST_NOISE), 0.0)

    def _choices(
        self, train: Samples, noise: NDArray[np.float64], validation: Samples, context: FitContext
    ) -> list[KernelChoice]:
        """Covariance and penalty of every environment."""
        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.genotype_covariance import LocusScale
        from gpmap_cli.solvers.kernel_choice import choice_samples, choose_kernel

        settings = self.settings
        scale = LocusScale.learn(train.genotypes, context.device)
        free = (settings.kernel == "gaussian" and settings.bandwidth is None, settings.penalty is None)
        found = []
        for column, environment in enumerate(context.environment_names):
            rng, most = stream(context.seed, "kernel_subset"), settings.num_likelihood_samples
            samples = choice_samples(column, train, noise, validation, most, rng, context.device)
            families = self._families(samples, scale, train, noise[:, column] > 0, context)
            by_validation = self._by_validation(int((noise[:, column] > 0).sum()))
            choice = choose_kernel(families, samples, settings.penalty, by_validation, free)
            context.reporter.note(f"kernel: {environment}: {_in_words(choice)}, from {len(samples.y)} samples")
            found.append(choice)
        return found

    def _families(
        self,
        samples: ChoiceSamples,
        scale: LocusScale,
        train: Samples,
        known: NDArray[np.bool_],
        context: FitContext,
    ) -> list[Family]:
        """The covariances to choose from."""
        import numpy as np

        from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
        from gpmap_cli.solvers.kernel_families import GaussianFamily, OrdersFamily

        settings = self.settings
        if settings.kernel == "orders":
            genotypes = train.genotypes.take(np.flatnonzero(known))
            return [OrdersFamily(EpistasisKernels.learn(genotypes, settings.max_order, context.device))]
        return [
            GaussianFamily(scale, settings.additive, settings.rarity, by_locus, settings.bandwidth)
            for by_locus in self._by_locus(len(samples.y), train.genotypes.num_loci, samples.has_validation)
        ]

    def _by_validation(self, num_samples: int) -> bool:
        """Whether validation adjusts what the restricted likelihood found, which may not have seen all samples."""
        choice = self.settings.penalty_choice
        return choice == "validation" or (choice == "auto" and num_samples > self.settings.num_likelihood_samples)

    def _by_locus(self, num_samples: int, num_loci: int, has_validation: bool) -> list[bool]:
        """Whether one bandwidth, one for each locus, or both are tried."""
        if self.settings.ard is not None or self.settings.bandwidth is not None:
            return [bool(self.settings.ard)]
        worthwhile = num_loci > 1 and num_samples >= _SAMPLES_PER_LOCUS * num_loci and has_validation
        return [False, True] if worthwhile else [False]

    def _form_for(self, num_samples: int, context: FitContext) -> str:
        from gpmap_cli.solvers.memory import available_bytes

        if num_samples <= _LARGEST_DENSE:
            return "dense"
        limit = self.settings.memory_limit_gb
        allowed = available_bytes(context.device) / 2 if limit is None else limit * 1e9
        needed = 4 * num_samples**2
        form = "iterative" if needed <= allowed else "inducing"
        how = "exactly" if form == "iterative" else f"through {self.settings.num_inducing} of them"
        context.reporter.note(
            f"kernel: {num_samples} samples are solved {how} (their kernel takes {needed / 1e9:.1f} GB of the"
            f" {allowed / 1e9:.1f} GB it may)"
        )
        return form

    def _solve(
        self,
        columns: NDArray[np.intp],
        train: Samples,
        noise: NDArray[np.float64],
        validation: Samples,
        context: FitContext,
    ) -> None:
        """alpha, mean and genetic variance of environments that share a covariance."""
        import numpy as np
        import torch

        from gpmap_cli.solvers.kernel_choice import adjust_penalties, known_rows
        from gpmap_cli.solvers.kernel_regression import Measured

        rows = np.flatnonzero((noise[:, columns] > 0).any(axis=1))
        covariance, cells = self._covariances[columns[0]], np.ix_(rows, columns)
        y, relative = (torch.from_numpy(values[cells]).to(context.device) for values in (train.phenotypes, noise))
        measured = Measured(train.genotypes.take(rows), y, relative)
        penalties, settings = self._penalty[columns], self.settings
        system, pivots = self._system(covariance, measured, float(penalties.min()), context)
        if self._by_validation(len(rows)) and settings.penalty is None:
            chosen_on = known_rows(validation, columns)
            if len(rows) > settings.num_likelihood_samples and len(chosen_on):
                observed = validation.phenotypes[np.ix_(chosen_on, columns)]
                others = validation.genotypes.take(chosen_on)
                penalties = adjust_penalties(system, covariance, penalties, others, observed)
        solution = system.solve(penalties)
        names = ", ".join(context.environment_names[column] for column in columns)
        steps = f", {solution.num_steps} conjugate gradient steps" if solution.num_steps else ""
        shown = ", ".join(f"{value:.3g}" for value in penalties)
        context.reporter.note(f"kernel: {names}: penalty {shown} of {len(rows)} samples{steps}")
        places = rows[pivots] if self._form == "inducing" else rows
        self._alpha[np.ix_(places, columns)] = solution.alpha.cpu().numpy()
        self._mean[columns] = solution.mean.cpu().numpy()
        self._genetic_variance[columns] = solution.variance.cpu().numpy()
        self._penalty[columns] = penalties

    def _system(
        self, covariance: Covariance, measured: Measured, penalty: float, context: FitContext
    ) -> tuple[KernelSystem, NDArray[np.intp]]:
        """The equations in the model's form, and the samples that stand for all in them."""
        import numpy as np

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.inducing_samples import InducingSystem
        from gpmap_cli.solvers.kernel_gradients import IterativeSystem
        from gpmap_cli.solvers.kernel_regression import DenseSystem
        from gpmap_cli.solvers.pivoted_cholesky import inducing_rows, low_rank_kernel

        most = self.settings.num_inducing
        if self._form == "dense":
            return DenseSystem(covariance, measured), np.arange(0)
        if self._form == "inducing":
            pivots = inducing_rows(covariance, measured.genotypes, most, context.seed, context.device)
            return InducingSystem(covariance, measured, measured.genotypes.take(pivots)), pivots
        rng = stream(context.seed, "preconditioner")
        found = low_rank_kernel(covariance, measured.genotypes, most, _ENOUGH * penalty, rng, context.device)
        return IterativeSystem(covariance, measured, found.factor), np.arange(0)

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import numpy as np
        import torch

        from gpmap_cli.solvers.covariance_groups import same_covariances
        from gpmap_cli.solvers.genotype_covariance import kernel_product

        dtype = torch.float64 if self._form == "dense" else torch.float32
        predicted = np.empty((len(genotypes), len(self._mean)))
        for columns in same_covariances(self._covariances):
            alpha = self._alpha[:, columns]
            used = np.flatnonzero((alpha != 0).any(axis=1))
            weights = torch.from_numpy(alpha[used]).to(self.device, dtype)
            product = kernel_product(self._covariances[columns[0]], genotypes, self._genotypes.take(used), weights)
            predicted[:, columns] = product.cpu().numpy() + self._mean[columns]
        return predicted

    def _predict_std(self, genotypes: CodedGenotypes) -> NDArray | None:
        import numpy as np
        import torch

        from gpmap_cli.solvers.covariance_groups import same_covariances
        from gpmap_cli.solvers.inducing_samples import InducingSystem
        from gpmap_cli.solvers.kernel_regression import DenseSystem, Measured
        from gpmap_cli.solvers.pivoted_cholesky import inducing_rows

        if not len(self._noise):
            return None
        found = np.empty((len(genotypes), len(self._mean)))
        for columns in same_covariances(self._covariances):
            rows = np.flatnonzero((self._noise[:, columns] > 0).any(axis=1))
            relative = torch.from_numpy(self._noise[np.ix_(rows, columns)]).to(self.device)
            measured = Measured(self._genotypes.take(rows), torch.zeros_like(relative), relative)
            covariance = self._covariances[columns[0]]
            system: DenseSystem | InducingSystem
            if self._form == "dense":
                system = DenseSystem(covariance, measured)
            else:
                most = self.settings.num_inducing
                inducing = inducing_rows(covariance, measured.genotypes, most, 0, self.device)
                system = InducingSystem(covariance, measured, measured.genotypes.take(inducing))
            variance = system.error_variance(self._penalty[columns], genotypes).cpu().numpy()
            found[:, columns] = np.sqrt(variance * self._genetic_variance[columns])
        return found

    @property
    def noise_std(self) -> NDArray:
        import numpy as np

        return np.sqrt(self._penalty * self._genetic_variance)

    def _state(self) -> dict[str, NDArray]:
        import numpy as np

        from gpmap_cli.solvers.covariance_groups import covariance_state

        return {
            "form": np.array(_FORMS.index(self._form)),
            "alpha": self._alpha,
            "mean": self._mean,
            "penalty": self._penalty,
            "genetic_variance": self._genetic_variance,
            "noise": self._noise,
            **{f"genotypes_{name}": array for name, array in self._genotypes.state().items()},
            **covariance_state(self._covariances),
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        from gpmap_cli.dataset.coding import CodedGenotypes
        from gpmap_cli.solvers.covariance_groups import covariances_of_state

        self._form = _FORMS[int(state["form"])]
        part = "genotypes_"
        genotypes = {name.removeprefix(part): array for name, array in state.items() if name.startswith(part)}
        self._genotypes = CodedGenotypes.from_state(genotypes)
        self._alpha, self._mean, self._penalty = state["alpha"], state["mean"], state["penalty"]
        self._genetic_variance, self._noise = state["genetic_variance"], state["noise"]
        self._covariances = covariances_of_state(state)

    def describe(self) -> dict[str, Any]:
        from gpmap_cli.solvers.covariance_groups import covariance_state, part_names

        state = covariance_state(self._covariances)
        noise = self._penalty * self._genetic_variance
        found: dict[str, Any] = {"form": self._form}
        if "rates" in state:
            found["bandwidth"] = self._bandwidth().tolist()
        for part, name in enumerate(part_names(state)):
            found[f"{name} variance"] = (state["shares"][:, part] * self._genetic_variance).tolist()
        return {**found, "residual variance": noise.tolist(), "penalty": self._penalty.tolist()}

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """The rate of every locus: how fast likeness falls with (x_l - x'_l)^2, in which environment."""
        import numpy as np

        from gpmap_cli.solvers.covariance_groups import covariance_state

        state = covariance_state(self._covariances)
        if "rates" not in state:
            return {}
        num_environments, num_loci = state["rates"].shape
        return {
            "rates": {
                "environment": np.repeat(np.arange(num_environments), num_loci),
                "locus": np.tile(np.arange(num_loci), num_environments),
                "rate": state["rates"].ravel(),
            }
        }

    def _bandwidth(self) -> NDArray[np.float64]:
        """(E,) the distance between two of the samples in the mean, sum_l r_l (x_l - x'_l)^2."""
        from gpmap_cli.solvers.covariance_groups import covariance_state
        from gpmap_cli.solvers.genotype_covariance import LocusScale

        scale = LocusScale.learn(self._genotypes, "cpu")
        return covariance_state(self._covariances)["rates"] @ (2 * scale.variance.numpy())

    @property
    def num_parameters(self) -> int:
        from gpmap_cli.solvers.covariance_groups import covariance_state

        state = covariance_state(self._covariances)
        chosen = state["shares"].size + (state["rates"].size if "rates" in state else 0)
        return self._alpha.size + self._mean.size + self._penalty.size + chosen


def _in_words(choice: KernelChoice) -> str:
    from gpmap_cli.solvers.covariance_groups import covariance_state, part_names

    state = covariance_state([choice.covariance])
    shares = ", ".join(f"{name} {share:.3g}" for name, share in zip(part_names(state), state["shares"][0], strict=True))
    if "rates" not in state:
        return f"shares {shares}, penalty {choice.penalty:.3g}"
    rates = state["rates"][0]
    some = rates[rates > 0]
    how = "no rate" if not len(some) else f"rates {some.min():.2g} to {some.max():.2g}"
    mixed = f", {shares}" if state["shares"][0, 1] > 0 else ""
    return f"{how}{mixed}, penalty {choice.penalty:.3g}"
