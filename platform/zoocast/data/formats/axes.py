"""Arrays of any order of axes as recordings: which axis is what, by names, by shape and content, or as told.

A layout is named by its axes, as in `zoocast.data.layout`, and may lack N (one recording) and C (one channel): THW, TNHW, NHWT.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoocast.data.formats.base import Opened, unbroken
from zoocast.data.formats.trust import check_numbers, frame_shape
from zoocast.data.layout import clips_first, likely_time_axis
from zoocast.data.recordings import Recording
from zoocast.errors import ConfigError, DataError

__all__ = ["Stored", "open_stored"]

MOST_RECORDINGS = 1_000_000
COLOURS = 4  # at most so many channels are told from frames and pixels by the shape alone
BLOCK_BYTES = 2**26
PROBED_BYTES = 2**28

# What dimensions are called in netCDF, zarr and HDF5, in lower case.
NAMES = {
    "T": ("time", "t", "valid_time", "datetime", "date", "frame", "frames", "step", "lead_time", "slot", "slots"),
    "C": (
        "level",
        "lev",
        "plev",
        "pressure",
        "pressure_level",
        "isobaricinhpa",
        "height",
        "depth",
        "z",
        "channel",
        "channels",
        "band",
        "c",
    ),
    "H": ("latitude", "lat", "rlat", "y", "row", "rows", "south_north", "nlat"),
    "W": ("longitude", "lon", "rlon", "x", "column", "columns", "col", "west_east", "nlon"),
    "N": (
        "sample",
        "samples",
        "event",
        "events",
        "clip",
        "clips",
        "sequence",
        "number",
        "member",
        "realization",
        "ensemble",
        "n",
    ),
}
LETTERS = {name: letter for letter, names in NAMES.items() for name in names}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stored:
    """An array in a file, of which a part can be read.

    Attributes:
        path: of the file or folder, for messages and as recordings' name.
        name: of the array in it; empty where there is one alone.
        shape, dtype: of its header.
        read: one slice for each axis to that part of it.
        files: what it is read from.
        dims: names of its axes, where they have some.
        chunk: how many steps along each axis are packed as one; empty: none are.
        times: one for each step of the axis of time; empty where none are known.
        flipped: latitude goes from south to north, and north is up in frames.
        missing, unit, factor, offset, channels: as `Recording` has them.
    """

    path: Path
    name: str = ""
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[tuple[slice, ...]], np.ndarray]
    files: tuple[Path, ...]
    dims: tuple[str, ...] = ()
    chunk: tuple[int, ...] = ()
    times: tuple[np.datetime64, ...] = ()
    flipped: bool = False
    missing: float | None = None
    unit: str = ""
    factor: float = 1.0
    offset: float = 0.0
    channels: tuple[str, ...] = ()

    def __str__(self) -> str:
        dims = f" ({', '.join(self.dims)})" if self.dims else ""
        return f"{self.name or self.path.name} {self.dtype} {list(self.shape)}{dims}"


def open_stored(array: Stored, layout: str, *, name: str, group: str = "") -> Opened:
    """The recordings in an array: one, or one for each step along N.

    Raises:
        ConfigError: `layout` does not fit, or is "auto" where two readings fit, or none.
        DataError: it holds no numbers, or frames that are absurd.
    """
    what = f"{array.path}{f': {array.name}' if array.name else ''}"
    check_numbers(array.dtype, what)
    if 0 in array.shape:
        raise DataError(f"{what} has the shape {list(array.shape)}, with nothing in it")
    axes = _told(array, layout, what) if layout != "auto" else _named(array) or _guessed(array, what)
    size = dict(zip(axes, array.shape, strict=True))
    shape = frame_shape(size.get("C", 1), size["H"], size["W"], array.dtype.itemsize, what)
    count, frames = size.get("N", 1), size["T"]
    if count > MOST_RECORDINGS:
        raise DataError(
            f"{what} read as {axes} has {count:,} recordings; at most {MOST_RECORDINGS:,} are read: is N another axis?"
        )
    runs = unbroken([int(time.astype(np.int64)) for time in array.times])
    recordings = tuple(
        Recording(
            name=f"{name}/{index:0{len(str(count - 1))}d}" if "N" in axes else name,
            shape=shape,
            dtype=array.dtype,
            frames=frames,
            read=functools.partial(_read, array, axes, index),
            files=array.files,
            runs=runs,
            times=array.times,
            group=group,
            missing=array.missing,
            channels=array.channels,
            unit=array.unit,
            factor=array.factor,
            offset=array.offset,
        )
        for index in range(count)
    )
    how = "as told" if layout != "auto" else "by the names of its axes" if _named(array) else "guessed"
    remarks = [f"{array}: read as {axes}, {how}: {count:,} recording{'s' * (count > 1)} of {frames:,} frames, {shape}"]
    if array.flipped:
        remarks.append(f"{array.name}: turned, so that north is up")
    if runs:
        remarks.append(f"{array.name or array.path.name}: {len(runs)} runs without a gap, by the times of the frames")
    return Opened(recordings, tuple(remarks))


def _told(array: Stored, layout: str, what: str) -> str:
    if not {"T", "H", "W"} <= set(layout) <= set("NTCHW") or len(set(layout)) < len(layout):
        raise ConfigError(
            "layout", f"names axes, T, H and W and perhaps N and C, each once, as in NTHW or THWC, but got {layout!r}"
        )
    if len(layout) != len(array.shape):
        raise ConfigError("layout", f"is {layout}, {len(layout)} axes, but {what} has {len(array.shape)}, {list(array.shape)}")
    return layout


def _named(array: Stored) -> str:
    """The layout by the names of the axes; empty where they have none, or others than are known."""
    layout = "".join(LETTERS.get(dim.lower(), "?") for dim in array.dims)
    return layout if {"T", "H", "W"} <= set(layout) <= set("NTCHW") and len(set(layout)) == len(layout) else ""


def _guessed(array: Stored, what: str) -> str:
    """The only reading of this shape, or the one of several that the content speaks for."""
    readings = _readings(array.shape)
    if len(readings) == 2 and readings[0][2:] == readings[1][2:] and readings[0][:2] == readings[1][1::-1]:
        first, second = (np.arange(min(n, 16)) for n in array.shape[:2])
        rest = tuple(slice(None) for _ in array.shape[2:])
        if math.prod(array.shape[2:]) * array.dtype.itemsize * len(first) * len(second) <= PROBED_BYTES:
            few = array.read((slice(0, len(first)), slice(0, len(second)), *rest))
            if (axis := likely_time_axis(few)) is not None:
                return readings[axis != readings[0].index("T")]
    if len(readings) == 1:
        return readings[0]
    either = " or ".join(readings) or "no usual layout"
    raise ConfigError(
        "layout",
        f"{what}, {array.dtype} {list(array.shape)}, may be read as {either}; set layout={(readings or ('THW',))[0]}"
        f"{' or ' + readings[1] if len(readings) > 1 else ' or whatever it is'}",
    )


def _readings(shape: tuple[int, ...]) -> list[str]:
    """The usual layouts that an array of this shape may have."""
    if len(shape) == 3:
        return ["THW"]
    last, third = shape[-1] < min(shape[-3:-1]), shape[-3] < min(shape[-2:])
    if len(shape) == 5:
        colours = ["HWC"] * last + ["CHW"] * third or ["CHW", "HWC"]
        return [lead + rest for rest in colours for lead in _leads(shape)]
    if len(shape) != 4:
        return []
    if last and shape[-1] <= COLOURS:
        return ["THWC"]
    if shape[1] == 1:
        return ["TCHW"]
    return ["TCHW"] * (third and shape[1] <= COLOURS) + [lead + "HW" for lead in _leads(shape) if shape[lead.index("T")] > 1]


def _leads(shape: tuple[int, ...]) -> list[str]:
    """The orders of clips and time; one frame is no film."""
    return [lead for lead in ("NT", "TN") if shape[lead.index("T")] > 1] or ["NT"]


def _read(array: Stored, axes: str, index: int, start: int, stop: int) -> np.ndarray:
    """[time, channel, height, width], by blocks, for what is packed has to be unpacked whole."""
    time = axes.index("T")
    step = array.chunk[time] if array.chunk else 1
    frame = math.prod(array.shape[axes.index(axis)] for axis in axes if axis in "CHW") * array.dtype.itemsize
    if step == 1 or step * frame > BLOCK_BYTES:
        return _part(array, axes, index, start, stop)
    blocks = range(start // step, -(-stop // step))
    joined = np.concatenate([_block(array, axes, index, block * step, (block + 1) * step) for block in blocks])
    return joined[start - blocks.start * step : stop - blocks.start * step]


# Two blocks: a window that crosses the border of one, and the next window, unpack nothing twice.
@functools.lru_cache(maxsize=2)
def _block(array: Stored, axes: str, index: int, start: int, stop: int) -> np.ndarray:
    return _part(array, axes, index, start, min(stop, array.shape[axes.index("T")]))


def _part(array: Stored, axes: str, index: int, start: int, stop: int) -> np.ndarray:
    taken = {"N": slice(index, index + 1), "T": slice(start, stop)}
    part = array.read(tuple(taken.get(axis, slice(None)) for axis in axes))
    if "N" not in axes:
        part, axes = part[None], "N" + axes
    clip = clips_first(part, axes)[0]
    return np.ascontiguousarray(clip[:, :, ::-1] if array.flipped else clip, array.dtype)
