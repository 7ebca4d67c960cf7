"""A study and its trials, as they lie in a step's folder, and what a report wants to know of them.

trials/trial-0007/trial.json      number and settings; written before the trial starts, never changed
trials/trial-0007/journal.jsonl   what it reported, and all else that it logs; `curves` gives the error of each iteration
trials/trial-0007/outcome.json    how it ended; a trial without one goes on from its own checkpoint
study.json                        all of it; written last

Nothing else decides how a study goes on after a kill, so it goes on with the same trials, the same rungs and the same
suggestions, and it can be extended years later.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from zoocast.errors import IntegrityError
from zoocast.search.space import SearchSpace
from zoocast.store.files import JOURNAL_FILE, parse_json, write_atomically
from zoocast.store.recorded import check_file
from zoocast.tracking import Journal, Status, curves

__all__ = ["Axis", "Study", "TrialRecord", "importance", "read_study", "suggest"]

ERROR, BEST_ERROR = "trial/error", "trial/best_error"
STUDY, TRIAL, OUTCOME = "study.json", "trial.json", "outcome.json"
State = Literal["running", "done", "stopped", "failed"]
TO_OPTUNA = {
    "running": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def trial_id(number: int) -> str:
    """The name of a trial, of its folder and of its run in MLflow."""
    return f"trial-{number:04}"


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial.

    done: its training returned. stopped: the scheduler ended it early. failed: it diverged, or its training raised.
    `curve` holds (iteration, validation error), `result` what the training returned, `message` why it failed.
    """

    number: int
    params: Mapping[str, Any]
    state: State = "running"
    curve: tuple[tuple[int, float], ...] = ()
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    message: str = ""

    @property
    def id(self) -> str:
        """See `trial_id`."""
        return trial_id(self.number)

    @property
    def iterations(self) -> int:
        """How far it came."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def best_error(self) -> float | None:
        """The lowest error that it reported; None for a failed trial, which is never best, and before the first report."""
        errors = [error for _, error in self.curve if math.isfinite(error)]
        return min(errors) if errors and self.state != "failed" else None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, in which a number that is not finite is None."""
        # JSON has no NaN, with which the curve of a trial that diverged ends.
        curve = [(i, error if math.isfinite(error) else None) for i, error in self.curve]
        return {**dataclasses.asdict(self), "curve": curve, "best_error": self.best_error}


class Axis(NamedTuple):
    """A searched field as an axis of a figure: a choice of `choices`, or a number from `low` to `high`."""

    name: str
    low: float
    high: float
    log: bool
    choices: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """A finished study. `search` is its `SearchConfig` as JSON data; trials are in the order of their numbers."""

    search: Mapping[str, Any]
    space: SearchSpace
    trials: tuple[TrialRecord, ...]

    def best(self, count: int = 1) -> list[TrialRecord]:
        """The best trials, whose `params` are overrides of the config that was searched.

        Those that used their whole budget come first, by their lowest validation error; then those that the scheduler stopped,
        the longest-lived first.
        """
        ranked = [t for t in self.trials if t.best_error is not None]
        # Errors after unlike numbers of iterations do not compare; how long ASHA let a trial live is its verdict on it.
        return sorted(ranked, key=lambda t: (t.state != "done", -t.iterations if t.state != "done" else 0, t.best_error))[:count]

    def axes(self) -> list[Axis]:
        """The searched fields. A trial without one of them has no such field: see `When`."""
        out = []
        for name, d in self.space.every().items():
            if isinstance(d, CategoricalDistribution):
                out.append(Axis(name, 0, len(d.choices) - 1, False, d.choices))
            elif isinstance(d, FloatDistribution | IntDistribution):
                out.append(Axis(name, d.low, d.high, d.log))
        return out

    def count(self, state: State) -> int:
        """How many trials ended so."""
        return sum(t.state == state for t in self.trials)

    def save(self, directory: Path) -> None:
        """Write ``study.json`` into `directory`."""
        data = {
            "search": self.search,
            "space": self.space.to_json(),
            "trials": [t.to_json() for t in self.trials],
            "best": [t.id for t in self.best(len(self.trials))],
        }
        write_atomically(directory / STUDY, json.dumps(data, indent=1, allow_nan=False))


