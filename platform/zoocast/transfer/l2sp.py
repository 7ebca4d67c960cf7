"""L2-SP: finetuning on a leash, so that few clips of the target do not wash the source out (Li et al., ICML 2018)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from zoocast.config import setting
from zoocast.nn.predictor import Prediction, Predictor
from zoocast.training import Batch, Objective, PredictionObjective
from zoocast.transfer.method import Setup, StartedMethod

__all__ = ["L2SP", "AnchoredObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class L2SP(StartedMethod):
    """Finetuning with a penalty on the distance to the best source's weights (Li et al., ICML 2018, eq. 2)."""

    kind: ClassVar[str] = "l2-sp"
    weight_field: ClassVar[str] = "weight"
    weight: float = setting(1e-2, "alpha of the penalty alpha/2 * |w - w0|^2", at_least=0)

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`.

        A training that goes on from an earlier one starts here as well: the source's weights are the anchor.
        """
        return AnchoredObjective(self.started(setup), setup.decouple_weight, self.weight)


class AnchoredObjective(PredictionObjective):
    """Adds ``weight / 2`` times the squared distance of the weights to where they started (L2-SP)."""

    def __init__(self, predictor: Predictor, decouple_weight: float, weight: float) -> None:
        super().__init__(predictor, decouple_weight)
        self.weight = weight
        # A plain list: as buffers they would be in every checkpoint, though the source, which stays, gives them again.
        self.anchors = [p.detach().clone() for p in predictor.parameters()]

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        # Made on the CPU, before the objective is taken to its device; they follow it once.
        if self.anchors[0].device != batch.clips.device:
            self.anchors = [a.to(batch.clips.device) for a in self.anchors]
        distances = [(p - a).square().sum() for p, a in zip(self.predictor.parameters(), self.anchors, strict=True)]
        return {**super().terms(batch, prediction), "anchor": self.weight / 2 * torch.stack(distances).sum()}
