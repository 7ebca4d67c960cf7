"""Figures about a search for settings: its course, which settings mattered, which gave which error, and the rates of levels.

All as SVG. A trial that failed has no error and is drawn as failed; one that was stopped early shows the error that it reached.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, ScalarFormatter

from zoocast.report.figures.curves import Curve, common_range
from zoocast.report.figures.style import MUTED, PAPER, bare_rows, legend_below, number, scale_axis, styled, svg, widest

__all__ = [
    "FieldView",
    "TrialView",
    "importance_bars",
    "level_rates",
    "order_of_levels",
    "parallel_coordinates",
    "search_history",
]

Value = str | int | float | bool | None

BEST, WORST = "#d55e00", "#3f78b5"
FAILED, UNCHAINED = "#d0483a", "#7f5fc0"
# Both ends and all between stand out from a light page and from a dark one.
_ERRORS = LinearSegmentedColormap.from_list("error", [BEST, "#9c7f86", WORST])
_LEVELS = LinearSegmentedColormap.from_list("level", [WORST, "#2a9187", "#8c8a1f", BEST])
STATES = {"done": "whole budget", "stopped": "stopped early", "failed": "failed"}
_DOT: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5.5, "markeredgewidth": 1.3}
_MARKS: dict[str, dict[str, Any]] = {
    "done": {**_DOT, "color": WORST},
    "stopped": {**_DOT, "color": WORST, "markerfacecolor": PAPER},
    "failed": {**_DOT, "color": FAILED, "marker": "x"},
}
_RING = {**_DOT, "color": BEST, "markerfacecolor": "none", "markersize": 11, "markeredgewidth": 1.6}
_LINES: dict[str, dict[str, Any]] = {
    "done": {"linewidth": 1.3},
    "stopped": {"linewidth": 0.7},
    "failed": {"linewidth": 0.9, "linestyle": "--"},
}
_CHOSEN_LINE: dict[str, Any] = {"linewidth": 2.6}
# Where lines end that have no place on the scale of errors, which ends at 1; names of axes stand above both.
_BEYOND_AT, _FAILED_AT, _NAME_AT = 1.06, 1.14, 1.17


class TrialView(NamedTuple):
    """A trial as the figures see it: its lowest error, None if it failed, and its settings, of the fields that exist in it."""

    number: int
    state: Literal["done", "stopped", "failed"]
    error: float | None
    iterations: int
    params: Mapping[str, Value]


class FieldView(NamedTuple):
    """A searched field: the ends of its range (two ints: of whole numbers), on a linear or a logarithmic axis; or its choices."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Value, ...] = ()

    def place(self, value: Value) -> float:
        """Where `value` lies on the axis, 0 at its bottom and 1 at its top."""
        if self.choices:
            # In the middle of its part of the axis, so that lines can be spread around it without touching another choice's.
            return (self.choices.index(value) + 0.5) / len(self.choices)
        at, low, high = (math.log(v) if self.log else v for v in (float(value or 0), self.low, self.high))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of the values that the axis names."""
        if self.choices:
            return [(self.place(choice), _text(choice)) for choice in self.choices]
        if self.high <= self.low:
            return [(0.5, number(self.low))]
        decades = math.log10(self.high / self.low) if self.log else 0.0
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        locator = (
            LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,))
            if self.log
            else MaxNLocator(5, steps=(1, 2, 5, 10), integer=whole)
        )
        # Ticks beyond the range are dropped, but not those that a logarithm's rounding puts just outside.
        found = [float(v) for v in locator.tick_values(self.low, self.high) if -1e-9 <= self.place(v) <= 1 + 1e-9]
        return [(self.place(v), label) for v, label in zip(found, _labels(found, self.log), strict=True)]


def search_history(trials: Sequence[TrialView], best: int) -> str:
    """Every trial's lowest error by its number, the lowest so far as a line, and the trial that was chosen in a ring.

    Failed trials stand as crosses above the scale. An error far above most is written at its edge, so as not to squeeze them.

    Args:
        trials: in the order of their numbers, of which at least one has an error.
        best: number of the chosen trial, which has an error.
    """
    known = {t.number: t.error for t in trials if t.error is not None}
    low, high = _range_of_most(known.values())
    pad = 0.06 * (high - low) or 0.05 * high or 1.0  # one trial, or equal errors, need a range as well
    with styled():
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        ax = figure.subplots()
        ax.set_ylim(low - pad, high + pad)
        lowest = np.minimum.accumulate(list(known.values()))
        # On to the last trial, even where that one failed.
        ax.step([*known, trials[-1].number], [*lowest, lowest[-1]], where="post", color=BEST, linewidth=2, zorder=2)
        for trial in trials:
            _mark(ax, trial, high)
        ax.plot(best, known[best], zorder=5, **_RING)
        ax.set_xlabel("trial")
        ax.set_ylabel("lowest error")
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        ax.set_xlim(trials[0].number - 0.7, trials[-1].number + 0.7)
        handles = [Line2D([], [], color=BEST, linewidth=2, label="lowest so far"), Line2D([], [], label="chosen", **_RING)]
        handles += [Line2D([], [], label=STATES[state], **_MARKS[state]) for state in _states(trials)]
        legend_below(figure, handles)
        return svg(figure)


def importance_bars(shares: Mapping[str, float]) -> str:
    """What share of the error's variance each field accounts for, the largest first; `shares` are parts of 1."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    names = [name for name, _ in ranked]
    with styled():
        figure = Figure(figsize=(widest(names) + 4.6, 0.55 + 0.29 * len(names)), layout="constrained")
        ax = figure.subplots()
        ax.barh(range(len(names)), [share for _, share in ranked], 0.62, color=WORST)
        for row, (_, share) in enumerate(ranked):
            ax.annotate(f"{100 * share:.0f} %", (share, row), (4, 0), textcoords="offset points", va="center", color=MUTED)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(0, 1.15 * max(shares.values(), default=1.0))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        bare_rows(ax)
        return svg(figure)


