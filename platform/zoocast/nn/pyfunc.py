"""How MLflow loads a predictor out of its registry: ``mlflow.pyfunc.load_model("models:/target-tmu@ready").predict(observed)``.

The file MLmodel beside the weights names this module, so what runs is the installed zoocast; nothing in the registry is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoocast.errors import ConfigError
from zoocast.nn.predictor import Predictor, load_predictor

__all__ = ["HORIZON", "Forecaster"]

HORIZON = 10  # frames that are predicted where no other number is asked for


class Forecaster:
    """A predictor as MLflow calls it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, observed: np.ndarray, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """The frames that follow: float32 (B, T, C, H, W) in [0, 1] to (B, horizon, C, H, W), not clipped.

        Args:
            params: ``horizon``, the number of frames.

        Raises:
            ConfigError: the horizon is none.
        """
        horizon = int((params or {}).get("horizon", HORIZON))
        if horizon < 1:
            raise ConfigError("horizon", f"must be at least 1, but got {horizon}")
        return self.predictor.predict(torch.from_numpy(np.array(observed, np.float32)), horizon).numpy()


def _load_pyfunc(path: str) -> Forecaster:
    """MLflow's entry: the predictor in the folder `path`."""
    return Forecaster(load_predictor(Path(path)))
