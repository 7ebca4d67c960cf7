"""From the folders of finished steps to a report: names say what a step is, records say what it read and when it ran.

`evaluate.ARM` holds an arm's scores, `target.ARM.seedK` one training of it, `search` a study; everything that these rest on is
found through their records, so the report needs no list of steps.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.config import settings
from zoocast.dag import Record, read_record
from zoocast.errors import IntegrityError
from zoocast.evaluation import Scores, paired_difference, paired_over_clips
from zoocast.provenance import git_state
from zoocast.report.data import (
    HEADLINE_METRIC,
    Comparison,
    Difference,
    Rates,
    ReportData,
    capitalised,
    is_trained,
    table_rows,
)
from zoocast.report.figures import StepView, family
from zoocast.report.figures.curves import Curve
from zoocast.report.files import read_gates, read_scores, read_strips
from zoocast.report.illustrations import illustrations
from zoocast.report.page import compose
from zoocast.report.study import read_rates, read_search
from zoocast.store.files import JOURNAL_FILE, write_atomically
from zoocast.tracking.journal import curves

CURVES = ("val/mse", "train/loss")
HORIZONS = ("strict/mse", "strict/ssim")
PAPER_ARM = "paper"
"""The arm trained with a paper's settings, whose learning rates are shown beside those of the comparison's own."""
_TRAINING = re.compile(r"target\.(?P<arm>.+)\.seed(?P<seed>\d+)")

Trainings = Mapping[str, Mapping[int, Path]]


def gather(
    inputs: Iterable[Path],
    *,
    title: str,
    config: Any,
    observed: int,
    facts: Mapping[str, str] | None = None,
    step: str = "report",
    comparison: Comparison = Comparison(),  # noqa: B008
    notes: Iterable[str] = (),
) -> ReportData:
    """Read everything that a report shows.

    Args:
        inputs: folders of the finished steps that the report step reads, at least every ``evaluate.ARM``, in the arms' order.
        title: of the page.
        config: of the pipeline; all its settings are listed.
        observed: number of observed frames of a clip.
        facts: short lines under the title, by name; the date and the commit are added.
        step: name of the report step itself, which has no record yet.
        comparison: whose comparison is the headline.
        notes: sentences to be told besides those that follow from the results.

    Raises:
        IntegrityError: a step's folder is damaged, or arms were evaluated on different splits or clips.
    """
    direct = {read_record(path).name: path for path in inputs}
    steps = lineage(direct.values())
    records = {name: read_record(path) for name, path in steps.items()}
    evaluations = {name.removeprefix("evaluate."): path for name, path in direct.items() if name.startswith("evaluate.")}
    trainings = _trainings(steps)
    split, scores = _scores(evaluations)
    arms = tuple(scores)
    validation = {a: _validation_error(records, a, trainings.get(a, ())) for a in arms}
    differences = compare(scores, validation, comparison)
    with_rates = (_best(comparison.ours, validation), PAPER_ARM)
    per_frame = {m: {a: np.array([s.per_frame(m) for s in seeds.values()]) for a, seeds in scores.items()} for m in HORIZONS}
    first = next(iter(next(iter(scores.values())).values()))
    return ReportData(
        title=title,
        facts={**(facts or {}), **_provenance()},
        split=split,
        num_clips=first.count,
        observed=observed,
        horizon=len(first.per_frame(HEADLINE_METRIC)),
        arms=arms,
        scores={m: {a: tuple(s.overall(m) for s in seeds.values()) for a, seeds in scores.items()} for m in first.names},
        comparison=comparison,
        differences=differences,
        curves={m: {a: read_curves(t, m) for a, t in trainings.items() if a in arms} for m in CURVES},
        horizons=per_frame,
        strips={a: s for a, p in evaluations.items() if (s := read_strips(p)) is not None},
        gates={a: g for a, p in evaluations.items() if (g := read_gates(p)) is not None},
        search=read_search(steps["search"]) if "search" in steps else None,
        rates=_rates({a: trainings[a] for a in with_rates if a in trainings}),
        steps=(*(_view(r) for r in records.values()), StepView(step, tuple(direct))),
        settings=tuple(settings(config)),
        environment=_environment(records.values()),
        notes=(*_notes(scores, trainings, differences, comparison), *notes),
    )


def write_report(data: ReportData, directory: Path) -> None:
    """Write ``report.html``, the figures as files under ``figures/``, and the table for the terminal to ``result.json``."""
    figures = illustrations(data)
    write_atomically(directory / "report.html", compose(data, figures))
    (directory / "figures").mkdir(exist_ok=True)
    for figure in figures:
        write_atomically(directory / "figures" / figure.file, figure.image)
    columns, rows = table_rows(data)
    result = {"headline": data.headline, "columns": columns, "rows": rows, "notes": list(data.notes)}
    write_atomically(directory / "result.json", json.dumps(result, indent=1, ensure_ascii=False))


# ---------------------------------------------------------------------------------------------------------------- reading


def lineage(directories: Iterable[Path]) -> dict[str, Path]:
    """The folders of the given steps and of everything that they rest on, parents before children, by step name."""
    found: dict[str, Path] = {}

    def visit(path: Path) -> None:
        record = read_record(path)
        if record.name in found:
            return
        for name, key in record.inputs.values():
            parent = path.parent / f"{name}-{key}"
            if name not in found and parent.exists():  # results that nothing needs any more may have been removed
                visit(parent)
        found[record.name] = path

    for directory in directories:
        visit(directory)
    return found


def read_curves(seeds: Mapping[int, Path], metric: str) -> dict[int, Curve]:
    """The values of `metric` in each seed's journal, against iterations; a seed without any is left out."""
    found: dict[int, Curve] = {}
    for seed, directory in seeds.items():
        path = directory / JOURNAL_FILE
        points = curves(path).get(metric) if path.exists() else None
        if points:
            found[seed] = (np.array([step for step, _ in points]), np.array([value for _, value in points]))
    return found


