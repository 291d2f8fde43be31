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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gpmap_cli.errors import Problem
from gpmap_cli.models.base import Model
from gpmap_cli.settings import Group, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.solvers.genotype_covariance import Covariance, LocusScale
    from gpmap_cli.solvers.inducing_samples import InducingSystem
    from gpmap_cli.solvers.kernel_choice import ChoiceSamples, Family, KernelChoice
    from gpmap_cli.solvers.kernel_gradients import IterativeSystem
    from gpmap_cli.solvers.kernel_regression import DenseSystem
    from gpmap_cli.training.context import FitContext

_LARGEST_DENSE = 6_000
_MOST_VALIDATION = 3_000  # validation samples that choose
_SAMPLES_PER_LOCUS = 10  # in the likelihood's subset, for a bandwidth of each locus to be tried
_PRECONDITIONER = 1_000  # samples that precondition conjugate gradients
_LEAST_NOISE = 0.01  # of the mean noise variance
_FORMS = ("dense", "iterative", "inducing")


@dataclass(frozen=True)
class Settings:
    name: str = "kernel"
    kernel: Literal["gaussian", "orders"] = "gaussian"
    max_order: int = setting(3, minimum=1, maximum=20)
    ard: bool | None = None
    rarity: float | None = setting(None, minimum=0, maximum=2)
    additive: bool = False
    bandwidth: float | None = setting(None, above=0)
    penalty: float | None = setting(None, above=0)
    penalty_choice: Literal["reml", "validation"] = "validation"
    num_likelihood_samples: int = setting(1500, minimum=50)
    num_inducing: int = setting(2000, minimum=10)
    memory_limit_gb: float | None = setting(None, above=0)
    weighted: bool = False
    standard_deviations: bool = False

    def problems(self, group: Group) -> list[Problem]:
        found = []
        if self.kernel == "orders":
            for key in ("ard", "rarity", "additive", "bandwidth"):
                if getattr(self, key) not in (None, False):
                    found.append(
                        Problem(
                            f"{group.prefix}{key} belongs to kernel=gaussian",
                            f"leave {group.prefix}{key} out, or set {group.prefix}kernel=gaussian",
                        )
                    )
        elif self.ard and self.bandwidth is not None:
            found.append(
                Problem(
                    f"{group.prefix}ard chooses a bandwidth for each locus, and {group.prefix}bandwidth fixes one",
                    "leave one of the two out",
                )
            )
        return found


