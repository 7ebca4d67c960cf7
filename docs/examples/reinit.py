"""A method of your own: finetuning in which the upper layers forget what the best source learnt, and begin anew.

Copied to `platform/zoocast/transfer/reinit.py` and named in `Method` beside it, it is there wherever a method is chosen.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import ClassVar

from zoocast.config import check_ranges, setting
from zoocast.nn.predictor import Predictor
from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Setup, StartedMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reinit(StartedMethod):
    """Starts from the best source, but for its uppermost layers, which begin at random (Zhang et al., ICLR 2021)."""

    kind: ClassVar[str] = "reinit"
    layers: int = setting(1, "layers that begin at random, from the top", at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, setup: Setup) -> Objective:
        """The objective of the others, for a network of which a part is new."""
        predictor = Predictor(setup.predictor, setup.frames)
        upper = predictor.layers[::-1][: self.layers]
        random = [copy.deepcopy(cell.state_dict()) for cell in upper]
        setup.start(predictor)
        for cell, weights in zip(upper, random, strict=True):
            cell.load_state_dict(weights)
        return PredictionObjective(predictor, setup.decouple_weight)
