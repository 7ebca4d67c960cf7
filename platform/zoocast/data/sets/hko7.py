"""HKO-7, radar of Hong Kong every 6 minutes on days of rain (Shi et al., NeurIPS 2017). The observatory gives it out on request.

FOLDER/radarPNG/YYYY/MM/DD/RADyymmddHHMM00.png               480x480 bytes, 0 to 255 for -10 to 60 dBZ
FOLDER/radarPNG_mask/YYYY/MM/DD/RADyymmddHHMM00.mask         optional: zlib of a boolean for each pixel, true where it is of use
FOLDER/hko7_rainy_{train,valid,test}_days.txt                or in a folder in it: lines `20090215, 0.1`
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.images import open_images
from zoocast.data.formats.trust import reading
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.splits import SPLITS, Split
from zoocast.data.windows import by_group
from zoocast.errors import DataError

__all__ = ["Hko7Config"]

LISTS: Mapping[str, Split] = {"train": "train", "valid": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hko7Config(MeasuredClips):
    """Clips of HKO-7, each from one day."""

    kind: ClassVar[str] = "hko-7"

    protocol: Literal["strict", "paper"] = setting(
        "strict", "which days train: paper has all of its list, strict none beside a day that validates or tests"
    )
    masks: bool = setting(True, "pixels that the masks leave out are missing; off: they are used as they are")
    length: int = setting(25, "frames in each clip", at_least=2)
    stride: int = setting(5, "frames from the start of a clip to that of the next one; 0: clips follow one another", at_least=0)
    scaling: Literal["none", "divisor", "min-max", "z-score"] = setting(
        "divisor", "what becomes 0 to 1: of 255, the pixels' range"
    )
    divisor: float = setting(255.0, "of scaling=divisor", above=0)

    def recordings(self) -> tuple[Recording, ...]:
        """The days of the lists."""
        folder = Path(self.path)
        days = {split: _days(folder, name) for name, split in LISTS.items()}
        held = {day + shift for split in SPLITS[1:] for day in days[split] for shift in (-1, 0, 1)}
        if self.protocol == "strict":
            days["train"] = [day for day in days["train"] if day not in held]
        return tuple(self._day(folder, split, day) for split in SPLITS for day in days[split])

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By the lists of days."""
        return by_group(recordings, self.cut, validation=("validation",), test=("test",))

    def _day(self, folder: Path, split: Split, day: np.datetime64) -> Recording:
        inside = str(day).replace("-", "/")
        here = folder / "radarPNG" / inside
        files = sorted(here.glob("RAD*.png"))
        if not files:
            raise DataError(
                f"{here} has no RAD*.png, but {day} is in a list of days; download it, or take the day out of the list"
            )
        opened = open_images(here, files, name=str(day), group=split, gray=True, time_pattern="RAD%y%m%d%H%M00").recordings[0]
        day_of = dataclasses.replace(opened, channels=("reflectivity",), unit="dBZ", factor=70 / 255, offset=-10.0)
        masks = folder / "radarPNG_mask" / inside
        if not self.masks or not masks.exists():
            return day_of
        paths = tuple(masks / f"{file.stem}.mask" for file in files)
        read = functools.partial(_masked, day_of, paths)
        return dataclasses.replace(day_of, dtype=np.dtype(np.float32), read=read, files=(*day_of.files, *paths))


def _days(folder: Path, name: str) -> list[np.datetime64]:
    file = f"hko7_rainy_{name}_days.txt"
    found = next((path for pattern in (file, f"*/{file}") for path in folder.glob(pattern)), folder / file)
    with reading(found, "a list of days"):
        lines = found.read_text(encoding="utf-8").split("\n")
        days = [line.partition(",")[0].strip() for line in lines if line.strip()]
        return [np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "D") for day in days]


def _masked(day: Recording, masks: Sequence[Path], start: int, stop: int) -> np.ndarray:
    """float32, NaN where a mask says that a pixel is of no use."""
    frames, pixels = day.read(start, stop).astype(np.float32), day.shape.height * day.shape.width
    for frame, path in zip(frames, masks[start:stop], strict=True):
        with reading(path, "a mask of HKO-7"):
            useful = zlib.decompressobj().decompress(path.read_bytes(), pixels + 1)
        if len(useful) != pixels:
            raise DataError(f"{path} unpacks to another number of bytes than the {pixels:,} of its picture; download it again")
        frame[0, np.frombuffer(useful, np.uint8).reshape(frame.shape[1:]) == 0] = np.nan
    return frames
