"""Figures with frames in them: prediction strips, still and moving, transfer gates, and whom clips listened to. All as PNG.

Every pixel of a frame becomes a square of whole screen pixels, so that nothing is smoothed; labels are drawn around the mosaic.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoocast.frames import unit_frames
from zoocast.report.figures.style import GRID, INK, MUTED, PNG_DPI, LineStyle, line_styles, number, png, styled, text_width

_TILE = 120  # the side of a frame on the canvas that is aimed at, and the most that a row may take, in canvas pixels
_WIDTH = 1640
_COLUMNS = 6  # frames of a block: a row has two blocks, and more tiles of full size would not fit into `_WIDTH`
_STRIP_COLUMNS = 10  # where a row has one block
_PLOT = 200  # height of the plot below the gates
_APART = 128  # columns of a group between which lines can be seen
_GAP = 4
_BLOCK_GAP = 30
_BAR = 220  # length of a colour bar
_POINTS = 9.0
_LINE = int(_POINTS * PNG_DPI / 72 * 1.45)  # height of a line of text
_MOVING_TILE, _MOVING_WIDTH, _MOVING_TEXT = 96, 760, 14  # a frame's longer side, the canvas, and letters of an animation
_MOVING_FRAMES, _MOVING_MILLISECONDS, _MOVING_BYTES = 60, 200, 250_000
_ERRORS = colormaps["RdBu_r"]  # diverging, white at zero
_GATES = colormaps["magma"]  # sequential, and even to the eye


def strip_comparison(
    observed: np.ndarray,
    truth: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    styles: Mapping[str, LineStyle] | None = None,
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """The same clip across arms: observed frames, the truth, then a row per arm, predictions left and errors right, as PNG.

    Of long clips six frames are shown, spread evenly from the first to the last. The error is prediction - truth, averaged over
    channels; the darkest red and blue stand for the median of the arms' largest differences, and for what is beyond it.

    Args:
        observed: (To, C, H, W), uint8 or float in [0, 1].
        truth: (Th, C, H, W); None where it is not known, and there are no errors to show.
        predictions: for each arm (Th, C, H, W).
        styles: of every arm; made from `predictions` where missing.
        notes: what is written at the end of an arm's row, its error on this clip, say.
    """
    styles = styles or line_styles(predictions)
    seen, shown = _spread(len(observed), _COLUMNS), _spread(len(next(iter(predictions.values()))), _COLUMNS)
    rows = [_Row("observed", rgb(observed[seen]), seen + 1)]
    if truth is None:
        times = shown + len(observed) + 1
        rows += [_Row(a, rgb(p[shown]), times, color=styles[a].color, space=10) for a, p in predictions.items()]
        return _Canvas(rows).png()
    largest = [float(np.abs(_difference(p, truth)).max()) for p in predictions.values()]
    # The median, not the largest of all: one poor arm (copying the last frame) would leave the others pale. 1 if all are perfect.
    limit = float(np.median(largest)) or 1.0
    rows.append(_Row("truth", rgb(truth[shown]), shown + len(observed) + 1, space=10))
    for index, (arm, prediction) in enumerate(predictions.items()):
        chosen, thick = prediction[shown], styles[arm].thick
        errors = _error(chosen, truth[shown], limit)
        row = _Row(arm, rgb(chosen), space=10 * (index == 0), color=styles[arm].color, bold=thick, right=errors)
        rows.append(row._replace(note=(notes or {}).get(arm, "")))
    bar = _Bar("prediction − truth", _ERRORS, -limit, limit, clipped=max(largest, default=0.0) > limit)
    canvas = _Canvas(rows, bar)
    canvas.colorbar(bar, canvas.right, canvas.tops[1] + canvas.cell_h // 2 - _LINE)
    return canvas.png()


def moving_comparison(observed: np.ndarray, truth: np.ndarray | None, predictions: Mapping[str, np.ndarray]) -> bytes:
    """The same clip in motion, as an animated PNG: the truth and each arm's prediction side by side, frame by frame.

    While frames are observed, all tiles show them. Large frames are thinned to a tile's size, and of a long clip, or one whose
    file would be larger than `_MOVING_BYTES`, every second (fourth, ...) frame is shown for twice (four times) as long.

    Args:
        observed: (To, C, H, W), uint8 or float in [0, 1].
        truth: (Th, C, H, W); None where it is not known.
        predictions: for each arm (Th, C, H, W).
    """
    shown = predictions if truth is None else {"truth": truth, **predictions}
    clips = {name: np.concatenate([observed, frames]) for name, frames in shown.items()}
    return _moving(clips, lambda time: f"frame {time + 1}, {'observed' if time < len(observed) else 'predicted'}", "png")


def clip_strips(clips: Mapping[str, np.ndarray]) -> bytes:
    """Clips below one another, each a row of its frames, as PNG. Of long clips ten frames are shown, spread evenly.

    Args:
        clips: of equal size, by what stands in front of them: (T, C, H, W), uint8 or float in [0, 1].
    """
    shown = {name: _spread(len(frames), _STRIP_COLUMNS) for name, frames in clips.items()}
    first = next(iter(clips))
    rows = [_Row(name, rgb(frames[shown[name]]), shown[name] + 1 if name == first else ()) for name, frames in clips.items()]
    return _Canvas(rows).png()


def moving_clips(clips: Mapping[str, np.ndarray], file_format: Literal["png", "gif"] = "png") -> bytes:
    """Clips side by side in motion, thinned as `moving_comparison` is.

    Args:
        clips: of equal size and length, by what stands above them: (T, C, H, W), uint8 or float in [0, 1].
        file_format: of the animation.
    """
    return _moving(clips, lambda time: f"frame {time + 1}", file_format)


def _moving(clips: Mapping[str, np.ndarray], caption: Callable[[int], str], file_format: Literal["png", "gif"]) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    side = max(next(iter(clips.values())).shape[2:])
    thin, zoom = max(1, math.ceil(side / _MOVING_TILE)), max(1, _MOVING_TILE // side)
    tiles = {name: rgb(frames[..., ::thin, ::thin]) for name, frames in clips.items()}
    count, height, width = next(iter(tiles.values())).shape[:3]
    height, width = height * zoom, width * zoom
    font = ImageFont.load_default(_MOVING_TEXT)
    pitch = max(width, *(math.ceil(font.getlength(name)) for name in tiles)) + 2 * _GAP
    columns = max(1, min(len(tiles), _MOVING_WIDTH // pitch))
    row = height + _MOVING_TEXT + 3 * _GAP
    size = (columns * pitch, math.ceil(len(tiles) / columns) * row + _MOVING_TEXT + 2 * _GAP)

    def frame(time: int) -> Image.Image:
        canvas = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(canvas)
        for index, (name, frames) in enumerate(tiles.items()):
            x, y = index % columns * pitch + _GAP, index // columns * row
            draw.text((x, y), name, INK, font)
            tile = Image.fromarray(frames[time]).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(tile, (x, y + _MOVING_TEXT + _GAP))
        draw.text((_GAP, size[1] - _MOVING_TEXT - _GAP), caption(time), MUTED, font)
        # Nearly all clips are grey, and a third of the bytes then says the same.
        return canvas.quantize(32, dither=Image.Dither.NONE)

    step = 1
    while True:
        times = range(0, count, step)
        first, *rest = (frame(time) for time in times)
        buffer = io.BytesIO()
        first.save(buffer, file_format, save_all=True, append_images=rest, duration=_MOVING_MILLISECONDS * step, loop=0)
        if (buffer.tell() <= _MOVING_BYTES and len(times) <= _MOVING_FRAMES) or len(times) == 1:
            return buffer.getvalue()
        step *= 2


def gate_pictures(gates: np.ndarray, sources: Sequence[str], *, observed: int) -> bytes:
    """What each transfer gate let through: a row of maps per source over time, and below the mean of each over space, as PNG.

    Args:
        gates: (M, T - 1, h, w), gate values averaged over channels; step t (from 1) reads frame t and predicts frame t + 1.
        sources: the M sources' names.
        observed: number of observed frames: the steps after them read predictions instead of frames.
    """
    if len(gates) != len(sources):
        raise ValueError(f"there must be a name for each of the {len(gates)} gates, but got {list(sources)}")
    styles = line_styles(sources)
    low, high = float(gates.min()), float(gates.max())
    if high - low < 0.01:  # an even gate is an even picture, not amplified rounding
        low, high = low - 0.005, high + 0.005
    # One scale for all, or a gate that is nearly shut would look as open as the others.
    scale, count = Normalize(low, high), gates.shape[1]
    rows = [
        _Row(
            name,
            _pixels(_GATES, scale(maps)),
            range(1, count + 1) if index == 0 else (),
            bold=True,
            color=styles[name].color,
        )
        for index, (name, maps) in enumerate(zip(sources, gates, strict=True))
    ]
    bar = _Bar("gate", _GATES, low, high)
    canvas = _Canvas(rows, bar, below=_PLOT + 2 * _LINE + 40)
    canvas.lines([(maps.mean(axis=(1, 2)), styles[name].color) for name, maps in zip(sources, gates, strict=True)], _PLOT)
    if 0 < observed < count:  # else all steps read frames, or all read predictions, and there is nothing to divide
        canvas.boundary(observed, _PLOT)
    canvas.colorbar(bar, canvas.left, canvas.bottom + _PLOT + _LINE + 30)
    return canvas.png()


def listening_picture(
    weights: np.ndarray, sources: Sequence[str], kinds: Sequence[str], examples: Mapping[int, np.ndarray]
) -> bytes:
    """Whom each training clip listened to: some of the clips, and below one column per clip, divided among the sources, as PNG.

    Columns stand in groups of equal width, one for each kind, those that listen most to the same source beside each other.

    Args:
        weights: (N, M), not negative: what each source counts for each clip.
        sources: the M sources' names.
        kinds: of the N clips; empty where nothing is known of kinds.
        examples: the frames (T, C, H, W) of some clips by index; of long clips six are shown.
    """
    colors = [style.color for style in line_styles(sources).values()]
    shares = weights / weights.sum(axis=1, keepdims=True)
    best = shares.argmax(axis=1)
    rows = []
    for index, (clip, frames) in enumerate(examples.items()):
        shown = _spread(len(frames), _COLUMNS)
        label, source = kinds[clip] if kinds else f"clip {clip}", best[clip]
        note = f"{sources[source]} {shares[clip, source]:.2f}"
        rows.append(_Row(label, rgb(frames[shown]), shown + 1 if not index else (), color=colors[source], bold=True, note=note))
    canvas = _Canvas(rows, below=_PLOT + 2 * _LINE + 10, beside=sources)
    kinds = kinds or [""] * len(weights)
    groups = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
    sorted_groups = [shares[sorted(clips, key=lambda i: (best[i], -shares[i, best[i]]))] for clips in groups.values()]
    canvas.columns_of(sorted_groups, colors, _PLOT)
    for index, (kind, clips) in enumerate(groups.items()):
        x = canvas.left + (index + 0.5) * (canvas.end - canvas.left) / len(groups)
        y = canvas.bottom + _PLOT + _LINE / 2 + 6
        canvas.write(x, y, kind, align="center")
        canvas.write(x, y + _LINE, f"{len(clips)} clip{'s' * (len(clips) != 1)}", align="center", color=MUTED, size=_POINTS - 1)
    for index, (source, color) in enumerate(zip(sources, colors, strict=True)):
        canvas.write(canvas.end + 6, canvas.bottom + 16 + (index + 0.5) * _LINE, source, color=color, size=_POINTS - 1)
    return canvas.png()


# ---------------------------------------------------------------------------------------------------------------- pixels


class _Row(NamedTuple):
    """A row of the mosaic: frames as (N, H, W, 3) uint8, the times above them, a second block of frames, a note at the end."""

    label: str
    frames: np.ndarray
    times: Sequence[int] | np.ndarray = ()
    space: int = 0
    color: str = INK
    bold: bool = False
    right: np.ndarray | None = None
    note: str = ""


class _Bar(NamedTuple):
    """A colour bar."""

    label: str
    colors: Colormap
    low: float
    high: float
    clipped: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """What is written on its left and on its right."""
        return "≤ " * self.clipped + number(self.low), f"{'≥ ' * self.clipped}{number(self.high)}   {self.label}"

    @property
    def width(self) -> int:
        """In pixels, with what is written beside it."""
        return _BAR + 20 + sum(_pixels_of(text, _POINTS - 1) for text in self.ends)


def _pixels_of(text: str, points: float, *, bold: bool = False) -> int:
    """Width of a line of text on the canvas; text is measured in points, of which an inch has 72."""
    return math.ceil(text_width(text, points, bold=bold) * PNG_DPI / 72)


def rgb(frames: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, 3) uint8: three channels are colours, any other number is shown as its mean in grey."""
    values = unit_frames(frames)
    if values.shape[1] != 3:
        values = np.repeat(values.mean(axis=1, keepdims=True), 3, axis=1)
    return (np.moveaxis(values, 1, -1) * 255).round().astype(np.uint8)


