"""The zoo: source networks, each pretrained without labels on data of its own, then frozen.

A source is its data, its network and its training, or a network that a lab has already. `pretrain` is the step that trains one
in Ray Train workers, `adopt` the step that takes one over; what either leaves in ``model/`` (safetensors and JSON) is all that a
bank or a finetuned target ever reads of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zoocast.config import setting
from zoocast.dag import StepContext, step_kind
from zoocast.data import DataConfig, DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, IntegrityError, within
from zoocast.evaluation import validation_error
from zoocast.frames import FrameShape
from zoocast.nn.predictor import (
    DESCRIPTION,
    Predictor,
    PredictorConfig,
    check_predictor,
    load_predictor,
    read_description,
    save_predictor,
    warm_start,
)
from zoocast.store.files import check_name
from zoocast.tracking import Journal
from zoocast.training import (
    MODEL_FOLDER,
    PredictionObjective,
    Surroundings,
    Trained,
    TrainingConfig,
    Worker,
    WorkerConfig,
    fit,
    in_train_workers,
    summary_params,
    use_threads,
)

__all__ = [
    "AdoptConfig",
    "PretrainConfig",
    "RankConfig",
    "Ranking",
    "SourceConfig",
    "adopt",
    "can_start",
    "check_observed",
    "load_source",
    "pretrain",
    "rank_sources",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One member of the zoo."""

    name: str = setting("source", "of the source, in steps, tables and the registry")
    model: str = setting(
        "",
        "folder of a network, as `pipelines import` writes it, to be taken as it is instead of pretraining; data, predictor,"
        " training and workers are then not looked at",
        identity=False,
    )
    data: DataConfig = setting(DigitsConfig(), "what it is pretrained on")
    predictor: PredictorConfig = setting(PredictorConfig(), "its network; may differ from the target's")
    training: TrainingConfig = setting(TrainingConfig(), "its pretraining")
    workers: WorkerConfig = setting(WorkerConfig(), "where it is pretrained", identity=False)

    def __post_init__(self) -> None:
        check_name("a source", self.name)
        if self.model:
            # Workers run in other folders than the command.
            object.__setattr__(self, "model", str(Path(self.model).expanduser().absolute()))

    def check(self) -> None:
        """Raise `ConfigError` for what cannot work, and `IntegrityError` for a damaged model, before any work starts."""
        if self.model:
            if not (Path(self.model) / DESCRIPTION).is_file():
                raise ConfigError(
                    "model",
                    f"{self.model} holds no network ({DESCRIPTION} is missing); give the folder that `pipelines import` wrote",
                )
            load_predictor(Path(self.model))
            return
        with within("data"):
            self.data.check()
        with within("predictor"):
            check_predictor(self.predictor, self.data.frame_shape())
        with within("training"):
            self.workers.check(self.training)

    def network(self) -> tuple[PredictorConfig, FrameShape]:
        """The network and the frames that it is, or was, trained on. Raises `IntegrityError` for a damaged model."""
        if self.model:
            description = read_description(Path(self.model))
            return description.config, description.frames
        return self.predictor, self.data.frame_shape()


