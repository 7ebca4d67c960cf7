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
from zoocast.store.files import publish
from zoocast.tracking import Journal

__all__ = ["TRIALS", "Progress"]

TRIALS = "trials"


class Progress:
    """The trials of a running study, as the step's process knows them."""

    def __init__(self, context: StepContext, config: SearchConfig, space: SearchSpace, identity: str, journal: Journal) -> None:
        self.context, self.config, self.space, self.identity, self.journal = context, config, space, identity, journal
        self.stopping = False
        self.trials: dict[str, TrialRecord] = {}
        _take_over(context, identity, config.num_trials)
        for directory in sorted((context.directory / TRIALS).glob("trial-*")):
            if identity_of(directory) == identity:
                self._know(directory)
            else:  # a kill came before it was written, or the space was changed
                shutil.rmtree(directory)
        self.open = [t.id for t in self.records if t.state == "running"]

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """What is known, in the order of the numbers."""
        return tuple(self.trials[name] for name in sorted(self.trials))

    def directory(self, name: str) -> Path:
        return self.context.directory / TRIALS / name

    def _know(self, directory: Path) -> None:
        self.trials[directory.name] = read_trial(directory)
        self.journal.child(directory.name, directory)

    def begin(self) -> str | None:
        """The next trial: one that an earlier attempt left open, else a new one; None when there are no more."""
        self.context.check_fence()
        if self.stopping:
            return None
        if self.open:
            return self.open.pop(0)
        number = next(n for n in itertools.count() if trial_id(n) not in self.trials)
        if number >= self.config.num_trials:
            return None
        params = suggest(self.space, self.records, number, seed=self.config.seed, num_startup=self.config.num_startup)
        directory = self.directory(trial_id(number))
        write_trial(directory, number, params, self.identity)
        self._know(directory)
        self.context.push()
        return directory.name

    def hear(self, name: str, iteration: int, error: float) -> None:
        """A report of a trial that goes on."""
        known = self.trials[name]
        if iteration > known.iterations:
            self.trials[name] = dataclasses.replace(known, curve=(*known.curve, (iteration, error)))

    def end(self, name: str, *, died: bool) -> None:
        """A trial has left its process: by itself, ended by the scheduler, or with nothing said."""
        directory = self.directory(name)
        self.context.pull(lambda file: file.startswith(f"{TRIALS}/{name}/"))
        self.stopping = self.stopping or died
        if not self.stopping and not (directory / OUTCOME).exists():
            conclude(directory, "stopped")
        self.trials[name] = read_trial(directory)
        errors = [t.best_error for t in self.records if t.state != "running" and t.best_error is not None]
        if errors:
            self.journal.metrics({"search/best_error": min(errors)}, step=self.ended)

    def watch(self) -> None:
        """Pass the user's wish to stop on to the trials, and tell how far the study is."""
        self.stopping = self.stopping or self.context.should_stop()
        running = [t for t in self.records if t.state == "running"]
        for trial in running if self.stopping else ():
            directory = self.directory(trial.id)
            token = (owner_of(directory) or {}).get("token")
            if token and not stop_requested(directory, token):
                request_stop(directory, token)
        done = self.ended + sum(min(1.0, t.iterations / self.config.max_iterations) for t in running)
        self.context.progress(min(done / self.config.num_trials, 0.999), self.told())

    def told(self) -> str:
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
        mine = trials / former.name
        wanted = former.name < trial_id(num_trials) and not mine.exists() and (former / OUTCOME).exists()
        if not wanted or identity_of(former) != identity:
            continue
        partial = trials / f".{former.name}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(former, partial)
        except (OSError, shutil.Error):  # its study has just been finished, or removed; the trial is run again
            continue
        publish(partial, mine)
