"""Ray Tune runs the trials of a study, TPE chooses their settings, and ASHA ends the poor ones early.

The only module of this package that imports ray. Ray Tune's own snapshots are some seconds old when a driver is killed, and do
not hold ASHA's rungs. So none of its state is used again: each attempt is a new `Tuner`, whose searcher and scheduler are filled
from the trials' folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from zoocast.dag import Resources, StepContext
from zoocast.dag.placement import nodes_of
from zoocast.errors import InfrastructureError, Interrupted, last_line
from zoocast.search.config import SearchConfig
from zoocast.search.progress import TRIALS, Progress
from zoocast.search.trial import Train, run_trial

__all__ = ["run_trials"]

MAX_DEATHS = 2  # of a trial's process; it then goes on from its checkpoint


def run_trials(progress: Progress, base: Any, train: Train, cycle: int) -> None:
    """Run every trial that has no outcome, until all have one or the user asks to stop.

    Raises:
        InfrastructureError: a trial's process kept dying, or the cluster can hold no trial.
    """
    context, held = progress.context, progress.config.resources
    # By way of Ray's object store: sent once, and not with every trial.
    trainable = tune.with_parameters(_trainable, step=context, base=base, train=train, held=held)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": held.num_cpus, "gpu": held.num_gpus}),
        tune_config=tune.TuneConfig(
            num_samples=len(progress.open) + progress.config.num_trials - len(progress.records),
            max_concurrent_trials=_room(progress.config),
            search_alg=_Suggestions(progress),
            scheduler=_scheduler(progress, cycle),
            reuse_actors=True,  # a process that has imported torch is worth keeping
        ),
        run_config=tune.RunConfig(
            name=context.token,
            storage_path=str(context.directory / "ray"),
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
            callbacks=[_Watch(progress)],  # of ours alone: MLflow is fed from the journals (see `zoocast.tracking`)
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
    finally:
        # Ray Tune's own records, from which nothing is ever read.
        shutil.rmtree(context.directory / "ray", ignore_errors=True)
    # After a wish to stop a dead process is no news: the same command goes on with its trial.
    if results.errors and not context.should_stop():
        raise InfrastructureError(
            f"{context.name}: a trial could not go on ({last_line(results.errors[0])}); run again to go on with it"
        ) from results.errors[0]


def _trainable(config: dict[str, Any], step: StepContext, base: Any, train: Train, held: Resources) -> None:
    """One trial, in its own process; Ray Tune calls it."""

    def send(iteration: int, error: float) -> None:
        tune.report({"iteration": iteration, "error": error})

    folder = f"{TRIALS}/{config['trial']}"
    step = step.localize(lambda file: file.startswith(f"{folder}/"))
    try:
        run_trial(step, step.directory / folder, base, train, held, send)
    except Interrupted:
        return  # it keeps its checkpoint and has no outcome
    finally:
        step.push()


def _room(config: SearchConfig) -> int:
    """How many trials may run at once."""
    held = config.resources
    room = 0
    # Node by node: what two of them have left over together holds no trial.
    for node in nodes_of(ray.nodes()):
        by_gpus = node.num_gpus // held.num_gpus if held.num_gpus else node.num_cpus
        room += int(min(node.num_cpus // held.num_cpus, by_gpus))
    if room == 0:
        raise InfrastructureError(f"a trial needs a node with {held}, but there is none; ask for less, or add a node")
    return min(room, config.max_concurrent or room)


class _Suggestions(Searcher):
    """Hands the trials of a study to Ray Tune, and reports to the study what became of them."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(metric="error", mode="min")
        self._progress = progress
        self._names: dict[str, str] = {}  # by Ray's own ids

    def suggest(self, trial_id: str) -> Any:
        name = self._progress.begin()
        if name is None:
            return Searcher.FINISHED
        self._names[trial_id] = name
        return {"trial": name}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._progress.record(self._names[trial_id], result["iteration"], result["error"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        self._progress.end(self._names[trial_id], died=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' folders hold all there is."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class _Watch(tune.Callback):
    """Called by Ray Tune several times a second."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        self._progress.watch()


def _scheduler(progress: Progress, cycle: int) -> TrialScheduler:
    """ASHA, or no scheduler when its first rung would be the end."""
    first = progress.config.grace_cycles * cycle
    return _Rungs(progress, first) if first < progress.config.max_iterations else FIFOScheduler()


class _Rungs(ASHAScheduler):
    """ASHA (Li et al., MLSys 2020) that knows what earlier attempts reported. Its rungs are whole cycles, and the end is none."""

    def __init__(self, progress: Progress, first: int) -> None:
        super().__init__(
            time_attr="iteration",
            metric="error",
            mode="min",
            # Less than the end, which is no rung where it is grace * eta ** k, and no whole number: ASHA counts its rungs by a
            # logarithm, which may come out below a whole number.
            max_t=progress.config.max_iterations - 0.5,
            grace_period=first,
            reduction_factor=progress.config.reduction_factor,
            stop_last_trials=False,  # a trial that comes to its end has yet to write its result
        )
        # Into the rungs goes what every earlier trial reported, so their cutoffs are where an undisturbed study would have them.
        self._open = {t.id: t for t in progress.records if t.state == "running"}
        for trial in progress.records:
            if trial.state != "running":
                # Of a trial ASHA reads nothing but its id.
                self._repeat(SimpleNamespace(trial_id=trial.id), trial.curve)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Called for a trial that begins, or goes on. One that goes on sends its last report again by itself."""
        # Hence without that one: ASHA decides on a trial at a rung the first time only, and here nobody would heed it.
        known = self._open.get(trial.config["trial"])
        self._repeat(trial, known.curve[:-1] if known else ())

    def _repeat(self, trial: Any, curve: Sequence[tuple[int, float]]) -> None:
        super().on_trial_add(None, trial)
        for iteration, error in curve:
            super().on_trial_result(None, trial, {"iteration": iteration, "error": error})