def parallel_coordinates(trials: Sequence[TrialView], fields: Sequence[FieldView], best: int) -> str:
    """One line per trial through its settings to its error, by which it is coloured; the trial numbered `best` is thick.

    A field that does not exist in a trial is a gap in its line. Choices are spread a little, so that lines do not hide each
    other. The lines of failed trials are dashed and end above the scale of errors, with those of errors far above most below.
    """
    errors = [t.error for t in trials if t.error is not None]
    low, high = _range_of_most(errors)
    scale = FieldView("error", low, high)
    prefix = _common_prefix([f.name for f in fields])
    with styled():
        figure = Figure(figsize=(1.2 * (len(fields) + 1), 4.3), layout="constrained")
        ax = figure.subplots()
        ax.set(xlim=(-0.45, len(fields) + 0.5), ylim=(-0.04, 1.3))
        ax.axis("off")
        for x, field in enumerate(fields):
            _axis(ax, x, field.name.removeprefix(prefix), field.ticks())
        _error_axis(ax, len(fields), scale, failed=len(errors) < len(trials), beyond=max(errors) > high)
        # From the worst to the best, and the chosen one last, so that good lines lie above poor ones.
        for trial in sorted(trials, key=lambda t: (t.number == best, -math.inf if t.error is None else -t.error)):
            spread = 0.3 * (trial.number / max(1, len(trials) - 1) - 0.5)
            places = [_place(field, trial, spread) for field in fields]
            end = _FAILED_AT if trial.error is None else _BEYOND_AT if trial.error > high else scale.place(trial.error)
            color = FAILED if trial.error is None else _ERRORS(min(end, 1.0))
            style = _CHOSEN_LINE if trial.number == best else _LINES[trial.state]
            # A dot at each setting, so that one between two gaps is seen.
            ax.plot(range(len(fields) + 1), [*places, end], color=color, marker="o", markersize=3, zorder=3, **style)
        handles = [Line2D([], [], color=BEST, label="chosen", **_CHOSEN_LINE)]
        handles += [
            Line2D([], [], color=FAILED if state == "failed" else MUTED, label=STATES[state], **_LINES[state])
            for state in _states(trials)
        ]
        legend_below(figure, handles)
        return svg(figure)


def level_rates(rates: Mapping[str, Curve], initial: float | None = None) -> str:
    """The learning rate of every level over time, one panel per direction, the colours ordered from the bottom to the head.

    Args:
        rates: (iterations, learning rates) by level, ``forward.cells.0``, ``head``.
        initial: the rate with which all levels began, drawn as a dashed line where it is known.
    """
    panels: dict[str, list[str]] = {}
    for level in order_of_levels(rates):
        panels.setdefault(_direction(level), []).append(level)
    values = np.concatenate([np.asarray(v, dtype=float) for _, v in rates.values()])
    largest = values[np.isfinite(values)].max(initial=0.0)
    # Rates are around 1e-4: their common power of ten stands in the axis's name once, and not at every tick.
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    with styled():
        figure = Figure(figsize=(max(7.6, 4.6 * len(panels)), 3.6), layout="constrained")
        axes = np.ravel(figure.subplots(1, len(panels), sharey=True, squeeze=False))
        handles: dict[str, Line2D] = {}
        for ax, (direction, levels) in zip(axes, panels.items(), strict=True):
            chain = [level for level in levels if _is_chained(level)]  # cells and head, along which the meta-adapter goes
            for level in levels:
                iterations, drawn = rates[level]
                name = level.removeprefix(direction).removeprefix(".")
                style = _level_style(chain.index(level) if level in chain else None, len(chain))
                (line,) = ax.plot(iterations, np.asarray(drawn, dtype=float) / 10.0**power, linewidth=1.6, label=name, **style)
                handles.setdefault(name, line)
            if initial is not None:
                ax.axhline(initial / 10.0**power, color=MUTED, linewidth=0.9, dashes=(4, 2), zorder=1)
            ax.set_title(direction)
            ax.set_xlabel("iteration")
            ax.margins(x=0.02)
        scale_axis(axes[0], values / 10.0**power)
        axes[0].set_ylabel(f"learning rate (×10{_superscript(power)})" if power else "learning rate")
        legend = list(handles.values())
        if initial is not None:
            legend.append(Line2D([], [], color=MUTED, linewidth=0.9, dashes=(4, 2), label="initial rate"))
        legend_below(figure, legend)
        return svg(figure)


