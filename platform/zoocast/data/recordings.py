"""What clips are cut from: recordings, each an uninterrupted or interrupted film of frames that is read piece by piece.

Every reader of a format and every named data set gives its files as recordings; `zoocast.data.recorded` makes clips of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoocast.frames import FrameShape

__all__ = ["ReadFrames", "Recording", "Window"]

ReadFrames = Callable[[int, int], np.ndarray]
"""(start, stop) to the frames from `start` up to but without `stop`: (T, C, H, W) in the recording's dtype."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """Frames in the order of time, as they are on disk. Making one reads headers alone.

    Attributes:
        name: what people call it, different from every other one of its set: a folder, a video, an event.
        shape: of each frame as it is on disk.
        dtype: of the values as they are on disk: uint8, uint16, another integer, or a float. Nothing measured: NaN, or `missing`.
        frames: how many there are.
        read: gives a piece of them, opening files as needed; memory is that of the piece.
        files: what it is read from, for the digest of the content.
        runs: which frames follow one another without a gap; a clip lies within one run. Empty: all do.
        times: when each frame was taken, datetime64[s], where that is known; empty otherwise.
        group: who or what it is of (a person, a year, a station), for splits by column; empty where that is not known.
        missing: the value that says that nothing was measured (255 in SEVIR), besides NaN.
        channels: names of the channels, where they are known.
        unit: of the quantity that the values stand for, where it is known: "mm/h", "dBZ", "K".
        factor, offset: the quantity in `unit` is offset + factor * value, for what is kept as integers of a scale of its own.
    """

    name: str
    shape: FrameShape
    dtype: np.dtype
    frames: int
    read: ReadFrames
    files: tuple[Path, ...]
    runs: tuple[range, ...] = ()
    times: tuple[np.datetime64, ...] = ()
    group: str = ""
    missing: float | None = None
    channels: tuple[str, ...] = ()
    unit: str = ""
    factor: float = 1.0
    offset: float = 0.0


@dataclasses.dataclass(frozen=True, order=True)
class Window:
    """A clip before it is cut: `length` frames of a recording from `start` on, every `step`-th."""

    recording: int
    start: int
    length: int
    step: int = 1

    @property
    def frames(self) -> range:
        """The numbers of its frames."""
        return range(self.start, self.start + self.length * self.step, self.step)
