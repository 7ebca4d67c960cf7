"""CIKM AnalytiCup 2017, radar around Shenzhen: 15 maps of 101x101, 6 minutes apart, at four heights, bytes for -10 to 85 dBZ.

    FOLDER/train.txt, testA.txt, testB.txt    as published: a line for each sample, `id,label,` and its 15*4*101*101 values
    FILE.h5                                   DiffCast's form, one height: groups train, valid and test, uint8 [15, 101, 101]

The first 8,000 of the 10,000 training samples train and the others validate; both tests are the test, as in DiffCast's file.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.hdf5 import opened
from zoocast.data.formats.trust import reading
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.shanghai import grouped
from zoocast.data.splits import Split
from zoocast.data.windows import by_group
from zoocast.errors import DataError
from zoocast.frames import FrameShape

__all__ = ["CikmConfig"]

FRAMES, SHAPE = 15, FrameShape(channels=4, height=101, width=101)
VALUES = FRAMES * 4 * 101 * 101
GROUPS = ("train", "valid", "test")
DBZ: Mapping[str, Any] = {"unit": "dBZ", "factor": 95 / 255, "offset": -10.0}
# A value has one to three digits and a blank or the end of the line; before them the label, and an id of a few letters.
LONGEST_LINE = 4 * VALUES + 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class CikmConfig(RecordedClips):
    """Clips of the CIKM AnalytiCup. In the published form, `channels` chooses among the heights of 0.5, 1.5, 2.5 and 3.5 km."""

    kind: ClassVar[str] = "cikm"

    length: int = setting(15, "frames in each clip", at_least=2, at_most=FRAMES)

    def recordings(self) -> tuple[Recording, ...]:
        """The samples in the order of the files."""
        path = Path(self.path)
        if path.is_dir():
            train, *tests = (_samples(path / f"{name}.txt") for name in ("train", "testA", "testB"))
            cut = len(train) * 4 // 5
            parts = zip(GROUPS, (train[:cut], train[cut:], [sample for test in tests for sample in test]), strict=True)
            return tuple(_recording(*sample, group) for group, samples in parts for sample in samples)
        with opened(path) as file:
            return tuple(clip for group in GROUPS for clip in grouped(path, file, group, **DBZ))

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By the group of each sample."""
        return by_group(recordings, self.cut, validation=("valid",), test=("test",))


def _samples(path: Path) -> list[tuple[Path, str, int, int]]:
    """File, name, first byte and length of each line."""
    with reading(path, "CIKM's samples"):
        return list(_lines(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _lines(path: Path, changed: int) -> tuple[tuple[Path, str, int, int], ...]:  # noqa: ARG001 -- a key of the cache
    # Twenty gigabytes, in which only the ends of the lines are looked for: once, not for each call.
    found, start = [], 0
    with path.open("rb") as stream:
        while line := stream.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE or line.count(b",", 0, 200) < 2:
                raise DataError(
                    f"{path}, byte {start:,}: a line of {len(line):,} bytes; expected `id,label,` and {VALUES:,} values"
                )
            found.append((path, line[: line.index(b",")].decode("ascii"), start, len(line)))
            start += len(line)
    return tuple(found)


def _recording(path: Path, name: str, start: int, size: int, group: str) -> Recording:
    return Recording(
        name=f"{path.stem}/{name}",
        shape=SHAPE,
        dtype=np.dtype(np.uint8),
        frames=FRAMES,
        read=functools.partial(_read, path, name, start, size),
        files=(path,),
        group=group,
        channels=("0.5 km", "1.5 km", "2.5 km", "3.5 km"),
        **DBZ,
    )


def _read(path: Path, name: str, start: int, size: int, first: int, stop: int) -> np.ndarray:
    with reading(path, "CIKM's samples"), path.open("rb") as stream:
        stream.seek(start)
        text = stream.read(size).rpartition(b",")[2]
        values = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ")
    if len(values) != VALUES or values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}: sample {name} has {len(values):,} values; expected {VALUES:,} of 0 to 255")
    return values.astype(np.uint8).reshape(FRAMES, *dataclasses.astuple(SHAPE))[first:stop]
