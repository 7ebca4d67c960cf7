"""Clips cut from recordings: what every data set of files has in common, from the reading of headers to the clip store.

A data set says which recordings there are (`RecordedClips.recordings`) and, where the literature has splits of its own, which
windows of them belong to which split (`RecordedClips.windows`). Cropping, resizing, choosing channels, scaling, missing values
and writing are here. Memory is that of a clip, whatever the size of the files.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from zoocast.config import canonical, check_ranges, digest, setting
from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import SPLITS, Progress, Split, reported
from zoocast.data.windows import Cut, by_group, by_recording, by_time, spread
from zoocast.errors import ConfigError, DataError, within
from zoocast.frames import FrameShape
from zoocast.store.files import sha256_file
from zoocast.store.typed import typed_path
from zoocast.words import some

if TYPE_CHECKING:
    from zoocast.data.store import Channel, ClipStore, Dtype

__all__ = ["RecordedClips"]

SPLITTING = ("split", "gap", "validation_groups", "test_groups")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedClips:
    """Abstract: clips of recordings. A data set overrides `recordings`, and `windows` where it has splits of its own."""

    kind: ClassVar[str]

    path: str = setting("", "file or folder that holds the recordings", identity=False)
    length: int = setting(20, "frames in each clip, some to see and at least one to predict", at_least=2)
    stride: int = setting(0, "frames from the start of a clip to that of the next one; 0: clips follow one another", at_least=0)
    step: int = setting(1, "every how many frames one is taken", at_least=1)
    crop: tuple[int, ...] = setting((), "top, left, height and width of what is kept of a frame, pixels; none: all", at_least=0)
    height: int = setting(0, "of the resized frame, pixels; 0: as it is", at_least=0)
    width: int = setting(0, "of the resized frame, pixels; 0: as it is", at_least=0)
    channels: tuple[int, ...] = setting((), "which channels, counted from 0; none: all", at_least=0)
    scaling: Literal["none", "divisor", "min-max", "z-score"] = setting(
        "none",
        "what becomes 0 to 1: bytes and floats that are so already; values over divisor; of each channel the lowest and the"
        " highest value of the training clips, or their mean less and plus `deviations` standard deviations",
    )
    divisor: float = setting(1.0, "of scaling=divisor", above=0)
    deviations: float = setting(
        5.0, "of scaling=z-score: how many are 0 and 1, while 0.5 is the mean; what is further off is cut", above=0, added=True
    )
    missing: Literal["refuse", "drop", "fill"] = setting(
        "refuse", "where nothing was measured: an error, the clip is left out, or the value is fill_value"
    )
    fill_value: float = setting(0.0, "for missing=fill, in the units of the files")
    split: Literal["sequence", "time", "column"] = setting(
        "sequence", "what separates splits: whole recordings, time within each with a gap between, or the groups that are named"
    )
    gap: int = setting(0, "frames left out between the splits of split=time; 0: as many as a clip spans", at_least=0)
    validation_groups: tuple[str, ...] = setting((), "groups that validate, for split=column")
    test_groups: tuple[str, ...] = setting((), "groups that test, for split=column")
    train: int = setting(0, "clips in the training split, spread evenly over all; 0: all", at_least=0)
    validation: int = setting(0, "clips in the validation split, spread evenly over all; 0: all", at_least=0)
    test: int = setting(0, "clips in the test split, spread evenly over all; 0: all", at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.path:  # workers run in other folders than the command
            with within("path"):
                object.__setattr__(self, "path", str(typed_path(self.path).absolute()))
        if type(self).windows is not RecordedClips.windows:
            for field in dataclasses.fields(self):
                if field.name in SPLITTING and getattr(self, field.name) != field.default:
                    raise ConfigError(
                        field.name, f"is for recordings that have no splits of their own, but {self.kind} has: leave it"
                    )
        if self.crop and (len(self.crop) != 4 or not self.crop[2] or not self.crop[3]):
            raise ConfigError("crop", f"must be top, left, height and width, as in 0,0,64,64, but got {self.crop}")
        if bool(self.height) != bool(self.width):
            raise ConfigError("width" if self.height else "height", "must be given together with the other of height and width")

    # ------------------------------------------------------------------------------------------- what a data set says

    def recordings(self) -> tuple[Recording, ...]:
        """All recordings, in an order that does not depend on the machine; reads headers alone.

        Raises:
            ConfigError, DataError: files that are missing, damaged or of another form.
        """
        raise NotImplementedError

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """The clips of each split, in the order in which they are kept; by `split` unless a data set has splits of its own."""
        if self.split == "time":
            return by_time(recordings, self.cut, self.gap)
        if self.split == "column":
            return by_group(recordings, self.cut, validation=self.validation_groups, test=self.test_groups)
        return by_recording(recordings, self.cut)

    # ------------------------------------------------------------------------------------------- what all have in common

    @property
    def cut(self) -> Cut:
        """How clips lie in a recording."""
        return Cut(length=self.length, step=self.step, stride=self.stride)

    def counts(self) -> dict[Split, int]:
        """Clips per split; with missing=drop at most these."""
        return {split: len(windows) for split, windows in self._planned().windows.items()}

    def frame_shape(self) -> FrameShape:
        """Of a frame as it is kept."""
        shape = self._planned().recordings[0].shape
        height, width = self.crop[2:] or (shape.height, shape.width)
        return FrameShape(channels=len(self.channels) or shape.channels, height=self.height or height, width=self.width or width)

    def check(self) -> None:
        """Read the headers, compare them with the settings, and look at the first clip of each split.

        Raises:
            ConfigError: settings that the files cannot serve.
            DataError: files that are missing, damaged or of another form, or values that are missing or of another scale.
        """
        plan = self._planned()
        scale = None if self._is_fitted else self._fixed_scale(plan.recordings[0])
        for windows in plan.windows.values():
            clip = self._clip(plan.recordings, windows[0])
            if clip is not None and scale is not None:
                scale.apply(clip, plan.recordings[windows[0].recording])

    def source_digest(self) -> str:
        """SHA-256 over the content of all files that are read, in the order of the recordings."""
        files = dict.fromkeys(file for recording in self._planned().recordings for file in recording.files)
        return digest([_file_digest(file, *_stamp(file)) for file in files])

    def estimated_bytes(self) -> int:
        """What `build` will write at most."""
        shape, plan = self.frame_shape(), self._planned()
        size = shape.channels * shape.height * shape.width * (1 if self._dtype(plan.recordings) == "uint8" else 4)
        return sum(len(windows) for windows in plan.windows.values()) * self.length * size

    def remarks(self) -> tuple[str, ...]:
        """What was found, and how it is cut."""
        plan = self._planned()
        first = plan.recordings[0]
        clips = ", ".join(f"{len(windows):,} {split}" for split, windows in plan.windows.items())
        frames = sum(recording.frames for recording in plan.recordings)
        return (
            f"{len(plan.recordings):,} recordings, {frames:,} frames of {first.shape} {first.dtype}, from"
            f" {first.name} to {plan.recordings[-1].name}",
            f"clips of {self.length} frames as {self.frame_shape()}: {clips}",
        )

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """Write the clips into `directory`: uint8 where the files hold bytes that are not scaled, else float32 of 0 to 1.

        Raises:
            ConfigError, DataError: as `check`, and for any clip that is written.
        """
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

        plan = self._planned()
        scale = self._fitted(plan, progress) if self._is_fitted else self._fixed_scale(plan.recordings[0])
        counts = self.counts()

        kept: dict[Split, list[int]] = {split: [] for split in SPLITS}

        def clips(split: Split) -> Iterator[np.ndarray]:
            for window in plan.windows[split]:
                clip = self._clip(plan.recordings, window)
                if clip is not None:
                    kept[split].append(window.recording)
                    yield scale.apply(clip, plan.recordings[window.recording])

        return write_store(
            directory,
            {split: reported(clips(split), split, counts, progress) for split in SPLITS},
            shape=self.frame_shape(),
            length=self.length,
            dtype=self._dtype(plan.recordings),
            generator={"name": self.kind, "parameters": canonical(self), "source": self.source_digest()},
            # A list's iterator sees what is added while it runs: each clip's number before it is asked for.
            sequences=kept,
            channels=scale.of_channels(plan.recordings[0], self.channels),
        )

    # ------------------------------------------------------------------------------------------- inside

    def _planned(self) -> _Plan:
        if not self.path:
            raise ConfigError("path", f"names no file or folder; give where {self.kind} lies")
        if not Path(self.path).exists():
            raise DataError(f"{self.path} does not exist; give the path of a file or folder")
        # A command plans more than once; files that were changed or added meanwhile are noticed.
        plan = _plan(self)
        if plan.stamps != _stamps(self.path, plan.recordings):
            _plan.cache_clear()
            plan = _plan(self)
        return plan

    def plan_anew(self) -> _Plan:
        """Recordings and windows, read from the files and compared with the settings."""
        recordings = self.recordings()
        if not recordings:
            raise DataError(f"{self.path} holds no recording; give another path")
        self._check_alike(recordings)
        found = self.windows(recordings)
        windows: dict[Split, tuple[Window, ...]] = {}
        for split in SPLITS:
            there, asked = found.get(split, ()), getattr(self, split)
            if len(there) < max(asked, 1):
                wanted = f"asks for {asked} clips" if asked else "needs at least 1 clip"
                longest = max((len(run) for r in recordings for run in r.runs or (range(r.frames),)), default=0)
                raise ConfigError(
                    split,
                    f"{wanted}, but there are {len(there)} of {self.length} frames, every {self.step}. of them, in"
                    f" {len(recordings)} recordings of at most {longest} frames without a gap; use fewer clips, shorter ones, a"
                    " smaller stride or another split",
                )
            windows[split] = tuple(spread(there, asked))
        return _Plan(recordings, windows, _stamps(self.path, recordings))

    def _check_alike(self, recordings: Sequence[Recording]) -> None:
        first = recordings[0]
        for other in recordings:
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"{other.name} holds frames of {other.shape} {other.dtype}, but {first.name} of {first.shape} {first.dtype};"
                    " a data set has one form: import them apart"
                )
        shape = first.shape
        if beyond := [channel for channel in self.channels if channel >= shape.channels]:
            raise ConfigError("channels", f"must be below {shape.channels}, but got {', '.join(map(str, beyond))}")
        if self.crop:
            top, left, height, width = self.crop
            if top + height > shape.height or left + width > shape.width:
                raise ConfigError("crop", f"must lie within {shape.height}x{shape.width} pixels, but got {self.crop}")

    def _dtype(self, recordings: Sequence[Recording]) -> Dtype:
        return "uint8" if self.scaling == "none" and recordings[0].dtype == np.uint8 else "float32"

    def _fixed_scale(self, recording: Recording) -> _Scale:
        if self.scaling == "divisor":
            return _Scale((0.0,), (self.divisor,))
        if recording.dtype != np.uint8 and recording.dtype.kind != "f":
            raise ConfigError(
                "scaling", f"is none, but {recording.name} holds {recording.dtype}; use min-max, or divisor with its divisor"
            )
        return _Scale((0.0,), (1.0,), keep=True)

    @property
    def _is_fitted(self) -> bool:
        return self.scaling in ("min-max", "z-score")

    def _fitted(self, plan: _Plan, progress: Progress) -> _Scale:
        """From the range, or the mean and deviation, of each channel over the training clips, in one pass."""
        found: _Moments | None = None
        windows = plan.windows["train"]
        for done, window in enumerate(windows):
            clip = self._clip(plan.recordings, window)
            if clip is None:
                continue
            for frame in clip:
                found = _Moments.of(frame) if found is None else found.joined(_Moments.of(frame))
            if done % 64 == 0:
                progress(0.0, f"range of the training clips: {done:,} of {len(windows):,}")
        if found is None:
            raise DataError("every training clip has missing values; set missing=fill")
        if (found.high <= found.low).any():
            constant = some([str(channel) for channel in np.flatnonzero(found.high <= found.low)])
            raise DataError(
                f"channel {constant} is constant over the training clips, so it has no range; leave it out by channels"
            )
        low, span = found.low, found.high - found.low
        if self.scaling == "z-score":
            reach = self.deviations * np.sqrt(found.squares / found.count)
            low, span = found.mean - reach, 2 * reach
        return _Scale(tuple(low.tolist()), tuple(span.tolist()), clipped=True)

    def _clip(self, recordings: Sequence[Recording], window: Window) -> np.ndarray | None:
        """A clip, cropped and resized, in the units of the file; None for one that is dropped."""
        recording = recordings[window.recording]
        frames = recording.read(window.start, window.frames[-1] + 1)[:: window.step]
        if self.channels:
            frames = frames[:, list(self.channels)]
        if self.crop:
            top, left, height, width = self.crop
            frames = frames[..., top : top + height, left : left + width]
        gone = _missing(frames, recording)
        if gone is not None:
            if self.missing == "drop":
                return None
            if self.missing == "refuse":
                at = window.frames[int(np.flatnonzero(gone.any((1, 2, 3)))[0])]
                raise DataError(
                    f"{recording.name} has {np.count_nonzero(gone):,} missing values in frames {window.start} to"
                    f" {window.frames[-1]}, the first in frame {at} (counted from 0); set missing=drop or missing=fill"
                )
            frames = np.where(gone, np.asarray(self.fill_value, frames.dtype), frames)
        size = (self.height, self.width)
        return frames if not self.height or size == frames.shape[-2:] else _resized(frames, *size)


@dataclasses.dataclass(frozen=True)
class _Plan:
    recordings: tuple[Recording, ...]
    windows: Mapping[Split, tuple[Window, ...]]
    stamps: Mapping[Path, tuple[int, int, int]]


@dataclasses.dataclass(frozen=True)
class _Moments:
    """Of each channel, float64: the range, the mean, and the sum of squared distances from it."""

    count: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, frame: np.ndarray) -> _Moments:
        """Of a frame, (C, H, W)."""
        values = frame.astype(np.float64)
        over, mean = (1, 2), values.mean((1, 2))
        squares = np.square(values - mean[:, None, None]).sum(over)
        return cls(values.size // len(mean), values.min(over), values.max(over), mean, squares)

    def joined(self, other: _Moments) -> _Moments:
        """Of both, without the loss of digits that sums of squares have (Chan, Golub and LeVeque, 1983)."""
        count, apart = self.count + other.count, other.mean - self.mean
        return _Moments(
            count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + apart * (other.count / count),
            self.squares + other.squares + np.square(apart) * (self.count * other.count / count),
        )


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Which values become 0 and 1: `low` and `low + span`, of each channel or of all."""

    low: tuple[float, ...]
    span: tuple[float, ...]
    keep: bool = False
    clipped: bool = False

    def apply(self, clip: np.ndarray, recording: Recording) -> np.ndarray:
        """Bytes as they are, or float32 of 0 to 1. Raises `DataError` for values outside."""
        if self.keep and clip.dtype == np.uint8:
            return clip
        low, span = (np.array(values)[:, None, None] for values in (self.low, self.span))
        scaled = (clip if self.keep else (clip - low) / span).astype(np.float32)
        if self.clipped:  # what lies beyond what was fitted to the training clips
            return scaled.clip(0.0, 1.0)
        if scaled.min() < 0 or scaled.max() > 1:
            raise DataError(
                f"{recording.name} has values from {clip.min():g} to {clip.max():g}, which are not within 0 to"
                f" {self.span[0]:g}; set scaling=min-max, or scaling=divisor with a larger divisor"
            )
        return scaled

    def of_channels(self, recording: Recording, chosen: Sequence[int]) -> tuple[Channel, ...]:
        """What a store says of its channels."""
        from zoocast.data.store import Channel

        numbers = list(chosen) or list(range(recording.shape.channels))
        # A store's clips are 0 to 1; of bytes that are kept as they are, 1 is 255.
        whole = 255.0 if self.keep and recording.dtype == np.uint8 else 1.0
        lows, spans = (values * len(numbers) if len(values) == 1 else values for values in (self.low, self.span))
        return tuple(
            Channel(
                name=recording.channels[number] if recording.channels else str(number),
                unit=recording.unit,
                offset=recording.offset + recording.factor * low,
                factor=recording.factor * span * whole,
            )
            for number, low, span in zip(numbers, lows, spans, strict=True)
        )


