"""A model saved by the published notebooks (Rijal et al. 2026) as a run directory.

The file is a PyTorch state dict with the published parameter names. Its shapes say what it is, with D the width
of the attention matrices, T x D the read-out and L x d the locus embedding:
T = L, D = d + 1: one environment; T = L + 1, D = d + E + 1: E environments with slots of their own;
T = L + 1, D = d + 1: environments in the embedding's slots (transfer study), as many as are named.
It is read with `weights_only=True`: nothing in it is executed.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpmap_cli import models
from gpmap_cli.dataset.coding import GenotypeCoding, PhenotypeScale
from gpmap_cli.errors import InputError, listing
from gpmap_cli.layers.published_attention import NUM_LAYERS
from gpmap_cli.models.base import Model
from gpmap_cli.prepare.sources.notebook_checkpoint import Settings
from gpmap_cli.run_dir.layout import COMPLETED, RunDirectory
from gpmap_cli.run_dir.predictor import FittedPredictor

_NAMES = (
    "random_matrix",
    *(f"{kind}_matrix_{layer}" for layer in range(1, NUM_LAYERS + 1) for kind in ("query", "key", "value")),
    "coeffs_attended",
    "offset",
)
_HINT = "name a state dict saved by the published notebooks (torch.save(model.state_dict(), ...))"


def prepare_notebook_checkpoint(source: Settings, out: str, overwrite: bool, config: dict[str, Any]) -> list[str]:
    """Write the run directory `out` and say what the file held."""
    directory = RunDirectory(Path(out))
    if directory.path.exists() and not overwrite:
        raise InputError(f"{out}: there is something already", "choose another `out`, or set overwrite=true")
    is_empty = directory.path.is_dir() and not any(directory.path.iterdir())
    if directory.path.exists() and not directory.holds_a_run and not is_empty:
        raise InputError(f"{out}: not a run directory, so it is not replaced", "choose another `out`")
    weights = _read(Path(str(source.path)))
    predictor, lines = _predictor(source, weights)
    directory.path.parent.mkdir(parents=True, exist_ok=True)
    staging = RunDirectory(Path(tempfile.mkdtemp(prefix=f".{directory.path.name}.", dir=directory.path.parent)))
    try:
        staging.path.chmod(0o755)
        predictor.save(staging.best_checkpoint)
        staging.write_metrics(
            {
                "status": COMPLETED,
                "model": predictor.model.name,
                "data": None,
                "seed": None,
                "num_parameters": predictor.model.num_parameters,
                "splits": {},
                "seconds": {"load": None, "fit": None, "evaluate": None},
                "peak_memory_mb": None,
            }
        )
        staging.claim_prepared({"command": "prepare", **config, "data": None})
        if directory.path.exists():
            shutil.rmtree(directory.path)
        staging.path.rename(directory.path)
    finally:
        shutil.rmtree(staging.path, ignore_errors=True)
    return lines


def _read(path: Path) -> dict[str, NDArray]:
    """The published parameters in the file, as arrays."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", _HINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign pickles; the error says enough
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as trouble:
        raise InputError(f"{path}: holds more than tensors, and that is never loaded", _HINT) from trouble
    except Exception as trouble:  # torch raises whatever the damaged bytes lead it to
        raise InputError(f"{path}: not a readable PyTorch file ({trouble})", _HINT) from trouble
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no state dict", _HINT)
    found = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    absent = [name for name in _NAMES if not isinstance(found.get(name), torch.Tensor)]
    if absent:
        raise InputError(f"{path}: lacks {listing(absent, 6)}", _HINT)
    extra = sorted(set(found) - set(_NAMES))
    if extra:
        raise InputError(f"{path}: holds {listing(extra, 6)}, which the published models do not have", _HINT)
    weights = {}
    for name in _NAMES:
        tensor = found[name].detach()
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: `{name}` is not made of finite floating-point numbers", _HINT)
        weights[name] = tensor.double().numpy()
    weights["offset"] = weights["offset"].reshape(-1)
    return weights


def _predictor(source: Settings, weights: dict[str, NDArray]) -> tuple[FittedPredictor, list[str]]:
    num_loci, embedding_dim = _matrix(weights, "random_matrix")
    num_tokens, width = _matrix(weights, "coeffs_attended")
    wrong = [name for name in _NAMES[1:-2] if weights[name].shape != (width, width)]
    if wrong or weights["offset"].shape != (1,) or num_tokens - num_loci not in (0, 1) or width <= embedding_dim:
        shapes = ", ".join(f"{name} {'x'.join(map(str, weights[name].shape))}" for name in _NAMES)
        raise InputError(f"{source.path}: the shapes fit no published model ({shapes})", _HINT)
    given = source.environments
    settings: dict[str, Any] = {"embedding_dim": embedding_dim}
    if num_tokens == num_loci:
        kind, num_environments = "attention", 1
        if width != embedding_dim + 1:
            raise InputError(f"{source.path}: width {width} does not fit an embedding of {embedding_dim}", _HINT)
    elif width > embedding_dim + 1:
        kind, num_environments = "attention_multi_env", width - embedding_dim - 1
    elif given is None:
        raise InputError(
            f"{source.path}: its environments stand in the embedding's slots, so their number is not in the file",
            "name them in order: source.environments=[23C,25C,27C,30C,33C,35C,37C]",
        )
    else:
        kind, num_environments = "attention_multi_env", len(given)
        settings["environment_slots"] = "embedding"
        if num_environments > embedding_dim:
            raise InputError(
                f"{num_environments} environments do not fit into the {embedding_dim} slots of the embedding",
                "name at most as many environments",
            )
    names = given or tuple(f"environment_{number}" for number in range(num_environments))
    for key, values in (("environments", given), ("mean", source.mean)):
        if values is not None and len(values) != num_environments:
            raise InputError(
                f"source.{key} has {len(values)} values and the model {num_environments} environments",
                "give one for every environment, in the model's order",
            )
    model = _model(kind, settings, num_loci, num_environments, weights)
    scale = PhenotypeScale(
        np.array(source.mean or [0.0] * num_environments), np.array(source.std or [1.0] * num_environments)
    )
    coding = GenotypeCoding(1, np.full(num_loci, -1.0), np.zeros(num_loci))
    lines = [
        f"{kind}: {num_loci} loci, embedding {embedding_dim}, {num_environments} environment(s)",
        "the file knows no locus ids: loci and environments will match by order",
    ]
    if source.mean is None:
        lines.append("the file knows no phenotype scale: predictions have mean 0, standard deviation 1")
    return FittedPredictor(model, coding, scale, None, tuple(names)), lines


def _model(
    kind: str, settings: dict[str, Any], num_loci: int, num_environments: int, weights: dict[str, NDArray]
) -> Model:
    state: dict[str, NDArray] = {"num_loci": np.array(num_loci)}
    if kind == "attention":
        state.update({f"0/{name}": array for name, array in weights.items()})
    else:
        state.update({"num_environments": np.array(num_environments), **weights})
    return models.model_class(kind).from_state(models.settings_class(kind)(**settings), state)


def _matrix(weights: dict[str, NDArray], name: str) -> tuple[int, int]:
    shape = weights[name].shape
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"`{name}` has shape {shape}, not two dimensions", _HINT)
    return shape[0], shape[1]
