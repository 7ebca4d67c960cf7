"""Figures about numbers: learning curves, error along the horizon, the result per arm, gain by training clips. All as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from zoocast.report.figures.style import (
    INK,
    MUTED,
    LineStyle,
    bare_rows,
    legend_below,
    line_styles,
    number,
    scale_axis,
    styled,
    svg,
    widest,
)

Curve: TypeAlias = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]
Curves: TypeAlias = Mapping[str, Mapping[int, Curve]]

_POINTS = 200  # of a line: a panel is 330 points wide, and each of them is text in the SVG


def learning_curves(panels: Mapping[str, Curves], styles: Mapping[str, LineStyle] | None = None) -> str:
    """One panel per metric: the mean over an arm's seeds as a line, their range as a band, iterations on the x axis.

    Args:
        panels: ``{"val/mse": {arm: {seed: (iterations, values)}}}``. Seeds may be logged at different iterations; the mean covers
            the iterations that all of them reached. More than 200 points are averaged in bins.
        styles: of every arm; made from the arms of `panels` where missing.
    """
    styles = styles or line_styles(arm for curves in panels.values() for arm in curves)
    with styled():
        figure, axes = panel_row(panels, "iteration")
        for ax, curves in zip(axes, panels.values(), strict=False):  # without panels there is one empty axes
            drawn = []
            for arm, seeds in curves.items():
                joined = join_seeds(seeds)
                if joined is not None:
                    iterations, values = joined
                    drawn.append(_line_with_band(ax, iterations, values, styles[arm]))
            scale_axis(ax, np.concatenate(drawn) if drawn else np.array([]))
            ax.margins(x=0.02)
        arm_legend(figure, styles, {arm for curves in panels.values() for arm in curves}, markers=False)
        return svg(figure)


def horizon_error(
    panels: Mapping[str, Mapping[str, np.ndarray]], styles: Mapping[str, LineStyle] | None = None, *, first: int = 1
) -> str:
    """One panel per metric: its value for each predicted frame; the mean over seeds with their range as a band.

    Args:
        panels: ``{"strict/mse": {arm: (seeds, frames) array}}``.
        styles: of every arm; made from the arms of `panels` where missing.
        first: the number of the first predicted frame (the number of observed frames plus one).
    """
    styles = styles or line_styles(arm for arms in panels.values() for arm in arms)
    with styled():
        figure, axes = panel_row(panels, "frame")
        for ax, arms in zip(axes, panels.values(), strict=False):
            for arm, values in arms.items():
                seeds = np.atleast_2d(np.asarray(values, dtype=float))
                _line_with_band(ax, first + np.arange(seeds.shape[1]), seeds, styles[arm], marker=True)
            scale_axis(ax, np.concatenate([np.ravel(v) for v in arms.values()]) if arms else np.array([]))
            ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        arm_legend(figure, styles, {arm for arms in panels.values() for arm in arms}, markers=True)
        return svg(figure)


def result_bars(panels: Mapping[str, Mapping[str, Sequence[float]]], styles: Mapping[str, LineStyle] | None = None) -> str:
    """One panel per metric: the mean of each arm, the 95 % interval of that mean, and below it every seed as a small dot.

    An arm that lies far outside the others (copying the last frame, say) is written at the edge, so as not to squeeze them.

    Args:
        panels: ``{"strict/mse": {arm: values of the seeds}}``. An arm with one seed has no interval.
        styles: of every arm; made from the arms of `panels` where missing.
    """
    styles = styles or line_styles(arm for arms in panels.values() for arm in arms)
    arms = [arm for arm in styles if any(arm in values for values in panels.values())]
    with styled():
        figure = Figure(figsize=(widest(arms) + 3.6 * len(panels) + 0.4, 0.75 + 0.29 * len(arms)), layout="constrained")
        axes = np.ravel(figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False))
        for ax, (metric, values) in zip(axes, panels.items(), strict=False):
            # With the intervals, which may reach further than any seed.
            low, high = common_range([_extent(np.asarray(v, dtype=float)) for v in values.values()])
            for row, arm in enumerate(arms):
                if arm in values:
                    _dots(ax, row, np.asarray(values[arm], dtype=float), styles[arm], low, high)
            ax.set_xlim(low, high)
            ax.set_title(metric)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            bare_rows(ax)
        figure.set_layout_engine("constrained", wspace=0.08)
        axes[0].set_yticks(range(len(arms)), arms)
        axes[0].set_ylim(len(arms) - 0.5, -0.5)
        for label, arm in zip(axes[0].get_yticklabels(), arms, strict=True):
            label.set_fontweight("bold" if styles[arm].thick else "normal")
        return svg(figure)


def gain_curves(
    panels: Mapping[str, Mapping[str, Mapping[int, tuple[float, tuple[float, float] | None]]]],
    styles: Mapping[str, LineStyle] | None = None,
) -> str:
    """One panel per relation: what each arm gains over a reference, in percent of its error, by the number of training clips.

    Gains far below all others are cut off at the panel's edge, so as not to squeeze them.

    Args:
        panels: ``{relation: {arm: {clips: (gain, interval or None)}}}`` in parts of the reference's error, 0 for no gain.
        styles: of every arm; made from the arms of `panels` where missing.
    """
    styles = styles or line_styles(arm for arms in panels.values() for arm in arms)
    clips = sorted({n for arms in panels.values() for points in arms.values() for n in points})
    spans = [ends or (gain, gain) for arms in panels.values() for points in arms.values() for gain, ends in points.values()]
    low, high = common_range([*spans, (0.0, 0.0)])
    with styled():
        rows = math.ceil(len(panels) / 2)
        figure = Figure(figsize=(8.6, 2.6 * rows + 0.5), layout="constrained")
        axes = np.ravel(figure.subplots(rows, min(2, len(panels)), sharex=True, sharey=True, squeeze=False))
        for ax, (relation, arms) in zip(axes, panels.items(), strict=False):
            ax.axhline(0, color=INK, linewidth=0.9, zorder=1)
            for place, (arm, points) in enumerate(arms.items()):
                # Beside each other, so that intervals do not hide each other.
                shift = 0.08 * (place - (len(arms) - 1) / 2)
                _gains(ax, {clips.index(n) + shift: point for n, point in points.items()}, styles[arm])
            ax.set_title(relation)
        for ax in axes[len(panels) :]:
            ax.axis("off")
        axes[0].set_ylim(100 * min(low, 0.0), 100 * max(high, 0.0))
        axes[0].set_xticks(range(len(clips)), [str(n) for n in clips])
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g} %".replace("-", "−") if value else "0 %"))
        for ax in axes[max(0, len(panels) - 2) : len(panels)]:
            ax.set_xlabel("training clips of the target")
            ax.tick_params(axis="x", labelbottom=True)  # also where the panel below is empty
        arm_legend(figure, styles, {arm for arms in panels.values() for arm in arms}, markers=True)
        return svg(figure)


# ---------------------------------------------------------------------------------------------------------------- numbers


def join_seeds(seeds: Mapping[int, Curve]) -> tuple[np.ndarray, np.ndarray] | None:
    """Curves of several seeds on common iterations: (N,) and (seeds, N); None when they have no iteration in common."""
    pairs = []
    for iterations, values in seeds.values():
        x, y = np.asarray(iterations, dtype=float), np.asarray(values, dtype=float)
        keep = np.isfinite(x) & np.isfinite(y)
        x, first = np.unique(x[keep], return_index=True)  # a resumed run may log an iteration again; the first value counts
        if len(x):
            pairs.append((x, y[keep][first]))
    if not pairs:
        return None
    # Where every seed has been: beyond it the mean would jump whenever a seed ends.
    start, stop = max(x[0] for x, _ in pairs), min(x[-1] for x, _ in pairs)
    grid = np.unique(np.concatenate([x for x, _ in pairs]))
    grid = grid[(grid >= start) & (grid <= stop)]
    if not len(grid):
        return None
    values = np.stack([np.interp(grid, x, y) for x, y in pairs])
    if len(grid) <= _POINTS:
        return grid, values
    bins = np.array_split(np.arange(len(grid)), _POINTS)
    return np.array([grid[b].mean() for b in bins]), np.stack([values[:, b].mean(axis=1) for b in bins], axis=1)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; the half width is NaN for a single value."""
    mean = float(np.mean(values))
    count = len(values)
    if count < 2:
        return mean, math.nan
    from scipy.stats import t  # slow to import, and needed by few

    return mean, float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))


