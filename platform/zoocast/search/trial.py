"""A trial from the inside: what its training is given, and what surrounds it in the trial's own process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoocast.config import dump, override
from zoocast.dag import Resources, StepContext
from zoocast.dag.context import begin_attempt
from zoocast.dag.memory import lack_of_memory
from zoocast.dag.worker import limit_threads
from zoocast.errors import InfrastructureError, IntegrityError, Interrupted, StepFailed, ZoocastError
from zoocast.search.study import ERROR, OUTCOME, conclude, read_trial
from zoocast.store.files import keep_private, sync_tree, write_atomically
from zoocast.tracking import Journal

__all__ = ["Train", "Trial", "run_trial"]

TRACEBACK = "error.txt"


def _ignore(iteration: int, error: float) -> None:
    """Where there is no scheduler."""


@dataclasses.dataclass
class Trial:
    """A running trial, seen by its training.

    `context` is the trial's own: its folder, config, journal, threads, and the wish to stop. The training keeps its checkpoints
    in ``context.directory`` and goes on from them. `send` passes a report on to a scheduler, and does not return when that ends
    the trial; by default there is none, so the same training can run as a step of its own.
    """

    context: StepContext
    send: Callable[[int, float], None] = _ignore

    def report(self, iteration: int, error: float) -> None:
        """Report the validation error at an iteration, after the checkpoint of that iteration is written.

        Raises:
            StepFailed: the error is not finite; the trial has diverged.
            SystemExit: the scheduler ends the trial; ``finally`` blocks still run.
        """
        journal = Journal(self.context.journal_path)
        journal.metrics({ERROR: error}, step=iteration)
        journal.close()
        if not math.isfinite(error):
            raise StepFailed(f"{self.context.name} diverged: its error is {error} at iteration {iteration}")
        self.context.push()  # whoever ends the trial has all that it logged
        self.send(iteration, error)


Train = Callable[[Trial], Any]


def run_trial(
    step: StepContext,
    directory: Path,
    base: Any,
    train: Train,
    resources: Resources,
    send: Callable[[int, float], None],
) -> None:
    """Run the trial in `directory`, or go on with it, and write its outcome there.

    What its settings cause is its outcome. A stop, a full disk or a damaged file is not, and leaves the trial to be gone on with.

    Args:
        step: the step that searches; the trial sees its inputs.
        base: the config whose dotted fields the trial's settings replace.
        train: the training.
        resources: what this process holds.
        send: see `Trial`.

    Raises:
        InfrastructureError: no verdict about the settings.
        IntegrityError: no verdict about the settings.
        Interrupted: the user asked to stop.
    """
    if (directory / OUTCOME).exists():  # its process died after it had written it
        return
    keep_private()
    known = read_trial(directory)
    limit_threads(resources.threads)
    # A fence and a wish to stop of its own, apart from the step's: an earlier attempt's process may still run this trial.
    token = begin_attempt(directory, step.run_id)
    name = f"{step.name}.{known.id}"
    context = dataclasses.replace(step, name=name, directory=directory, config=base, resources=resources, token=token)
    trial = Trial(context, send)
    with contextlib.closing(Journal(trial.context.journal_path)) as journal:
        journal.status("running")
        try:
            trial.context.config = override(base, known.params)
            if known.curve:  # the scheduler may not have got it before a kill
                trial.report(*known.curve[-1])
            returned = train(trial)
            # By way of text: what JSON cannot hold is this trial's failure, here, and not an error of the report in the end.
            plain = dump(returned) if dataclasses.is_dataclass(returned) else returned
            result = json.loads(json.dumps(plain, allow_nan=False))
            if not read_trial(directory).curve:
                raise StepFailed(f"{name} reported no error")
            sync_tree(directory)  # the outcome must not outlive, after a power cut, the files that it vouches for
            trial.context.check_fence()
            conclude(directory, "done", result=result)
        except (InfrastructureError, IntegrityError, Interrupted) as error:
            journal.status("killed" if isinstance(error, Interrupted) else "failed")
            raise
        # SystemExit, by which a scheduler ends the trial, is no Exception: it passes, and `Progress.end` writes the outcome.
        except Exception as error:
            write_atomically(directory / TRACEBACK, traceback.format_exc(), durable=False)
            trial.context.check_fence()
            ours = error if isinstance(error, ZoocastError) else lack_of_memory(name, error)
            message = str(ours) if ours else f"{type(error).__name__}: {error}"
            conclude(directory, "failed", message=message)
