"""From the folders of finished steps to a report.

A step's name means nothing here: the caller says which folder holds which arm's evaluation, and all that it rests on is found
through the records, whose inputs lead to an arm's trainings and whose kinds say what a step is.
"""

from __future__ import annotations

import dataclasses
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
from zoocast.dag.step import GROUP
from zoocast.errors import IntegrityError
from zoocast.evaluation import Scores
from zoocast.provenance import git_state
from zoocast.report.compare import HEADLINE_METRIC, Comparison, Difference, Measured, compare
from zoocast.report.data import Rates, ReportData, capitalised, table_csv, table_latex, table_markdown, table_rows
from zoocast.report.figures import StepView, line_styles
from zoocast.report.figures.curves import Curves
from zoocast.report.files import (
    read_forecasts,
    read_gates,
    read_kinds,
    read_listening,
    read_routes,
    read_scores,
    read_sequences,
    read_strips,
)
from zoocast.report.forecasts import forecast_section
from zoocast.report.illustrations import illustrations
from zoocast.report.made import chosen_for, made_tables
from zoocast.report.page import compose
from zoocast.report.sections import Section
from zoocast.report.study import read_curves, read_rates, read_search
from zoocast.report.subsets import by_kind, on_last_frames
from zoocast.store.files import write_atomically
from zoocast.words import duration, some

CURVES = ("val/mse", "train/loss")
HORIZONS = ("strict/mse", "strict/ssim")
SEEDS = f"seeds{GROUP}"
"""What the inputs of an evaluation begin with that are trainings of its arm."""

Trainings = Mapping[str, Mapping[int, Path]]


def gather(
    arms: Mapping[str, Path],
    *,
    title: str,
    config: Any,
    observed: int,
    step: str = "report",
    comparison: Comparison | None = None,
    families: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    sections: Iterable[Section] = (),
    command: str = "",
) -> ReportData:
    """Read everything that a report shows.

    Args:
        arms: the folder of each arm's finished evaluation, in the order in which they are shown.
        title: of the page.
        config: of the pipeline; all its settings are listed.
        observed: number of observed frames of a clip.
        step: name of the report step itself, which has no record yet.
        comparison: whose comparison is the headline.
        families: of arms that share a colour; any other arm has one of its own.
        notes: sentences to be shown besides those that follow from the results.
        sections: what the experiment shows besides.
        command: that started the run.

    Raises:
        ConfigError: the comparison or a section names an arm that is not there.
        IntegrityError: a step's folder is damaged, or arms were evaluated on different splits or clips.
    """
    sections = tuple(sections)
    for named in (comparison, *sections):
        if named is not None:
            named.check(arms)
    steps = lineage(arms.values())
    records = {name: read_record(path) for name, path in steps.items()}
    seeds = {arm: trainings_of(path) for arm, path in arms.items()}
    untrained = tuple(arm for arm, found in seeds.items() if not found)
    # Results that nothing needs any more may have been removed.
    trainings = {arm: {k: p for k, p in found.items() if p.exists()} for arm, found in seeds.items() if found}
    split, scores = _scores(arms)
    sequences = read_sequences(next(iter(arms.values())))  # all arms were measured on the same clips
    # Which arm stands for a side is decided on the validation split; the test split only measures it.
    iterations = iterations_of(trainings)
    differences = (
        compare(scores, validation_of(trainings), comparison, untrained=untrained, iterations=iterations, sequences=sequences)
        if comparison
        else ()
    )
    decisive = next((d for d in differences if d.chosen), None)
    forecasts = {arm: measured for arm, path in arms.items() if (measured := read_forecasts(path)) is not None}
    kinds = _kinds(arms, scores)
    views = _views(records, trainings)
    trained = {arm: {k: read_record(p) for k, p in found.items()} for arm, found in trainings.items()}
    ours = comparison.ours if comparison else ()
    styles = line_styles(tuple(arms), families=families or {}, ours=ours, untrained=untrained)
    first = next(iter(next(iter(scores.values())).values()))  # any will do: `_scores` has seen that all are of the same clips
    return ReportData(
        title=title,
        facts=provenance(),
        command=command,
        made=made_tables(
            records,
            trained,
            {arm: read_record(path) for arm, path in arms.items()},
            {arm: routes for arm, path in arms.items() if (routes := read_routes(path)) is not None},
            kinds,
        ),
        split=split,
        num_clips=first.count,
        num_recordings=len(set(sequences)),
        observed=observed,
        horizon=len(first.per_frame(HEADLINE_METRIC)),
        arms=tuple(arms),
        scores={m: {a: tuple(s.overall(m) for s in seeds.values()) for a, seeds in scores.items()} for m in first.names},
        comparison=comparison,
        families=dict(families or {}),
        untrained=untrained,
        differences=differences,
        curves=_curves(trainings),
        horizons={m: {a: np.array([s.per_frame(m) for s in seeds.values()]) for a, seeds in scores.items()} for m in HORIZONS},
        last_frames=on_last_frames(scores, decisive, untrained=untrained),
        strips={a: s for a, p in arms.items() if (s := read_strips(p)) is not None},
        listening={a: found for a, p in arms.items() if (found := read_listening(p)) is not None},
        gates={a: g for a, p in arms.items() if (g := read_gates(p)) is not None},
        search=next((read_search(steps[name]) for name, record in records.items() if record.kind == "search"), None),
        rates=_rates(trainings, comparison, differences),
        sections=(
            *(section.show(scores, split, iterations) for section in sections),
            *([by_kind(scores, kinds, split, decisive, untrained=untrained)] if len(set(kinds)) > 1 else ()),
            *([forecast_section(forecasts, styles, split=split, observed=observed)] if forecasts else ()),
        ),
        steps=(*views, StepView(step, tuple(read_record(p).name for p in arms.values()), "report")),
        settings=tuple(settings(config)),
        environment=environment_of(records.values()),
        notes=(
            *_notes(scores, untrained, comparison, decisive),
            *_tuned(chosen_for(records, trained)),
            *_shared(records, views),
            *other_machines(records.values()),
            *notes,
        ),
    )