def check_observed(observed: int, length: int, whose: str) -> None:
    """Raise `ConfigError` unless the clips of `whose`, of `length` frames, have both observed and future frames."""
    if not 1 <= observed < length:
        raise ConfigError(
            "observed",
            f"must leave at least one of the {length} frames in the clips of {whose} to predict, but got {observed};"
            f" use 1 to {length - 1}, or longer clips",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The step that pretrains one source."""

    source: SourceConfig
    observed: int


@step_kind("pretrain-source")
def pretrain(context: StepContext) -> Trained:
    """Step: train a source on the clips of its input ``data`` in Ray Train workers."""
    config: PretrainConfig = context.config
    journal = Journal(context.journal_path)
    store = ClipStore.open(context.inputs["data"])
    journal.params(
        {"arm": config.source.name, "method": "source", **summary_params(config.source.predictor, config.source.training)}
    )
    journal.tags({"zoocast.data_digest": store.digest})
    journal.dataset(name=f"{config.source.name} ({config.source.data.kind})", digest=store.digest, context="training")
    result = in_train_workers(context, config.source.workers, _pretrain_worker)
    _register(journal, config.source.name)
    return result


def _register(journal: Journal, source: str) -> None:
    """Tell the registry of the network in ``model/``; MLflow takes no dots in its name."""
    journal.model(MODEL_FOLDER, name=f"source-{source}".replace(".", "-"), alias="ready")


def _pretrain_worker(context: StepContext, worker: Worker) -> Trained:
    config: PretrainConfig = context.config
    store, source = ClipStore.open(context.inputs["data"]), config.source

    def build() -> PredictionObjective:
        return PredictionObjective(Predictor(source.predictor, store.shape), source.training.decouple_weight)

    return fit(
        build,
        store.split("train"),
        store.split("validation"),
        observed=config.observed,
        config=source.training,
        worker=worker,
        surroundings=Surroundings.of_step(context),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptConfig:
    """The step that takes a network over. `digest` says which; where it lies is no part of the identity."""

    name: str
    digest: str
    model: str = setting("", identity=False)


@step_kind("adopt-source")
def adopt(context: StepContext) -> dict[str, Any]:
    """Step: take the network in the folder `model`, which every node must see, into the zoo as it is.

    Raises:
        IntegrityError: it is damaged, or is another one than when the run was planned.
    """
    config: AdoptConfig = context.config
    predictor = load_predictor(Path(config.model))
    save_predictor(predictor, context.directory / MODEL_FOLDER)
    digest = read_description(context.directory / MODEL_FOLDER).digest
    if digest != config.digest:
        raise IntegrityError(f"the network in {config.model} was replaced after this run was planned; run the pipeline again")
    channels = "-".join(map(str, predictor.config.hidden_channels))
    with Journal(context.journal_path) as journal:
        journal.params({"arm": config.name, "method": "source", "cell": predictor.config.cell.kind, "hidden_channels": channels})
        journal.tags({"zoocast.model_digest": digest, "zoocast.adopted_from": config.model})
        _register(journal, config.name)
    return {"digest": digest, "parameters": sum(p.numel() for p in predictor.parameters())}


def load_source(directory: Path, device: str = "cpu") -> Predictor:
    """The frozen source that `pretrain` or `adopt` left in `directory`.

    Raises:
        IntegrityError: its files are missing or damaged.
    """
    predictor = load_predictor(directory / MODEL_FOLDER, device)
    return predictor.requires_grad_(False).eval()


def can_start(target: PredictorConfig, frames: FrameShape, source: PredictorConfig, source_frames: FrameShape) -> bool:
    """Whether `warm_start` can give a source's weights to the target's network on `frames`; takes no memory for weights."""
    try:
        with torch.device("meta"):
            warm_start(Predictor(target, frames), Predictor(source, source_frames))
    except ConfigError:
        return False
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankConfig:
    """The step that finds the source which predicts the target's validation clips best without any training."""

    observed: int
    target: PredictorConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well each source predicts the target's validation clips without any training.

    Attributes:
        val_mse: strict/mse of every source that can see the target's frames, by name.
        fitting: those of them whose weights fit the target's network.
        best: the best of these; None when there is none.
    """

    val_mse: Mapping[str, float]
    fitting: tuple[str, ...]
    best: str | None


@step_kind("rank-sources")
def rank_sources(context: StepContext) -> Ranking:
    """Step: rank the sources by their error on the target's validation clips.

    Inputs are the target's ``data`` and the group ``sources``. A source that cannot see the target's frames has no error.
    """
    config: RankConfig = context.config
    use_threads(context.resources.num_cpus)
    store = ClipStore.open(context.inputs["data"])
    horizon = store.length - config.observed
    errors: dict[str, float] = {}
    fitting: list[str] = []
    for name, folder in sorted(context.group("sources").items()):
        source = load_source(folder, "cuda" if context.resources.num_gpus else "cpu")
        if not _sees(source, store.shape):
            continue
        predict = functools.partial(source.predict, horizon=horizon)
        errors[name] = validation_error(predict, store.split("validation"), observed=config.observed, horizon=horizon)
        if can_start(config.target, store.shape, source.config, source.frames):
            fitting.append(name)
    best = min(fitting, key=errors.__getitem__) if fitting else None
    return Ranking(val_mse=errors, fitting=tuple(fitting), best=best)


def _sees(source: Predictor, frames: FrameShape) -> bool:
    """Whether a trained network can be run on `frames`: convolutions do not mind their size, LayerNorms do."""
    return can_start(source.config, frames, source.config, source.frames)
