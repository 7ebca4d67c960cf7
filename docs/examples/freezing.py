"""A method of your own: finetuning in which the lower layers stay as the best source has them.

Copied to `platform/zoocast/transfer/freezing.py` and named in `Method` beside it, it is there wherever a method is chosen.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from zoocast.config import check_ranges, setting
from zoocast.nn.predictor import Predictor
from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Need, Setup, TransferMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freezing(TransferMethod):
    """Starts from the best source, and trains all but its lowest layers."""

    kind: ClassVar[str] = "freezing"
    layers: int = setting(1, "layers that are not trained, from the bottom", at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> frozenset[Need]:
        """Which source is the best, and the weights of all: the ranking is known only when they are there."""
        return frozenset({"rank", "sources"})

    def build(self, setup: Setup) -> Objective:
        """The objective of the others, for a network of which a part stays."""
        predictor = Predictor(setup.predictor, setup.frames)
        setup.start(predictor)
        for cell in predictor.layers[: self.layers]:
            cell.requires_grad_(False)
        return PredictionObjective(predictor, setup.decouple_weight)