def _difference(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, H, W): the signed difference, averaged over channels."""
    return np.asarray((unit_frames(prediction) - unit_frames(truth)).mean(axis=1))


def _error(prediction: np.ndarray, truth: np.ndarray, limit: float) -> np.ndarray:
    # Both ends at the same distance from zero, so that white is no error.
    return _pixels(_ERRORS, Normalize(-limit, limit)(_difference(prediction, truth)))


def _pixels(colors: Colormap, values: np.ndarray) -> np.ndarray:
    return np.asarray((colors(values)[..., :3] * 255).round().astype(np.uint8))


def _spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` of `count` positions, evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


# ---------------------------------------------------------------------------------------------------------------- the canvas


class _Canvas:
    """Rows of frames with their labels; everything is measured in pixels from the top left.

    Attributes:
        left: where the first block of frames begins; `right` where the second does, or would.
        tops: of each row of frames; `bottom` is below the last.
    """

    def __init__(self, rows: Sequence[_Row], bar: _Bar | None = None, *, below: int = 8, beside: Sequence[str] = ()) -> None:
        columns = max(len(row.frames) for row in rows)
        blocks = 2 if any(row.right is not None for row in rows) else 1
        height, width = rows[0].frames.shape[1:3]
        # Magnified by a whole number, so that all pixels are squares of one size; a frame larger than a tile keeps its own.
        side = min(_TILE, _WIDTH // (columns * blocks) - _GAP)
        zoom = max(1, round(side / max(height, width)))
        self.cell_h, self.pitch = height * zoom, width * zoom + _GAP
        self.left = max(_pixels_of(row.label, _POINTS, bold=row.bold) for row in rows) + 26
        self.right = self.left + columns * self.pitch - _GAP + _BLOCK_GAP
        self.tops: list[int] = []
        self.bottom = 6
        for row in rows:
            self.tops.append(self.bottom + row.space + (_LINE if len(row.times) else 0))
            self.bottom = self.tops[-1] + self.cell_h + _GAP
        self.end = self.right + (columns * self.pitch if blocks == 2 else -_BLOCK_GAP)
        notes = max(_pixels_of(text, _POINTS - 1) for text in (*(row.note for row in rows), *beside))
        # The bar stands below or above frames that may be narrower than it is.
        self.width = max(self.end + notes, (self.right if blocks == 2 else self.left) + (bar.width if bar else 0)) + 14
        self.height = self.bottom + below
        self.columns = columns
        with styled():
            self.figure = Figure(figsize=(self.width / PNG_DPI, self.height / PNG_DPI), dpi=PNG_DPI)
        self._draw(rows, zoom)

    def _draw(self, rows: Sequence[_Row], zoom: int) -> None:
        pixels = np.full((self.height, self.width, 3), 255, np.uint8)
        for row, top in zip(rows, self.tops, strict=True):
            for start, frames in ((self.left, row.frames), (self.right, row.right if row.right is not None else ())):
                for column, frame in enumerate(frames):
                    x = start + column * self.pitch
                    pixels[top : top + self.cell_h, x : x + self.pitch - _GAP] = frame.repeat(zoom, axis=0).repeat(zoom, axis=1)
            middle = top + self.cell_h / 2
            weight = "bold" if row.bold else "normal"
            self.write(self.left - 14, middle, row.label, align="right", color=row.color, weight=weight)
            self.write(self.end + 6, middle, row.note, size=_POINTS - 1)
            for column, time in enumerate(row.times):
                x = self.left + column * self.pitch + (self.pitch - _GAP) / 2
                self.write(x, top - _LINE / 2 + 1, str(time), align="center", color=MUTED, size=_POINTS - 1)
            if len(row.times):
                self.write(self.left - 14, top - _LINE / 2 + 1, "frame", align="right", color=MUTED, size=_POINTS - 1)
        with styled():
            # Not `imshow`, which resamples: these are the pixels of the file. Behind all else, as labels are drawn on it.
            self.figure.figimage(pixels, 0, 0, origin="upper", zorder=-1)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        align: str = "left",
        color: str = INK,
        size: float = _POINTS,
        weight: str = "normal",
    ) -> None:
        """A line of text, its middle at height y."""
        with styled():
            # matplotlib counts in parts of the figure from the bottom left.
            self.figure.text(
                x / self.width, 1 - y / self.height, text, ha=align, va="center", color=color, fontsize=size, fontweight=weight
            )

    def box(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """The rectangle below and right of (x, y) in matplotlib's fractions from the bottom left."""
        return x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height

    def colorbar(self, bar: _Bar, x: float, y: float) -> None:
        """The bar with its ends written beside it, from x on."""
        low, high = bar.ends
        start, thick = x + _pixels_of(low, _POINTS - 1) + 10, 14
        with styled():
            axes = self.figure.add_axes(self.box(start, y + (_LINE - thick) / 2, _BAR, thick))
            made = self.figure.colorbar(
                ScalarMappable(Normalize(bar.low, bar.high), bar.colors), cax=axes, orientation="horizontal"
            )
            made.set_ticks([])  # the two ends are written beside it instead, where they cannot run into each other
            made.outline.set_edgecolor(GRID)
        middle = y + _LINE / 2
        self.write(start - 10, middle, low, align="right", color=MUTED, size=_POINTS - 1)
        self.write(start + _BAR + 10, middle, high, color=MUTED, size=_POINTS - 1)

    def lines(self, values: Sequence[tuple[np.ndarray, str]], height: int) -> None:
        """A plot of (N,) values in a colour below the frames, each point in the middle of its column."""
        span = self.columns * self.pitch
        with styled():
            axes = self.figure.add_axes(self.box(self.left, self.bottom + 16, span, height - 16))
            for row, color in values:
                # In pixels, as the axes have the width of the frames above: each point stands below its frame.
                x = (np.arange(len(row)) + 0.5) * self.pitch - _GAP / 2
                axes.plot(x, row, color=color, marker="o", markersize=3, linewidth=1.5)
            axes.set_xlim(0, span)
            axes.set_xticks([])
            axes.margins(y=0.15)
            axes.set_ylabel("mean over space", fontsize=_POINTS - 1)

    def columns_of(self, groups: Sequence[np.ndarray], colors: Sequence[str], height: int) -> None:
        """Below the frames, for each group a stack of (N, M) shares that sum to 1: N columns in M colours."""
        with styled():
            axes = self.figure.add_axes(self.box(self.left, self.bottom + 16, self.end - self.left, height - 16))
            for place, shares in enumerate(groups):
                edges = np.linspace(place + 0.02, place + 0.98, len(shares) + 1)
                low = np.zeros(len(shares))
                for share, color in zip(shares.T, colors, strict=True):
                    axes.stairs(low + share, edges, baseline=low, fill=True, color=color, linewidth=0)
                    low = low + share
                if len(shares) <= _APART:
                    axes.vlines(edges[1:-1], 0, 1, color="white", linewidth=0.8)
            axes.set(xlim=(0, len(groups)), ylim=(0, 1), xticks=[], yticks=[])
            axes.spines[["left", "bottom"]].set_visible(False)
            axes.set_ylabel("weight", fontsize=_POINTS - 1)

    def boundary(self, column: int, height: int) -> None:
        """A dashed line before `column`, down through the plot, with what lies on either side."""
        x = self.left + column * self.pitch - _GAP / 2
        low = self.bottom + height
        with styled():
            ends = [1 - (self.tops[0] - 4) / self.height, 1 - low / self.height]
            self.figure.add_artist(Line2D([x / self.width] * 2, ends, color=INK, linewidth=1.3, dashes=(4, 2)))
        self.write(x - 10, low + _LINE / 2 + 6, "← reads true frames", align="right", color=MUTED, size=_POINTS - 1)
        self.write(x + 10, low + _LINE / 2 + 6, "reads its own predictions →", color=MUTED, size=_POINTS - 1)

    def png(self) -> bytes:
        return png(self.figure)
