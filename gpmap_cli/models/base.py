"""What every model shares: settings, fit, predict, state, describe, and the checks that come before them.

Modules of models import array libraries inside their methods: a typo in a configuration is answered before
any of them is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from gpmap_cli.errors import InputError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpmap_cli.dataset.coding import CodedGenotypes, Samples
    from gpmap_cli.dataset.reaction_norms import ReactionNorms
    from gpmap_cli.training.context import FitContext


class Model(ABC):
    """A map from genotypes at L loci to standardised phenotypes in E environments.

    A model sees coded genotypes and standardised phenotypes and nothing else: no files, no terminal, no names.
    """

    name: ClassVar[str]
    needs_float64: ClassVar[bool] = False  # exact solvers do, whatever the precision of the run
    joint_environments: ClassVar[bool] = False  # what is learned in one environment serves the others
    shares_fit: ClassVar[bool] = False  # several processes (`context.world`) fit together; else one of them does
    can_start: ClassVar[bool] = False  # a fit begins from the weights of another where it is given them

    @classmethod
    def needs_validation(cls, settings: Any) -> bool:
        """Whether validation samples choose anything (epochs, penalties) with these settings."""
        return True

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.device = "cpu"
        self.precision = "float32"
        self.num_loci: int | None = None

    def fit(self, train: Samples, validation: Samples, context: FitContext) -> None:
        """Learn from the training samples; the validation samples choose (epochs, penalties) and nothing else."""
        import numpy as np

        for column, environment in enumerate(context.environment_names):
            if np.isnan(train.phenotypes[:, column]).all():
                raise InputError(
                    f"environment `{environment}` has no phenotype in the training samples",
                    "leave it out with data.environments=[...], or use another split",
                )
        if getattr(self.settings, "weighted", False) and train.phenotype_std is None:
            raise InputError(
                "model.weighted=true needs measurement errors, and the data have no `phenotype_std`",
                "leave model.weighted out, or use data with `phenotype_std`",
            )
        if context.start is not None:
            self._check_start(context.start, train.genotypes.num_loci)
        self.device, self.precision = context.device, context.precision
        self._fit(train, validation, context)
        self.num_loci = train.genotypes.num_loci

    def _check_start(self, start: dict[str, NDArray], num_loci: int) -> None:
        """`context.start` is the `state()` of this model, fitted with the same settings at the same loci.

        Its environments are those of this fit, in order, where there are as many of them, and others where not: see
        `environment_rows` for what an environment that it does not know begins with.
        """
        if not self.can_start:
            raise RuntimeError(f"{self.name} cannot begin from the weights of another fit")
        if int(start["num_loci"]) != num_loci:
            raise InputError(
                f"the fit to start from has {int(start['num_loci'])} loci and these genotypes have {num_loci}",
                "use genotypes of the same loci",
            )

    def predict(self, genotypes: CodedGenotypes) -> NDArray[np.float64]:
        """Standardised phenotypes (N, E) of the samples."""
        self._check(genotypes)
        return self._predict(genotypes)

    def predict_std(self, genotypes: CodedGenotypes) -> NDArray[np.float64] | None:
        """Standard deviations (N, E) of the genetic values given the training data, in standardised units.

        None from a model that knows none.
        """
        self._check(genotypes)
        return self._predict_std(genotypes)

    def attention_maps(self, genotypes: CodedGenotypes) -> dict[str, NDArray] | None:
        """How much each locus attends to each, the mean over the samples: by layer, (A, heads, T, T), rows sum to one.

        A is 1, or E where environments differ. T is L, or L + 1 where the last token is the environment's. Rows are
        the loci that take, columns those that are taken from. None from a model that has no attention.
        """
        self._check(genotypes)
        return self._attention_maps(genotypes)

    @property
    def noise_std(self) -> NDArray[np.float64] | None:
        """Residual standard deviation (E,) of a phenotype of the usual measurement error; None where not known."""
        return None

    def _check(self, genotypes: CodedGenotypes) -> None:
        if self.num_loci is None:
            raise RuntimeError(f"{self.name} has not been fitted")
        if genotypes.num_loci != self.num_loci:
            raise InputError(
                f"the model was fitted to {self.num_loci} loci and these genotypes have {genotypes.num_loci}",
                "use genotypes of the same loci",
            )

    def state(self) -> dict[str, NDArray]:
        """The fitted model as arrays."""
        import numpy as np

        if self.num_loci is None:
            raise RuntimeError(f"{self.name} has not been fitted")
        return {"num_loci": np.array(self.num_loci), **self._state()}

    @classmethod
    def from_state(cls, settings: Any, state: dict[str, NDArray]) -> Model:
        """The fitted model that `state()` described."""
        model = cls(settings)
        model._restore(state)
        model.num_loci = int(state["num_loci"])
        return model

    def describe(self) -> dict[str, Any]:
        """What was chosen during the fit (penalties, epochs), for the log."""
        return {}

    def tables(self) -> dict[str, dict[str, NDArray]]:
        """What the fit can be read by (effects, curves): columns of equal length by table name, in reading order.

        A name that ends in .csv is the whole name of a short table, others are compressed. Columns `locus`, `locus_2`,
        `locus_3` and `locus_4` are column numbers of loci (-1: none), `environment` and `environment_2` of
        environments; `effect`, `std_error` and `slope` are differences in standardised units, on coded genotypes, and
        `phenotype` is a standardised phenotype. All of them are translated where the table is written; others stand
        as they are.
        """
        return {}

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Number of fitted parameters."""

    @abstractmethod
    def _fit(self, train: Samples, validation: Samples, context: FitContext) -> None: ...

    @abstractmethod
    def _predict(self, genotypes: CodedGenotypes) -> NDArray[np.float64]: ...

    @abstractmethod
    def _state(self) -> dict[str, NDArray]: ...

    @abstractmethod
    def _restore(self, state: dict[str, NDArray]) -> None: ...

    def _predict_std(self, genotypes: CodedGenotypes) -> NDArray[np.float64] | None:
        return None

    def _attention_maps(self, genotypes: CodedGenotypes) -> dict[str, NDArray] | None:
        return None


