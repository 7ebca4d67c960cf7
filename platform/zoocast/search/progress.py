"""A study that is running: which trial is next, what each has reported, and what became of it. Knows nothing of Ray."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

from zoocast.dag import StepContext
from zoocast.dag.context import owner_of, request_stop, stop_requested
from zoocast.search.config import SearchConfig
from zoocast.search.space import SearchSpace
from zoocast.search.study import OUTCOME, Study, TrialRecord, conclude, identity_of, read_trial, suggest, trial_id, write_trial
from zoocast.store.files import publish, temporary_name
from zoocast.tracking import Journal

__all__ = ["TRIALS", "Progress"]

TRIALS = "trials"


class Progress:
    """The trials of a running study, as the step's process knows them."""

    def __init__(self, context: StepContext, config: SearchConfig, space: SearchSpace, identity: str, journal: Journal) -> None:
        self.context, self.config, self.space, self.identity, self.journal = context, config, space, identity, journal
        self.stopping = False  # by the user, or since a trial's process kept dying: what runs ends, and nothing begins
        self.trials: dict[str, TrialRecord] = {}
        _take_over(context, identity, config.num_trials)
        for directory in sorted((context.directory / TRIALS).glob("trial-*")):
            if identity_of(directory) == identity:
                self._know(directory)
            else:  # a kill came before it was written, or the space was changed
                shutil.rmtree(directory)
        # Begun by an earlier attempt, without an outcome: they go first, and under their old numbers and settings.
        self.open = [t.id for t in self.records if t.state == "running"]

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """What is known, in the order of the numbers."""
        return tuple(sorted(self.trials.values(), key=lambda trial: trial.number))

    def directory(self, name: str) -> Path:
        return self.context.directory / TRIALS / name

    def _know(self, directory: Path) -> None:
        self.trials[directory.name] = read_trial(directory)
        self.journal.child(directory.name, directory)

    def begin(self) -> str | None:
        """The next trial: one that an earlier attempt left open, else a new one; None when there are no more."""
        self.context.check_fence()  # a driver that was overtaken begins no more trials in its successor's study
        if self.stopping:
            return None
        if self.open:
            return self.open.pop(0)
        # The lowest free number: trials that were taken over may have gaps between them.
        number = next(n for n in itertools.count() if trial_id(n) not in self.trials)
        if number >= self.config.num_trials:
            return None
        params = suggest(self.space, self.records, number, seed=self.config.seed, num_startup=self.config.num_startup)
        directory = self.directory(trial_id(number))
        # Its settings are on the disk before it starts: after a kill they are read, and not suggested once more, since by then
        # more might be known of the others.
        write_trial(directory, number, params, self.identity)
        self._know(directory)
        self.context.push()  # the trial may run on another machine
        return directory.name

    def record(self, name: str, iteration: int, error: float) -> None:
        """Take in a report of a trial that goes on."""
        known = self.trials[name]
        # A trial that goes on after a kill reports its last error again.
        if iteration > known.iterations:
            self.trials[name] = dataclasses.replace(known, curve=(*known.curve, (iteration, error)))

    def end(self, name: str, *, died: bool) -> None:
        """A trial has left its process: by itself, ended by the scheduler, or without an outcome."""
        directory = self.directory(name)
        self.context.pull(lambda file: file.startswith(f"{TRIALS}/{name}/"))
        # Ray Tune has started its process again as often as it may: no verdict on the settings, so the study cannot go on.
        self.stopping = self.stopping or died
        if not self.stopping and not (directory / OUTCOME).exists():
            conclude(directory, "stopped")  # by ASHA, which ends a trial in the middle of a report: it writes nothing itself
        self.trials[name] = read_trial(directory)
        errors = [t.best_error for t in self.records if t.state != "running" and t.best_error is not None]
        if errors:
            self.journal.metrics({"search/best_error": min(errors)}, step=self.ended)

    def watch(self) -> None:
        """Pass the user's wish to stop on to the trials, and report how far the study is."""
        self.stopping = self.stopping or self.context.should_stop()
        running = [t for t in self.records if t.state == "running"]
        for trial in running if self.stopping else ():
            directory = self.directory(trial.id)
            # A trial looks for a stop in its own folder, under the token of its attempt; one that has not begun has none yet.
            token = (owner_of(directory) or {}).get("token")
            if token and not stop_requested(directory, token):
                request_stop(directory, token)
        done = self.ended + sum(min(1.0, t.iterations / self.config.max_iterations) for t in running)
        # Below 1, which would be written at every call, several times a second (see `StepContext.progress`).
        self.context.progress(min(done / self.config.num_trials, 0.999), self.describe())

    def describe(self) -> str:
        """How far the study is, for people."""
        words = [f"{self.ended} of {self.config.num_trials} trials ended"]
        words += [f"{n} {state}" for state in ("stopped", "failed") if (n := sum(t.state == state for t in self.records))]
        best = Study({}, self.space, self.records).best()
        return ", ".join(words) + (f"; best {best[0].best_error:.4g} ({best[0].id})" if best else "")

    @property
    def ended(self) -> int:
        return sum(t.state != "running" for t in self.records)


def _take_over(context: StepContext, identity: str, num_trials: int) -> None:
    """Copy the ended trials of studies that differ from this one in their number of trials alone."""
    trials = context.directory / TRIALS
    trials.mkdir(exist_ok=True)
    context.root.fetch_earlier(context.name, lambda file: file.startswith(f"{TRIALS}/"))
    for former in sorted(context.directory.parent.glob(f"{context.name}-*/{TRIALS}/trial-*")):
        mine = trials / former.name  # under its number: a study with more trials begins with the same ones
        wanted = int(former.name.removeprefix("trial-")) < num_trials and not mine.exists() and (former / OUTCOME).exists()
        if not wanted or identity_of(former) != identity:
            continue
        # Copied under a name that no search for trials finds, and renamed when whole.
        partial = temporary_name(mine)
        try:
            shutil.copytree(former, partial)
        except (OSError, shutil.Error):  # its study has just been finished, or removed; the trial is run again
            continue
        publish(partial, mine)
