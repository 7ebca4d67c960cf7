"""The step that trains one arm of a target with one seed, whatever its method.

`train_target_in` is the same training as a plain function, for a Ray Train worker, a trial of a search, or a process of your own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from zoocast.bank.config import BankConfig
from zoocast.bank.recipe import BankResult, combined_digest
from zoocast.config import setting
from zoocast.dag import StepContext, step_kind
from zoocast.data import DataConfig, DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, within
from zoocast.frames import FrameShape
from zoocast.nn.predictor import PredictorConfig, check_predictor
from zoocast.tracking import Journal
from zoocast.training import (
    MODEL_FOLDER,
    OnValidation,
    Surroundings,
    Trained,
    TrainingConfig,
    Worker,
    WorkerConfig,
    fit,
    in_train_workers,
    summary_params,
    trains_with,
    use_threads,
)
from zoocast.transfer.method import Setup
from zoocast.transfer.methods import Method
from zoocast.zoo import Ranking

__all__ = ["TargetConfig", "TrainTargetConfig", "setup_of", "train_arm", "train_target", "train_target_in"]


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
            self.workers.check(self.training, self.data.counts()["train"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainTargetConfig:
    """The step that trains one arm with one seed.

    `arm` is what people call it, and no part of what is computed. A method that distils has a bank; one with transfer units has
    the zoo's names in the order of its units.
    """

    arm: str = setting(identity=False)
    method: Method
    predictor: PredictorConfig
    training: TrainingConfig
    observed: int
    bank: BankConfig | None = None
    sources: tuple[str, ...] = ()
    workers: WorkerConfig = setting(WorkerConfig(), identity=False)

    def __post_init__(self) -> None:
        if "frames" in self.method.needs and self.bank is not None and not self.bank.frames:
            raise ConfigError("bank.frames", f"must be true, for the method {self.method.kind} reads predicted frames; got false")


def train_target_in(
    context: StepContext,
    config: TrainTargetConfig,
    worker: Worker = Worker(),  # noqa: B008
    on_validation: OnValidation | None = None,
) -> Trained:
    """Train one arm in this process, as `train_target` and the trials of a search do; the caller says how many threads it has.

    Args:
        context: with the inputs and results of `train_target`.
        config: usually the context's, by which its checkpoints are known again.
        worker: this process among those that train the same network.
        on_validation: see `Surroundings`.

    Raises:
        ConfigError: no source fits where the method starts from one, or its bank is not there.
        What `fit` raises.
    """
    store = ClipStore.open(context.inputs["data"])
    setup = setup_of(config, context, store.shape, worker.device)
    sources = [ClipStore.open(folder).split("train") for _, folder in sorted(context.group("clips").items())]
    return fit(
        functools.partial(config.method.build, setup),
        config.method.clips(store.split("train"), sources),
        store.split("validation"),
        observed=config.observed,
        config=config.training,
        worker=worker,
        surroundings=Surroundings.of_step(context, on_validation),
    )


@step_kind("train-target")
@trains_with(train_target_in)
def train_target(context: StepContext) -> Trained:
    """Step: train one arm.

    Inputs: ``data``, and of ``rank`` and the groups ``sources``, ``clips`` and ``banks`` what its method needs.
    """
    return train_arm(context, context.config, _on_worker)


def _on_worker(context: StepContext, worker: Worker) -> Trained:
    return train_target_in(context, context.config, worker)


def train_arm(context: StepContext, config: TrainTargetConfig, train: Callable[[StepContext, Worker], Trained]) -> Trained:
    """Run `train` where the arm is to be trained, and tell the journal what is trained on what.

    Args:
        context: the step.
        config: the arm.
        train: a module-level function, or a partial one, that leaves a model in ``model/``.

    Returns:
        What `train` does on its first worker.
    """
    journal = Journal(context.journal_path)
    store = ClipStore.open(context.inputs["data"])
    # Here and not where the training runs, which several workers do, and each again after a death.
    journal.params({"arm": config.arm, "method": config.method.kind, **summary_params(config.predictor, config.training)})
    journal.params(config.method.params())
    if banks := context.group("banks"):
        # In the order of the transfer units, if there are any, as the digest of the bank that the training opens.
        names = [name for name in config.sources or banks if name in banks]
        digests = [context.result(f"banks/{name}", BankResult).digest for name in names]
        journal.tags({"zoocast.bank_digest": combined_digest(digests)})
    journal.tags({"zoocast.data_digest": store.digest})
    journal.dataset(name="target", digest=store.digest, context="training")
    for name, folder in context.group("clips").items():
        journal.dataset(name=name, digest=ClipStore.open(folder).digest, context="training")
    # One worker needs no Ray Train, whose start costs 7 to 15 seconds: the step's own process trains.
    if config.workers.num_workers > 1:
        result = in_train_workers(context, config.workers, train)
    else:
        use_threads(context.resources.num_cpus)
        result = train(context, Worker(device="cuda" if context.resources.num_gpus else "cpu"))
    journal.model(MODEL_FOLDER, name=f"target-{config.arm}".replace(".", "-"), alias="ready")  # MLflow takes no dots
    return result


def setup_of(config: TrainTargetConfig, context: StepContext, frames: FrameShape, device: str) -> Setup:
    """What an arm's method builds on, from the inputs of the step that trains it."""
    # A method that names its source, or starts at random, has no ranking among its inputs.
    ranking = context.result("rank", Ranking) if "rank" in context.results else None
    return Setup(
        predictor=config.predictor,
        frames=frames,
        decouple_weight=config.training.decouple_weight,
        observed=config.observed,
        clips=context.inputs["data"],
        sources=context.group("sources"),
        names=config.sources,  # the step's inputs are a mapping; which gate belongs to whom stands here
        best=ranking.best if ranking else None,
        fitting=ranking.fitting if ranking else (),
        bank=config.bank,
        banks=context.group("banks"),
        device=device,
    )
