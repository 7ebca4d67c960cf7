"""Videos, by PyAV (FFmpeg): counted by their packets, decoded piece by piece from the nearest frame that needs no other.

Frames are numbered in the order in which they are shown. A file is read by the demuxer of the form that its first bytes say, and
never by one of the lists of other files (HLS, concat) that FFmpeg would follow.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.base import Opened, stamp
from zoocast.data.formats.extra import require
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recordings import Recording
from zoocast.errors import DataError
from zoocast.frames import FrameShape

__all__ = ["SIGNATURES", "demuxer", "open_video"]

SIGNATURES = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x00\x00\x01\xba": "mpeg",
    b"OggS": "ogg",
    b"FLV\x01": "flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"GIF8": "gif",
}
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # the first box of an mp4 or mov
KEPT_BYTES = 2**26  # of decoded frames, for windows that overlap
MOST_FRAMES = 100_000_000
DAMAGED = "it is damaged: set verify, which leaves out what is damaged, or download it again"


def demuxer(start: bytes) -> str | None:
    """What FFmpeg calls the form of a video that begins with these 16 bytes; None if it is none that is known."""
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    if start[4:8] in BOXES:
        return "mov"
    return next((form for signature, form in SIGNATURES.items() if start.startswith(signature)), None)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Video:
    """What the packets of a video say.

    Attributes:
        form: of the file, as `demuxer` names it.
        count: frames, one in each packet.
        keys: numbers of the frames at which decoding can begin, with the time of their packets, None for the beginning.
        pixels: FFmpeg's name for what frames are converted to.
        dtype: of their values.
    """

    path: Path
    stamp: tuple[int, ...]
    form: str
    shape: FrameShape
    count: int
    keys: tuple[tuple[int, int | None], ...]
    pixels: str
    dtype: str


def open_video(path: Path, form: str, *, name: str, group: str = "", gray: bool = False, verify: bool = False) -> Opened:
    """The recording in a video, its frames counted and none decoded.

    Args:
        path: of the file.
        form: as `demuxer` names it.
        name: of the recording.
        group: of the recording.
        gray: one channel, the luma over the full range of 0 to 255, instead of red, green and blue.
        verify: decode all once, and leave out what is damaged instead of raising `DataError` when it is read.

    Raises:
        ConfigError: PyAV is not installed.
        DataError: it has no frames, absurd ones, or cannot be read at all.
    """
    video, remarks = _scanned(path, stamp(path), form, gray)
    good = _verified(video) if verify else (range(video.count),)
    if not good:
        raise DataError(f"{path} has no frame that can be decoded; download it again")
    if sum(map(len, good)) < video.count:
        lost = video.count - sum(map(len, good))
        remarks = (*remarks, f"warning: {path.name}: {lost} of {video.count} frames are damaged and left out")
    recording = Recording(
        name=name,
        shape=video.shape,
        dtype=np.dtype(video.dtype),
        frames=video.count,
        read=functools.partial(_read, video),
        files=(path,),
        runs=() if good == (range(video.count),) else good,
        group=group,
    )
    return Opened((recording,), remarks)


@functools.lru_cache(maxsize=4096)
def _scanned(path: Path, stamp: tuple[int, ...], form: str, gray: bool) -> tuple[Video, tuple[str, ...]]:
    """The video by its packets, and what is worth a word."""
    packets: list[tuple[int | None, bool]] = []  # when it is shown, and whether it needs no other
    broken, av = False, require("av", extra="video", what=path)
    with reading(path, "a video"), _container(path, form) as container:
        if not container.streams.video:
            raise DataError(f"{path} has no pictures; expected a video")
        stream = container.streams.video[0]
        context = stream.codec_context
        pixels, channels, dtype = _pixels(context.pix_fmt or "", gray)
        shape = frame_shape(channels, context.height, context.width, np.dtype(dtype).itemsize, path)
        promised, tick, native, codec = stream.frames, stream.time_base, context.pix_fmt or "", context.name
        try:
            for packet in container.demux(stream):
                if packet.size and len(packets) < MOST_FRAMES:
                    if packet.is_corrupt:
                        broken = True
                        break
                    packets.append((packet.pts, packet.is_keyframe))
        except av.error.FFmpegError:  # what came before is whole
            broken = True
    if not packets:
        raise DataError(f"{path} has no frames; it is damaged: download it again")
    remarks = [f"{path.name}: {len(packets)} frames of {shape} ({codec}{', decoded to grey' if gray else ''})"]
    if broken or len(packets) < promised:
        of = f" of {promised}" if promised else ""
        remarks.append(f"warning: {path.name} is cut short or damaged: its first {len(packets)}{of} frames are read")
    shown = sorted(pts for pts, _ in packets if pts is not None)
    steps = {after - before for before, after in itertools.pairwise(shown)}
    # Clocks of milliseconds round 33.3 to 33 and 34.
    if steps and max(steps) - min(steps) > 1:
        least, most = (float(step * tick) * 1000 for step in (min(steps), max(steps)))
        remarks.append(f"warning: {path.name}: frames follow one another after {least:.0f} to {most:.0f} ms, not evenly")
    if dtype == "u1" and re.search(r"p1[0-6]", native):
        remarks.append(f"{path.name}: {native} becomes 8 bits")
    video = Video(
        path=path, stamp=stamp, form=form, shape=shape, count=len(packets), keys=_keys(packets), pixels=pixels, dtype=dtype
    )
    return video, tuple(remarks)


def _pixels(native: str, gray: bool) -> tuple[str, int, str]:
    """FFmpeg's name for what frames become, the channels of that, and their type."""
    if native.startswith("gray16"):
        return "gray16le", 1, "u2"
    return ("gray", 1, "u1") if gray or native.startswith("gray") else ("rgb24", 3, "u1")


