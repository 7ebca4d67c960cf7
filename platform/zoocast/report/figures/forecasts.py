"""Figures of forecasts: the spectrum of what is predicted, reliability, and the ranks of the truth. All as SVG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoocast.report.figures.style import INK, MUTED, LineStyle, legend_below, styled, svg

__all__ = ["TRUTH", "rank_histograms", "reliability_diagram", "spectra"]

TRUTH = "truth"


def spectra(powers: Mapping[str, np.ndarray], truth: np.ndarray, styles: Mapping[str, LineStyle]) -> str:
    """Power by wave number of each arm and of the truth, (K,) each, from 1 wave across a frame on; both axes logarithmic."""
    with styled():
        figure = Figure(figsize=(6.2, 3.8), layout="constrained")
        ax = figure.subplots()
        waves = 1 + np.arange(len(truth))
        ax.loglog(waves, truth, color=INK, linewidth=2.2, zorder=2)
        for arm, power in powers.items():
            _line(ax, waves, power, styles[arm])
        ax.set_xlabel("waves across the shorter side of a frame")
        ax.set_ylabel("power")
        legend_below(figure, [Line2D([], [], color=INK, linewidth=2.2, label=TRUTH), *_handles(powers, styles)])
        return svg(figure)


def reliability_diagram(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], styles: Mapping[str, LineStyle]
) -> str:
    """One panel per event: how often it came where an arm's ensemble gave it a probability; the diagonal is reliable.

    Args:
        panels: ``{event: {arm: (probabilities, frequencies)}}``, of the probabilities that were given at all.
        styles: of every arm.
    """
    with styled():
        figure, axes = _row(len(panels))
        for ax, (event, arms) in zip(axes, panels.items(), strict=True):
            ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, zorder=1)
            for arm, (given, came) in arms.items():
                _line(ax, given, came, styles[arm], marker=True)
            ax.set(title=event, xlabel="probability that was forecast", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes[0].set_ylabel("how often it came")
        legend_below(figure, _handles({arm: None for arms in panels.values() for arm in arms}, styles))
        return svg(figure)


def rank_histograms(histograms: Mapping[str, np.ndarray], styles: Mapping[str, LineStyle]) -> str:
    """One panel per arm: the share of each rank of the truth among the members; the line is what a flat one would have."""
    with styled():
        figure, axes = _row(len(histograms))
        for ax, (arm, counts) in zip(axes, histograms.items(), strict=True):
            ax.bar(np.arange(len(counts)), counts / counts.sum(), color=styles[arm].color, width=0.85, zorder=2)
            ax.axhline(1 / len(counts), color=INK, linewidth=0.9, zorder=3)
            ax.set(title=arm, xlabel="members below the truth")
            ax.set_xticks(range(len(counts)))
            ax.set_ylim(bottom=0)
        axes[0].set_ylabel("share of the values")
        return svg(figure)


def _row(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.3 * columns + 0.2, 3.3 * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax in axes[count:]:
        ax.axis("off")
    return figure, axes[:count]


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, style: LineStyle, *, marker: bool = False) -> None:
    shape = style.marker if marker else ""
    (line,) = ax.plot(x, y, color=style.color, linewidth=style.width, marker=shape, markersize=4, zorder=3)
    if style.dashes:
        line.set_dashes(style.dashes)


def _handles(arms: Mapping[str, object], styles: Mapping[str, LineStyle]) -> list[Line2D]:
    handles = [Line2D([], [], color=styles[a].color, linewidth=styles[a].width, label=a) for a in styles if a in arms]
    for handle in handles:
        if styles[str(handle.get_label())].dashes:
            handle.set_dashes(styles[str(handle.get_label())].dashes)
    return handles