def write_report(data: ReportData, directory: Path) -> None:
    """Write ``report.html`` and what it links to beside it: figures and animations, and the table as Markdown, CSV and LaTeX.

    The table for the terminal is ``result.json``.
    """
    write_page(data, directory)
    for file, table in (("table.md", table_markdown(data)), ("table.csv", table_csv(data)), ("table.tex", table_latex(data))):
        write_atomically(directory / file, table)
    columns, rows, best = table_rows(data)
    sentences = [sentence for section in data.sections for sentence in section.sentences]
    result = {
        "headline": data.headline,
        "columns": columns,
        "rows": rows,
        "best": best,
        "notes": [*data.notes, *sentences],
        "differences": [{**dataclasses.asdict(d), "verdict": d.verdict} for d in data.differences],
    }
    write_atomically(directory / "result.json", json.dumps(result, indent=1, ensure_ascii=False))


def write_page(data: ReportData, directory: Path) -> None:
    """Write ``report.html`` and the figures beside it."""
    figures = illustrations(data)
    write_atomically(directory / "report.html", compose(data, figures))
    (directory / "figures").mkdir(exist_ok=True)
    for file, content in (item for figure in figures for item in figure.files.items()):
        write_atomically(directory / "figures" / file, content)


# ---------------------------------------------------------------------------------------------------------------- reading


def lineage(directories: Iterable[Path]) -> dict[str, Path]:
    """The folders of the given steps and of everything that they rest on, parents before children, by step name."""
    found: dict[str, Path] = {}

    def visit(path: Path) -> None:
        record = read_record(path)
        if record.name in found:
            return
        for name, key in record.inputs.values():
            parent = path.parent / f"{name}-{key}"  # all steps of a root lie beside each other
            if name not in found and parent.exists():  # results that nothing needs any more may have been removed
                visit(parent)
        found[record.name] = path

    for directory in directories:
        visit(directory)
    return found


def trainings_of(evaluation: Path) -> dict[int, Path]:
    """The folders of an arm's trainings by seed; none for a baseline without weights."""
    inputs = read_record(evaluation).inputs
    found = {int(k.removeprefix(SEEDS)): v for k, v in inputs.items() if k.startswith(SEEDS)}
    return {seed: evaluation.parent / f"{name}-{key}" for seed, (name, key) in sorted(found.items())}


