"""The steps in which SeeMore's second stage meets the search: find the meta-adapter's settings, and train with what was found."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from zoocast.config import dump, override
from zoocast.dag import StepContext, step_kind
from zoocast.errors import StepFailed
from zoocast.search import SearchConfig, Trial, load_space, read_study, search
from zoocast.seemore.train import AdaptConfig, adapt_in
from zoocast.tracking import Journal
from zoocast.training import Trained, Worker
from zoocast.transfer import train_arm

__all__ = ["AdaptFoundConfig", "SearchAdapterConfig", "adapt_found", "search_adapter"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchAdapterConfig:
    """The step that searches: what is varied in `adapt`, by the search space called `space`."""

    adapt: AdaptConfig
    search: SearchConfig
    space: str


@step_kind("search")
def search_adapter(context: StepContext) -> dict[str, Any]:
    """Step: a study of second stages. Inputs as of `zoocast.seemore.train.adapt`; every trial trains in a process of its own."""
    config: SearchAdapterConfig = context.config
    adapter = config.adapt.adapter
    assert adapter is not None
    space = load_space(config.space, config.adapt)
    study = search(context, config.search, space, config.adapt, _train_trial, cycle=adapter.cycle)
    best = study.best()[0]
    counts = {f"trials_{state}": study.count(state) for state in ("done", "stopped", "failed")}
    return {"best": best.id, "val_mse": best.best_error, "settings": dict(best.params), **counts}


def _train_trial(trial: Trial) -> dict[str, Any]:
    worker = Worker(device="cuda" if trial.context.resources.num_gpus else "cpu")
    return dump(adapt_in(trial.context, trial.context.config, worker, on_validation=trial.report))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptFoundConfig:
    """The step that trains `adapt` with the settings of the study's trial in `place`, 0 for the best.

    `updater` is the meta-adapter with all of them, or plain Adam at the trial's initial rate: what the search of that rate alone
    is worth.
    """

    adapt: AdaptConfig
    place: int
    updater: Literal["adapter", "adam"] = "adapter"


@step_kind("adapt-found")
def adapt_found(context: StepContext) -> Trained:
    """Step: a second stage with settings that were found. Inputs as of `zoocast.seemore.train.adapt`, and ``search``."""
    chosen = _chosen(context)
    with_adapter = dump(chosen.adapter) if chosen.adapter else {"learning_rate": chosen.target.training.learning_rate}
    told = {f"adapter.{name}": value for name, value in with_adapter.items() if not name.startswith("__")}
    Journal(context.journal_path).params(told)
    return train_arm(context, chosen.target, _train_found)


def _train_found(context: StepContext, worker: Worker) -> Trained:
    return adapt_in(context, _chosen(context), worker)


def _chosen(context: StepContext) -> AdaptConfig:
    config: AdaptFoundConfig = context.config
    best = read_study(context.inputs["search"]).best(config.place + 1)
    if len(best) <= config.place:
        raise StepFailed(
            f"{context.name} needs the study's trial in place {config.place + 1}, but only {len(best)} did not fail;"
            " search longer with search.num_trials"
        )
    found = override(config.adapt, best[config.place].params)
    if config.updater == "adapter":
        return found
    assert found.adapter is not None
    training = dataclasses.replace(found.target.training, learning_rate=found.adapter.initial_rate)
    return dataclasses.replace(found, adapter=None, target=dataclasses.replace(found.target, training=training))
