"""Train a target on its own few clips: from scratch, finetuned, anchored to a source (L2-SP), or with TMU against a memory bank.

All arms share data, iterations, sampling masks and evaluation; they differ in where the weights start and in one loss term.
What a target exports is a plain predictor: sources, bank and projections stay behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoocast.bank.distill import DistillationLoss
from zoocast.bank.read import BankConfig, MemoryBank, open_bank
from zoocast.bank.recipe import BankResult, combined_digest
from zoocast.config import setting
from zoocast.dag import StepContext, step_kind
from zoocast.data import DataConfig, DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, within
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig, check_predictor, warm_start
from zoocast.nn.tmu import TmuConfig
from zoocast.tracking import Journal
from zoocast.training import (
    MODEL_FOLDER,
    Batch,
    Collect,
    Objective,
    PredictionObjective,
    TrainingConfig,
    Worker,
    WorkerConfig,
    fit,
    in_train_workers,
    prediction_terms,
    summary_params,
    use_threads,
)
from zoocast.training.searchable import trains_with
from zoocast.zoo import load_source

__all__ = [
    "BANK_FOLDER",
    "L2SP",
    "Arm",
    "Finetune",
    "Method",
    "Scratch",
    "TargetConfig",
    "TrainTargetConfig",
    "Transfer",
    "tmu_predictor",
    "train_arm",
    "train_target",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """The data and the network that all arms share, and how each is trained."""

    data: DataConfig = setting(DigitsConfig(), "what the target is trained and tested on")
    predictor: PredictorConfig = setting(PredictorConfig(), "its network, before transfer units are put in")
    training: TrainingConfig = setting(TrainingConfig(), "the same for every arm; seed k adds k to its seed")
    workers: WorkerConfig = setting(WorkerConfig(), "where each arm is trained", identity=False)

    def check(self) -> None:
        """Raise `ConfigError` for what cannot work, before any work starts."""
        with within("data"):
            self.data.check()
        if self.predictor.tmu is not None:
            raise ConfigError("predictor.tmu", "must be none, for arms without transfer share it; set transfer.tmu instead")
        with within("predictor"):
            check_predictor(self.predictor, self.data.frame_shape())
        with within("training"):
            self.workers.check(self.training)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scratch:
    """Random weights, the target's clips, nothing else."""

    kind: ClassVar[str] = "scratch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune:
    """Start from the weights of a source and train all of them."""

    kind: ClassVar[str] = "finetune"
    source: str = setting("", "whose weights; empty: those of the source that predicts the validation clips best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class L2SP:
    """Finetuning with a penalty on the distance to the best source's weights (Li et al., ICML 2018, eq. 2)."""

    kind: ClassVar[str] = "l2-sp"
    weight: float = setting(1e-2, "alpha of the penalty alpha/2 * |w - w0|^2")

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError("weight", f"must not be negative, but got {self.weight}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """Transferable Memory Units that distil from the frozen sources' memories (Yao et al., ICML 2020)."""

    kind: ClassVar[str] = "tmu"
    tmu: TmuConfig = setting(TmuConfig(), "the transfer units")
    distillation_weight: float = setting(
        0.1, "beta of the distillation loss; the release computes the loss and drops it (0), its remains say 0.1"
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
        if self.distillation_weight < 0:
            raise ConfigError("distillation_weight", f"must not be negative, but got {self.distillation_weight}")


BANK_FOLDER = "bank"

Method = Scratch | Finetune | L2SP | Transfer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainTargetConfig:
    """The step that trains one arm with one seed. A TMU arm has a bank, and the zoo's names in the order of its units."""

    arm: str = setting(identity=False)
    method: Method
    predictor: PredictorConfig
    training: TrainingConfig
    observed: int
    bank: BankConfig | None = None
    sources: tuple[str, ...] = ()
    workers: WorkerConfig = setting(WorkerConfig(), identity=False)


# ------------------------------------------------------------------------------------------------------------------- objectives


class AnchoredObjective(PredictionObjective):
    """Adds ``weight / 2`` times the squared distance of the weights to where they started (L2-SP)."""

    def __init__(self, predictor: Predictor, decouple_weight: float, weight: float) -> None:
        super().__init__(predictor, decouple_weight)
        self.weight = weight
        self.anchors = [p.detach().clone() for p in predictor.parameters()]

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        anchors = [a.to(batch.clips.device) for a in self.anchors]
        distances = [(p - a).square().sum() for p, a in zip(self.predictor.parameters(), anchors, strict=True)]
        return {**super().terms(batch, prediction), "anchor": self.weight / 2 * torch.stack(distances).sum()}


class TransferObjective(Objective):
    """Prediction, and distillation from the bank: ``beta * mean (S^m_t - C^m_t)^2`` (Yao et al., ICML 2020, eq. 8)."""

    def __init__(
        self, predictor: Predictor, decouple_weight: float, bank: MemoryBank, distillation: DistillationLoss, weight: float
    ) -> None:
        super().__init__()
        self.predictor, self.decouple_weight, self.weight = predictor, decouple_weight, weight
        self.bank, self.distillation = bank, distillation

    def predict(self, batch: Batch, collect: Collect) -> Prediction:
        """See `Objective.predict`."""
        return self.predictor(batch.clips, batch.feed, collect, aux=("distilled", *self.predictor.loss_aux))

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`."""
        terms = prediction_terms(self.predictor, prediction, batch, self.decouple_weight)
        memories = self.bank.memories("train", batch.indices, reverse=batch.reverse, clips=batch.clips, feed=batch.feed)
        distilled = {layer: value for (layer, name), value in prediction.aux.items() if name == "distilled"}
        return {**terms, "distill": self.weight * self.distillation.distillation_loss(distilled, memories)}


# ------------------------------------------------------------------------------------------------------------------------ steps


def _train_here(
    context: StepContext, config: TrainTargetConfig, worker: Worker, on_validation: Callable[[int, float], None] | None
) -> dict[str, Any]:
    store = ClipStore.open(context.inputs["data"])
    arm = Arm(config, context, store.shape, worker.device)
    return fit(
        context,
        config.training,
        arm.build,
        store.split("train"),
        store.split("validation"),
        config.observed,
        worker,
        on_validation=on_validation,
    )


@step_kind("train-target")
@trains_with(_train_here)
def train_target(context: StepContext) -> dict[str, Any]:
    """Step: train one arm. Inputs: ``data``, ``rank``, the group ``sources``, and for a TMU arm ``banks`` of them if stored."""
    return train_arm(context, context.config, _train)


def train_arm(
    context: StepContext, config: TrainTargetConfig, train: Callable[[StepContext, Worker], dict[str, Any]]
) -> dict[str, Any]:
    """Run `train`, a module-level function, where the arm is to be trained, and tell the journal what is trained on what.

    Returns what `train` does on its first worker, which has left a model in ``model/``.
    """
    journal = Journal(context.journal_path)
    store = ClipStore.open(context.inputs["data"])
    journal.params({"arm": config.arm, "method": config.method.kind, **summary_params(config.predictor, config.training)})
    if isinstance(config.method, Transfer):
        journal.params({"distillation_weight": config.method.distillation_weight, "combine": config.method.tmu.combine})
        if banks := context.group("banks"):
            digests = [context.result(f"banks/{name}", BankResult).digest for name in config.sources if name in banks]
            journal.tags({"zoocast.bank_digest": combined_digest(digests)})
    journal.tags({"zoocast.data_digest": store.digest})
    journal.dataset(name="target", digest=store.digest, context="training")
    if config.workers.num_workers > 1:
        result = in_train_workers(context, config.workers, train)
    else:
        use_threads(context.resources.num_cpus)
        result = train(context, Worker(device="cuda" if context.resources.num_gpus else "cpu"))
    journal.model(MODEL_FOLDER, name=f"target-{config.arm}".replace(".", "-"))  # MLflow takes no dots
    return result


def _train(context: StepContext, worker: Worker) -> dict[str, Any]:
    return _train_here(context, context.config, worker, None)


def tmu_predictor(predictor: PredictorConfig, transfer: Transfer, num_sources: int) -> PredictorConfig:
    """The target's network with transfer units for `num_sources` sources."""
    return dataclasses.replace(predictor, tmu=transfer.tmu, num_sources=num_sources)


class Arm:
    """Makes the objective of one arm, from the folders of a step's inputs (see `train_target`)."""

    def __init__(self, config: TrainTargetConfig, context: StepContext, frames: FrameShape, device: str) -> None:
        self.config, self.context, self.frames, self.device = config, context, frames, device
        self._opened: MemoryBank | None = None

    def build(self) -> Objective:
        """A new objective; called once the seed is set. Those of one arm share their bank."""
        method, decouple = self.config.method, self.config.training.decouple_weight
        if isinstance(method, Transfer):
            return self._transfer(method)
        predictor = Predictor(self.config.predictor, self.frames)
        if isinstance(method, Finetune):
            self._start(predictor, method.source or self._best())
        if isinstance(method, L2SP):
            self._start(predictor, self._best())
            return AnchoredObjective(predictor, decouple, method.weight)
        return PredictionObjective(predictor, decouple)

    def _transfer(self, method: Transfer) -> Objective:
        config = self.config
        predictor = Predictor(tmu_predictor(config.predictor, method, len(config.sources)), self.frames)
        if method.warm_start == "best":
            self._start(predictor, self._best())
        if config.bank is None or not method.distillation_weight:
            return PredictionObjective(predictor, config.training.decouple_weight)
        bank = self._bank(config.bank, predictor.config)
        distillation = DistillationLoss(predictor, bank, source_memories=method.source_memories, reduction=method.reduction)
        return TransferObjective(predictor, config.training.decouple_weight, bank, distillation, method.distillation_weight)

    def _bank(self, bank: BankConfig, target: PredictorConfig) -> MemoryBank:
        if self._opened is None:
            sources, banks = self.context.group("sources"), self.context.group("banks")
            self._opened = open_bank(
                bank,
                sources={name: sources[name] / MODEL_FOLDER for name in self.config.sources},
                banks={name: folder / BANK_FOLDER for name, folder in banks.items()},
                clips=self.context.inputs["data"],
                observed=self.config.observed,
                target=target,
                device=self.device,
            )
        return self._opened

    def _best(self) -> str:
        best = self.context.results["rank"]["best"]
        if best is None:
            raise ConfigError(
                "target.predictor", "no source has the target's architecture, so there are no weights to start from"
            )
        return str(best)

    def _start(self, predictor: Predictor, source: str) -> None:
        warm_start(predictor, load_source(self.context.group("sources")[source]))
