"""Human3.6M: people in a room, in colour, four cameras (Ionescu et al., TPAMI 2014), as STRPM's and OpenSTL's pictures and lists.

    FOLDER/images/S1_Directions.54138969_000001.jpg         every fifth frame of each film
    FOLDER/train.txt, FOLDER/test.txt                       images/S1_Directions.54138969_,226,296: the first frame of a clip of 8

The lists take both splits from the same films, and most frames that a network is to predict in the test are frames of clips that
it was trained on; `plan` says how many. The default splits by who is seen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.base import natural
from zoocast.data.formats.images import open_images
from zoocast.data.formats.trust import reading
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.releases import tested_twice
from zoocast.data.splits import Split
from zoocast.data.windows import clips_in
from zoocast.errors import ConfigError, DataError

__all__ = ["Human36mConfig", "shared_frames"]

PICTURE = re.compile(r"((S\d+)_([^.]+)\.\d+)_(\d{6})\.jpg")
LINE = re.compile(r"images/(S\d+_[^.,]+\.\d+)_,(\d+),\d+")
STEP = 5  # of the film's frames, from one picture to the next one
LISTS = ("train", "test")
LISTED = 8  # frames in a clip of the lists, the first half to see
SUBJECTS: Mapping[Split, Sequence[str]] = {"train": ("S1", "S5", "S6", "S7"), "validation": ("S8",), "test": ("S9", "S11")}

Start = tuple[str, int]
"""A film and the number of a frame in it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Human36mConfig(RecordedClips):
    """Clips of people in a room; 4 frames to see and 4 to predict unless told otherwise."""

    kind: ClassVar[str] = "human36m"

    protocol: Literal["strict", "openstl"] = setting(
        "strict", "which clips train, validate and test: strict by subject, S1 5 6 7, S8, S9 11; openstl by its lists, which leak"
    )
    actions: tuple[str, ...] = setting((), "those alone whose names begin so, as Walking; empty: all")
    length: int = setting(LISTED, "frames in each clip", at_least=2)
    height: int = setting(256, "of the resized frame, pixels; 0: as it is", at_least=0)
    width: int = setting(256, "of the resized frame, pixels; 0: as it is", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol == "openstl":
            for field, rule, good in (
                ("length", f"at most {LISTED}", self.length <= LISTED),
                ("step", "1", self.step == 1),
                ("stride", "0", not self.stride),
            ):
                if not good:
                    raise ConfigError(
                        field, f"must be {rule} with protocol=openstl, whose lists cut, but got {getattr(self, field)}"
                    )

    def recordings(self) -> tuple[Recording, ...]:
        """The films in the order of their names; one is of one subject, action and camera."""
        folder = Path(self.path) / "images"
        films: dict[tuple[str, str], list[Path]] = {}
        for path in sorted(folder.glob("*.jpg"), key=lambda path: natural(path.name)):
            if (found := PICTURE.fullmatch(path.name)) and found[3].startswith(self.actions or ""):
                films.setdefault((found[1], found[2]), []).append(path)
        if not films:
            what = f" of {', '.join(self.actions)}" if self.actions else ""
            raise DataError(
                f"{folder} has no picture{what} called as S1_Directions.54138969_000001.jpg; give the folder above it"
            )
        lists = [Path(self.path) / f"{name}.txt" for name in LISTS] if self.protocol == "openstl" else []
        return tuple(
            dataclasses.replace(recording, files=(*recording.files, *lists))
            for (name, subject), files in films.items()
            for recording in open_images(folder, files, name=name, group=subject).recordings
        )

    def remarks(self) -> tuple[str, ...]:
        """What every set of recordings tells, and how much the splits of the lists share."""
        said = super().remarks()
        if self.protocol == "strict":
            return said
        clips, targets = shared_frames(*(self._listed(name) for name in LISTS))
        return (
            *said,
            f"warning: openstl's lists leak: {clips:.1%} of the clips of the test share a frame with a clip of the training, and"
            f" {targets:.1%} of the frames to predict are frames of the training",
            tested_twice(self.protocol),
        )

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By subject, or by the lists."""
        if self.protocol == "openstl":
            train, test = (self._windows(recordings, name) for name in LISTS)
            return {"train": train, "validation": test, "test": test}
        if unknown := sorted(
            {recording.group for recording in recordings} - {who for group in SUBJECTS.values() for who in group}
        ):
            raise DataError(f"{self.path} has pictures of {', '.join(unknown)}; expected S1, S5, S6, S7, S8, S9 and S11")
        shares = {
            split: [number for number, recording in enumerate(recordings) if recording.group in subjects]
            for split, subjects in SUBJECTS.items()
        }
        return clips_in(shares, recordings, self.cut)

    def _listed(self, name: str) -> list[Start]:
        """The clips of a list, in its order."""
        path = Path(self.path) / f"{name}.txt"
        with reading(path, "a list of OpenSTL"):
            lines = path.read_text(encoding="utf-8").split()
        found = [LINE.fullmatch(line) for line in lines]
        if None in found or not found:
            line = lines[found.index(None)] if found else ""
            raise DataError(f"{path} has {line!r:.80}; expected lines like images/S1_Directions.54138969_,226,296")
        return [(match[1], int(match[2])) for match in found if match]

    def _windows(self, recordings: Sequence[Recording], name: str) -> list[Window]:
        """The clips of a list among the films that are there."""
        films = {recording.name: number for number, recording in enumerate(recordings)}
        places = [
            {int(path.stem[-6:]): index for index, path in enumerate(recording.files[: recording.frames])}
            for recording in recordings
        ]
        clips = []
        for film, first in self._listed(name):
            if not film.split("_")[1].startswith(self.actions or ""):
                continue
            frames = range(first, first + STEP * self.length, STEP)
            if film not in films or not all(frame in places[films[film]] for frame in frames):
                raise DataError(
                    f"{self.path}/{name}.txt takes {film}_{first:06d}.jpg and what follows it in steps of {STEP}, but not all of"
                    " these pictures are there; download them again"
                )
            clips.append(Window(films[film], places[films[film]][first], self.length))
        return clips


def shared_frames(train: Sequence[Start], test: Sequence[Start]) -> tuple[float, float]:
    """The share of the test's clips that have a frame of the training's, and of its frames to predict that are such."""
    known = {(film, first + STEP * n) for film, first in train for n in range(LISTED)}
    shared = np.array([[(film, first + STEP * n) in known for n in range(LISTED)] for film, first in test])
    return float(shared.any(axis=1).mean()), float(shared[:, LISTED // 2 :].mean())
