"""Finetuning: the weights of a source, then ordinary training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from zoocast.config import setting
from zoocast.nn.predictor import Predictor
from zoocast.training import Objective, PredictionObjective
from zoocast.transfer.method import Need, Setup, TransferMethod
from zoocast.transfer.scratch import Scratch

__all__ = ["Finetune"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(TransferMethod):
    """Start from the weights of a source and train all of them."""

    kind: ClassVar[str] = "finetune"
    source: str = setting("", "whose weights; empty: those of the source that predicts the validation clips best")

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`; a source that is named needs no ranking, and so need not wait for the others."""
        return frozenset({"sources"} if self.source else {"rank", "sources"})

    def reads(self, sources: Sequence[str]) -> tuple[str, ...]:
        """See `TransferMethod.reads`."""
        return (self.source,) if self.source else tuple(sources)

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        # The random weights are drawn although they are replaced: the generator then goes on as in the other arms.
        predictor = Predictor(setup.predictor, setup.frames)
        setup.start(predictor, self.source)
        return PredictionObjective(predictor, setup.decouple_weight)

    def unstarted(self) -> TransferMethod:
        """See `TransferMethod.unstarted`."""
        return Scratch()  # the weights come from the earlier training, so that no source has to be there