class Kernel(Model):
    """Kernel regression on all training samples."""

    name = "kernel"
    needs_float64 = True
    settings: Settings

    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        import numpy as np

        from gpmap_cli.dataset.coding import CodedGenotypes
        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.covariance_groups import same_covariances

        noise = self._relative_noise(train)
        choices = self._choices(train, noise, validation, context)
        self._covariances: list[Covariance] = [choice.covariance for choice in choices]
        self._penalty = np.array([choice.penalty for choice in choices])
        self._form = self._form_for(int((noise > 0).sum(axis=0).max()), context)
        self._subset = stream(context.seed, "inducing_samples").permutation(len(train))[: self.settings.num_inducing]
        support = self._subset if self._form == "inducing" else np.arange(len(train))
        self._alpha = np.zeros((len(support), noise.shape[1]))
        self._mean, self._genetic_variance = np.zeros(noise.shape[1]), np.zeros(noise.shape[1])
        for columns in same_covariances(self._covariances):
            self._solve(columns, train, noise, validation, context)
        if self._form == "inducing" and not self.settings.standard_deviations:
            self._genotypes = train.genotypes.take(self._subset)
            self._noise, self._subset = noise[:0], np.arange(len(support))
        else:
            self._genotypes, self._noise = train.genotypes, noise
        in_memory = self._genotypes.stored[:]
        self._genotypes = CodedGenotypes(in_memory, self._genotypes.coding)

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
        from gpmap_cli.solvers.genotype_covariance import LocusScale

        scale = LocusScale.learn(train.genotypes, context.device)
        found = []
        for column, environment in enumerate(context.environment_names):
            samples = self._choice_samples(column, train, noise, validation, context)
            choice = self._choice(samples, scale, train, noise[:, column] > 0, context)
            context.reporter.note(f"kernel: {environment}: {_in_words(choice)}, from {len(samples.y)} samples")
            found.append(choice)
        return found

    def _choice_samples(
        self, column: int, train: Samples, noise: NDArray[np.float64], validation: Samples, context: FitContext
    ) -> ChoiceSamples:
        import numpy as np
        import torch

        from gpmap_cli.random_streams import stream
        from gpmap_cli.solvers.kernel_choice import ChoiceSamples

        rows = np.flatnonzero(noise[:, column] > 0)
        rows = stream(context.seed, "kernel_subset").permutation(rows)[: self.settings.num_likelihood_samples]
        chosen_on = _known_rows(validation, column)
        numbers = (train.phenotypes[rows, column], noise[rows, column], validation.phenotypes[chosen_on, column])
        y, relative, validation_y = (torch.from_numpy(values).to(context.device) for values in numbers)
        return ChoiceSamples(
            train.genotypes.take(rows), y, relative, validation.genotypes.take(chosen_on), validation_y
        )

    def _choice(
        self,
        samples: ChoiceSamples,
        scale: LocusScale,
        train: Samples,
        known: NDArray[np.bool_],
        context: FitContext,
    ) -> KernelChoice:
        import numpy as np

        from gpmap_cli.solvers.epistasis_kernels import EpistasisKernels
        from gpmap_cli.solvers.kernel_choice import GaussianFamily, OrdersFamily, adjust_by_validation

        settings = self.settings
        families: list[Family]
        if settings.kernel == "orders":
            genotypes = train.genotypes.take(np.flatnonzero(known))
            families = [OrdersFamily(EpistasisKernels.learn(genotypes, settings.max_order, context.device))]
        else:
            families = [
                GaussianFamily(scale, settings.additive, settings.rarity, by_locus, settings.bandwidth)
                for by_locus in self._by_locus(len(samples.y), train.genotypes.num_loci, samples.has_validation)
            ]
        tried = []
        for family in families:
            choice = family.choose(samples, settings.penalty)
            if settings.penalty_choice == "validation" and samples.has_validation and not samples.is_constant:
                free = (settings.kernel == "gaussian" and settings.bandwidth is None, settings.penalty is None)
                choice = adjust_by_validation(family, choice, samples, free)
            tried.append(choice)
        return tried[0] if len(tried) == 1 else min(tried, key=samples.validation_error)

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

        from gpmap_cli.solvers.kernel_choice import adjust_penalties

        rows = np.flatnonzero((noise[:, columns] > 0).any(axis=1))
        system = self._system(columns, rows, train.genotypes, train.phenotypes, noise, context.device)
        penalties = self._penalty[columns]
        adjusts = self.settings.penalty_choice == "validation" and self.settings.penalty is None
        if adjusts and len(rows) > self.settings.num_likelihood_samples:
            chosen_on = _known_rows(validation, columns)
            penalties = adjust_penalties(
                system,
                self._covariances[columns[0]],
                penalties,
                validation.genotypes.take(chosen_on),
                validation.phenotypes[np.ix_(chosen_on, columns)],
            )
        solution = system.solve(penalties)
        names = ", ".join(context.environment_names[column] for column in columns)
        steps = f", {solution.num_steps} conjugate gradient steps" if solution.num_steps else ""
        context.reporter.note(f"kernel: {names}: penalty {_listed(penalties)} of {len(rows)} samples{steps}")
        places = rows if self._form != "inducing" else np.arange(len(self._alpha))
        self._alpha[np.ix_(places, columns)] = solution.alpha.cpu().numpy()
        self._mean[columns] = solution.mean.cpu().numpy()
        self._genetic_variance[columns] = solution.variance.cpu().numpy()
        self._penalty[columns] = penalties

    def _system(
        self,
        columns: NDArray[np.intp],
        rows: NDArray[np.intp],
        genotypes: CodedGenotypes,
        phenotypes: NDArray[np.float64],
        noise: NDArray[np.float64],
        device: str,
        form: str | None = None,
    ) -> DenseSystem | IterativeSystem | InducingSystem:
        """The equations of these environments and training samples, in the model's form or another."""
        import numpy as np
        import torch

        from gpmap_cli.solvers.inducing_samples import InducingSystem
        from gpmap_cli.solvers.kernel_gradients import IterativeSystem
        from gpmap_cli.solvers.kernel_regression import DenseSystem, Measured

        form = self._form if form is None else form
        cells = np.ix_(rows, columns)
        y, relative = (torch.from_numpy(values[cells]).to(device) for values in (phenotypes, noise))
        measured = Measured(genotypes.take(rows), y, relative)
        covariance = self._covariances[columns[0]]
        if form == "dense":
            return DenseSystem(covariance, measured)
        if form == "inducing":
            return InducingSystem(covariance, measured, genotypes.take(self._subset))
        return IterativeSystem(covariance, measured, genotypes.take(self._subset[:_PRECONDITIONER]))

    def _predict(self, genotypes: CodedGenotypes) -> NDArray:
        import numpy as np
        import torch

        from gpmap_cli.solvers.covariance_groups import same_covariances
        from gpmap_cli.solvers.genotype_covariance import kernel_product

        dtype = torch.float64 if self._form == "dense" else torch.float32
        predicted = np.empty((len(genotypes), len(self._mean)))
        support = self._support()
        for columns in same_covariances(self._covariances):
            alpha = self._alpha[:, columns]
            used = np.flatnonzero((alpha != 0).any(axis=1))
            weights = torch.from_numpy(alpha[used]).to(self.device, dtype)
            product = kernel_product(self._covariances[columns[0]], genotypes, support.take(used), weights)
            predicted[:, columns] = product.cpu().numpy() + self._mean[columns]
        return predicted

    def _support(self) -> CodedGenotypes:
        """The samples that alpha belongs to."""
        return self._genotypes.take(self._subset) if self._form == "inducing" else self._genotypes

    def _predict_std(self, genotypes: CodedGenotypes) -> NDArray | None:
        import numpy as np

        from gpmap_cli.solvers.covariance_groups import same_covariances

        if not len(self._noise):
            return None
        found = np.empty((len(genotypes), len(self._mean)))
        form = "dense" if self._form == "dense" else "inducing"
        for columns in same_covariances(self._covariances):
            rows = np.flatnonzero((self._noise[:, columns] > 0).any(axis=1))
            nothing = np.zeros_like(self._noise)
            system = self._system(columns, rows, self._genotypes, nothing, self._noise, self.device, form)
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

        coding = {f"coding_{name}": array for name, array in self._genotypes.coding.state().items()}
        return {
            "form": np.array(_FORMS.index(self._form)),
            "genotypes": self._genotypes.stored[:],
            "alpha": self._alpha,
            "mean": self._mean,
            "penalty": self._penalty,
            "genetic_variance": self._genetic_variance,
            "noise": self._noise,
            "subset": self._subset,
            **coding,
            **covariance_state(self._covariances),
        }

    def _restore(self, state: dict[str, NDArray]) -> None:
        from gpmap_cli.dataset.coding import CodedGenotypes, GenotypeCoding
        from gpmap_cli.solvers.covariance_groups import covariances_of_state

        self._form = _FORMS[int(state["form"])]
        coding = {name.removeprefix("coding_"): array for name, array in state.items() if name.startswith("coding_")}
        self._genotypes = CodedGenotypes(state["genotypes"], GenotypeCoding.from_state(coding))
        self._alpha, self._mean, self._penalty = state["alpha"], state["mean"], state["penalty"]
        self._genetic_variance, self._noise, self._subset = state["genetic_variance"], state["noise"], state["subset"]
        self._covariances = covariances_of_state(state)

    def describe(self) -> dict[str, Any]:
        from gpmap_cli.solvers.covariance_groups import covariance_state

        state = covariance_state(self._covariances)
        noise = self._penalty * self._genetic_variance
        found: dict[str, Any] = {"form": self._form}
        if "rates" in state:
            found["bandwidth"] = self._bandwidth().tolist()
        for part, name in enumerate(_parts(state)):
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