def order_of_levels(levels: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Levels by direction, and within it from the bottom cell to the head; those outside this chain come last."""

    def key(level: str) -> tuple[str, bool, bool, int, str]:
        cell = re.search(r"cells\.(\d+)$", level)
        return _direction(level), not _is_chained(level), cell is None, int(cell[1]) if cell else 0, level

    return sorted(levels, key=key)


# ---------------------------------------------------------------------------------------------------------------- parts


def _states(trials: Sequence[TrialView]) -> list[str]:
    """How trials ended, of those ends that occur."""
    return [state for state in STATES if any(t.state == state for t in trials)]


def _range_of_most(errors: Collection[float]) -> tuple[float, float]:
    """From the lowest error to the highest, or to where those end that are not far above most."""
    return min(errors), min(max(errors), common_range([(e, e) for e in errors])[1])


def _direction(level: str) -> str:
    first = level.split(".")[0]
    return first if first in ("forward", "reverse") else ""


def _is_chained(level: str) -> bool:
    return re.search(r"(^|\.)(cells\.\d+|head)$", level) is not None


def _level_style(height: int | None, levels: int) -> dict[str, Any]:
    """Gaps grow from the bottom, which has none, to the head, so that of levels that move alike the lower ones are seen too."""
    if height is None:
        return {"color": UNCHAINED, "linestyle": ":"}
    return {"color": _LEVELS(height / max(1, levels - 1)), "linestyle": (0, (5, 1.5 + 0.8 * height)) if height else "-"}


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _labels(values: Sequence[float], log: bool) -> list[str]:
    """With as many digits as tell the values of a linear axis apart."""
    if log:
        return [number(v) for v in values]
    formatter = ScalarFormatter(useOffset=False)
    formatter.create_dummy_axis()
    return formatter.format_ticks(list(values))


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else number(value) if isinstance(value, int | float) else value


def _mark(ax: Axes, trial: TrialView, high: float) -> None:
    """A trial of the history: at its error, or above the scale."""
    if trial.error is None:
        ax.plot(trial.number, 1.04, transform=ax.get_xaxis_transform(), clip_on=False, **_MARKS[trial.state])
    elif trial.error > high:
        ax.text(trial.number, high, f"{number(trial.error)} →", ha="center", va="top", color=MUTED, fontsize=8, rotation=90)
    else:
        ax.plot(trial.number, trial.error, zorder=4, **_MARKS[trial.state])


def _common_prefix(names: Sequence[str]) -> str:
    """The dotted beginning that all names share."""
    first = {name.rpartition(".")[0] for name in names}
    return f"{first.pop()}." if len(first) == 1 and "" not in first else ""


def _axis(ax: Axes, x: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    ax.plot([x, x], [0, 1], color=MUTED, linewidth=0.9, zorder=1)
    ax.text(
        x, _NAME_AT, re.sub(r"([_.])", "\\1\n", name), ha="center", va="bottom", fontsize=8.5, fontweight="bold", linespacing=1.05
    )
    for place, label in ticks:
        ax.plot([x - 0.025, x], [place, place], color=MUTED, linewidth=0.9, zorder=1)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
        ax.text(x - 0.06, place, label, ha="right", va="center", color=MUTED, fontsize=8, zorder=6, bbox=box)


def _error_axis(ax: Axes, x: int, scale: FieldView, *, failed: bool, beyond: bool) -> None:
    """The axis of errors, which is the legend of the colours too."""
    steps = np.linspace(0, 1, 33)  # matplotlib has no gradients; of 32 stripes no edge is seen
    for bottom, top in pairwise(steps):
        ax.fill_between([x, x + 0.07], bottom, top, color=_ERRORS((bottom + top) / 2), linewidth=0.3, zorder=1)
    ax.text(x, _NAME_AT, scale.name, ha="center", va="bottom", fontsize=8.5, fontweight="bold")
    for place, label in scale.ticks():
        ax.text(x + 0.11, place, label, ha="left", va="center", color=MUTED, fontsize=8)
    if beyond:
        ax.text(x + 0.11, _BEYOND_AT, f"above {scale.high:.4g}", ha="left", va="center", color=MUTED, fontsize=8)
    if failed:
        ax.text(x + 0.11, _FAILED_AT, "failed", ha="left", va="center", color=FAILED, fontsize=8)


def _place(field: FieldView, trial: TrialView, spread: float) -> float:
    if field.name not in trial.params:
        return math.nan  # at which matplotlib interrupts the line
    return field.place(trial.params[field.name]) + (spread / len(field.choices) if field.choices else 0.0)
