"""BSS, batch spectral shrinkage: finetuning that lets go of what of a source carries little (Chen et al., NeurIPS 2019)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig
from zoocast.training import Batch, Objective, PredictionObjective, TrainingConfig
from zoocast.transfer.method import Setup, StartedMethod

__all__ = ["BSS", "ShrinkingObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BSS(StartedMethod):
    """Finetuning with a penalty on the smallest singular values of a batch's features (Chen et al., NeurIPS 2019).

    ``eta sum_{i=1..k} sigma_{-i}^2`` of a matrix with a row for each clip: the top layer's memory after the last observed frame.
    """

    kind: ClassVar[str] = "bss"
    weight_field: ClassVar[str] = "weight"
    weight: float = setting(1e-3, "eta of the penalty (paper: 1e-3)", at_least=0)
    k: int = setting(1, "singular values that are penalised, from the smallest (paper: 1)", at_least=1)

    def check(self, predictor: PredictorConfig, training: TrainingConfig) -> None:  # noqa: ARG002
        """See `TransferMethod.check`."""
        if self.k > training.batch_size:
            raise ConfigError("k", f"must be at most training.batch_size, which is {training.batch_size}, but got {self.k}")

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        return ShrinkingObjective(self.started(setup), setup.decouple_weight, setup.observed, self.weight, self.k)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"bss_weight": self.weight, "bss_k": self.k}


class ShrinkingObjective(PredictionObjective):
    """Adds ``weight`` times the sum of the `k` smallest squared singular values of the features after `observed` frames."""

    def __init__(self, predictor: Predictor, decouple_weight: float, observed: int, weight: float, k: int) -> None:
        # The first memory that a cell declares is its most informative one.
        top, memory = len(predictor.layers) - 1, predictor.layers[-1].memories[0]
        super().__init__(predictor, decouple_weight, {top: (memory,)})
        self.feature, self.observed, self.weight, self.k = (top, memory), observed, weight, k

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        features = prediction.memories[self.feature][:, self.observed - 1].flatten(1).float()
        smallest = torch.linalg.svdvals(_of_all_workers(features))[-self.k :]
        return {**super().terms(batch, prediction), "bss": self.weight * smallest.square().sum()}


def _of_all_workers(features: Tensor) -> Tensor:
    """The rows of the whole batch, wherever its clips are: singular values are not a mean over workers."""
    if not torch.distributed.is_initialized():
        return features
    world = torch.distributed.get_world_size()
    parts = [torch.empty_like(features) for _ in range(world)]
    torch.distributed.all_gather(parts, features.detach())
    # Each worker has the gradient of its own part, of which DistributedDataParallel takes the mean where the sum is wanted.
    parts[torch.distributed.get_rank()] = features.detach() + world * (features - features.detach())
    return torch.cat(parts)
