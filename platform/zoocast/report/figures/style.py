"""What all figures share: the line style of an arm, ink and grid colours, and how a figure becomes bytes.

Figures are built with matplotlib's object-oriented API, never pyplot, so that drawing in a worker leaves no global state behind.
The same data give the same bytes: no date, no random ids.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

# The page replaces these four by its own colours, so that an inlined figure follows light and dark mode.
INK = "#1f2329"
MUTED = "#5b6470"
GRID = "#d9dee5"
PAPER = "#fefefe"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.formatter.limits": (-5, 6),
    "axes.formatter.useoffset": False,  # a label is the number itself
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "zoocast",
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a user's name is a dollar sign
    "xtick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}

PNG_DPI = 144


class LineStyle(NamedTuple):
    """How one arm is drawn in every figure."""

    color: str
    width: float
    marker: str
    dashes: tuple[float, ...]


# Okabe and Ito's colours, which readers with any kind of colour blindness can tell apart, given to families of arms.
# Markers and dashes repeat the distinction for print in black and white.
_FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "copy-last": (("#8a929c", "x"),),
    "scratch": (("#0072b2", "s"),),
    "finetune": (("#009e73", "^"), ("#56b4e9", "v"), ("#b8a100", "<"), ("#7f5fc0", ">")),
    "l2-sp": (("#cc79a7", "P"),),
    "tmu": (("#d55e00", "o"), ("#e69f00", "h")),
}
_OTHERS = (("#7f5fc0", "D"), ("#a0613a", "d"), ("#4b8f8c", "p"))  # for any other family; then what the families leave free
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.5, 1.2), (5, 1.2, 1.2, 1.2))


def styled() -> AbstractContextManager[None]:
    """The settings under which figures are made; matplotlib's own come back afterwards."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def family(arm: str) -> str:
    """The kind of an arm: the first part of its name, ``finetune`` for ``finetune.two-digits``."""
    return arm.split(".")[0]


def line_styles(arms: Iterable[str], ours: str = "tmu") -> dict[str, LineStyle]:
    """The line style of every arm: one colour per family, one shade per member in the order given; `ours` is drawn thickest.

    Families without a colour of their own get those that are free; without TMU, `ours` has TMU's. Compute it once from all arms
    of a report and hand it to every figure, so that a missing arm changes no colour.
    """
    names = list(dict.fromkeys(arms))
    here = {family(arm) for arm in names}
    heir = "tmu" if "tmu" in here else ours
    families = {heir if name == "tmu" else name: shades for name, shades in _FAMILIES.items()}
    free = [shades for name, shades in families.items() if name not in {*here, "copy-last"}]
    others = tuple(dict(itertools.chain(_OTHERS, *free)).items())
    seen: dict[str, int] = {}
    out: dict[str, LineStyle] = {}
    for arm in names:
        name = family(arm)
        shades = families.get(name, others)
        group = name if name in families else ""
        index = seen.get(group, 0)
        seen[group] = index + 1
        color, marker = shades[index % len(shades)]
        dashes = (2.5, 2.0) if name == "copy-last" else _DASHES[(index // len(shades)) % len(_DASHES)]
        out[arm] = LineStyle(color, 2.4 if name == ours else 1.4, marker, dashes)
    return out


def svg(figure: Figure) -> str:
    """The figure as SVG text, with text kept as text."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG on white, at the resolution that it was built with."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=figure.dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def text_width(text: str, points: float, *, bold: bool = False) -> float:
    """Width of a line of text in points, in the default font."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text, size=points, prop=FontProperties(weight="bold" if bold else "normal"))
    return float(path.get_extents().x1)


def number(value: float) -> str:
    """A tick label: three significant digits, no exponent for everyday sizes."""
    if value == 0:
        return "0"
    text = f"{value:.3g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.0e}"
    if "e" in text and 1e-4 <= abs(value) < 1e6:
        text = f"{value:.0f}"
    return text.replace("-", "−")


def scale_axis(axes: Axes, values: np.ndarray, which: str = "y", *, log_above: float = 8.0) -> None:
    """A logarithmic axis where positive values span more than a factor `log_above`; plain numbers as labels in any case.

    On a linear axis they have as many digits as tell its ticks apart.
    """
    values = values[np.isfinite(values)]
    axis = axes.yaxis if which == "y" else axes.xaxis
    if len(values) and values.min() > 0 and values.max() / values.min() > log_above:
        (axes.set_yscale if which == "y" else axes.set_xscale)("log")
        decades = np.log10(values.max() / values.min())
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    else:
        axis.set_major_locator(MaxNLocator(6))