def read_study(directory: Path) -> Study:
    """The study that a step left in its folder.

    Raises:
        IntegrityError: there is none that can be read.
    """
    try:
        data = parse_json(check_file(directory / STUDY).read_text(encoding="utf-8"))
        trials = []
        for trial in data["trials"]:
            trial.pop("best_error")  # for readers of the file; here it follows from the curve
            curve = tuple((i, math.nan if error is None else error) for i, error in trial.pop("curve"))
            trials.append(TrialRecord(**trial, curve=curve))
        return Study(data["search"], SearchSpace.from_json(data["space"]), tuple(trials))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{directory / STUDY} cannot be read ({error}); remove {directory} and run again") from None


def importance(study: Study) -> dict[str, float]:
    """How much of the variance of the error each field accounts for (fANOVA, Hutter et al., ICML 2014); the sum is 1.

    Only trials that used their whole budget count, and fields that all of them have. Empty with fewer than two such trials, or
    when their errors do not differ.
    """
    if study.count("done") < 2:
        return {}
    # Seeded, for it grows random forests, and a page that is made again should show the same numbers.
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    known = as_optuna(study.space, study.trials, optuna.samplers.RandomSampler(seed=0))
    try:
        return dict(optuna.importance.get_param_importances(known, evaluator=evaluator))
    except RuntimeError:  # no variance to account for
        return {}


def suggest(space: SearchSpace, trials: Iterable[TrialRecord], number: int, *, seed: int, num_startup: int) -> dict[str, Any]:
    """Settings for trial `number`: the space's points first, then TPE (Bergstra et al., NeurIPS 2011).

    A function of the seed, the trial's number and what is known of the others, so a study that was killed goes on as it would
    have done.
    """
    if number < len(space.points):
        return dict(space.points[number])
    # A sampler for each trial: the state of one for all would die with the driver. SeedSequence mixes, so that trial 1 of seed 0
    # is not trial 0 of seed 1.
    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(n_startup_trials=num_startup, seed=own_seed)
    return space.draw(as_optuna(space, trials, sampler).ask())


def as_optuna(space: SearchSpace, trials: Iterable[TrialRecord], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """The study as Optuna knows it, in memory."""
    # Creating a study logs a line, and one is created for every suggestion.
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    optuna.logging.set_verbosity(verbosity)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=TO_OPTUNA[trial.state],
                # Without a value TPE ranks a stopped trial behind the whole ones, by its last step and the error there.
                value=trial.best_error if trial.state == "done" else None,
                params=dict(trial.params),
                distributions=space.distributions(trial.params),
                intermediate_values={i: error for i, error in trial.curve if math.isfinite(error)},
            )
        )
    return study


# --------------------------------------------------------------------------------------------------------------- trial folders


def write_trial(directory: Path, number: int, params: Mapping[str, Any], identity: str) -> None:
    """Make the folder of a trial that is about to start; `identity` says what study it may belong to."""
    directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / JOURNAL_FILE)
    journal.params(params)
    journal.close()
    # Last: a folder without it belongs to no study, and is removed by the next attempt.
    write_atomically(directory / TRIAL, json.dumps({"number": number, "params": dict(params), "identity": identity}))


def conclude(directory: Path, state: State, *, result: Mapping[str, Any] | None = None, message: str = "") -> None:
    """Write down how a trial ended: in its journal, for MLflow, and then in ``outcome.json``, after which it is never run."""
    record = dataclasses.replace(read_trial(directory), state=state)
    status: Status = "failed" if state == "failed" else "finished"
    journal = Journal(directory / JOURNAL_FILE)
    journal.tags({"zoocast.trial_state": state} | ({"zoocast.trial_failure": message[:500]} if message else {}))
    if record.best_error is not None:
        journal.metrics({BEST_ERROR: record.best_error}, step=0)  # at one step for all, so that MLflow draws bars
    journal.status(status)
    journal.close()
    outcome = {"state": state, "result": dict(result or {}), "message": message}
    write_atomically(directory / OUTCOME, json.dumps(outcome, allow_nan=False))


def read_trial(directory: Path) -> TrialRecord:
    """What is known of the trial in `directory`.

    Raises:
        IntegrityError: its files cannot be read.
    """
    try:
        trial = parse_json((directory / TRIAL).read_text(encoding="utf-8"))
        outcome = parse_json((directory / OUTCOME).read_text(encoding="utf-8")) if (directory / OUTCOME).exists() else {}
        curve = tuple(curves(directory / JOURNAL_FILE).get(ERROR, ()))
        return TrialRecord(trial["number"], trial["params"], **outcome, curve=curve)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the trial in {directory} cannot be read ({error}); remove that folder to run it again") from None


def identity_of(directory: Path) -> str:
    """To what study the trial in `directory` may belong; empty when its file cannot be read."""
    try:
        return str(parse_json((directory / TRIAL).read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
