"""Transferable Memory Units: a target that distils what frozen sources remember of its clips (Yao et al., ICML 2020)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from torch import Tensor

from zoocast.bank.distill import DistillationLoss
from zoocast.bank.read import MemoryBank
from zoocast.config import check_ranges, setting
from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig
from zoocast.nn.tmu import TmuConfig
from zoocast.training import Batch, Collect, Objective, PredictionObjective, prediction_terms
from zoocast.transfer.method import Need, Setup, TransferMethod

__all__ = ["Transfer", "TransferObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer(TransferMethod):
    """Transferable Memory Units that distil from the frozen sources' memories (Yao et al., ICML 2020)."""

    kind: ClassVar[str] = "tmu"
    has_units: ClassVar[bool] = True
    tmu: TmuConfig = setting(TmuConfig(), "the transfer units")
    distillation_weight: float = setting(
        0.1, "beta of the distillation loss; the release computes the loss and drops it (0), its remains say 0.1", at_least=0
    )
    warm_start: Literal["best", "none"] = setting(
        "best", "start from the weights of the source that predicts the validation clips best, or at random (release: none)"
    )
    source_memories: Literal["raw", "standardised"] = setting(
        "raw", "what the distilled memory is compared with (release: raw, although the distilled state is normalised)"
    )
    reduction: Literal["mean", "release"] = setting(
        "mean", "of squared distances over steps and sources: mean, or the release's sum over both divided by batch and length"
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`."""
        start: set[Need] = {"rank", "sources"} if self.warm_start == "best" else set()
        # An online bank runs the sources; of a stored one it is checked that these sources, and no others, made it.
        distil: set[Need] = {"sources", "banks"} if self.distillation_weight else set()
        return frozenset(start | distil)

    def network(self, predictor: PredictorConfig, num_sources: int) -> PredictorConfig:
        """See `TransferMethod.network`: with transfer units for `num_sources` sources."""
        return dataclasses.replace(predictor, tmu=self.tmu, num_sources=num_sources)

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`; without weight on distillation the gates still learn what to let through."""
        predictor = Predictor(self.network(setup.predictor, len(setup.names)), setup.frames)
        if self.warm_start == "best":
            setup.start(predictor)
        # The plain objective then trains the very same weights: a term of weight 0 has no gradient, and costs a pass of all
        # sources. That is the release, which computes its distillation loss and never adds it.
        bank = setup.open_bank(predictor.config) if self.distillation_weight else None
        if bank is None:
            return PredictionObjective(predictor, setup.decouple_weight)
        # After the predictor: its projections draw their weights last, so the network begins as it does without them.
        distillation = DistillationLoss(predictor, bank, source_memories=self.source_memories, reduction=self.reduction)
        return TransferObjective(predictor, setup.decouple_weight, bank, distillation, self.distillation_weight)

    def unstarted(self) -> TransferMethod:
        """See `TransferMethod.unstarted`."""
        return dataclasses.replace(self, warm_start="none")

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"distillation_weight": self.distillation_weight, "combine": self.tmu.combine}


class TransferObjective(Objective):
    """Prediction, and distillation from the bank: ``beta * mean (S^m_t - C^m_t)^2`` (Yao et al., ICML 2020, eq. 8)."""

    def __init__(
        self, predictor: Predictor, decouple_weight: float, bank: MemoryBank, distillation: DistillationLoss, weight: float
    ) -> None:
        super().__init__()
        self.predictor, self.decouple_weight, self.weight = predictor, decouple_weight, weight
        # The bank is no module, so frozen sources are in no checkpoint; the projections are in it, for they are trained.
        self.bank, self.distillation = bank, distillation

    @property
    def exported(self) -> Predictor:
        """See `Objective.exported`: sources, bank and projections stay behind."""
        return self.predictor

    def predict(self, batch: Batch, collect: Collect) -> Prediction:
        """See `Objective.predict`."""
        return self.predictor(batch.clips, batch.feed, collect, aux=("distilled", *self.predictor.loss_aux))

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        terms = prediction_terms(self.predictor, prediction, batch, self.decouple_weight)
        # An online bank with policy `shared` runs its sources on exactly what the target saw; a stored one reads the clips'
        # rows. For each source and layer (B, T - 1, n_m, h_m, w_m), which may differ from the target's own shape.
        memories = self.bank.memories("train", batch.indices, reverse=batch.reverse, clips=batch.clips, feed=batch.feed)
        distilled = {layer: value for (layer, name), value in prediction.aux.items() if name == "distilled"}
        return {**terms, "distill": self.weight * self.distillation.distillation_loss(distilled, memories)}