def _known_rows(samples: Samples, columns: Any) -> NDArray[np.intp]:
    """Some of the samples that have a phenotype in any of these environments."""
    import numpy as np

    known = ~np.isnan(samples.phenotypes[:, columns].reshape(len(samples), -1))
    return np.flatnonzero(known.any(axis=1))[:_MOST_VALIDATION]


def _parts(state: dict[str, NDArray]) -> list[str]:
    if "rates" in state:
        return ["gaussian", "additive"]
    return [f"order {order}" for order in range(1, state["shares"].shape[1] + 1)]


def _in_words(choice: KernelChoice) -> str:
    from gpmap_cli.solvers.covariance_groups import covariance_state

    state = covariance_state([choice.covariance])
    shares = ", ".join(f"{name} {share:.3g}" for name, share in zip(_parts(state), state["shares"][0], strict=True))
    if "rates" not in state:
        return f"shares {shares}, penalty {choice.penalty:.3g}"
    rates = state["rates"][0]
    some = rates[rates > 0]
    how = "no rate" if not len(some) else f"rates {some.min():.2g} to {some.max():.2g}"
    mixed = f", {shares}" if state["shares"][0, 1] > 0 else ""
    return f"{how}{mixed}, penalty {choice.penalty:.3g}"


def _listed(values: NDArray) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
