"""The picture that a training keeps of what its network makes of one clip, drawn with Pillow.

matplotlib draws the report. Every process that trains would pay a second for importing it, to draw two of these.
"""

from __future__ import annotations

import io

import numpy as np

from zoocast.frames import unit_frames

__all__ = ["prediction_strip"]

TILE = 120  # canvas pixels of a frame's longer side that are aimed at
WIDTH = 1640  # canvas pixels that a row may take
GAP = 4
LINE = 26  # height of a line of text
FONT_SIZE, SMALL = 18, 16
INK, MUTED = (31, 35, 41), (91, 100, 112)
BAR = (220, 14)  # width and height of the colour bar

# ColorBrewer's diverging scheme RdBu, from too dark over right to too bright.
ERRORS = np.array(
    [
        [5, 48, 97],
        [33, 102, 172],
        [67, 147, 195],
        [146, 197, 222],
        [209, 229, 240],
        [247, 247, 247],
        [253, 219, 199],
        [244, 165, 130],
        [214, 96, 77],
        [178, 24, 43],
        [103, 0, 31],
    ]
)


def prediction_strip(observed: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> bytes:
    """One clip as four rows, time from left to right: observed | truth | prediction | error, as PNG.

    Every pixel of a frame becomes a square of whole canvas pixels, so that nothing is smoothed. The error is prediction - truth,
    averaged over channels: darkest red for 1, darkest blue for -1.

    Args:
        observed: (To, C, H, W) in [0, 1].
        truth: (Th, C, H, W), the frames that followed.
        prediction: (Th, C, H, W).
    """
    from PIL import Image, ImageDraw, ImageFont  # only the first worker draws, twice in a training

    rows = {
        "observed": _rgb(observed),
        "truth": _rgb(truth),
        "prediction": _rgb(prediction),
        "error": _colours((prediction - truth).mean(axis=1)),
    }
    starts = {"observed": 1, "truth": len(observed) + 1}  # rows with the numbers of their frames above them
    height, width = observed.shape[2:]
    columns = max(len(frames) for frames in rows.values())
    zoom = max(1, round(min(TILE, WIDTH // columns - GAP) / max(height, width)))
    font, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(SMALL)
    left = max(int(font.getlength(name)) for name in rows) + 26
    pitch = width * zoom + GAP

    tops: dict[str, int] = {}
    bottom = 6
    for name in rows:
        tops[name] = bottom + (LINE if name in starts else 0) + (10 if name == "truth" else 0)
        bottom = tops[name] + height * zoom + GAP
    bar_left, bar_top = left + 60, bottom + 20
    canvas = Image.new("RGB", (max(left + columns * pitch + 8, bar_left + BAR[0] + 240), bar_top + 30), "white")
    draw = ImageDraw.Draw(canvas)
    for name, frames in rows.items():
        draw.text((left - 14, tops[name] + height * zoom / 2), name, INK, font, anchor="rm")
        for column, frame in enumerate(frames):
            tile = np.kron(frame, np.ones((zoom, zoom, 1), np.uint8))
            canvas.paste(Image.fromarray(tile), (left + column * pitch, tops[name]))
        if name in starts:
            draw.text((left - 14, tops[name] - LINE / 2), "frame", MUTED, small, anchor="rm")
            for column in range(len(frames)):
                place = (left + column * pitch + width * zoom / 2, tops[name] - LINE / 2)
                draw.text(place, str(starts[name] + column), MUTED, small, anchor="mm")
    bar = _colours(np.linspace(-1, 1, BAR[0])[None].repeat(BAR[1], axis=0))
    canvas.paste(Image.fromarray(bar), (bar_left, bar_top))
    middle = bar_top + BAR[1] / 2
    draw.text((bar_left - 10, middle), "-1", MUTED, small, anchor="rm")
    draw.text((bar_left + BAR[0] + 10, middle), "1   prediction minus truth", MUTED, small, anchor="lm")

    buffer = io.BytesIO()
    canvas.save(buffer, "png")
    return buffer.getvalue()


def _rgb(frames: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, 3) uint8: three channels are colours, any other number is shown as its mean in grey."""
    values = unit_frames(frames)
    if values.shape[1] != 3:
        values = values.mean(axis=1, keepdims=True).repeat(3, axis=1)
    return (np.moveaxis(values, 1, -1) * 255).round().astype(np.uint8)


def _colours(errors: np.ndarray) -> np.ndarray:
    """(...) in [-1, 1] as (..., 3) uint8."""
    places = np.linspace(-1, 1, len(ERRORS))
    channels = [np.interp(errors, places, channel) for channel in ERRORS.T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
