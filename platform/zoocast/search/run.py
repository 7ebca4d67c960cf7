"""The search as a step does it: trials that are known already, Ray Tune for the rest, and the study left in the folder."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoocast.config import canonical, digest
from zoocast.dag import Kind, StepContext
from zoocast.errors import Interrupted, StepFailed
from zoocast.search.config import SearchConfig
from zoocast.search.progress import Progress
from zoocast.search.space import SearchSpace, When
from zoocast.search.study import BEST_ERROR, Study
from zoocast.search.trial import Train
from zoocast.tracking import Journal

__all__ = ["search"]


def search(
    context: StepContext, config: SearchConfig, space: SearchSpace, base: Any, train: Train, *, kind: Kind, cycle: int = 1
) -> Study:
    """Search `space` for the settings under which `train` reports the lowest validation error.

    Called in a step, inside Ray, that holds no CPU itself. Trials of an earlier attempt are gone on with, and those of an earlier
    study under the same root that differs in its number of trials alone are taken over.

    Args:
        context: the step; its folder, which every node must see, holds the trials and at last ``study.json``.
        config: the budget, and how it is spent.
        space: what is varied.
        base: the config that is varied; trials see it with the fields of the space replaced. It does not hold `config`, or a
            study with more trials could not take over those of this one.
        train: what can travel to each trial's own process and is called there. It keeps checkpoints in the trial's folder and
            goes on from them, calls `Trial.report` after each, and returns a dataclass of plain values or a JSON-able dict.
        kind: what `train` does, by which trials of an earlier study are known as the same, wherever the code stands by now.
        cycle: iterations of one cycle; ASHA's rungs are whole cycles.

    Raises:
        ConfigError: the space does not fit `base`; nothing was started.
        InfrastructureError: a trial's process kept dying, or the cluster can hold no trial.
        Interrupted: the user asked to stop; every trial keeps its checkpoint.
        StepFailed: all trials failed.
    """
    space.check(base)
    with Journal(context.journal_path) as journal:
        # Without the names of types, which the canonical form holds as well.
        shown = {k: v for k, v in canonical(config).items() if not k.startswith("__")}
        journal.params(shown | {"cycle": cycle})
        # A field under a condition is missing in some trials, and MLflow draws no line for a run that lacks an axis.
        journal.compare(BEST_ERROR, [name for name, field in space.fields.items() if not isinstance(field, When)])
        identity = _identity(context, config, space, base, kind, cycle)
        progress = Progress(context, config, space, identity, journal)
        if progress.ended < config.num_trials:
            from zoocast.search.tuner import run_trials  # Ray Tune takes seconds to import

            run_trials(progress, base, train, cycle)
        if progress.stopping:  # `run_trials` has raised for a process that kept dying, so this is the user's wish
            raise Interrupted(f"{context.name} was stopped with {progress.describe()}; the same command goes on with them")
        study = Study(canonical(config), space, progress.records)
        if not study.best():
            raise StepFailed(
                f"{context.name}: all {len(study.trials)} trials failed; the first: {study.trials[0].message};"
                f" correct it and run again with --force {context.name}"
            )
        context.check_fence()
        study.save(context.directory)
        journal.note(_summary(study))
    return study


def _identity(context: StepContext, config: SearchConfig, space: SearchSpace, base: Any, kind: Kind, cycle: int) -> str:
    """What a trial of this study shares with those that it may take over: everything but their number."""
    what = {
        "search": dataclasses.replace(config, num_trials=1),  # any number, as long as it is always the same
        "space": space.to_json(),
        "base": base,
        "kind": [kind.name, kind.version],
        "cycle": cycle,
        "version": context.version,
        # A finished step's folder is called NAME-KEY, and the key stands for all that it holds.
        "inputs": {name: path.name for name, path in context.inputs.items()},
    }
    return digest(what)


def _summary(study: Study) -> str:
    """The best trials as a table for the page of the search."""
    fields = list(study.space.fields)
    rows = [["trial", "error", "iterations", *fields]]
    for trial in study.best(3):
        settings = [str(trial.params.get(field, "–")) for field in fields]
        rows += [[trial.id, f"{trial.best_error:.5g}", str(trial.iterations), *settings]]
    rows.insert(1, ["---"] * len(rows[0]))
    counts = ", ".join(f"{study.count(state)} {state}" for state in ("done", "stopped", "failed"))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"\n\n{len(study.trials)} trials: {counts}.\n"
