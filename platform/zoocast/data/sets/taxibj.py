"""TaxiBJ and its kin: how many taxis or bicycles come into and leave each square of a city (Zhang et al., AAAI 2017).

    FOLDER/BJ16_M32x32_T30_InOut.h5             the original, a file for each year: data [slots, 2, height, width] and date
    FOLDER/NYC14_M16x8_T60_NewEnd.h5            bicycles, and NYC10_Taxi_... taxis, of New York in the same form
    FOLDER/dataset.npz                          OpenSTL's clips of 4 + 4 frames: X_train, Y_train, X_test, Y_test in -1 to 1

Slots that are missing in a year part it: no clip goes across one. Years are natural sources and targets, see `years`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.arrays import open_npz
from zoocast.data.formats.base import unbroken
from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.data.formats.trust import frame_shape
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.releases import tested_twice
from zoocast.data.splits import SPLITS, Split
from zoocast.data.windows import clips_in, clips_of
from zoocast.errors import ConfigError, DataError

__all__ = ["TaxiBjConfig"]

YEAR = re.compile(r"(?:BJ|NYC)(\d\d)_.*M\d+x\d+_T(30|60)_.*\.h5")
NPZ = "dataset.npz"
CHANNELS = ("inflow", "outflow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaxiBjConfig(RecordedClips):
    """Clips of what moves through a city; 4 slots to see and 4 to predict unless told otherwise."""

    kind: ClassVar[str] = "taxibj"

    protocol: Literal["strict", "openstl"] = setting(
        "strict", "strict: the last days validate and test; openstl: the clips of its npz, whose test validates"
    )
    years: tuple[str, ...] = setting((), "those of the original that are read, as 13,14; empty: all")
    held_out_days: int = setting(
        28, "days of the original that test, at its end, and as many before them that validate", at_least=1
    )
    length: int = setting(8, "slots in each clip", at_least=2)
    scaling: Literal["none", "divisor", "min-max", "z-score"] = setting(
        "min-max", "what becomes 0 to 1: floats that are so already; values over divisor; the range of the training clips"
    )

    def recordings(self) -> tuple[Recording, ...]:
        """The years in their order, or the clips of the npz."""
        folder = Path(self.path)
        if (folder / NPZ).exists():
            if self.years:
                raise ConfigError(
                    "years", f"is {', '.join(self.years)}, but {folder / NPZ} does not say which years its clips are of"
                )
            return tuple(clip for group in ("train", "test") for clip in _clips(folder / NPZ, group))
        if self.protocol == "openstl":
            raise ConfigError("protocol", f"is openstl, which is for its clips, but {folder / NPZ} does not exist; use strict")
        files = {found[1]: (path, int(found[2])) for path in sorted(folder.glob("*.h5")) if (found := YEAR.fullmatch(path.name))}
        if absent := sorted(set(self.years) - files.keys()):
            raise ConfigError("years", f"has {', '.join(absent)}, but {folder} has {', '.join(files) or 'none'}")
        if not files:
            raise DataError(f"{folder} has neither BJ16_M32x32_T30_InOut.h5 or another year nor {NPZ}; see docs/data.md")
        return tuple(_year(*files[year], year) for year in sorted(self.years or files))

    def remarks(self) -> tuple[str, ...]:
        """What every set of recordings tells, and what OpenSTL's clips and protocol mean."""
        said = list(super().remarks())
        if (Path(self.path) / NPZ).exists() and self.scaling != "none":
            said.append(f"{NPZ} is 0 to 1 already, by its training; scaling=none keeps its values as OpenSTL has them")
        if self.protocol == "openstl":
            said.append(tested_twice(self.protocol))
        return tuple(said)

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By time: the end tests, and what is before it validates."""
        if recordings[0].times:
            return self._by_day(recordings)
        first = sum(recording.group == "train" for recording in recordings)
        test = range(first, len(recordings))
        if self.protocol == "openstl":
            return clips_in({"train": range(first), "validation": test, "test": test}, recordings, self.cut)
        # A clip begins a slot after the one before it: as many are left out as would have slots of both.
        edge = first * 9 // 10
        train = range(max(edge - recordings[0].frames + 1, 0))
        return clips_in({"train": train, "validation": range(edge, first), "test": test}, recordings, self.cut)

    def _by_day(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """Before the days that are held out, and these; each clip lies within one split."""
        end = max(recording.times[-1] for recording in recordings).astype("datetime64[D]") + np.timedelta64(1, "D")
        days = [end - np.timedelta64(self.held_out_days * n, "D") for n in (2, 1)]
        clips: dict[Split, list[Window]] = {split: [] for split in SPLITS}
        for number, recording in enumerate(recordings):
            edges = [0, *np.searchsorted(np.array(recording.times), np.array(days)).tolist(), recording.frames]
            for split, (first, stop) in zip(SPLITS, itertools.pairwise(edges), strict=True):
                clips[split] += clips_of(number, recording, self.cut, range(first, stop))
        return clips


def _year(path: Path, minutes: int, year: str) -> Recording:
    with opened(path) as file:
        counts, dates = dataset(file, "data"), dataset(file, "date", text=True)[:].tolist()
        if counts.ndim != 4 or counts.shape[:2] != (len(dates), len(CHANNELS)):
            raise DataError(f"{path} has data {list(counts.shape)} and {len(dates)} dates; expected [slots, 2, height, width]")
        shape, dtype = frame_shape(len(CHANNELS), counts.shape[2], counts.shape[3], counts.dtype.itemsize, path), counts.dtype
    times = _times(path, dates, minutes)
    return Recording(
        name=path.stem,
        shape=shape,
        dtype=dtype,
        frames=len(times),
        read=functools.partial(_read, path),
        files=(path,),
        runs=unbroken([int(time.astype(np.int64)) for time in times]),
        times=times,
        group=year,
        channels=CHANNELS,
    )


def _times(path: Path, dates: Sequence[bytes], minutes: int) -> tuple[np.datetime64, ...]:
    """When each slot begins."""
    slots = [re.fullmatch(rb"(\d{4})(\d\d)(\d\d)(\d\d)", date) for date in dates]
    try:
        days = [np.datetime64(b"-".join(slot.groups()[:3]).decode(), "s") for slot in slots if slot]
    except ValueError:
        days = []
    if len(days) < len(dates):
        raise DataError(f"{path} has dates that are no day and slot, as yyyymmdd01 for the first of a day; download it again")
    return tuple(day + np.timedelta64((int(slot[4]) - 1) * minutes, "m") for day, slot in zip(days, slots, strict=True) if slot)


def _read(path: Path, start: int, stop: int) -> np.ndarray:
    with opened(path) as file:
        counts: np.ndarray = dataset(file, "data")[start:stop]
    return counts


def _clips(path: Path, group: str) -> list[Recording]:
    """The clips of a split of the npz, in 0 to 1 as OpenSTL has them."""
    observed, following = (open_npz(path, "NTCHW", f"{part}_{group}", name=group).recordings for part in "XY")
    if [r.shape for r in observed] != [r.shape for r in following]:
        raise DataError(f"{path}: X_{group} and Y_{group} have other numbers of clips or other frames; download it again")
    return [
        dataclasses.replace(x, frames=x.frames + y.frames, read=functools.partial(_whole, x, y), group=group, channels=CHANNELS)
        for x, y in zip(observed, following, strict=True)
    ]


def _whole(observed: Recording, following: Recording, start: int, stop: int) -> np.ndarray:
    seen = observed.frames
    parts = (observed.read(min(start, seen), min(stop, seen)), following.read(max(start - seen, 0), max(stop - seen, 0)))
    return (np.concatenate(parts) + 1) / 2
