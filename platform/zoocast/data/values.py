"""What the values of clips are: within their range or of another scale, there or missing.

A clip is bytes of 0 to 255 or floats of 0 to 1. Whatever else a file holds comes with the range that maps to 0 and 1, a `Scale`.
Missing values are told from values of another scale, for no scale can mend them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoocast.errors import ConfigError, DataError

if TYPE_CHECKING:
    from zoocast.data.store import Dtype

__all__ = ["Block", "Place", "Scale", "Survey", "check_values", "convert", "doubts", "survey"]

# What data formats, radars and weather services write where nothing was measured. Only what lies outside of the expected range
# is compared with these.
MARKS = (-32768, -32767, -9999.9, -9999, -999.9, -999, -99.9, -99, 9999, 9999.9, 32767, 65535)
BEYOND_MEASURE = 1e19  # netCDF's 9.97e36, CF's 1e20 and their like


class Scale(NamedTuple):
    """The values that become 0 and 1."""

    low: float
    high: float

    def apply(self, clip: np.ndarray) -> np.ndarray:
        """`clip` as float32 of 0 to 1."""
        return ((clip.astype(np.float64) - self.low) / (self.high - self.low)).astype(np.float32)


class Place(NamedTuple):
    """A frame of the user's file, both counted from 0."""

    clip: int
    frame: int

    def __str__(self) -> str:
        return f"clip {self.clip}, frame {self.frame} of the file (both counted from 0)"


Block = tuple[np.ndarray, Callable[[int], Place]]
"""Frames [n, ...], and where each of the n lies in the file."""


@dataclasses.dataclass
class Survey:
    """What was found in values. `low` and `high` are of those that are not missing.

    `levels` counts bytes by value; None for other types. `among_levels`: scaled to 0 to 1, all are multiples of 1/255.
    """

    low: float = np.inf
    high: float = -np.inf
    low_at: Place = Place(0, 0)
    high_at: Place = Place(0, 0)
    looked_at: int = 0
    missing: Counter[str] = dataclasses.field(default_factory=Counter)
    missing_clips: set[int] = dataclasses.field(default_factory=set)
    missing_at: Place | None = None
    levels: np.ndarray | None = None
    among_levels: bool = True


def survey(blocks: Iterable[Block], scale: Scale | None) -> Survey:
    """Look at all values of `blocks`, one block at a time."""
    found = Survey()
    for frames, place in blocks:
        found.looked_at += frames.size
        if frames.dtype == np.uint8:
            levels = np.bincount(frames.ravel(), minlength=256)
            found.levels = levels if found.levels is None else found.levels + levels
        there = _there(frames, scale)
        if there is not None:
            _note_missing(found, frames, there, place)
            frames = np.where(there, frames, frames[there].min() if there.any() else 0)
            if not there.any():
                continue
        low, high = frames.min(), frames.max()
        if low < found.low:
            found.low, found.low_at = float(low), place(_frame_of(frames == low))
        if high > found.high:
            found.high, found.high_at = float(high), place(_frame_of(frames == high))
        found.among_levels = found.among_levels and _among_levels(frames, scale)
    return found


def _among_levels(frames: np.ndarray, scale: Scale | None) -> bool:
    if scale is None and frames.dtype == np.uint8:
        return True
    # predrnn's files hold grey values divided by 255, in float32: a quarter of the space once they are bytes again. 1e-3 of a
    # level is more than float32 loses there and back, and no picture comes so near to all levels by chance.
    scaled = scale.apply(frames) if scale else frames
    levels = scaled * scaled.dtype.type(255)
    return bool(np.abs(levels - np.rint(levels)).max() < 1e-3)


def _there(frames: np.ndarray, scale: Scale | None) -> np.ndarray | None:
    """Which values are no missing ones; None when all are."""
    if frames.dtype == np.uint8 and scale is None:
        return None  # every byte may be meant
    there = np.isfinite(frames) if frames.dtype.kind == "f" else np.ones(frames.shape, bool)
    # A mark for missing values lies outside of what is measured, so it is the lowest or the highest as long as any is left.
    while there.any():
        known = frames[there]
        marks = [value for value in (known.min(), known.max()) if _is_mark(float(value), scale)]
        if not marks:
            break
        there &= ~np.isin(frames, marks)
    return None if there.all() else there


