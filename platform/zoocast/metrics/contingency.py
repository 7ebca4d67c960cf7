"""Events forecast and events that came: tables of hits, misses, false alarms and correct negatives, and what is made of them.

An event is a value of at least a threshold, in a pixel or in a block of pixels. Tables are counts, which add up over clips,
batches and workers; every score is a function of a table's sums, and none a mean of scores. Where the truth is NaN nothing was
measured, and the pixel counts nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["POOLINGS", "SCORES", "Pooling", "fractions_skill", "neighbourhoods", "pooled", "tables"]

Pooling = Literal["max", "mean"]
POOLINGS: tuple[Pooling, ...] = ("max", "mean")
Values = NDArray[np.floating]


def tables(predicted: Values, truth: Values, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Hits, misses, false alarms and correct negatives, over clips and pixels.

    Args:
        predicted, truth: (B, T, H, W), in one unit; NaN in the truth where nothing was measured.
        thresholds: an event is a value of at least so much.

    Returns:
        (thresholds, T, 4) counts.
    """
    known = ~np.isnan(truth)
    out = np.empty((len(thresholds), truth.shape[1], 4))
    for row, threshold in zip(out, thresholds, strict=True):
        forecast, came = (predicted >= threshold) & known, truth >= threshold
        for column, event in enumerate((forecast & came, ~forecast & came, forecast & ~came, ~forecast & ~came & known)):
            row[:, column] = event.sum((0, 2, 3))
    return out


def pooled(values: Values, size: int, how: Pooling) -> Values:
    """The largest or the mean value of every block of `size` x `size` pixels; what no whole block covers is left out.

    (..., H, W) to (..., H // size, W // size). Missing values (NaN) are passed over; a block of nothing else is missing.
    """
    height, width = (side // size for side in values.shape[-2:])
    blocks = values[..., : height * size, : width * size].reshape(*values.shape[:-2], height, size, width, size)
    if how == "max":
        return np.fmax.reduce(np.fmax.reduce(blocks, -1), -2)
    count = (~np.isnan(blocks)).sum((-3, -1))
    return np.where(count > 0, np.nansum(blocks, (-3, -1)) / np.maximum(count, 1), np.nan)


def neighbourhoods(predicted: Values, truth: Values, thresholds: Sequence[float], windows: Sequence[int]) -> NDArray[np.float64]:
    """The sums behind the fractions skill score (Roberts and Lean, Monthly Weather Review 136, 2008).

    In every window of n x n pixels that lies within the frame, a fraction of the pixels has the event. Missing pixels have none,
    in the prediction either.

    Returns:
        (windows, thresholds, T, 2): sums over clips and windows of (f - o)^2 and of f^2 + o^2, with the fractions f of the
        prediction and o of the truth. `fractions_skill` makes scores of them.
    """
    out = np.empty((len(windows), len(thresholds), truth.shape[1], 2))
    for column, threshold in enumerate(thresholds):
        forecast, came = (_summed((v >= threshold) & ~np.isnan(truth)) for v in (predicted, truth))
        for row, size in zip(out, windows, strict=True):
            f, o = (_window(table, size) for table in (forecast, came))
            row[column, :, 0] = ((f - o) ** 2).sum((0, 2, 3))
            row[column, :, 1] = (f**2 + o**2).sum((0, 2, 3))
    return out


def fractions_skill(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """FSS from the last axis of `neighbourhoods`: 1 for equal fractions everywhere, NaN where no event was or was forecast."""
    return 1 - _ratio(sums[..., 0], sums[..., 1])


def _summed(events: NDArray[np.bool_]) -> NDArray[np.float64]:
    # Sums over all rectangles from the corner, with a first row and column of zeros.
    return np.pad(events.cumsum(-1, dtype=np.float64).cumsum(-2), ((0, 0), (0, 0), (1, 0), (1, 0)))


def _window(table: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    inner = table[..., size:, size:] - table[..., :-size, size:] - table[..., size:, :-size] + table[..., :-size, :-size]
    return inner / size**2


# ---------------------------------------------------------------------------------------------------------------- scores


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is no whole: a score of events that never came is not 0 and not 1."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)


def _heidke(hits: Values, misses: Values, alarms: Values, negatives: Values) -> NDArray[np.float64]:
    chance = (hits + misses) * (misses + negatives) + (hits + alarms) * (alarms + negatives)
    return _ratio(2 * (hits * negatives - misses * alarms), chance)


Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SCORES: Mapping[str, Score] = {
    "csi": lambda t: _ratio(t[..., 0], t[..., 0] + t[..., 1] + t[..., 2]),
    "pod": lambda t: _ratio(t[..., 0], t[..., 0] + t[..., 1]),
    "far": lambda t: _ratio(t[..., 2], t[..., 0] + t[..., 2]),
    "hss": lambda t: _heidke(*np.moveaxis(t, -1, 0)),
    "bias": lambda t: _ratio(t[..., 0] + t[..., 2], t[..., 0] + t[..., 1]),
}
"""From tables (..., 4) to scores (...): critical success index, probability of detection, false alarm ratio, Heidke skill score
and frequency bias (Wilks, Statistical Methods in the Atmospheric Sciences, chapter 9). NaN where a denominator is 0."""
