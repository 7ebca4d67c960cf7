"""SeeMore's two stages as steps: train both directions, then go on with the meta-adapter, or with plain Adam as its control.

Any arm of `zoocast.transfer` may be trained in two directions, with its bank read in both. The second stage starts from what a
first stage left, or, in one direction, from any finished target training.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

from zoocast.config import setting, settings
from zoocast.dag import StepContext, step_kind
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.tracking import Journal
from zoocast.training import AdamUpdater, Objective, Worker, fit, load_objective
from zoocast.training.searchable import trains_with
from zoocast.transfer.methods import Arm, Finetune, Method, Scratch, TrainTargetConfig, Transfer, train_arm

__all__ = ["AdaptConfig", "TrainBidirectionalConfig", "adapt", "adapt_in", "train_bidirectional"]


def _check_bank(target: TrainTargetConfig) -> None:
    """Raise `ConfigError` if the reverse network could not read its memories."""
    distils = isinstance(target.method, Transfer) and target.method.distillation_weight > 0
    if distils and target.bank is not None and not target.bank.reversed:
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
    """The step of stage 2: what the step ``start`` trained is trained on; `target.training` is that of this stage."""

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


@step_kind("train-bidirectional")
def train_bidirectional(context: StepContext) -> dict[str, Any]:
    """Step: stage 1. Inputs as of `train_target`.

    Leaves the forward network in ``model/``, and the weights of both directions for `adapt`.
    """
    config: TrainBidirectionalConfig = context.config
    Journal(context.journal_path).params(_settings("bidirectional", config.bidirectional))
    return train_arm(context, config.target, _train_worker)


def _adapt_here(
    context: StepContext, config: AdaptConfig, worker: Worker, on_validation: Callable[[int, float], None] | None
) -> dict[str, Any]:
    return adapt_in(context, config, worker, on_validation)


@step_kind("adapt")
@trains_with(_adapt_here)
def adapt(context: StepContext) -> dict[str, Any]:
    """Step: stage 2. Inputs as of `train_target`, and ``start``: the step whose weights it starts from."""
    config: AdaptConfig = context.config
    told = {**_settings("bidirectional", config.bidirectional), **_settings("adapter", config.adapter)}
    Journal(context.journal_path).params({**told, "curriculum": config.curriculum})
    return train_arm(context, config.target, _adapt_worker)


def _settings(name: str, config: BidirectionalConfig | AdapterConfig | None) -> dict[str, Any]:
    return {f"{name}.{s.path}": s.value for s in settings(config)} if config else {name: "none"}


def _train_worker(context: StepContext, worker: Worker) -> dict[str, Any]:
    config: TrainBidirectionalConfig = context.config
    store = ClipStore.open(context.inputs["data"])
    arm = Arm(config.target, context, store.shape, worker.device)
    return fit(
        context,
        config.target.training,
        lambda: BidirectionalObjective(arm.build(), arm.build(), config.bidirectional),
        store.split("train"),
        store.split("validation"),
        config.target.observed,
        worker,
    )


def _adapt_worker(context: StepContext, worker: Worker) -> dict[str, Any]:
    return adapt_in(context, context.config, worker)


def adapt_in(
    context: StepContext,
    config: AdaptConfig,
    worker: Worker = Worker(),  # noqa: B008
    on_validation: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Stage 2 in this process, as the step `adapt` and the trials of a search run it; the caller says how many threads it has.

    Args:
        context: with the inputs and results of `adapt`.
        config: usually the context's, by which its checkpoints are known again.
        worker: this process among those that train the same network.
        on_validation: see `zoocast.training.fit`.

    Returns:
        What `fit` does.

    Raises:
        ConfigError: the start has another network or other directions than are to be trained on.
    """
    store = ClipStore.open(context.inputs["data"])
    target = dataclasses.replace(config.target, method=_unstarted(config.target))
    arm = Arm(target, context, store.shape, worker.device)

    def build() -> Objective:
        objective = arm.build()
        if config.bidirectional is not None:
            objective = BidirectionalObjective(objective, arm.build(), config.bidirectional)
        load_objective(objective, context.inputs["start"])
        return objective

    return fit(
        context,
        target.training,
        build,
        store.split("train"),
        store.split("validation"),
        target.observed,
        worker,
        make_updater=functools.partial(MetaAdapter, config.adapter) if config.adapter else AdamUpdater,
        on_validation=on_validation,
        curriculum_offset=int(context.results["start"]["iterations"]) if config.curriculum == "continue" else 0,
    )


def _unstarted(target: TrainTargetConfig) -> Method:
    """The method without its own start, which stage 1 has overwritten; an anchor still needs it."""
    if isinstance(target.method, Finetune):
        return Scratch()
    return dataclasses.replace(target.method, warm_start="none") if isinstance(target.method, Transfer) else target.method