def _is_mark(value: float, scale: Scale | None) -> bool:
    """Whether `value`, if it is outside of the expected range, is one that data formats write for what is missing."""
    low, high = scale or Scale(0, 1)
    if low <= value <= high:
        return False
    # A byte of 255 above the range that was told; without one it is the brightest grey of another scale.
    known = (*MARKS, 255) if scale else MARKS
    return abs(value) >= BEYOND_MEASURE or bool(np.isclose(value, known, rtol=1e-6).any())


def _note_missing(found: Survey, frames: np.ndarray, there: np.ndarray, place: Callable[[int], Place]) -> None:
    for value, count in zip(*np.unique(frames[~there].astype(np.float64), return_counts=True), strict=True):
        found.missing["NaN" if np.isnan(value) else f"{value:g}"] += int(count)
    holes = np.flatnonzero(~there.reshape(len(there), -1).all(axis=1))
    found.missing_clips |= {place(int(i)).clip for i in holes}
    first = place(int(holes[0]))
    found.missing_at = min(first, found.missing_at or first)


def _frame_of(mask: np.ndarray) -> int:
    """The first frame with a true value."""
    return int(np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))[0])


def check_values(found: Survey, path: Path, dtype: np.dtype, scale: Scale | None) -> None:
    """Raise for values that are missing, or that are not of the range which their type or `scale` says.

    Raises:
        DataError: missing values, with how many, where, and what can be done; or values that want a `scale`.
        ConfigError: values outside of `scale`, under its field.
    """
    if found.missing_at is not None:
        clips = len(found.missing_clips)
        kinds = ", ".join(f"{count:,} {value}" for value, count in found.missing.most_common(3))
        raise DataError(
            f"{path}: {found.missing.total():,} of {found.looked_at:,} values are missing ({kinds}), in"
            f" {clips:,} clip{'s' if clips != 1 else ''}, the first in {found.missing_at}; fill them in (for example with"
            " numpy.nan_to_num), or leave those clips out of the file"
        )
    if not found.looked_at:
        return
    spread = f"from {found.low:g} to {found.high:g}"
    if scale is not None:
        if found.low < scale.low:
            raise ConfigError(
                "low", f"is {scale.low:g}, but {path} has values {spread}, the lowest in {found.low_at}; {_wider(found)}"
            )
        if found.high > scale.high:
            raise ConfigError(
                "high", f"is {scale.high:g}, but {path} has values {spread}, the highest in {found.high_at}; {_wider(found)}"
            )
    elif dtype == np.uint8:
        if found.high == 1:
            raise DataError(
                f"{path}: no byte is above 1, where grey values go from 0 to 255; if 1 is white, set low=0 and high=1"
            )
    elif found.low < 0 or found.high > 1:
        raise DataError(
            f"{path} has values {spread}, the highest in {found.high_at}, but floats are to be 0 to 1; set low and high to"
            f" the values that become 0 and 1, for example low={np.floor(found.low):g} and high={np.ceil(found.high):g}"
        )


def _wider(found: Survey) -> str:
    return (
        f"choose a range that holds them all, for example low={np.floor(found.low):g} and high={np.ceil(found.high):g},"
        " or limit them in the file (numpy.clip)"
    )


def doubts(found: Survey) -> list[str]:
    """What is allowed, but hardly meant."""
    if not found.looked_at:
        return []
    if found.low == found.high:
        return [f"every value is {found.low:g}; there is nothing to learn"]
    if found.levels is None or not found.levels[255]:
        return []
    others = np.flatnonzero(found.levels[:255])
    # Of black and white alone, or with greys up to the top, 255 is white.
    if len(others) > 1 and others[-1] < 224:
        return [
            f"{found.levels[255]:,} bytes are 255 and no other is above {others[-1]}: if 255 marks missing values, fill them in,"
            " or they count as the strongest"
        ]
    return []


def convert(clip: np.ndarray, dtype: Dtype) -> np.ndarray:
    """`clip`, bytes of 0 to 255 or floats of 0 to 1, in the other of the two if `dtype` says so."""
    if dtype == "uint8":
        return np.ascontiguousarray(clip if clip.dtype == np.uint8 else np.rint(clip * clip.dtype.type(255)), np.uint8)
    return np.ascontiguousarray(clip / 255 if clip.dtype == np.uint8 else clip, np.float32)