def _keys(packets: list[tuple[int | None, bool]]) -> tuple[tuple[int, int | None], ...]:
    """The frames before which none is shown that is decoded after them (in open groups of pictures there are some)."""
    ordered = sorted(pts for pts, _ in packets if pts is not None)
    keys: list[tuple[int, int | None]] = [(0, None)]
    for number, (pts, key) in enumerate(packets):
        if key and number and pts is not None and bisect.bisect_left(ordered, pts) == number:
            keys.append((number, pts))
    return tuple(keys)


def _container(path: Path, form: str) -> Any:
    av = require("av", extra="video", what=path)
    return av.open(f"file:{path}", format=form)


class _Decoder:
    """A place in a video, and the last frames before it: windows are read forwards, and overlap."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self.frames: Iterator[Any] = iter(())
        self.position = video.count
        size = math.prod(dataclasses.astuple(video.shape)) * np.dtype(video.dtype).itemsize
        self.kept: collections.deque[tuple[int, np.ndarray]] = collections.deque(maxlen=max(1, KEPT_BYTES // size))

    def read(self, start: int, stop: int) -> np.ndarray:
        """[time, channel, height, width]."""
        found = {number: frame for number, frame in self.kept if start <= number < stop}
        first = next((number for number in range(start, stop) if number not in found), stop)
        if first < stop:
            self._go(first)
        while self.position < stop:
            number, frame = self.position, next(self.frames, None)
            if frame is None:
                raise DataError(f"{self.video.path}: frame {number + 1} of {self.video.count} cannot be decoded; {DAMAGED}")
            self.position += 1
            if number >= first:
                found[number] = self._array(frame)
                self.kept.append((number, found[number]))
        return np.stack([found[number] for number in range(start, stop)])

    def _go(self, number: int) -> None:
        """Decode from the last frame up to `number` that needs no other, unless the place is nearer."""
        key, pts = self.video.keys[bisect.bisect_right(self.video.keys, number, key=lambda key: key[0]) - 1]
        if not key <= self.position <= number:
            self.kept.clear()
            self.frames, self.position = _decoded(self.video, key, pts), key

    def _array(self, frame: Any) -> np.ndarray:
        shape = self.video.shape
        if (frame.height, frame.width) != (shape.height, shape.width):
            raise DataError(f"{self.video.path} changes its size from {shape} to {frame.height}x{frame.width}; cut it in two")
        pixels: np.ndarray = frame.to_ndarray(format=self.video.pixels)
        return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def _decoded(video: Video, key: int, pts: int | None) -> Iterator[Any]:
    """Frames from number `key` on, each whole, until the end or the first that is damaged."""
    av = require("av", extra="video", what=video.path)
    with _container(video.path, video.form) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if pts is not None:
            container.seek(pts, stream=stream)
        for packet in container.demux(stream):
            if pts is not None and packet.pts != pts:
                break  # not where it was said to be: count from the beginning
            pts = None
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                return
            for frame in frames:
                if frame.is_corrupt:
                    return
                yield frame
        else:
            return
    yield from itertools.islice(_decoded(video, 0, None), key, None)


def _verified(video: Video) -> tuple[range, ...]:
    """Runs of frames that can be decoded, each from a key to where the next begins or the first damage is."""
    av = require("av", extra="video", what=video.path)
    good: list[range] = []
    ends = [*(key for key, _ in video.keys[1:]), video.count]
    for (key, pts), end in zip(video.keys, ends, strict=True):
        whole = key
        with contextlib.suppress(av.error.FFmpegError):
            for _ in itertools.islice(_decoded(video, key, pts), end - key):
                whole += 1
        if good and good[-1].stop == key and whole > key:
            good[-1] = range(good[-1].start, whole)
        elif whole > key:
            good.append(range(key, whole))
    return tuple(good)


@functools.lru_cache(maxsize=4)
def _decoder(video: Video) -> _Decoder:
    return _Decoder(video)


def _read(video: Video, start: int, stop: int) -> np.ndarray:
    try:
        with reading(video.path, f"a video at frames {start + 1} to {stop}"):
            return _decoder(video).read(start, stop)
    except DataError:
        _decoder.cache_clear()
        raise
