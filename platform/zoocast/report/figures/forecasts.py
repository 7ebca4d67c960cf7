"""Figures of forecasts: the spectrum of what is predicted, reliability, and the ranks of the truth. All as SVG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from zoocast.report.figures.curves import arm_legend, panel_row
from zoocast.report.figures.style import INK, MUTED, LineStyle, number, scale_axis, styled, svg

__all__ = ["rank_histograms", "reliability_diagram", "spectra"]


def spectra(powers: Mapping[str, np.ndarray], truth: np.ndarray, styles: Mapping[str, LineStyle]) -> str:
    """Power by wave number of each arm and of the truth, (K,) each, from 1 wave across a frame on."""
    with styled():
        figure = Figure(figsize=(6.2, 3.8), layout="constrained")
        ax = figure.subplots()
        waves = 1 + np.arange(len(truth))
        ax.plot(waves, truth, color=INK, linewidth=2.2, zorder=2)
        for arm, power in powers.items():
            _line(ax, waves, power, styles[arm])
        ax.set_xlabel("waves across the shorter side of a frame")
        ax.set_ylabel("power")
        scale_axis(ax, np.concatenate([truth, *powers.values()]))
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        truth_line = Line2D([], [], color=INK, linewidth=2.2, label="truth")
        arm_legend(figure, styles, {*powers}, markers=False, others=[truth_line])
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
        figure, axes = panel_row(panels, "probability that was forecast", width=3.4)
        for ax, arms in zip(axes, panels.values(), strict=False):
            ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, zorder=1)
            for arm, (given, came) in arms.items():
                _line(ax, given, came, styles[arm], marker=True)
            ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes[0].set_ylabel("how often it came")
        arm_legend(figure, styles, {arm for arms in panels.values() for arm in arms}, markers=True)
        return svg(figure)


def rank_histograms(histograms: Mapping[str, np.ndarray], styles: Mapping[str, LineStyle]) -> str:
    """One panel per arm: the share of each rank of the truth among the members; the line is what a flat one would have."""
    with styled():
        figure, axes = panel_row(histograms, "members below the truth", width=3.4)
        for ax, (arm, counts) in zip(axes, histograms.items(), strict=False):
            ax.bar(np.arange(len(counts)), counts / counts.sum(), color=styles[arm].color, width=0.85, zorder=2)
            ax.axhline(1 / len(counts), color=INK, linewidth=0.9, zorder=3)
            ax.set_xticks(range(len(counts)))
            ax.set_ylim(bottom=0)
        axes[0].set_ylabel("share of the values")
        return svg(figure)


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, style: LineStyle, *, marker: bool = False) -> None:
    shape = style.marker if marker else ""
    (line,) = ax.plot(x, y, color=style.color, linewidth=style.width, marker=shape, markersize=4, zorder=3)
    if style.dashes:
        line.set_dashes(style.dashes)