def _scores(arms: Mapping[str, Path]) -> tuple[str, dict[str, dict[int, Scores]]]:
    if not arms:
        raise IntegrityError("a report needs the evaluation of at least one arm, but got none")
    read = {arm: read_scores(path) for arm, path in arms.items()}
    # Differences are paired by clip, so every arm must have been measured on the very same ones.
    kinds = {(split, tuple(s.clip_mse), s.names) for split, seeds in read.values() for s in seeds.values()}
    if len(kinds) != 1:
        raise IntegrityError("all arms of a report must be evaluated on the same clips by the same metrics; evaluate them again")
    return next(iter(kinds))[0], {arm: seeds for arm, (_, seeds) in read.items()}


def _kinds(arms: Mapping[str, Path], scores: Measured) -> tuple[str, ...]:
    """The kind of every test clip, as the first arm has it: all arms were measured on the same ones."""
    arm, directory = next(iter(arms.items()))
    kinds = read_kinds(directory)
    count = next(iter(scores[arm].values())).count
    if kinds and len(kinds) != count:
        raise IntegrityError(f"{directory} has kinds of {len(kinds)} clips and scores of {count}; evaluate {arm} again")
    return kinds


def validation_errors(trainings: Iterable[Path]) -> list[float]:
    """The strict MSE on the validation split of finished trainings, of those that are still there."""
    return [float(read_record(path).result["val_mse"]) for path in trainings if path.exists()]


def validation_of(trainings: Trainings) -> dict[str, float]:
    """Mean over seeds of the strict MSE on the validation split, by which arms are chosen."""
    errors = {arm: validation_errors(seeds.values()) for arm, seeds in trainings.items()}
    return {arm: float(np.mean(values)) for arm, values in errors.items() if values}


def iterations_of(trainings: Trainings) -> dict[str, int]:
    """Of the shortest training of each arm; an experiment's own training step need not say how many it did."""
    results = {arm: [read_record(path).result for path in seeds.values()] for arm, seeds in trainings.items()}
    done = {arm: [int(r["iterations"]) for r in found if "iterations" in r] for arm, found in results.items()}
    return {arm: min(counts) for arm, counts in done.items() if counts}


def _curves(trainings: Trainings) -> dict[str, Curves]:
    """For each of `CURVES` what the trainings of every arm logged of it; a seed without any is left out."""
    logged = {arm: {seed: read_curves(folder) for seed, folder in seeds.items()} for arm, seeds in trainings.items()}
    return {m: {arm: {k: c[m] for k, c in seeds.items() if m in c} for arm, seeds in logged.items()} for m in CURVES}


def _rates(trainings: Trainings, comparison: Comparison | None, differences: Iterable[Difference]) -> dict[str, Rates]:
    """The learning rates that the first seed of each arm moved; of the comparison's own arms, only of the one chosen."""
    chosen = next((d.arm for d in differences), None)
    passed_over = {*comparison.ours} - {chosen} if comparison else set()
    # The arm that the page is about comes first.
    arms = sorted((arm for arm in trainings if arm not in passed_over and trainings[arm]), key=lambda arm: arm != chosen)
    firsts = {arm: next(iter(trainings[arm].items())) for arm in arms}
    return {f"{arm}, seed {k}": rates for arm, (k, folder) in firsts.items() if (rates := read_rates(folder)) is not None}


def _views(records: Mapping[str, Record], trainings: Trainings) -> list[StepView]:
    """The steps as figures see them: trainings of one arm belong together, and what comes before them seed by seed does too."""
    owners = {read_record(path).name: (arm, seed) for arm, seeds in trainings.items() for seed, path in seeds.items()}
    # The points of a grid are drawn as one, beside the step that chooses.
    owners |= {point: (name, 0) for name, r in records.items() if r.kind == "choose-point" for point, _ in r.inputs.values()}
    users: dict[str, set[str]] = {}
    for name, record in records.items():
        for parent, _ in record.inputs.values():
            users.setdefault(parent, set()).add(name)
    for name in reversed(list(records)):  # users before what they use
        # A step is an arm's own when all that use it are trainings of one seed: a start that two arms share belongs to both.
        owned = [owners.get(user) for user in users.get(name, ())]
        if name not in owners and owned and len({o and o[1] for o in owned}) == 1 and None not in owned:
            owners[name] = (GROUP.join(sorted({o[0] for o in owned if o})), next(o[1] for o in owned if o))
    return [
        StepView(
            name,
            tuple(dict.fromkeys(parent for parent, _ in r.inputs.values())),  # one step may be the input under two names
            r.kind.rpartition(":")[2],  # a function that is not marked with a kind is known as MODULE:NAME
            owners.get(name, ("", 0))[0],
            r.started,
            r.finished,
        )
        for name, r in records.items()
    ]


