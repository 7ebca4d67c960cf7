"""A map of verdicts: a coloured and worded cell for each relation of a zoo to its target and number of training clips, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from zoocast.report.figures.matrix import HARMED, HELPED
from zoocast.report.figures.style import GRID, INK, MUTED, PAPER, styled, svg, widest

# Of a cell and of its words. White is no colour of the page, and stays white on green and red in dark mode.
_COLORS = {"won": (HELPED, "#ffffff"), "lost": (HARMED, "#ffffff"), "open": (GRID, INK), "small": (PAPER, MUTED)}


def verdict_matrix(
    rows: Sequence[str], columns: Sequence[int], cells: Mapping[tuple[str, int], tuple[str, Sequence[str]]]
) -> str:
    """One row per relation and one column per number of training clips; a place without a cell stays empty.

    Args:
        rows: the relations.
        columns: the numbers of clips.
        cells: by row and column the verdict (``won``, ``lost``, ``open`` or ``small``), which gives the colour, and the lines of
            text, the first of them bold.
    """
    width = max(1.2, widest(line for _, lines in cells.values() for line in lines) + 0.3)
    with styled():
        figure = Figure(figsize=(widest(rows) + 0.3 + width * len(columns), 0.55 + 0.72 * len(rows)), layout="constrained")
        ax = figure.subplots()
        for (row, column), (verdict, lines) in cells.items():
            x, y = columns.index(column), rows.index(row)
            fill, ink = _COLORS[verdict]
            ax.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=fill, edgecolor=GRID, linewidth=0.8))
            shown = [line for line in lines if line]
            for place, line in enumerate(shown):
                weight = "normal" if place else "bold"
                # Rows go down, as the axis does; lines are spread around the middle of the cell.
                height = y + 0.27 * (place - (len(shown) - 1) / 2)
                ax.text(x, height, line, ha="center", va="center", color=ink, fontsize=8.5, fontweight=weight)
        ax.set(xlim=(-0.52, len(columns) - 0.48), ylim=(len(rows) - 0.5, -0.5))
        ax.set_xticks(range(len(columns)), [str(n) for n in columns])
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xlabel("training clips of the target")
        ax.tick_params(length=0, labelcolor=INK)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.grid(visible=False)
        return svg(figure)
