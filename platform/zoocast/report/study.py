"""What trainings and a search left for the report, in plain values: curves, learning rates that were moved, and the study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from zoocast.report.data import Rates, Search
from zoocast.report.figures import FieldView, TrialView
from zoocast.report.figures.curves import Curve
from zoocast.search import TrialRecord, When, importance, read_study
from zoocast.store.files import JOURNAL_FILE
from zoocast.store.recorded import check_file
from zoocast.tracking import entries
from zoocast.tracking.journal import curves, read_entries


def read_curves(directory: Path) -> dict[str, Curve]:
    """Every metric that a step's journal holds as (iterations, values); none where it keeps no journal."""
    path = check_file(directory / JOURNAL_FILE)
    logged = curves(path) if path.exists() else {}
    return {name: (np.array([i for i, _ in points]), np.array([v for _, v in points])) for name, points in logged.items()}


def read_rates(directory: Path) -> Rates | None:
    """The learning rates by level that a training's journal holds, as ``rate/LEVEL``; None if it holds none."""
    logged = read_curves(directory)
    levels = {name.removeprefix("rate/"): curve for name, curve in logged.items() if name.startswith("rate/")}
    if not levels:
        return None
    # A training logs its params in several entries; the adapter's are in one of them.
    params = (entry.values for entry in read_entries(directory / JOURNAL_FILE, entries.Params))
    initial = next((float(p["adapter.initial_rate"]) for p in params if "adapter.initial_rate" in p), None)
    return Rates(levels, initial)


def read_search(directory: Path) -> Search:
    """The study that the search step left in its folder. Raises `IntegrityError` when it cannot be read."""
    study = read_study(directory)
    fields = {name: f.distribution if isinstance(f, When) else f for name, f in study.space.fields.items()}
    whole = [t.params for t in study.trials if t.state == "done"]
    # A share of 0 for a field that never varied would read as if it did not matter.
    varied = {name for name in fields if len({params.get(name) for params in whole}) > 1}
    return Search(
        trials=tuple(_trial(t) for t in study.trials),
        fields=tuple(_field(name, distribution) for name, distribution in fields.items()),
        ranking=tuple(t.number for t in study.best(len(study.trials))),
        # A search with fewer trials than given points tried only the first of them.
        num_given=min(len(study.space.points), len(study.trials)),
        importance={name: share for name, share in importance(study).items() if name in varied},
    )


def _trial(trial: TrialRecord) -> TrialView:
    assert trial.state != "running"  # a study is saved when all have ended
    return TrialView(trial.number, trial.state, trial.best_error, trial.iterations, trial.params)


def _field(name: str, distribution: BaseDistribution) -> FieldView:
    if isinstance(distribution, CategoricalDistribution):
        return FieldView(name, choices=tuple(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return FieldView(name, distribution.low, distribution.high, distribution.log)
