"""Finetuning of the upper layers alone: few clips of the target leave the lower ones as the source has them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.nn.predictor import PredictorConfig
from zoocast.training import Objective, PredictionObjective, TrainingConfig
from zoocast.transfer.method import Setup, StartedMethod

__all__ = ["Freeze"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freeze(StartedMethod):
    """Finetuning from the best source with its lowest layers frozen (Yosinski et al., NeurIPS 2014)."""

    kind: ClassVar[str] = "freeze"
    layers: int = setting(1, "layers that are not trained, from the bottom; with all of them only the head is", at_least=0)

    def check(self, predictor: PredictorConfig, training: TrainingConfig) -> None:  # noqa: ARG002
        """See `TransferMethod.check`."""
        if self.layers > (depth := len(predictor.hidden_channels)):
            raise ConfigError("layers", f"must be at most the {depth} layers of the target, but got {self.layers}")

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        predictor = self.started(setup)
        for cell in predictor.layers[: self.layers]:
            cell.requires_grad_(False)
        return PredictionObjective(predictor, setup.decouple_weight)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"frozen_layers": self.layers}
