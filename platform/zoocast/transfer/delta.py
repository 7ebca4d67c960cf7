"""DELTA: finetuning that keeps what the best source remembers of the target's clips (Li et al., ICLR 2019)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zoocast.bank.read import MemoryBank
from zoocast.config import setting
from zoocast.nn.predictor import Prediction, Predictor
from zoocast.training import Batch, Objective, PredictionObjective
from zoocast.transfer.method import Need, Setup, StartedMethod

__all__ = ["Delta", "DeltaObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delta(StartedMethod):
    """Finetuning with a penalty on the distance of the memories to the best source's, as the bank has them, on the same clips.

    Li et al. (ICLR 2019) keep the feature maps of a source's layers; here they are the bank's memories. Their attention, a
    softmax over channels of how much the source's loss rises without each, is left out: of errors of frames, which differ in the
    second decimal at most, it is flat.
    """

    kind: ClassVar[str] = "delta"
    weight_field: ClassVar[str] = "weight"
    weight: float = setting(0.1, "of the mean squared distance to the best source's memories", at_least=0)

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`."""
        return super().needs | {"banks"}

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        predictor = self.started(setup)
        assert setup.best is not None  # or there would be no start
        bank = dataclasses.replace(setup, names=(setup.best,)).open_bank(predictor.config)
        assert bank is not None  # it is among the needs
        return DeltaObjective(predictor, setup.decouple_weight, bank, self.weight)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"delta_weight": self.weight}


class DeltaObjective(PredictionObjective):
    """Adds ``weight * mean (C_t - C*_t)^2``, the distance of each layer's memory to that of the one source in the bank.

    Args:
        predictor: a network like the source's.
        decouple_weight: see `TrainingConfig`.
        bank: the memories of that source.
        weight: of the distance, a mean over layers, steps, channels and space.
    """

    def __init__(self, predictor: Predictor, decouple_weight: float, bank: MemoryBank, weight: float) -> None:
        (refs,) = bank.refs
        # Each memory in the layer where the source has it, whatever layers the bank's settings map: the networks are alike.
        super().__init__(predictor, decouple_weight, {ref.layer: (ref.memory,) for ref in refs.values()})
        self.bank, self.refs, self.weight = bank, refs, weight

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        (kept,) = self.bank.memories("train", batch.indices, reverse=batch.reverse, clips=batch.clips, feed=batch.feed)
        distances = [
            F.mse_loss(prediction.memories[ref.layer, ref.memory].float(), kept[layer].float())
            for layer, ref in self.refs.items()
        ]
        return {**super().terms(batch, prediction), "delta": self.weight * torch.stack(distances).mean()}
