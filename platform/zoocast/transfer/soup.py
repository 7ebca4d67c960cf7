"""A soup of the zoo: the mean of its weights, then finetuning (Wortsman et al., ICML 2022)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Setup, StartedMethod, TransferMethod
from zoocast.transfer.scratch import Scratch

__all__ = ["Soup"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soup(StartedMethod):
    """Start from the mean of the weights of all sources that fit the target, ``1/M sum_m w_m``, and train all of them.

    The uniform soup of Wortsman et al. (ICML 2022), whose ingredients were finetuned from one network. Sources that began
    at weights of their own need not have a mean that predicts anything; how good a start it is, the first validation says.
    """

    kind: ClassVar[str] = "soup"

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        predictor = self.started(setup)
        ingredients: list[list[Tensor]] = []
        for name in setup.fitting:
            setup.start(predictor, name)
            ingredients.append([p.detach().clone() for p in predictor.parameters()])
        with torch.no_grad():
            for parameter, *weights in zip(predictor.parameters(), *ingredients, strict=True):
                parameter.copy_(torch.stack(weights).mean(0))
        return PredictionObjective(predictor, setup.decouple_weight)

    def unstarted(self) -> TransferMethod:
        """See `TransferMethod.unstarted`."""
        return Scratch()
