"""The report's figures and what is said about them: what is seen, on which split, of how many clips and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from zoocast.metrics import METRICS
from zoocast.report.compare import HEADLINE_METRIC
from zoocast.report.data import Gates, Listening, ReportData, Search, Strips, seeds_of
from zoocast.report.figures import (
    LineStyle,
    dag_drawing,
    gate_pictures,
    horizon_error,
    importance_bars,
    learning_curves,
    level_rates,
    listening_picture,
    moving_comparison,
    order_of_levels,
    parallel_coordinates,
    result_bars,
    search_history,
    strip_comparison,
    timeline,
)
from zoocast.report.figures.style import number
from zoocast.report.figures.trials import STATES
from zoocast.report.sections import Illustration
from zoocast.words import duration

__all__ = ["illustrations"]


def illustrations(data: ReportData) -> list[Illustration]:
    """All figures for which `data` holds something, in the order of the page."""
    styles = data.styles
    return [
        *_results(data, styles),
        *(figure for section in data.sections for figure in section.figures),
        *(_search(data.search) if data.search else ()),
        *_learning(data, styles),
        *_rates(data),
        *_horizon(data, styles),
        *_strips(data, styles),
        *_listening(data),
        *_gates(data),
        *_pipeline(data),
    ]


def _results(data: ReportData, styles: Mapping[str, LineStyle]) -> Iterator[Illustration]:
    panels = {m: data.scores[m] for m in (HEADLINE_METRIC, "strict/ssim") if m in data.scores}
    if not panels:
        return
    several = seeds_of(data) > 1
    marks = (
        "Diamond: mean over seeds; dots: seeds; line: 95 % interval of the mean (Student's t)."
        if several
        else "One seed per arm."
    )
    yield Illustration(
        "results",
        "results",
        result_bars(panels, styles),
        f"{_listed(panels)} by arm on the {_clips(data)}. {marks} An arm far off the scale is written at its edge.",
        f"Dot plot of {_listed(panels)} by arm. " + _in_words(data.scores[HEADLINE_METRIC] if HEADLINE_METRIC in panels else {}),
    )


def _learning(data: ReportData, styles: Mapping[str, LineStyle]) -> Iterator[Illustration]:
    panels = {m: curves for m, curves in data.curves.items() if curves}
    if not panels:
        return
    # The lowest and not the last values, for the weights at the lowest are those that are evaluated.
    ends = {
        arm: [float(np.min(values)) for _, values in seeds.values()] for arm, seeds in panels.get("val/mse", {}).items() if seeds
    }
    yield Illustration(
        "learning-curves",
        "learning",
        learning_curves(panels, styles),
        "Learning curves: mean over seeds, the band spans all seeds. val/mse (strict, per pixel) is taken on the whole"
        " validation split, rolled out from the observed frames; the weights of its minimum are the ones evaluated. train/loss"
        " holds each arm's own terms (distillation, for example), so compare it within an arm only.",
        f"Line plots of {_listed(panels)} against iterations. Lowest values. " + _in_words(ends),
    )


def _search(search: Search) -> Iterator[Illustration]:
    trials = {t.number: t for t in search.trials}
    best = trials[search.ranking[0]]
    counted = ", ".join(f"{search.count(state)} {words}" for state, words in STATES.items() if search.count(state))
    chosen = f"Trial {best.number} was chosen with an error of {best.error:.5g}"
    yield Illustration(
        "search-history",
        "search",
        search_history(search.trials, best.number),
        f"The course of the search: the lowest error of each trial ({counted}) on the validation split. Those that used their"
        " whole budget are chosen from first; the errors of those stopped early are of shorter trainings. A failed trial has"
        " none, and stands above the scale.",
        f"Scatter plot of the lowest error of each trial. {chosen}. "
        + " ".join(f"Trial {t.number}: {'failed' if t.error is None else f'{t.error:.5g}'}." for t in search.trials),
    )
    yield from _importance(search)
    yield Illustration(
        "search-parallel",
        "search",
        parallel_coordinates(search.trials, search.fields, best.number),
        "The settings of all trials and the errors that they led to, one line per trial. A gap is a setting that does not exist"
        " in a trial; choices are spread a little, so that lines do not hide each other.",
        f"Parallel coordinates of {', '.join(f.name for f in search.fields)} and the error. {chosen}: "
        + ", ".join(f"{name} {value}" for name, value in best.params.items())
        + ".",
    )


def _importance(search: Search) -> Iterator[Illustration]:
    if not search.importance:
        return
    left_out = [f.name for f in search.fields if f.name not in search.importance]
    missing = f" Left out, as not all of these trials have it or it never varied: {', '.join(left_out)}." if left_out else ""
    yield Illustration(
        "search-importance",
        "search",
        importance_bars(search.importance),
        "How much of the error's variance each setting accounts for (fANOVA, Hutter et al., ICML 2014), estimated from the"
        f" {search.count('done')} trials that used their whole budget and no others.{missing}",
        "Bars. " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in search.importance.items()) + ".",
    )


def _rates(data: ReportData) -> Iterator[Illustration]:
    for title, rates in data.rates.items():
        ends = {level: [rates.levels[level][1][-1]] for level in order_of_levels(rates.levels)}
        others = [level for level in ends if not level.endswith("head") and "cells." not in level]
        yield Illustration(
            f"rates-{title}",
            "rates",
            level_rates(rates.levels, rates.initial),
            f"{title}: the learning rate of every level, from the bottom cell to the head; where rates move alike, the lower"
            " level is seen in the gaps of the upper one's line." + (f" Dotted: {', '.join(others)}." if others else ""),
            f"Line plots of the learning rates of {title}. "
            + (f"Initial rate: {rates.initial:.4g}. " if rates.initial is not None else "")
            + _in_words(ends, "Last rates"),
        )


def _horizon(data: ReportData, styles: Mapping[str, LineStyle]) -> Iterator[Illustration]:
    panels = {m: arms for m, arms in data.horizons.items() if arms}
    if not panels:
        return
    first = data.observed + 1
    ends = {arm: [float(v) for v in np.atleast_2d(values)[:, -1]] for arm, values in next(iter(panels.values())).items()}
    yield Illustration(
        "horizon",
        "horizon",
        horizon_error(panels, styles, first=first),
        f"Error along the horizon: frames {first} to {data.observed + data.horizon} are predicted from"
        f" {data.observed} observed ones. Mean over the {_clips(data)} and over seeds; the band spans all seeds.",
        f"Line plots of {_listed(panels)} for each predicted frame. Last frame, {next(iter(panels))}. " + _in_words(ends),
    )


def _strips(data: ReportData, styles: Mapping[str, LineStyle]) -> Iterator[Illustration]:
    if not data.strips:
        return
    first = next(iter(data.strips.values()))
    # Arms that kept other clips, or frames of another shape, cannot stand in the same picture.
    same = {arm: s for arm, s in data.strips.items() if s.clips == first.clips and s.truth.shape == first.truth.shape}
    for position, clip in enumerate(first.clips):
        observed, truth = first.observed[position], first.truth[position]
        predictions = {arm: s.prediction[position] for arm, s in same.items()}
        errors = {arm: _error(s, position) for arm, s in same.items()}
        notes = {arm: f"MSE {number(error)}" for arm, error in errors.items()}
        yield Illustration(
            f"prediction-clip-{clip}",
            "predictions",
            strip_comparison(observed, truth, predictions, styles, notes),
            f"Clip {clip} of the {data.split} split. Left: observed frames, what followed, and what the first seed of each"
            " arm predicts. Right: prediction minus truth (blue: too dark, red: too bright), with one scale for all arms, and the"
            " mean squared error per pixel of this clip's predicted frames.",
            f"Frames of clip {clip}: observed, truth, and the predictions of {', '.join(same)} with their errors. "
            + _in_words(errors, "Mean squared error per pixel of this clip"),
            moving_comparison(observed, truth, predictions),
        )


def _error(strips: Strips, position: int) -> float:
    # Bytes would wrap around below zero.
    difference = strips.prediction[position].astype(float) - strips.truth[position].astype(float)
    return float(np.mean((difference / 255) ** 2))


def _listening(data: ReportData) -> Iterator[Illustration]:
    for arm, found in data.listening.items():
        most = f"Most weight: {_listeners(found)}."
        yield Illustration(
            f"listening-{arm}",
            "listening",
            listening_picture(found.weights, found.sources, found.kinds, found.examples),
            f"Whom each training clip of {arm} distilled from: the better a source predicts that very clip, the more it weighs;"
            " nobody told it the kind of clip. Above: some clips, in the colour of the source that weighs most, with its share."
            f" Below: a column for each of the {len(found.weights)} clips, divided among the sources. {most}",
            f"Columns of the weights of {', '.join(found.sources)}. {most}",
        )


def _listeners(found: Listening) -> str:
    """How many clips, of each kind, each source has the largest weight for."""
    parts = []
    for kind in dict.fromkeys(found.kinds) or [""]:
        chosen = found.weights[[k == kind for k in found.kinds]] if kind else found.weights
        counts = np.bincount(chosen.argmax(axis=1), minlength=len(found.sources))
        listed = ", ".join(f"{count} to {name}" for name, count in zip(found.sources, counts, strict=True))
        parts.append(f"of {len(chosen)} clip{'s' * (len(chosen) != 1)}{f' of kind {kind}' * bool(kind)} {listed}")
    return "; ".join(parts)


def _gates(data: ReportData) -> Iterator[Illustration]:
    for arm, gates in data.gates.items():
        means = _gate_means(gates, data.observed)
        clip = data.strips[arm].clips[0] if arm in data.strips and data.strips[arm].clips else None
        whose = "one clip" if clip is None else f"clip {clip}"
        yield Illustration(
            f"gates-{arm}",
            "gates",
            gate_pictures(gates.values, gates.sources, observed=data.observed),
            f"What the transfer gates of {arm} (first seed) let through from each source on {whose} of the"
            f" {data.split} split. Above: gate values over space, averaged over channels, for the frame that the step reads."
            " Below: their mean over space.",
            f"Maps of gate values for {', '.join(gates.sources)}. {means}",
        )


def _gate_means(gates: Gates, observed: int) -> str:
    values = gates.values.mean(axis=(2, 3))
    sentences = []
    for name, row in zip(gates.sources, values, strict=True):
        after = f", {row[observed:].mean():.2f} after" if row[observed:].size else ""
        sentences.append(f"{name}: {row[:observed].mean():.2f} while frames are observed{after}")
    return f"Mean gate {'; '.join(sentences)}."


def _pipeline(data: ReportData) -> Iterator[Illustration]:
    if not data.steps:
        return
    yield Illustration(
        "dag",
        "pipeline",
        dag_drawing(data.steps),
        f"The {len(data.steps)} steps of the pipeline. A stack holds the seeds of one arm; an arrow that follows from"
        " others is left out.",
        "Graph of steps. " + " ".join(f"{s.name} needs {', '.join(s.inputs)}." for s in data.steps if s.inputs),
    )
    timed = [s for s in data.steps if s.started is not None and s.finished is not None]
    if timed:
        busy = sum((s.finished or 0.0) - (s.started or 0.0) for s in timed)
        yield Illustration(
            "timeline",
            "pipeline",
            timeline(data.steps),
            f"When the steps ran: {duration(busy)} of work in all (from a minute on as min:s or h:min:s). Bars of one row that"
            " overlap are seeds trained side by side.",
            "Time line. " + " ".join(f"{s.name}: {duration((s.finished or 0.0) - (s.started or 0.0))}." for s in timed),
        )


def _clips(data: ReportData) -> str:
    return f"{data.num_clips} clip{'s' * (data.num_clips != 1)} of the {data.split} split"


def _listed(panels: Mapping[str, object]) -> str:
    return " and ".join(f"{m} {METRICS[m].arrow}" if m in METRICS else m for m in panels)


def _in_words(values: Mapping[str, object], what: str = "Means") -> str:
    """Numbers of the arms in words, for descriptions."""
    if not values:
        return ""
    means = [f"{arm} {float(np.mean(np.asarray(v, dtype=float))):.4g}" for arm, v in values.items()]
    return f"{what}: {', '.join(means)}."
