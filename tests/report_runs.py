"""Run directories made up for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

MODEL_SETTINGS: dict[str, dict[str, Any]] = {"ridge": {"num_penalties": 50}, "attention": {"embedding_dim": 12}}


def scores(r2: float | None, num_samples: int = 300, interval: bool = True) -> dict[str, Any]:
    known = r2 is not None and interval
    return {
        "r2": r2,
        "r2_ci95": [r2 - 0.02, r2 + 0.01] if known and r2 is not None else None,
        "pearson_r": None if r2 is None else 0.9,
        "mse": None if r2 is None else 1 - r2,
        "num_samples": num_samples,
    }


def split_scores(by_environment: dict[str, float | None]) -> dict[str, Any]:
    known = [r2 for r2 in by_environment.values() if r2 is not None]
    mean = float(np.mean(known)) if known else None
    return {"mean_r2": mean, "environments": {name: scores(r2) for name, r2 in by_environment.items()}}


def metrics_of(model: str, test: dict[str, float | None], seed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "status": "completed",
        "model": model,
        "data": "simulated",
        "seed": seed,
        "num_parameters": 101,
        "splits": {
            "train": split_scores({name: None if r2 is None else r2 + 0.05 for name, r2 in test.items()}),
            "validation": split_scores({name: None if r2 is None else r2 + 0.02 for name, r2 in test.items()}),
            "test": split_scores(test),
        },
        "seconds": {"load": 0.1, "fit": 2.5, "evaluate": 0.1},
        "peak_memory_mb": 321.5,
        **more,
    }


def config_of(model: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "data": {"name": "simulated", "order": 2, "epsilon": 0.3, "num_samples": None, "environments": ["30C"]},
        "model": {"name": model, **MODEL_SETTINGS.get(model, {})},
        "training": {"name": "fast", "epochs": 60},
        "split": {"method": "random", "fold": 0},
        "seed": seed,
    }
    for key, value in settings.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    return config


def write_run(
    directory: Path,
    model: str = "ridge",
    test: dict[str, float | None] | float = 0.5,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    **more: Any,
) -> Path:
    directory.mkdir(parents=True)
    by_environment = test if isinstance(test, dict) else {"30C": test}
    (directory / "config.yaml").write_text(yaml.safe_dump(config_of(model, seed, settings or {}), sort_keys=False))
    (directory / "metrics.json").write_text(json.dumps(metrics_of(model, by_environment, seed, **more)))
    return directory


def write_failed(directory: Path, model: str, settings: dict[str, Any], error: str) -> Path:
    write_run(directory, model, settings=settings)
    failed = {"status": "failed", "model": model, "data": "simulated", "seed": 0, "splits": {}, "error": error}
    (directory / "metrics.json").write_text(json.dumps(failed))
    return directory


ORDER_SCORES = {
    ("ridge", 1): 0.91, ("pairwise", 1): 0.92, ("attention", 1): 0.93,
    ("ridge", 2): 0.51, ("pairwise", 2): 0.82, ("attention", 2): 0.83,
    ("ridge", 10): 0.11, ("pairwise", 10): 0.12, ("attention", 10): 0.73,
}  # fmt: skip


def write_order_sweep(directory: Path) -> Path:
    for job, ((model, order), r2) in enumerate(ORDER_SCORES.items()):
        settings = {"data.order": order}
        write_run(directory / f"{job}", model, r2, settings, noise_ceiling_r2={"30C": 0.9615})
    return directory