def _missing(frames: np.ndarray, recording: Recording) -> np.ndarray | None:
    """Where nothing was measured; None if it was everywhere."""
    gone = np.zeros(frames.shape, bool)
    if frames.dtype.kind == "f":
        gone |= ~np.isfinite(frames)
    if recording.missing is not None:
        gone |= frames == recording.missing
    return gone if gone.any() else None


def _resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, C, H, W) to (T, C, height, width): means of whole blocks where these fit, else bilinear with antialiasing."""
    old_height, old_width = frames.shape[-2:]
    if not old_height % height and not old_width % width:
        blocks = frames.reshape(*frames.shape[:2], height, old_height // height, width, old_width // width)
        out = blocks.mean((3, 5), dtype=np.float64)
    else:
        from PIL import Image

        planes = frames.reshape(-1, old_height, old_width).astype(np.float32)
        resized = [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR)) for p in planes]
        out = np.stack(resized).reshape(*frames.shape[:2], height, width).astype(np.float64)
    return np.rint(out).astype(frames.dtype) if frames.dtype.kind in "ui" else out.astype(frames.dtype)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _stamps(path: str, recordings: Sequence[Recording]) -> dict[Path, tuple[int, int, int]]:
    """Of the files and the folders that they lie in."""
    files = {file for recording in recordings for file in recording.files}
    return {file: _stamp(file) for file in {Path(path), *files, *(file.parent for file in files)}}


@functools.lru_cache(maxsize=32)
def _plan(config: RecordedClips) -> _Plan:
    return config.plan_anew()


@functools.lru_cache(maxsize=65536)
def _file_digest(path: Path, *_: int) -> str:
    return sha256_file(path)
