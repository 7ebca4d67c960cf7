"""Transferable Memory Units: a target that distils what frozen sources remember of its clips (Yao et al., ICML 2020)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from zoocast.bank.distill import DistillationLoss, SourceMemories, Window, frame_loss
from zoocast.bank.read import MemoryBank
from zoocast.bank.relevance import Relevance, relevance_of
from zoocast.config import setting
from zoocast.data.store import ClipSplit, ClipStore
from zoocast.errors import ConfigError
from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig
from zoocast.nn.tmu import TmuConfig
from zoocast.training import Batch, Collect, Objective, PredictionObjective, TrainingConfig, prediction_terms
from zoocast.transfer.method import Need, Setup, TransferMethod

__all__ = ["RELEVANCE", "Transfer", "TransferObjective"]

RELEVANCE = "relevance.npz"
"""In a training's folder: ``sources``, M names, and ``relevance``, the mean weight of each for each training clip, (N, M) float32
whose rows sum to M."""

Anneal = Literal["none", "linear", "cosine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer(TransferMethod):
    """Transferable Memory Units that distil from the frozen sources' memories (Yao et al., ICML 2020)."""

    kind: ClassVar[str] = "tmu"
    has_units: ClassVar[bool] = True
    weight_field: ClassVar[str] = "distillation_weight"
    tmu: TmuConfig = setting(TmuConfig(), "the transfer units")
    distillation_weight: float = setting(
        0.1, "beta of the distillation loss; the release computes the loss and drops it (0), its remains say 0.1", at_least=0
    )
    warm_start: Literal["best", "none"] = setting(
        "best", "start from the weights of the source that predicts the validation clips best, or at random (release: none)"
    )
    source_memories: SourceMemories = setting(
        "raw",
        "what the distilled memory is compared with: raw; standardised, each map stack by itself; or scaled, divided by one"
        " deviation for each source and layer (release: raw, although the distilled state is normalised)",
    )
    reduction: Literal["mean", "release"] = setting(
        "mean", "of squared distances over steps and sources: mean, or the release's sum over both divided by batch and length"
    )

    relevance: Literal["none", "best", "soft"] = setting(
        "none",
        "whom a clip distils from: none = all sources alike; best = the one that predicts this very training clip best; soft ="
        " all, weighted by a softmax of -error / (temperature * lowest error)",
        added=True,
    )
    relevance_over: Literal["clip", "step", "place"] = setting(
        "clip", "where the sources' errors are compared: in whole clips, in each step, or in each step and place", added=True
    )
    temperature: float = setting(0.25, "of relevance=soft: towards 0 it becomes best, large it becomes none", added=True, above=0)
    window: Window = setting(
        "all", "the steps that are distilled: all, those on observed frames, or those on frames to come", added=True
    )
    anneal: Anneal = setting("none", "how the weights of distillation fall to 0 over the training", added=True)
    frame_weight: float = setting(
        0.0,
        "of the squared distance between the target's predicted frames and the sources', weighted by relevance as well",
        added=True,
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relevance == "none" and self.relevance_over != "clip":
            raise ConfigError(
                "relevance_over", f"{self.relevance_over} compares sources, but got relevance=none; set it to best or soft"
            )

    @property
    def distils(self) -> bool:
        """Whether the sources have a say in training."""
        return bool(self.distillation_weight or self.frame_weight)

    @property
    def fitted(self) -> bool:
        """Whether distillers start fitted; those of a training that goes on from an earlier one have been."""
        return self.tmu.distiller_init == "fitted" and self.warm_start == "best"

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`."""
        start: set[Need] = {"rank", "sources"} if self.warm_start == "best" else set()
        # An online bank runs the sources; of a stored one it is checked that these sources, and no others, made it.
        distil: set[Need] = {"sources", "banks"} if self.distils or self.fitted else set()
        # How relevant a source is shows in what it predicts.
        frames: set[Need] = {"frames"} if self.distils and (self.frame_weight or self.relevance != "none") else set()
        return frozenset(start | distil | frames)

    def network(self, predictor: PredictorConfig, num_sources: int) -> PredictorConfig:
        """See `TransferMethod.network`: with transfer units for `num_sources` sources."""
        return dataclasses.replace(predictor, tmu=self.tmu, num_sources=num_sources)

    def check(self, predictor: PredictorConfig, training: TrainingConfig) -> None:  # noqa: ARG002
        """See `TransferMethod.check`."""
        if self.tmu.distiller_init == "fitted" and not self.fitted:
            raise ConfigError(
                "tmu.distiller_init",
                f"fitted fits the warm-started memory to the sources', but got warm_start={self.warm_start}; use identity",
            )

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`; without weight on distillation the gates still learn what to let through."""
        predictor = Predictor(self.network(setup.predictor, len(setup.names)), setup.frames)
        if self.warm_start == "best":
            setup.start(predictor)
        # The plain objective then trains the very same weights: a term of weight 0 has no gradient, and costs a pass of all
        # sources. That is the release, which computes its distillation loss and never adds it.
        bank = setup.open_bank(predictor.config) if self.distils or self.fitted else None
        if bank is None:
            return PredictionObjective(predictor, setup.decouple_weight)
        # After the predictor: its projections draw their weights last, so the network begins as it does without them.
        choice = self.relevance
        distillation = DistillationLoss(
            predictor,
            bank,
            source_memories=self.source_memories,
            reduction=self.reduction,
            relevance=None if choice == "none" else Relevance(choice, self.relevance_over, self.temperature),
            window=self.window,
        )
        clips = ClipStore.open(setup.clips).split("train")
        if self.fitted:
            distillation.fit(predictor, clips)
        if not self.distils:
            return PredictionObjective(predictor, setup.decouple_weight)
        return TransferObjective(
            predictor,
            setup.decouple_weight,
            bank,
            distillation,
            self.distillation_weight,
            frame_weight=self.frame_weight,
            anneal=self.anneal,
            clips=clips,
        )

    def unstarted(self) -> TransferMethod:
        """See `TransferMethod.unstarted`."""
        return dataclasses.replace(self, warm_start="none")

    def without_loss(self) -> Transfer:
        """The same network and start without distillation: what the transfer units are worth as capacity alone."""
        # All that only says how to distil is left at its default, so that it is no other training for it.
        return Transfer(tmu=self.tmu, warm_start=self.warm_start, distillation_weight=0.0, learning_rate=self.learning_rate)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {
            "distillation_weight": self.distillation_weight,
            "combine": self.tmu.combine,
            "relevance": self.relevance,
            "frame_weight": self.frame_weight,
        }


class TransferObjective(Objective):
    """Prediction, and distillation from the bank: ``beta * mean (S^m_t - C^m_t)^2`` (Yao et al., ICML 2020, eq. 8).

    Args:
        predictor: with transfer units.
        decouple_weight: see `TrainingConfig`.
        bank: what is distilled.
        distillation: how it is compared.
        weight: beta.
        frame_weight: of the distance to the sources' frames; 0 leaves it out.
        anneal: how both weights fall to 0 over the training.
        clips: those that are trained on, of which `leave` says whom each listens to.
    """

    def __init__(
        self,
        predictor: Predictor,
        decouple_weight: float,
        bank: MemoryBank,
        distillation: DistillationLoss,
        weight: float,
        *,
        frame_weight: float = 0.0,
        anneal: Anneal = "none",
        clips: ClipSplit | None = None,
    ) -> None:
        super().__init__()
        self.predictor, self.decouple_weight, self.weight = predictor, decouple_weight, weight
        self.frame_weight, self.anneal, self.clips = frame_weight, anneal, clips
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
        recalled = self.bank.recall(
            "train",
            batch.indices,
            reverse=batch.reverse,
            clips=batch.clips,
            feed=batch.feed,
            frames=self.frame_weight > 0 or self.distillation.relevance is not None,
        )
        weights = self.distillation.weights(recalled.frames, batch.clips)
        distilled = {layer: value for (layer, name), value in prediction.aux.items() if name == "distilled"}
        left = _annealed(self.anneal, batch.progress)
        terms["distill"] = left * self.weight * self.distillation.distillation_loss(distilled, recalled.memories, weights)
        if self.frame_weight and recalled.frames is not None:
            loss = frame_loss(prediction.frames, recalled.frames, weights, self.distillation.steps)
            terms["distill_frames"] = left * self.frame_weight * loss
        return terms

    def leave(self, directory: Path) -> Mapping[str, float]:
        """See `Objective.leave`: `RELEVANCE`, and for each source the share of the clips for which it has the largest weight."""
        if self.distillation.relevance is None or self.clips is None:
            return {}
        weights = relevance_of(self.bank, self.clips, self.distillation.relevance).numpy()
        np.savez_compressed(directory / RELEVANCE, allow_pickle=False, relevance=weights, sources=np.array(self.bank.names))
        shares = np.bincount(weights.argmax(axis=1), minlength=len(self.bank.names)) / len(weights)
        return {f"relevance.{name}": float(share) for name, share in zip(self.bank.names, shares, strict=True)}


def _annealed(anneal: Anneal, progress: float) -> float:
    """What is left of a weight of 1 when this share of the training is done."""
    if anneal == "none":
        return 1.0
    return 1 - progress if anneal == "linear" else (1 + math.cos(math.pi * progress)) / 2
