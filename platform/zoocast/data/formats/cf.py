"""What the conventions for climate and forecast (CF) say of an array: units, scale, what is missing, its times, and north."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.axes import LETTERS, Stored

__all__ = ["Axis", "described", "moments"]

Axis = Callable[[str], tuple[np.ndarray, Mapping[str, Any]] | None]
"""From the name of a dimension to its coordinates, [steps], and their attributes; None where there are none."""

SECONDS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600, "h": 3600, "day": 86400, "d": 86400}
SINCE = re.compile(
    r"(\w+?)s? since (\d{1,4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.0*)?)?)?(?: ?(?:Z|UTC|\+00:?00|0:00))?"
)
GREGORIAN = 1583  # from this year on these calendars agree
CALENDARS = ("", "standard", "gregorian", "proleptic_gregorian")


def described(
    path: Path,
    name: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    read: Callable[[tuple[slice, ...]], np.ndarray],
    files: tuple[Path, ...],
    dims: tuple[str, ...],
    chunk: tuple[int, ...],
    attributes: Mapping[str, Any],
    axis: Axis,
) -> Stored:
    """The array with what its attributes and the coordinates of its dimensions say."""
    times: tuple[np.datetime64, ...] = ()
    flipped = False
    channels: tuple[str, ...] = ()
    for dim in dims:
        found = axis(dim) if LETTERS.get(dim.lower()) in ("T", "C", "H") else None
        if found is None:
            continue
        values, about = found
        match LETTERS[dim.lower()]:
            case "T":
                times = moments(values, _text(about.get("units")), _text(about.get("calendar")))
            case "H":
                north = dim.lower() in ("latitude", "lat", "rlat") or _text(about.get("units")).startswith("degrees_n")
                flipped = north and len(values) > 1 and bool(values[0] < values[-1])
            case _:
                channels = tuple(f"{value:g}" for value in values) if values.dtype.kind in "iuf" else ()
    missing = _number(attributes.get("_FillValue", attributes.get("missing_value")))
    if dtype.kind == "i" and _text(attributes.get("_Unsigned")).lower() == "true":  # netCDF-3 has no unsigned bytes
        dtype = np.dtype(f"u{dtype.itemsize}")
        missing = missing if missing is None or missing >= 0 else missing + 2.0 ** (8 * dtype.itemsize)
    return Stored(
        path=path,
        name=name,
        shape=shape,
        dtype=dtype.newbyteorder("="),
        read=read,
        files=files,
        dims=dims,
        chunk=chunk,
        times=times,
        flipped=flipped,
        missing=None if missing is None or np.isnan(missing) else missing,
        unit=_text(attributes.get("units")),
        factor=_number(attributes.get("scale_factor")) or 1.0,
        offset=_number(attributes.get("add_offset")) or 0.0,
        channels=channels,
    )


def moments(values: np.ndarray, units: str, calendar: str = "") -> tuple[np.datetime64, ...]:
    """Coordinates of time, "hours since 1900-01-01", as datetime64[s]; empty where they are said in no way that is known."""
    found = SINCE.fullmatch(units.strip())
    if found is None or found[1].lower() not in SECONDS or calendar.lower() not in CALENDARS:
        return ()
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[1:])
    seconds = values.astype(np.float64) * SECONDS[found[1].lower()]
    # 100,000 years are no measurement, and no overflow yet.
    if year < GREGORIAN or not np.isfinite(seconds).all() or np.abs(seconds).max(initial=0) > 3.2e12:
        return ()
    start = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}", "s")
    return tuple(start + np.rint(seconds).astype("timedelta64[s]"))


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """An attribute that is a number, an array of one, text of one, or, as xarray writes them in zarr, its bytes in base 64."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
        with contextlib.suppress(ValueError):
            data = base64.b64decode(value, validate=True)
            return float(np.frombuffer(data, f"<f{len(data)}")[0]) if len(data) in (4, 8) else None
    array = np.asarray(value)
    return float(array.reshape(-1)[0]) if array.size and array.dtype.kind in "iuf" else None