def _extent(values: np.ndarray) -> tuple[float, float]:
    mean, half = mean_interval(values)
    half = half if math.isfinite(half) else 0.0
    return min(values.min(), mean - half), max(values.max(), mean + half)


def common_range(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The range of an axis that shows most arms: those further from the median than 4 times the middle half's width are not."""
    if not spans:
        return 0.0, 1.0
    centers = np.array([(a + b) / 2 for a, b in spans])
    middle = float(np.median(centers))
    # At least 2 % of the median, or of arms that nearly agree some would be put off the scale.
    width = max(float(np.subtract(*np.percentile(centers, [75, 25]))), abs(middle) * 0.02)
    kept = [s for s, c in zip(spans, centers, strict=True) if abs(c - middle) <= 4 * width]
    low, high = min(a for a, _ in kept), max(b for _, b in kept)
    pad = 0.06 * (high - low) or abs(high) * 0.05 or 1.0  # equal values, and zeros, need a range as well
    return low - pad, high + pad


# ---------------------------------------------------------------------------------------------------------------- drawing


def panel_row(panels: Mapping[str, object], xlabel: str, *, width: float = 4.6) -> tuple[Figure, list[Axes]]:
    """A figure with panels `width` inches wide, by name, at most three beside each other; without a name one empty panel."""
    count = max(1, len(panels))
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns + 0.1, 3.5 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax in axes[count:]:
        ax.axis("off")
    for ax, name in zip(axes, panels, strict=False):
        ax.set_title(name)
        ax.set_xlabel(xlabel)
    return figure, axes


def _line_with_band(ax: Axes, x: np.ndarray, seeds: np.ndarray, styles: LineStyle, *, marker: bool = False) -> np.ndarray:
    """Draws (N,) against (seeds, N); returns all values drawn."""
    order = 3 if styles.thick else 2
    if len(seeds) > 1:
        ax.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=styles.color, alpha=0.16, linewidth=0, zorder=order - 1)
    shape = styles.marker if marker or len(x) == 1 else ""  # a line of one point is not seen
    (line,) = ax.plot(
        x, seeds.mean(axis=0), color=styles.color, linewidth=styles.width, marker=shape, markersize=3.5, zorder=order
    )
    if styles.dashes:
        line.set_dashes(styles.dashes)
    return np.ravel(seeds)


