"""What all figures share: the line style of an arm, ink and grid colours, and how a figure becomes bytes.

Figures are built with matplotlib's object-oriented API, never pyplot, so that drawing in a worker leaves no global state behind.
The same data give the same bytes: no date, no random ids.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
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
    "svg.fonttype": "none",  # text stays text: it can be searched, takes the page's font, and is a fraction of the size
    "svg.hashsalt": "zoocast",  # ids are made from it, and from a random number without it
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a user's name is a dollar sign
    "xtick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}

PNG_DPI = 144  # two pixels to a point


class LineStyle(NamedTuple):
    """How one arm is drawn in every figure."""

    color: str
    width: float
    marker: str
    dashes: tuple[float, ...]

    @property
    def thick(self) -> bool:
        """Whether the arm is one that the report is about, whose name is bold and whose line lies above the others."""
        return self.width > 2


# Okabe and Ito's colours first, which readers with any kind of colour blindness can tell apart. Markers and dashes repeat the
# distinction for print in black and white.
_OURS = "#d55e00"
_UNTRAINED = "#8a929c"
_PALETTE = ("#0072b2", "#009e73", "#cc79a7", "#b8a100", "#56b4e9", "#7f5fc0", "#a0613a", "#4b8f8c")
_MARKERS = ("s", "^", "P", "v", "D", "<", "d", ">", "p")
_SHADES = (0.0, -0.45, 0.45, 0.7)  # parts of the way to white, or to black where negative
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.5, 1.2), (5, 1.2, 1.2, 1.2))


def styled() -> AbstractContextManager[None]:
    """The settings under which figures are made; matplotlib's own come back afterwards."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def line_styles(
    arms: Iterable[str],
    *,
    families: Mapping[str, str] | None = None,
    ours: Collection[str] = (),
    untrained: Collection[str] = (),
) -> dict[str, LineStyle]:
    """The line style of every arm: one colour per family in the order given, one shade of it per member.

    Compute it once from all arms of a report and hand it to every figure, so that an arm looks alike in all of them.

    Args:
        families: the family of an arm, where it shares one with others; an arm that is not in it is a family of its own.
        ours: the arms that the report is about, drawn thickest, in a colour that no other family gets.
        untrained: baselines without weights, drawn in dashed grey.
    """
    names = list(dict.fromkeys(arms))
    members: dict[str, list[str]] = {}
    for arm in names:
        members.setdefault((families or {}).get(arm, arm), []).append(arm)
    styles: dict[str, LineStyle] = {}
    place = 0
    for family in members.values():
        for index, arm in enumerate(family):
            shade = _SHADES[index % len(_SHADES)]
            # Once all shades, or all colours, are used up, the next round of them is told apart by its dashes.
            dashes = _DASHES[(index // len(_SHADES) + place // len(_PALETTE)) % len(_DASHES)]
            marker = _MARKERS[(place + index) % len(_MARKERS)]
            if arm in ours:
                styles[arm] = LineStyle(_shaded(_OURS, shade), 2.4, "oh*H8"[index % 5], dashes)
            elif arm in untrained:
                styles[arm] = LineStyle(_shaded(_UNTRAINED, shade), 1.4, "x", (2.5, 2.0))
            else:
                styles[arm] = LineStyle(_shaded(_PALETTE[place % len(_PALETTE)], shade), 1.4, marker, dashes)
        # Only a family that took a colour of the palette moves on to the next one.
        place += not {*family} <= {*ours, *untrained}
    return {arm: styles[arm] for arm in names}


def _shaded(color: str, shade: float) -> str:
    """`color` moved towards white, or towards black."""
    end = 1.0 if shade > 0 else 0.0
    red, green, blue = (c + abs(shade) * (end - c) for c in to_rgb(color))
    return to_hex((red, green, blue))


def svg(figure: Figure) -> str:
    """The figure as SVG text, with text kept as text."""
    buffer = io.StringIO()
    with styled():  # some settings count when a figure is made, those of SVG when it is written
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
    # From the outlines of the letters: there is no figure yet, for whose size the width is wanted.
    path = TextPath((0, 0), text, size=points, prop=FontProperties(weight="bold" if bold else "normal"))
    return float(path.get_extents().x1)


def widest(names: Iterable[str]) -> float:
    """Inches that the longest of the names takes as a label of an axis, which is what a figure's own width must leave for it."""
    return max((text_width(name, 9) for name in names), default=0.0) / 72


def legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend under all panels, in as many rows as its names need; a figure narrower than one of them is widened."""
    column = widest(str(handle.get_label()) for handle in handles) + 0.55  # inches of a name with its line
    figure.set_figwidth(max(figure.get_figwidth(), column + 0.2))
    rows = math.ceil(len(handles) / int(figure.get_figwidth() / column))
    columns = math.ceil(len(handles) / max(1, rows))  # so that all rows are of about the same length
    figure.legend(handles=handles, loc="outside lower left", ncols=max(1, columns), handlelength=2.2, columnspacing=1.4)


def bare_rows(axes: Axes) -> None:
    """A y axis whose places are names, not numbers: neither line nor ticks nor grid, and the names in ink."""
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def number(value: float) -> str:
    """A tick label: three significant digits, no exponent for everyday sizes."""
    if value == 0:
        return "0"
    form = ".0e"
    if 1e-4 <= abs(value) < 1e6:
        form = ".3g" if abs(value) < 999.5 else ".0f"  # from there on `.3g` would write 1000 as 1e+03
    return format(value, form).replace("-", "−")


def scale_axis(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis where positive values span more than a factor of 8; plain numbers as labels in any case.

    On a linear axis they have as many digits as tell its ticks apart.
    """
    values = values[np.isfinite(values)]  # a value that is not finite must not decide about the axis of all
    axis = axes.yaxis
    if len(values) and values.min() > 0 and values.max() / values.min() > 8:
        axes.set_yscale("log")
        decades = np.log10(values.max() / values.min())
        # Over few decades powers of ten alone would be one or two labels.
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    else:
        axis.set_major_locator(MaxNLocator(6))
