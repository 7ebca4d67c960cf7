"""BAIR robot pushing: an arm among things on a table, in colour, 30 frames a clip (Ebert et al., CoRL 2017).

    FOLDER/train/traj_0_to_255.tfrecords, FOLDER/test/...     256 examples a file, 64x64 pixels from two cameras

Read without TensorFlow: a file of records with checksums, each record a protocol buffer `tf.train.Example`, whose pictures are
plain RGB bytes in spite of the name `encoded`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.base import natural, stamp
from zoocast.data.formats.tfrecord import byte_features, read_record, records
from zoocast.data.formats.trust import frame_shape
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.releases import tested_twice
from zoocast.data.splits import Split
from zoocast.data.windows import clips_in
from zoocast.errors import DataError

__all__ = ["BairConfig"]

CAMERAS = {"aux1": "image_aux1", "main": "image_main"}
VALIDATES = 20  # of so many clips of the training, the last one, in strict


@dataclasses.dataclass(frozen=True, kw_only=True)
class BairConfig(RecordedClips):
    """Clips of a robot's arm; 4 frames to see and 12 to predict unless told otherwise."""

    kind: ClassVar[str] = "bair"

    protocol: Literal["strict", "openstl"] = setting(
        "strict", "strict: the last twentieth of the training validates; openstl: the test does"
    )
    camera: Literal["aux1", "main"] = setting("aux1", "whose pictures; the papers' is aux1")
    length: int = setting(16, "frames in each clip, of 30", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """The examples of the training, then those of the test, in the order of the files' numbers and in theirs."""
        return tuple(
            recording for group in ("train", "test") for recording in _recordings(Path(self.path) / group, CAMERAS[self.camera])
        )

    def remarks(self) -> tuple[str, ...]:
        """What every set of recordings tells, and what OpenSTL's protocol means."""
        return (*super().remarks(), *([tested_twice(self.protocol)] if self.protocol == "openstl" else []))

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By the folder in which they lie."""
        first = sum(recording.group == "train" for recording in recordings)
        edge, test = first - math.ceil(first / VALIDATES), range(first, len(recordings))
        if self.protocol == "openstl":
            return clips_in({"train": range(first), "validation": test, "test": test}, recordings, self.cut)
        return clips_in({"train": range(edge), "validation": range(edge, first), "test": test}, recordings, self.cut)


def _recordings(folder: Path, camera: str) -> list[Recording]:
    files = sorted(folder.glob("*.tfrecords"), key=lambda file: natural(file.name))
    if not files:
        raise DataError(f"{folder} has no traj_0_to_255.tfrecords or another one; give the folder that has train and test in it")
    offsets = {file: records(file) for file in files}
    # All are alike, which reading each compares.
    pictures = _pictures(files[0], stamp(files[0]), offsets[files[0]][0], camera)
    shape = frame_shape(3, pictures.shape[1], pictures.shape[2], 1, files[0])
    return [
        Recording(
            name=f"{folder.name}/{file.stem}/{index:03d}",
            shape=shape,
            dtype=np.dtype(np.uint8),
            frames=len(pictures),
            read=functools.partial(_read, file, offset, camera, pictures.shape),
            files=(file,),
            group=folder.name,
            channels=("red", "green", "blue"),
        )
        for file, at in offsets.items()
        for index, offset in enumerate(at)
    ]


@functools.lru_cache(maxsize=2)
def _pictures(file: Path, stamp: tuple[int, ...], offset: int, camera: str) -> np.ndarray:  # noqa: ARG001 -- of a changed file anew
    """All frames of an example: uint8 [time, height, width, channel]."""
    found = byte_features(read_record(file, offset), file)
    names = [f"{number}/{camera}/encoded" for number in range(len(found))]
    frames = [found[name] for name in itertools.takewhile(found.__contains__, names)]
    side = math.isqrt(len(frames[0]) // 3) if frames else 0
    if not side or any(len(frame) != side * side * 3 for frame in frames):
        raise DataError(f"{file} has no square pictures of {camera} in bytes of red, green and blue; download it again")
    return np.frombuffer(b"".join(frames), np.uint8).reshape(-1, side, side, 3)


def _read(file: Path, offset: int, camera: str, shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    pictures = _pictures(file, stamp(file), offset, camera)
    if pictures.shape != shape:
        raise DataError(f"{file} has an example of {list(pictures.shape)}, but the first is {list(shape)}; download it again")
    return pictures[start:stop].transpose(0, 3, 1, 2)
