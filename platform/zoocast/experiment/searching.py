"""The steps of a search: find settings for any training step, and run such a step with what was found.

`search_training` runs trials of a step that is marked by `zoocast.training.trains_with`; `train_found` runs the step itself,
under the settings of one of the study's trials. Both name the step's function in their config, and know it by its kind.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from zoocast.config import check_ranges, override, setting
from zoocast.dag import Kind, Step, StepContext, step_kind
from zoocast.errors import StepFailed
from zoocast.search import SearchConfig, Trial, load_space, read_study, search
from zoocast.tracking import Journal
from zoocast.training import Trained, Worker, train_here

__all__ = ["FoundConfig", "SearchTrainingConfig", "Searched", "SearchedStep", "search_training", "searched_step", "train_found"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchedStep:
    """The training step that is searched: its kind, which says what it does, and where its function lies now."""

    kind: str
    version: int
    function: str = setting(identity=False)  # so a function that is moved is searched no second time
    config: Any

    def resolve(self) -> Callable[[StepContext], Any]:
        """The step's function."""
        return pkgutil.resolve_name(self.function)


def searched_step(fn: Callable[[StepContext], Any], config: Any) -> SearchedStep:
    """The step with the function `fn` and `config`. Raises `ConfigError` when `fn` is not marked by `trains_with`."""
    train_here(fn)
    kind = Step("searched", fn).kind  # a step's kind is read off its function; the name is of no account
    return SearchedStep(kind=kind.name, version=kind.version, function=f"{fn.__module__}:{fn.__qualname__}", config=config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchTrainingConfig:
    """The step that searches: what is varied in the config of a training step, by the search space called `space`.

    ASHA's rungs are whole `cycle` iterations, which the training must report the validation error at.
    """

    step: SearchedStep
    search: SearchConfig
    space: str
    cycle: int = setting(1, at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search came to: its best trial, whose settings are written as ``field=value``, and how the trials ended."""

    best: str
    val_mse: float
    settings: tuple[str, ...]
    trials_done: int
    trials_stopped: int
    trials_failed: int


@step_kind("search")
def search_training(context: StepContext) -> Searched:
    """Step: a study of trainings. Inputs as of the step that is searched; every trial trains in a process of its own."""
    config: SearchTrainingConfig = context.config
    step = config.step
    study = search(
        context,
        config.search,
        load_space(config.space, step.config),
        step.config,
        _TrainTrial(step.function),
        kind=Kind(step.kind, step.version),
        cycle=config.cycle,
    )
    best = study.best()[0]
    assert best.best_error is not None
    return Searched(
        best=best.id,
        val_mse=best.best_error,
        settings=tuple(f"{field}={value}" for field, value in best.params.items()),
        trials_done=study.count("done"),
        trials_stopped=study.count("stopped"),
        trials_failed=study.count("failed"),
    )


@dataclasses.dataclass(frozen=True)
class _TrainTrial:
    """A trial's training. It travels to the trial's process as the name of the step's function, which is imported there."""

    function: str

    def __call__(self, trial: Trial) -> Trained:
        worker = Worker(device="cuda" if trial.context.resources.num_gpus else "cpu")
        # Only the training: the step's own function would start Ray Train's workers, and a trial has one process.
        train = train_here(pkgutil.resolve_name(self.function))
        return train(trial.context, trial.context.config, worker, trial.report)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundConfig:
    """The step that trains with the settings of the study's trial in `place`, 0 for the best.

    `take` says which of the found settings goes where in the config of the step; None takes each to where it was found. What the
    search of one setting alone is worth is shown by taking that one to another kind of training.
    """

    step: SearchedStep
    place: int = setting(0, at_least=0)
    take: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


@step_kind("train-found")
def train_found(context: StepContext) -> Trained:
    """Step: run another step with settings that were found. Inputs as of that step, and ``search``."""
    config: FoundConfig = context.config
    best = read_study(context.inputs["search"]).best(config.place + 1)
    if len(best) <= config.place:
        raise StepFailed(
            f"{context.name} needs the study's trial in place {config.place + 1}, but only {len(best)} did not fail;"
            " search longer with search.num_trials"
        )
    chosen = best[config.place]
    found = chosen.params if config.take is None else {path: chosen.params[name] for path, name in config.take.items()}
    # The found settings themselves are logged by the step that runs below, which has them in its config.
    Journal(context.journal_path).params({"search.trial": chosen.id})
    # The step's whole function, and not just its training: an arm with found settings is trained and logged as any other.
    return config.step.resolve()(dataclasses.replace(context, config=override(config.step.config, found)))
