"""SEVIR: storms over the United States, seen as vertically integrated liquid (VIL) every 5 minutes, 49 maps for each event.

    FOLDER/CATALOG.csv, FOLDER/data/vil/YEAR/SEVIR_VIL_*.h5      the archive (Veillette et al., NeurIPS 2020)
    FOLDER/nowcast_training.h5, FOLDER/nowcast_testing.h5        clips of 13 + 12 frames that were cut from it

Bytes of 0 to 254 with a scale of their own, 255 where nothing was measured; `kg_per_m2` has the physical quantity. Events with
holes and those whose identity stands twice are left out, as everyone does.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import SPLITS, Split
from zoocast.data.windows import clips_of
from zoocast.errors import DataError
from zoocast.frames import FrameShape

__all__ = ["THRESHOLDS", "SevirConfig", "kg_per_m2"]

THRESHOLDS = (16, 74, 133, 160, 181, 219)
"""Of a byte, at or above which there is an event: those of the paper's and Earthformer's scores."""

CATALOG = "CATALOG.csv"
CUT = ("IN", "OUT")
VIL: Mapping[str, Any] = {"dtype": np.dtype(np.uint8), "missing": 255, "channels": ("vil",)}
# The first moments of validation and test.
EDGES = {
    "strict": ("2019-01-01", "2019-06-01"),
    "earthformer": ("2019-01-01", "2019-06-01"),
    "diffcast": ("2019-01-01", "2019-10-01"),
    "mit": ("2019-06-01", "2019-06-01"),  # and of what is before, the last fifth validates
}


def kg_per_m2(vil: np.ndarray) -> np.ndarray:
    """Vertically integrated liquid in kg/m2, float64, of the archive's bytes of 0 to 254 (SEVIR's tutorial)."""
    x = vil.astype(np.float64)
    return np.where(x <= 5, 0.0, np.where(x <= 18, (x - 2) / 90.66, np.exp((x - 83.9) / 38.9)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SevirConfig(RecordedClips):
    """Clips of SEVIR's VIL, three of 25 frames from each event unless told otherwise."""

    kind: ClassVar[str] = "sevir"

    protocol: Literal["strict", "earthformer", "mit", "diffcast"] = setting(
        "strict", "which events train, validate and test: strict has earthformer's dates, without events across an edge"
    )
    length: int = setting(25, "frames in each clip", at_least=2)
    stride: int = setting(12, "frames from the start of a clip to that of the next one; 0: clips follow one another", at_least=0)

    def recordings(self) -> tuple[Recording, ...]:
        """The events in the order of time, or the clips that were cut already."""
        folder = Path(self.path)
        if self._cut_already:
            return tuple(clip for group in ("training", "testing") for clip in _cut(folder / f"nowcast_{group}.h5", group))
        events = sorted(_events(folder), key=lambda event: (event.times[0], event.name))
        if not events:
            raise DataError(f"{folder / CATALOG} names no whole event of VIL whose file is in {folder / 'data'}; download some")
        return tuple(events)

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """Events by the time of their middle map, for strict by that of the first and the last as well."""
        cut = [self._split(recording) for recording in recordings]
        if self.protocol == "mit" or not recordings[0].times:
            training = [number for number, split in enumerate(cut) if split == "train"]
            for number in training[len(training) * 4 // 5 :]:
                cut[number] = "validation"
        clips: dict[Split, list[Window]] = {"train": [], "validation": [], "test": []}
        for number, split in enumerate(cut):
            if split is not None:
                clips[split] += clips_of(number, recordings[number], self.cut)
        return clips

    def remarks(self) -> tuple[str, ...]:
        """As for any recordings, and what is not there."""
        if self._cut_already:
            return (*super().remarks(), "cut already, without dates: the last fifth of nowcast_training.h5 validates")
        files = {row["file_name"] for row in _whole(Path(self.path, CATALOG))}
        away = sum(not Path(self.path, "data", name).exists() for name in files)
        said = [f"left out: the events of {away} of {len(files)} files in the catalog, which are not in data/"] if away else []
        return (*super().remarks(), *said)

    @property
    def _cut_already(self) -> bool:
        return (Path(self.path) / "nowcast_training.h5").exists()

    def _split(self, recording: Recording) -> Split | None:
        """None for an event of strict that two splits would share."""
        if not recording.times:
            return "test" if recording.group == "testing" else "train"
        times = recording.times
        edges = np.array(EDGES[self.protocol], "datetime64[s]")
        moments = {times[0], times[-1]} if self.protocol == "strict" else {times[len(times) // 2]}
        splits = {SPLITS[np.searchsorted(edges, time, side="right")] for time in moments}
        return splits.pop() if len(splits) == 1 else None


def _whole(catalog: Path) -> list[dict[str, str]]:
    """The rows of events of VIL that have no holes and stand there once, in the order of their files."""
    with reading(catalog, "SEVIR's catalog"), catalog.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["img_type"] == "vil"]
        often = Counter(row["id"] for row in rows)
        rows = [row for row in rows if often[row["id"]] == 1 and float(row["pct_missing"] or 0) == 0]
        return sorted(rows, key=operator.itemgetter("file_name"))


def _events(folder: Path) -> Iterator[Recording]:
    """The whole events whose files are there; headers and identities are compared with the catalog."""
    catalog = folder / CATALOG
    for name, of_file in itertools.groupby(_whole(catalog), key=operator.itemgetter("file_name")):
        path = folder / "data" / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{catalog} names a file outside of its folder, {name!r}; download it again")
        if not path.exists():
            continue
        with opened(path) as file, reading(catalog, "SEVIR's catalog", (KeyError, ValueError, TypeError)):
            shape, (count, _, _, frames) = _shape(file, ("vil",)), file["vil"].shape
            identities = dataset(file, "id", text=True)[:count].tolist()
            for row in of_file:
                index, minutes = int(row["file_index"]), np.array(row["minute_offsets"].split(":"), "timedelta64[m]")
                if identities[index : index + 1] != [row["id"].encode()] or len(minutes) != frames:
                    raise DataError(
                        f"{catalog}: {row['id']} is said to be event {index} of {path.name} with {len(minutes)} maps, but there"
                        f" is another one, or of {frames} maps; download both again"
                    )
                read = functools.partial(_read, path, ("vil",), index)
                times = tuple(np.datetime64(row["time_utc"], "s") + minutes)
                yield Recording(name=row["id"], shape=shape, frames=frames, read=read, files=(path, catalog), times=times, **VIL)


def _cut(path: Path, group: str) -> Iterator[Recording]:
    """The clips of a file in which those to see and those to predict stand apart."""
    with opened(path) as file:
        shape, frames, count = _shape(file, CUT), sum(file[name].shape[3] for name in CUT), len(file["IN"])
    for index in range(count):
        read = functools.partial(_read, path, CUT, index)
        yield Recording(name=f"{group}-{index}", shape=shape, frames=frames, read=read, files=(path,), group=group, **VIL)


def _shape(file: Any, names: Sequence[str]) -> FrameShape:
    """Of the maps in datasets that are to have the same events."""
    parts = [dataset(file, name) for name in names]
    if any(part.ndim != 4 or part.dtype != np.uint8 or part.shape[:3] != parts[0].shape[:3] for part in parts):
        found = " and ".join(f"{part.dtype} {list(part.shape)}" for part in parts)
        raise DataError(f"{file.filename} holds {found}; expected uint8 [events, height, width, time]")
    return frame_shape(1, parts[0].shape[1], parts[0].shape[2], 1, file.filename)


def _read(path: Path, names: Sequence[str], index: int, start: int, stop: int) -> np.ndarray:
    with opened(path) as file:
        maps = np.concatenate([dataset(file, name)[index] for name in names], axis=-1)
    return np.moveaxis(maps[..., start:stop], -1, 0)[:, None]
