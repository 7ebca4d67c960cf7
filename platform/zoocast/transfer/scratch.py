"""Training from scratch: what transfer has to beat."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from zoocast.nn.predictor import Predictor
from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Setup, TransferMethod

__all__ = ["Scratch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scratch(TransferMethod):
    """Random weights, the target's clips, nothing else."""

    kind: ClassVar[str] = "scratch"

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        return PredictionObjective(Predictor(setup.predictor, setup.frames), setup.decouple_weight)
