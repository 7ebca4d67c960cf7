"""Frame distillation: a plain network that is finetuned and taught, beside the truth, by what the whole zoo predicts."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from torch import Tensor

from zoocast.bank.distill import frame_loss
from zoocast.bank.read import MemoryBank
from zoocast.bank.relevance import Relevance
from zoocast.config import setting
from zoocast.nn.predictor import Prediction, Predictor
from zoocast.training import Batch, Objective, PredictionObjective
from zoocast.transfer.method import Need, Setup, StartedMethod

__all__ = ["FrameDistillation", "FrameObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameDistillation(StartedMethod):
    """Finetuning from the best source with a penalty on the distance of the predicted frames to the sources'.

    Distillation of an ensemble's outputs (Hinton et al., 2015), for frames by their squared distance, and each training clip by
    default from the source that predicts it best. It has what TMU learns from, without transfer units and memories.
    """

    kind: ClassVar[str] = "frames"
    weight_field: ClassVar[str] = "weight"
    weight: float = setting(0.3, "of the mean squared distance to the sources' frames", at_least=0)
    relevance: Literal["none", "best", "soft"] = setting(
        "best", "whom a clip distils from, as in transfer.relevance: all sources alike, the one that predicts it best, or softly"
    )

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`."""
        return super().needs | {"banks", "frames"}

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        predictor = self.started(setup)
        bank = dataclasses.replace(setup, names=tuple(setup.sources)).open_bank(predictor.config)
        assert bank is not None  # it is among the needs
        relevance = None if self.relevance == "none" else Relevance(self.relevance)
        return FrameObjective(predictor, setup.decouple_weight, bank, relevance, self.weight)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"frame_weight": self.weight, "relevance": self.relevance}


class FrameObjective(PredictionObjective):
    """Adds ``weight * mean_m r_m mean (X_t - X^m_t)^2``, with the relevance r_m of source m for the clip, or 1."""

    def __init__(
        self, predictor: Predictor, decouple_weight: float, bank: MemoryBank, relevance: Relevance | None, weight: float
    ) -> None:
        super().__init__(predictor, decouple_weight)
        self.bank, self.relevance, self.weight = bank, relevance, weight

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        frames = self.bank.recall(
            "train", batch.indices, reverse=batch.reverse, clips=batch.clips, feed=batch.feed, memories=False, frames=True
        ).frames
        assert frames is not None  # as asked for
        shares = None
        if self.relevance is not None:
            shares = self.relevance.weights(self.bank, frames, batch.clips, self.predictor.map_size)
        return {**super().terms(batch, prediction), "distill_frames": self.weight * frame_loss(prediction.frames, frames, shares)}
