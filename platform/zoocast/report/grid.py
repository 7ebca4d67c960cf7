"""Several runs of one experiment beside each other, such as those of a grid of settings: one table over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.dag import read_record
from zoocast.dag.step import GROUP
from zoocast.report.compare import HEADLINE_METRIC, decimals_of, mean_and_spread
from zoocast.report.files import read_scores
from zoocast.report.gather import other_machines, trainings_of, validation_errors

__all__ = ["compare_runs"]

ARMS = f"arms{GROUP}"
"""What the inputs of a report begin with that are evaluations of its arms."""


def compare_runs(reports: Mapping[str, Path]) -> dict[str, Any]:
    """The arms of several runs, each under all settings, as a table of text in the form of a report's ``result.json``.

    Which settings suit an arm best is said by the validation split: chosen by the test split, the error would be too low by what
    chance gave it.

    Args:
        reports: the folder of each run's finished report step, by what sets the run apart (``learning_rate=1e-3``, say).

    Returns:
        ``headline``, ``columns``, ``rows`` (an arm's runs below one another, in the order of `reports`) and ``notes``.

    Raises:
        IntegrityError: a folder is damaged.
    """
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}  # by arm and run: errors of the seeds on both splits
    records = []
    for run, report in reports.items():
        inputs = read_record(report).inputs
        for arm, (name, key) in ((k.removeprefix(ARMS), v) for k, v in inputs.items() if k.startswith(ARMS)):
            evaluation = report.parent / f"{name}-{key}"  # all steps of a root lie beside each other
            test = [scores.overall(HEADLINE_METRIC) for scores in read_scores(evaluation)[1].values()]
            trainings = trainings_of(evaluation).values()
            records += [read_record(training) for training in trainings]
            found.setdefault(arm, {})[run] = (validation_errors(trainings), test)
    every = [errors for runs in found.values() for both in runs.values() for errors in both if errors]
    digits = decimals_of(every)
    rows, notes = [], []
    for arm, runs in found.items():
        rows += [
            [arm, run, str(len(test)) if validation else "–", _text(validation, digits), mean_and_spread(test, digits)]
            for run, (validation, test) in runs.items()
        ]
        known = {run: float(np.mean(validation)) for run, (validation, _) in runs.items() if validation}
        if len(set(known.values())) > 1:
            best = min(known, key=known.__getitem__)
            notes.append(f"{arm} validates best with {best}: {known[best]:.{digits}f}.")
    return {
        "headline": f"{len(reports)} run{'s' if len(reports) != 1 else ''}. Settings are chosen by the validation split;"
        " the test split only confirms them.",
        "columns": ["arm", "settings", "seeds", f"validation {HEADLINE_METRIC}", f"test {HEADLINE_METRIC}"],
        "rows": rows,
        "notes": [*notes, *other_machines(records)],
    }


def _text(errors: list[float], digits: int) -> str:
    """As `mean_and_spread`; a dash for a baseline without trainings."""
    return mean_and_spread(errors, digits) if errors else "–"