def arm_legend(
    figure: Figure, styles: Mapping[str, LineStyle], present: set[str], *, markers: bool, others: Sequence[Line2D] = ()
) -> None:
    """A legend of the arms that are drawn, after `others`."""
    handles = [*others]
    for arm, style in styles.items():
        if arm in present:
            handles.append(Line2D([], [], color=style.color, linewidth=style.width, label=arm, markersize=4))
            handles[-1].set_marker(style.marker if markers else "")
            if style.dashes:
                handles[-1].set_dashes(style.dashes)
    legend_below(figure, handles)


def _dots(ax: Axes, row: int, values: np.ndarray, styles: LineStyle, low: float, high: float) -> None:
    mean, half = mean_interval(values)
    if not low <= mean <= high:
        right = mean > high
        edge, text = (high, f"{number(mean)} →") if right else (low, f"← {number(mean)}")
        ax.text(edge, row, text, ha="right" if right else "left", va="center", color=MUTED, fontsize=8.5)
        return
    if math.isfinite(half):
        ax.plot([mean - half, mean + half], [row, row], color=styles.color, linewidth=1.2, solid_capstyle="butt", zorder=2)
    if len(values) > 1:
        ax.scatter(values, np.full(len(values), row + 0.3), s=9, color=styles.color, alpha=0.7, linewidths=0, zorder=3)
    size = 58 if styles.thick else 32
    ax.scatter([mean], [row], s=size, marker="D", color=styles.color, zorder=4)


def _gains(ax: Axes, points: Mapping[float, tuple[float, tuple[float, float] | None]], style: LineStyle) -> None:
    """A line through the gains, in percent, with their intervals."""
    order = 3 if style.thick else 2
    for x, (_, ends) in points.items():
        if ends is not None:
            ax.plot([x, x], [100 * end for end in ends], color=style.color, linewidth=1.2, solid_capstyle="butt", zorder=order)
    (line,) = ax.plot(
        [*points],
        [100 * gain for gain, _ in points.values()],
        color=style.color,
        linewidth=style.width,
        marker=style.marker,
        markersize=4.5,
        zorder=order,
    )
    if style.dashes:
        line.set_dashes(style.dashes)