def _rates(trainings: Trainings) -> dict[str, Rates]:
    """The rates of each arm's first seed."""
    found = {}
    for arm, seeds in trainings.items():
        seed, directory = next(iter(seeds.items()))
        if rates := read_rates(directory):
            found[f"{arm}, seed {seed}"] = rates
    return found


def _trainings(steps: Mapping[str, Path]) -> dict[str, dict[int, Path]]:
    found: dict[str, dict[int, Path]] = {}
    for name, path in steps.items():
        if match := _TRAINING.fullmatch(name):
            found.setdefault(match["arm"], {})[int(match["seed"])] = path
    return {arm: dict(sorted(seeds.items())) for arm, seeds in found.items()}


def _scores(evaluations: Mapping[str, Path]) -> tuple[str, dict[str, dict[int, Scores]]]:
    if not evaluations:
        raise IntegrityError("a report needs at least one step called evaluate.ARM among its inputs, but got none")
    read = {arm: read_scores(path) for arm, path in evaluations.items()}
    kinds = {(split, tuple(s.clip_mse), s.names) for split, seeds in read.values() for s in seeds.values()}
    if len(kinds) != 1:
        raise IntegrityError("all arms of a report must be evaluated on the same clips by the same metrics; evaluate them again")
    return next(iter(kinds))[0], {arm: seeds for arm, (_, seeds) in read.items()}


def _validation_error(records: Mapping[str, Record], arm: str, seeds: Iterable[int]) -> float | None:
    """Mean over seeds of the strict MSE on the validation split, by which arms are chosen; None for an arm without training."""
    errors = [float(records[f"target.{arm}.seed{seed}"].result["val_mse"]) for seed in seeds]
    return float(np.mean(errors)) if errors else None


def _view(record: Record) -> StepView:
    return StepView(record.name, tuple(name for name, _ in record.inputs.values()), record.started, record.finished)


