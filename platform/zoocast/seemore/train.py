"""SeeMore's two stages as steps: train both directions, then go on with the meta-adapter, or with plain Adam as its control.

Any arm of `zoocast.transfer` may be trained in two directions, with its bank read in both. The second stage starts from what a
first stage left, or, in one direction, from any finished target training.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

from zoocast.config import setting, settings
from zoocast.dag import StepContext, step_kind
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.tracking import Journal
from zoocast.training import AdamUpdater, Objective, OnValidation, Surroundings, Trained, Worker, fit, load_objective, trains_with
from zoocast.transfer import LayerDecay, TrainTargetConfig, setup_of, train_arm

__all__ = ["AdaptConfig", "TrainBidirectionalConfig", "adapt", "adapt_in", "train_bidirectional", "train_bidirectional_in"]


def _check_bank(target: TrainTargetConfig) -> None:
    """Raise `ConfigError` if the reverse network could not read its memories."""
    if "banks" in target.method.needs and target.bank is not None and not target.bank.reversed:
        raise ConfigError(
            "target.bank.reversed", "must be true, for the reverse network distils from time-flipped clips; got false"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBidirectionalConfig:
    """The step of stage 1: one arm with one seed, in both directions."""

    target: TrainTargetConfig
    bidirectional: BidirectionalConfig = setting(BidirectionalConfig(), "how the directions distil each other")

    def __post_init__(self) -> None:
        _check_bank(self.target)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """The step of stage 2: what the step ``start`` trained is trained on; `target.training` is that of this stage.

    Without that input it is the only stage, and begins as the method does.
    """

    target: TrainTargetConfig
    bidirectional: BidirectionalConfig | None = setting(
        BidirectionalConfig(), "how the directions distil each other; none trains the forward network alone"
    )
    adapter: AdapterConfig | None = setting(AdapterConfig(), "the meta-adapter; none is Adam at training.learning_rate")
    curriculum: Literal["continue", "restart"] = setting(
        "continue", "whether the sampling schedule goes on where stage 1 ended or starts anew; release: restart"
    )

    def __post_init__(self) -> None:
        if self.bidirectional is not None:
            _check_bank(self.target)
        if self.adapter is not None and isinstance(self.target.method, LayerDecay):
            raise ConfigError("adapter", "must be none with the method llrd, whose rates of layers it would learn over")


def train_bidirectional_in(
    context: StepContext,
    config: TrainBidirectionalConfig,
    worker: Worker = Worker(),  # noqa: B008
    on_validation: OnValidation | None = None,
) -> Trained:
    """Stage 1 in this process, as the step `train_bidirectional` and the trials of a search run it.

    Arguments and errors are those of `zoocast.transfer.train_target_in`.
    """
    target = config.target
    store = ClipStore.open(context.inputs["data"])
    setup = setup_of(target, context, store.shape, worker.device)
    # Two networks, for each call of build draws new weights; the setup opens its bank once for both.
    return fit(
        lambda: BidirectionalObjective(target.method.build(setup), target.method.build(setup), config.bidirectional),
        store.split("train"),
        store.split("validation"),
        observed=target.observed,
        config=target.training,
        worker=worker,
        surroundings=Surroundings.of_step(context, on_validation),
    )


def adapt_in(
    context: StepContext,
    config: AdaptConfig,
    worker: Worker = Worker(),  # noqa: B008
    on_validation: OnValidation | None = None,
) -> Trained:
    """Stage 2 in this process, as the step `adapt` and the trials of a search run it.

    Arguments and errors are those of `zoocast.transfer.train_target_in`.

    Raises:
        ConfigError: also when the start has another network or other directions than are to be trained on.
    """
    target = config.target
    store = ClipStore.open(context.inputs["data"])
    setup = setup_of(target, context, store.shape, worker.device)
    started = "start" in context.inputs
    method = target.method.unstarted() if started else target.method  # stage 1 has overwritten what the method starts from

    def build() -> Objective:
        objective = method.build(setup)
        if config.bidirectional is not None:
            objective = BidirectionalObjective(objective, method.build(setup), config.bidirectional)
        if started:
            load_objective(objective, context.inputs["start"])  # before the updater is made, and below this stage's checkpoints
        return objective

    return fit(
        build,
        store.split("train"),
        store.split("validation"),
        observed=target.observed,
        config=target.training,
        worker=worker,
        surroundings=Surroundings.of_step(context, on_validation),
        make_updater=functools.partial(MetaAdapter, config.adapter) if config.adapter else AdamUpdater,
        curriculum_offset=context.result("start", Trained).iterations if started and config.curriculum == "continue" else 0,
    )


@step_kind("train-bidirectional")
@trains_with(train_bidirectional_in)
def train_bidirectional(context: StepContext) -> Trained:
    """Step: stage 1. Inputs as of `train_target`.

    Leaves the forward network in ``model/``, and the weights of both directions for `adapt`.
    """
    config: TrainBidirectionalConfig = context.config
    Journal(context.journal_path).params(_settings("bidirectional", config.bidirectional))
    return train_arm(context, config.target, _train_on_worker)


@step_kind("adapt")
@trains_with(adapt_in)
def adapt(context: StepContext) -> Trained:
    """Step: stage 2. Inputs as of `train_target`, and ``start``, if there is a stage 1: the step whose weights it starts from."""
    config: AdaptConfig = context.config
    params = {**_settings("bidirectional", config.bidirectional), **_settings("adapter", config.adapter)}
    Journal(context.journal_path).params({**params, "curriculum": config.curriculum})
    return train_arm(context, config.target, _adapt_on_worker)


def _settings(name: str, config: BidirectionalConfig | AdapterConfig | None) -> dict[str, Any]:
    # One parameter for each leaf, so that MLflow can sort and filter by it.
    return {f"{name}.{s.path}": s.value for s in settings(config)} if config else {name: "none"}


def _train_on_worker(context: StepContext, worker: Worker) -> Trained:
    return train_bidirectional_in(context, context.config, worker)


def _adapt_on_worker(context: StepContext, worker: Worker) -> Trained:
    return adapt_in(context, context.config, worker)
