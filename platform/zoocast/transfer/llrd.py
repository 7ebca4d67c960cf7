"""Finetuning with a lower learning rate for lower layers, whose features are the more general ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from zoocast.config import setting
from zoocast.nn.predictor import Predictor
from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Setup, StartedMethod

__all__ = ["LayerDecay", "LayerDecayObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerDecay(StartedMethod):
    """Finetuning from the best source with layer-wise decay of the learning rate.

    Layer l of L, counted from 0 at the bottom, learns at ``decay^(L - l)`` of the rate, and the head at all of it: the
    discriminative finetuning of ULMFiT (Howard & Ruder, ACL 2018, sec. 3.2: 1/2.6) as BEiT does it (Bao et al., ICLR 2022: 0.65).
    """

    kind: ClassVar[str] = "llrd"
    decay: float = setting(0.65, "of the learning rate, for each layer downwards; 1 is plain finetuning", above=0, at_most=1)

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        return LayerDecayObjective(self.started(setup), setup.decouple_weight, self.decay)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"layer_decay": self.decay}


class LayerDecayObjective(PredictionObjective):
    """Prediction alone, at rates of its layers that fall by `decay` from each to the one below."""

    def __init__(self, predictor: Predictor, decouple_weight: float, decay: float) -> None:
        super().__init__(predictor, decouple_weight)
        self.decay = decay

    def rate_scales(self) -> Mapping[nn.Parameter, float]:
        """See `Objective.rate_scales`."""
        from_top = enumerate(reversed(self.predictor.layers), start=1)
        return {parameter: self.decay**below for below, cell in from_top for parameter in cell.parameters()}
