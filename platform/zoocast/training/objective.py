"""What is trained: a predictor together with everything that only training needs (projections, anchors, a bank)."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig, frame_mse
from zoocast.training.config import TrainingConfig

__all__ = ["Batch", "Collect", "Objective", "PredictionObjective", "collecting", "prediction_terms", "summary_params"]

Collect = Mapping[int, tuple[str, ...]]
"""For each layer the memories to return with a prediction, for example ``{0: ("c",)}``."""


def collecting(collect: Collect, more: Collect) -> Collect:
    """The memories of both, each once."""
    return {layer: tuple(dict.fromkeys((*collect.get(layer, ()), *more.get(layer, ())))) for layer in {**collect, **more}}


class Batch(NamedTuple):
    """What an objective sees in one update."""

    indices: Tensor
    """(B,) int64: the clips' places in the training split, by which a bank finds their memories."""
    clips: Tensor
    """(B, T, C, H, W) float32 in [0, 1], already flipped in time if `reverse`."""
    feed: Tensor
    """(B, T-1) float32: 1 where the input of a step is the true frame, 0 where it is the network's own prediction."""
    reverse: bool
    progress: float = 0.0
    """Share of the training that is done, from 0 to below 1, for terms whose weight changes on the way."""

    def flipped(self) -> Batch:
        """The same clips the other way round in time, with the same mask."""
        # `feed` is not flipped: its entries are steps of the network, which begins with true frames in either direction.
        return self._replace(clips=self.clips.flip(1), reverse=not self.reverse)


class Objective(nn.Module, abc.ABC):
    """Abstract: a network and the loss it is trained by.

    `predict` and `terms` are apart so that one objective can use another's prediction; called, an objective does both.
    """

    @property
    @abc.abstractmethod
    def exported(self) -> Predictor:
        """The network that is validated and, alone, exported."""

    @abc.abstractmethod
    def predict(self, batch: Batch, collect: Collect) -> Prediction:
        """The predictor's output on a batch, with the memories in `collect` and all aux that `terms` needs."""

    @abc.abstractmethod
    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The weighted terms of the loss by name, scalars, whose sum is the loss; `mse` is always among them."""

    def rate_scales(self) -> Mapping[nn.Parameter, float]:
        """What the learning rate of a parameter is multiplied by; 1 for one that is not in it. Read once, by `AdamUpdater`."""
        return {}

    def leave(self, directory: Path) -> Mapping[str, float]:  # noqa: ARG002
        """Write what a report reads of a finished training, beside its weights; returns a few numbers to log as parameters."""
        return {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss on a batch."""
        return self.terms(batch, self.predict(batch, {}))


def summary_params(predictor: PredictorConfig, training: TrainingConfig) -> dict[str, str | int | float]:
    """The few settings by which people compare runs."""
    return {
        "cell": predictor.cell.kind,
        "hidden_channels": "-".join(map(str, predictor.hidden_channels)),
        "iterations": training.iterations,
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "seed": training.seed,
    }


def prediction_terms(predictor: Predictor, prediction: Prediction, batch: Batch, decouple_weight: float) -> dict[str, Tensor]:
    """What every predictor is trained by: the error of all next frames, and what its cells add, as memory decoupling."""
    terms = {"mse": frame_mse(prediction, batch.clips)}
    # Only memory decoupling is weighted here; other losses of cells come with the weight of their own paper.
    own = predictor.losses(prediction.aux)
    return terms | {name: decouple_weight * loss if name == "decouple" else loss for name, loss in own.items()}


class PredictionObjective(Objective):
    """Prediction alone, with memory decoupling where the network's cells are decoupled.

    Args:
        predictor: what is trained.
        decouple_weight: see `TrainingConfig`.
        collect: the memories that the `terms` of a subclass read.
    """

    def __init__(self, predictor: Predictor, decouple_weight: float = 0.1, collect: Collect | None = None) -> None:
        super().__init__()
        self.predictor, self.decouple_weight, self.collect = predictor, decouple_weight, collect or {}

    @property
    def exported(self) -> Predictor:
        """See `Objective.exported`."""
        return self.predictor

    def predict(self, batch: Batch, collect: Collect) -> Prediction:
        """See `Objective.predict`."""
        # Only what its losses read: each aux is kept for all steps, with its graph, until the backward pass.
        return self.predictor(batch.clips, batch.feed, collecting(collect, self.collect), aux=self.predictor.loss_aux)

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        return prediction_terms(self.predictor, prediction, batch, self.decouple_weight)