def environment_rows(rows: NDArray, num_environments: int) -> NDArray:
    """Rows of weights that each environment has of its own, (E', ...) in `context.start`, for E environments: (E, ...).

    As many environments are the same ones in order and keep their rows. Others are new to the start: each begins as
    the mean of its rows, the best guess where nothing is known of an environment.
    """
    import numpy as np

    if len(rows) == num_environments:
        return rows.copy()
    return np.repeat(rows.mean(axis=0, keepdims=True), num_environments, axis=0)


def covariate_problems(chosen: tuple[str, ...] | None, degree: int | None, prefix: str) -> Iterator[Problem]:
    """What is wrong with the settings `environment_covariates` and `covariate_degree`."""
    key = f"{prefix}environment_covariates"
    if chosen is None and degree is not None:
        what = f"{prefix}covariate_degree is of a polynomial in {key}, which is not set"
        yield Problem(what, f"add {key}=[temperature], or leave it out")
    if chosen is not None and len(chosen) == 0:
        yield Problem(f"{key} is empty", f"leave {key} out to tell environments apart by name")
    elif chosen is not None and len(set(chosen)) < len(chosen):
        yield Problem(f"{key} names one twice", "name each only once")


def reaction_norms(chosen: tuple[str, ...], context: FitContext, degree: int | None = None) -> ReactionNorms:
    """Through the environments of a fit, by the covariates that the setting `environment_covariates` chose."""
    if context.environments is None:
        raise RuntimeError("a fit by covariates of environments was given none")
    return context.environments.whole_norms(chosen, degree)


def norms_state(norms: ReactionNorms | None) -> dict[str, NDArray]:
    """Reaction norms as part of a model's state."""
    return {} if norms is None else {f"norms/{name}": part for name, part in norms.state().items()}


def norms_of(state: dict[str, NDArray]) -> ReactionNorms | None:
    """Those of a model's state, if it has them."""
    from gpmap_cli.dataset.reaction_norms import ReactionNorms

    parts = {name.removeprefix("norms/"): part for name, part in state.items() if name.startswith("norms/")}
    return ReactionNorms.from_state(parts) if parts else None
