"""Films of archives that have one file for each moment, and clips of whatever lies between two dates."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.base import unbroken
from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import Split
from zoocast.data.windows import Cut, clips_of
from zoocast.errors import DataError
from zoocast.frames import FrameShape

__all__ = ["Dates", "alone", "between", "film", "joined", "moment", "moments"]

Dates = Mapping[Split, tuple[str, str]]
"""For each split its first day, and the day after its last."""

MOMENT = re.compile(r"(?<!\d)((?:19|20)\d{6})[-_T]?(\d{4}(?:\d\d)?)(?!\d)")


def between(recordings: Sequence[Recording], cut: Cut, dates: Dates, gap: int = 0) -> dict[Split, list[Window]]:
    """Clips that lie between the dates of their split with all of their frames.

    Args:
        recordings: with times.
        cut: of the clips.
        dates: of each split; they do not overlap.
        gap: frames that are left out before the end of a split where the recording goes on.
    """
    clips: dict[Split, list[Window]] = {split: [] for split in dates}
    for number, recording in enumerate(recordings):
        times = np.array(recording.times, "datetime64[s]")
        for split, days in dates.items():
            first, end = np.searchsorted(times, np.array(days, "datetime64[s]")).tolist()
            clips[split] += clips_of(number, recording, cut, range(first, end - gap if end < recording.frames else end))
    return clips


def alone(attribute: Any) -> Any:
    """What an attribute in HDF5 says, which may be an array of one, and bytes where it is text."""
    (value,) = np.ravel(attribute).tolist()
    return value.decode() if isinstance(value, bytes) else value


def moment(name: str) -> np.datetime64 | None:
    """The date and time in the name of a file, `RAD_NL25_PCP_201006010005.h5` or `..._20210601-120200.grib2`; None without."""
    if (found := MOMENT.search(name)) is None:
        return None
    day, clock = found.groups()
    try:
        return np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:] or '00'}", "s")
    except ValueError:
        return None


def moments(folder: Path, suffixes: Sequence[str]) -> dict[np.datetime64, Path]:
    """The files anywhere in `folder` that end in one of `suffixes`, by the time in their name, in its order.

    Raises:
        DataError: there is none, one has no time in its name, or two have the same.
    """
    found: dict[np.datetime64, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.name.lower().endswith(tuple(suffixes))):
        time = moment(path.name)
        if time is None:
            raise DataError(f"{path} has no time like 201906010005 in its name; rename it, or take it out of the folder")
        if time in found:
            raise DataError(f"{path} and {found[time]} are both of {time}; a film has one map for each moment: take one away")
        found[time] = path
    if not found:
        raise DataError(f"{folder} has no file that ends in {' or '.join(suffixes)}; give the folder of the archive")
    return dict(sorted(found.items()))


def film(
    name: str,
    maps: Mapping[np.datetime64, Path],
    read_map: Callable[[Path], np.ndarray],
    *,
    shape: FrameShape,
    dtype: np.dtype,
    **rest: Any,
) -> Recording:
    """One recording of files that hold a map each, with gaps where two follow another later than most do.

    Args:
        name: of the recording.
        maps: the files by their time, in its order.
        read_map: a file to its map [channels, height, width], of the shape and dtype that are given here.
        shape, dtype, rest: as `Recording` has them.
    """
    times, files = tuple(maps), tuple(maps.values())
    read = functools.partial(_read_maps, files, read_map, shape, dtype)
    runs = unbroken(_seconds(times))
    return Recording(
        name=name, shape=shape, dtype=dtype, frames=len(files), read=read, files=files, runs=runs, times=times, **rest
    )


def joined(name: str, parts: Sequence[Recording]) -> Recording:
    """One recording of several that follow one another, with gaps where two frames follow another later than most do.

    Raises:
        DataError: they are not alike, or one begins before the one before it has ended.
    """
    first = parts[0]
    for before, part in itertools.pairwise(parts):
        if _form(part) != _form(first):
            raise DataError(
                f"{part.files[0]} holds {_form(part)}, but {first.files[0]} {_form(first)};"
                " a film has one form: sort the files into folders"
            )
        if part.times[0] <= before.times[-1]:
            raise DataError(
                f"{part.files[0]} begins at {part.times[0]}, when {before.files[0]} still goes on, to {before.times[-1]};"
                " take one of them away"
            )
    starts = tuple(itertools.accumulate((part.frames for part in parts), initial=0))
    times = tuple(time for part in parts for time in part.times)
    return dataclasses.replace(
        first,
        name=name,
        frames=starts[-1],
        read=functools.partial(_read_parts, tuple(parts), starts),
        files=tuple(file for part in parts for file in part.files),
        runs=unbroken(_seconds(times)),
        times=times,
    )


def _form(part: Recording) -> str:
    return f"{part.dtype} {part.shape}, a step of which is {part.factor:g} {part.unit} from {part.offset:g} on"


def _seconds(times: Sequence[np.datetime64]) -> list[int]:
    seconds: list[int] = np.array(times, "datetime64[s]").astype(np.int64).tolist()
    return seconds


def _read_maps(
    files: Sequence[Path], read_map: Callable[[Path], np.ndarray], shape: FrameShape, dtype: np.dtype, start: int, stop: int
) -> np.ndarray:
    frames = np.empty((stop - start, *dataclasses.astuple(shape)), dtype)
    for frame, path in zip(frames, files[start:stop], strict=True):
        found = read_map(path)
        if found.shape != frame.shape or found.dtype != dtype:
            raise DataError(
                f"{path} holds {found.dtype} {list(found.shape)}, but {files[0]} {dtype} {list(frame.shape)};"
                " a film has one form: sort the files into folders"
            )
        frame[...] = found
    return frames


def _read_parts(parts: Sequence[Recording], starts: Sequence[int], start: int, stop: int) -> np.ndarray:
    return np.concatenate(
        [
            part.read(max(start, begin) - begin, min(stop, begin + part.frames) - begin)
            for part, begin in zip(parts, starts, strict=False)
            if begin < stop and start < begin + part.frames
        ]
    )