# ---------------------------------------------------------------------------------------------------------------- comparing


def compare(
    scores: Mapping[str, Mapping[int, Scores]],
    validation: Mapping[str, float | None],
    comparison: Comparison = Comparison(),  # noqa: B008
) -> tuple[Difference, ...]:
    """Our arm minus every other one. Where a side of the comparison has several arms, the validation split chooses among them."""
    ours, rival = _best(comparison.ours, validation), _best(comparison.rival, validation)
    if ours is None:
        return ()
    found = (_difference(ours, other, scores, chosen=other == rival) for other in scores if other != ours)
    return tuple(d for d in found if d is not None)


def _best(kind: str, validation: Mapping[str, float | None]) -> str | None:
    """The arm of a family with the lowest error on the validation split."""
    known = {a: v for a, v in validation.items() if family(a) == kind and v is not None}
    return min(known, key=known.__getitem__, default=None)


def _difference(ours: str, other: str, scores: Mapping[str, Mapping[int, Scores]], *, chosen: bool) -> Difference | None:
    a, b = scores[ours], scores[other]
    pairs = [(s, s) for s in a if s in b] if is_trained(other) else [(s, next(iter(b))) for s in a]
    if not pairs:
        return None
    values_a = [a[s].overall(HEADLINE_METRIC) for s, _ in pairs]
    values_b = [b[s].overall(HEADLINE_METRIC) for _, s in pairs]
    seeds = paired_difference(values_a, values_b)
    clips = paired_over_clips([a[s] for s, _ in pairs], [b[s] for _, s in pairs])
    return Difference(
        arm=ours,
        other=other,
        mean=seeds.mean,
        relative=seeds.mean / float(np.mean(values_b)) if np.mean(values_b) else 0.0,
        seeds=None if seeds.low is None or seeds.high is None else (seeds.low, seeds.high),
        clips=None if clips.low is None or clips.high is None else (clips.low, clips.high),
        count=seeds.count,
        chosen=chosen,
    )


def _notes(
    scores: Mapping[str, Mapping[int, Scores]], trainings: Trainings, differences: Iterable[Difference], comparison: Comparison
) -> list[str]:
    notes = []
    counts = {arm: len(seeds) for arm, seeds in scores.items() if is_trained(arm)}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        notes.append(f"Arms have different numbers of seeds ({told}); differences use those in common.")
    left_out = sorted(set(trainings) - set(scores))
    if left_out:
        notes.append(f"Trained but not evaluated, and so not in the table: {', '.join(left_out)}.")
    decisive = next((d for d in differences if d.chosen), None)
    if decisive is None:
        return notes
    for chosen, what in (
        (decisive.other, capitalised(comparison.rival_words)),
        (decisive.arm, f"The {comparison.ours_words.removeprefix('the ')} arm"),
    ):
        several = [a for a in scores if family(a) == family(chosen)]
        if len(several) > 1:
            notes.append(f"{what}, {chosen}, was chosen among {len(several)} by its error on the validation split.")
    return notes


# ---------------------------------------------------------------------------------------------------------------- provenance


def _provenance() -> dict[str, str]:
    state = git_state()
    commit = state["commit"][:12] if re.fullmatch(r"[0-9a-f]{40}", state["commit"]) else state["commit"]
    return {"code": commit + (" with uncommitted changes" if state["dirty"] else ""), "date": time.strftime("%Y-%m-%d %H:%M")}


def _environment(records: Iterable[Record]) -> dict[str, str]:
    """What the steps ran on and with; several values where steps differ."""
    seen: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.versions.items():
            seen.setdefault(name, {})[version] = None
        seen.setdefault("hosts", {})[record.host] = None
    joined = {name: ", ".join(values) for name, values in seen.items()}
    return {**joined, "system": platform.platform(terse=True), "CPUs of the report's machine": str(os.cpu_count())}