def _notes(scores: Measured, untrained: Iterable[str], comparison: Comparison | None, decisive: Difference | None) -> list[str]:
    notes = []
    counts = {arm: len(seeds) for arm, seeds in scores.items() if arm not in untrained}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        notes.append(f"Arms have different numbers of seeds ({numbers}); differences use those in common.")
    if decisive is None or comparison is None:
        return notes
    for chosen, side, what in (
        (decisive.other, comparison.rival, capitalised(comparison.rival_words)),
        (decisive.arm, comparison.ours, f"The {comparison.ours_words.removeprefix('the ')} arm"),
    ):
        if len(side) > 1:
            notes.append(f"{what}, {chosen}, was chosen among {len(side)} by its error on the validation split.")
    return notes


def _tuned(chosen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """That arms were tuned and at what cost, and which of them may be better than they look."""
    if not chosen:
        return []
    counts = sorted({int(found["trainings"]) for found in chosen.values()})
    notes = [
        f"Tuned on the validation split, with seeds that are not the report's: {', '.join(chosen)}; learning rate, and weight"
        f" where the method has one, by {' or '.join(map(str, counts))} trainings each,"
        f" {duration(sum(found['train_seconds'] for found in chosen.values()))} in all."
    ]
    if edges := [f"{arm} ({', '.join(found['edges'])})" for arm, found in chosen.items() if found["edges"]]:
        notes.append(f"Chosen on the edge of the grid, beyond which a better value may lie: {'; '.join(edges)}.")
    return notes


def _shared(records: Mapping[str, Record], views: Iterable[StepView]) -> list[str]:
    """What the seeds do not repeat: trainings and searches that belong to no arm's seed, and networks that were there before."""
    alone = [v.name for v in views if not v.group]
    shared = [n for n in alone if isinstance(records[n].result.get("val_mse"), float) or records[n].kind == "adopt-source"]
    if not shared:
        return []
    return [f"Seeds repeat the training of the arms alone; what they share is the same for every seed: {some(shared)}."]


def other_machines(records: Iterable[Record]) -> list[str]:
    """A sentence where trainings that are compared ran on machines, or with threads, that add up in different ways."""
    seen: dict[tuple[str, ...], str] = {}
    for machine in (r.machine for r in records if r.machine and isinstance(r.result.get("val_mse"), float)):
        what = [machine.get(name, "") for name in ("processor", "instructions", "settings", "threads")]
        threads = f"{what[3]} thread{'' if what[3] == '1' else 's'}"
        seen[tuple(what)] = ", ".join(part for part in (what[0], what[2], threads) if part)
    if len(seen) < 2:
        return []
    kinds = "; ".join(list(seen.values())[:4])
    return [
        f"Trainings ran on {len(seen)} kinds of machine ({kinds}), which give other last bits for the same seed: a small"
        " difference between arms may come from that."
    ]


# ---------------------------------------------------------------------------------------------------------------- provenance


def provenance() -> dict[str, str]:
    """Which code made a report, and when."""
    state = git_state()
    # Outside of a repository it is a version, `zoocast 1.2.3`, which is not to be cut.
    commit = state["commit"][:12] if re.fullmatch(r"[0-9a-f]{40}", state["commit"]) else state["commit"]
    return {"code": commit + (" with uncommitted changes" if state["dirty"] else ""), "date": time.strftime("%Y-%m-%d %H:%M")}


def environment_of(records: Iterable[Record]) -> dict[str, str]:
    """What the steps ran on and with; several values where steps differ."""
    seen: dict[str, dict[str, None]] = {}  # dicts as sets that keep their order
    for record in records:
        for name, version in record.versions.items():
            seen.setdefault(name, {})[version] = None
        for name, value in record.machine.items():
            seen.setdefault(name, {})[value] = None
        seen.setdefault("hosts", {})[record.host] = None
    joined = {name: ", ".join(values) for name, values in seen.items()}
    return {**joined, "system": platform.platform(terse=True), "CPUs of the report's machine": str(os.cpu_count())}
