"""Which sources an arm used, and what that did to its error: a matrix of dots below a panel of differences, as SVG."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoocast.report.figures.style import GRID, INK, MUTED, PAPER, styled, svg, widest

HELPED, HARMED = "#1a7f4b", "#b3372b"


def source_matrix(
    sources: Sequence[str],
    arms: Mapping[str, Collection[str]],
    differences: Mapping[str, tuple[float, tuple[float, float] | None, Literal["helped", "harmed"] | None]],
    *,
    metric: str,
) -> str:
    """One column per arm: above, its error minus the reference's; below, a filled dot for every source that it used.

    Args:
        arms: the sources of each arm.
        differences: mean and interval of the arms that have one, and what is shown of the sources that were left out: green where
            they helped, red where they harmed, grey where neither is.
        metric: what the differences are of.
    """
    with styled():
        width = widest(sources) + 0.9 + max(0.8, widest(arms) + 0.25) * len(arms)
        below = 0.3 * len(sources) + 0.1
        figure = Figure(figsize=(width, 2.2 + below), layout="constrained")
        above, dots = figure.subplots(2, 1, sharex=True, height_ratios=(1.9, below))
        above.axhline(0, color=INK, linewidth=0.9)
        for column, arm in enumerate(arms):
            if arm in differences:
                mean, ends, effect = differences[arm]
                color = {"helped": HELPED, "harmed": HARMED, None: MUTED}[effect]
                if ends is not None:
                    above.plot([column, column], ends, color=color, linewidth=1.6, solid_capstyle="butt")
                above.plot(column, mean, color=color, marker="D", markersize=6)
            else:  # the reference, which does not differ from itself
                above.plot(column, 0, color=INK, marker="D", markersize=6)
            for row, source in enumerate(sources):
                used = source in arms[arm]
                dots.plot(column, row, "o", markersize=9, color=INK if used else GRID, markerfacecolor=INK if used else PAPER)
        above.set_ylabel(f"change of {metric}")
        above.yaxis.set_major_locator(MaxNLocator(5))
        above.tick_params(axis="x", length=0)
        above.spines["bottom"].set_visible(False)
        dots.set_yticks(range(len(sources)), sources)
        dots.set_xticks(range(len(arms)), list(arms))
        dots.set(xlim=(-0.5, len(arms) - 0.5), ylim=(len(sources) - 0.5, -0.5))
        dots.tick_params(length=0, labelcolor=INK)
        dots.spines[["left", "bottom"]].set_visible(False)
        dots.grid(visible=False)
        return svg(figure)
