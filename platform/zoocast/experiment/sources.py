"""The steps that a zoo is made of: pretrain a source, adopt one that a lab has already, and rank all of them on a target.

What a source step leaves in ``model/`` (safetensors and JSON) is all that a bank or a target ever reads of it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

from zoocast.config import setting
from zoocast.dag import StepContext, step_kind
from zoocast.data import DataConfig
from zoocast.data.store import ClipStore
from zoocast.errors import IntegrityError, StepFailed
from zoocast.evaluation import validation_error
from zoocast.nn.predictor import Predictor, PredictorConfig, load_predictor, read_description, save_predictor
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
from zoocast.zoo import Ranking, can_see, can_start, load_source

__all__ = ["AdoptConfig", "Adopted", "PretrainConfig", "RankConfig", "adopt", "pretrain", "rank_sources"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The step that pretrains one source. Its name is a label: the same work under two names is one step."""

    name: str = setting(identity=False)
    data: DataConfig
    predictor: PredictorConfig
    training: TrainingConfig
    observed: int
    workers: WorkerConfig = setting(WorkerConfig(), identity=False)


@step_kind("pretrain-source")
def pretrain(context: StepContext) -> Trained:
    """Step: train a source on the clips of its input ``data`` in Ray Train workers."""
    config: PretrainConfig = context.config
    journal = Journal(context.journal_path)
    store = ClipStore.open(context.inputs["data"])
    journal.params({"arm": config.name, "method": "source", **summary_params(config.predictor, config.training)})
    journal.tags({"zoocast.data_digest": store.digest})
    journal.dataset(name=f"{config.name} ({config.data.kind})", digest=store.digest, context="training")
    result = in_train_workers(context, config.workers, _pretrain_worker)
    _register(journal, config.name)  # only now: whoever asks the registry for `ready` gets a finished source
    return result


def _register(journal: Journal, source: str) -> None:
    """Enter in the registry the network in ``model/``; MLflow takes no dots in its name."""
    journal.model(MODEL_FOLDER, name=f"source-{source}".replace(".", "-"), alias="ready")


def _pretrain_worker(context: StepContext, worker: Worker) -> Trained:
    config: PretrainConfig = context.config
    store = ClipStore.open(context.inputs["data"])

    def build() -> PredictionObjective:
        return PredictionObjective(Predictor(config.predictor, store.shape), config.training.decouple_weight)

    return fit(
        build,
        store.split("train"),
        store.split("validation"),
        observed=config.observed,
        config=config.training,
        worker=worker,
        surroundings=Surroundings.of_step(context),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptConfig:
    """The step that takes a network over. `digest` says which; its label and where it lies are no part of the identity."""

    name: str = setting(identity=False)
    digest: str
    model: str = setting("", identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adopted:
    """Which network was taken over, and its number of weights."""

    digest: str
    parameters: int


@step_kind("adopt-source")
def adopt(context: StepContext) -> Adopted:
    """Step: take the network in the folder `model`, which every node must see, into the zoo as it is.

    Raises:
        IntegrityError: it is damaged, or is another one than when the run was planned.
    """
    config: AdoptConfig = context.config
    # Copied, for the folder is the lab's own: what the steps that follow read stays as it was adopted.
    predictor = load_predictor(Path(config.model))
    save_predictor(predictor, context.directory / MODEL_FOLDER)
    # Of the copy, which is what will be read; equal networks give equal bytes, wherever they lie.
    digest = read_description(context.directory / MODEL_FOLDER).digest
    if digest != config.digest:
        raise IntegrityError(f"the network in {config.model} was replaced after this run was planned; run the pipeline again")
    channels = "-".join(map(str, predictor.config.hidden_channels))
    with Journal(context.journal_path) as journal:
        journal.params({"arm": config.name, "method": "source", "cell": predictor.config.cell.kind, "hidden_channels": channels})
        journal.tags({"zoocast.model_digest": digest, "zoocast.adopted_from": config.model})
        _register(journal, config.name)
    return Adopted(digest=digest, parameters=sum(p.numel() for p in predictor.parameters()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankConfig:
    """The step that finds the source which predicts the target's validation clips best without any training."""

    observed: int
    target: PredictorConfig


@step_kind("rank-sources")
def rank_sources(context: StepContext) -> Ranking:
    """Step: how well every source predicts the target's validation clips. Inputs: its ``data`` and the group ``sources``.

    Raises:
        StepFailed: a source predicts values that are not finite.
    """
    config: RankConfig = context.config
    use_threads(context.resources.num_cpus)
    store = ClipStore.open(context.inputs["data"])
    horizon = store.length - config.observed
    errors: dict[str, float] = {}
    fitting: list[str] = []
    # Sorted, so that of two equally good sources the same one wins whatever order they are listed in.
    for name, folder in sorted(context.group("sources").items()):
        source = load_source(folder, "cuda" if context.resources.num_gpus else "cpu")
        if not can_see(source.config, source.frames, store.shape):
            continue
        predict = functools.partial(source.predict, horizon=horizon)
        errors[name] = validation_error(predict, store.split("validation"), observed=config.observed, horizon=horizon)
        if not math.isfinite(errors[name]):
            raise StepFailed(
                f"source {name} predicts values that are not finite for the target's validation clips, so it has no place in a"
                " ranking; leave it out of sources, or train it with a lower learning rate"
            )
        # A source of another family has an error in the ranking all the same; it is only no start.
        if can_start(config.target, store.shape, source.config, source.frames):
            fitting.append(name)
    best = min(fitting, key=errors.__getitem__) if fitting else None
    return Ranking(val_mse=errors, fitting=tuple(fitting), best=best)
