"""What the clips of a store are like, and what is wrong with them, before anything is trained on them: `pipelines data doctor`.

One pass in the order of the files. What is kept of it does not grow with the data: sums over frames, and eight bytes for each
frame, from some millions on for a sample of them that is drawn by content, so that the same frame is in it wherever it stands.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from zoocast.data.splits import SPLITS, Progress, Split
from zoocast.data.store import ClipStore
from zoocast.errors import DataError
from zoocast.words import Finding

__all__ = ["ChannelFacts", "Diagnosis", "Shared", "SplitFacts", "examine"]

BATCH_VALUES = 2**21  # of clips at once: 8 MiB of float32, which stays near the caches
MOST_HASHES = 2**22  # frames of all splits together of which content is remembered
PROBE_CLIPS, PROBE_FRAMES = 32, 4  # of each split but training, evenly spread: what near duplicates are looked for
THUMBNAIL = 8  # pixels, height and width
# A copy that noise or compression changed differs from its original by at most this, of [0, 1] and as a root mean square, and by
# less than a frame does from its neighbour in the clip.
NEAR, NEAR_STEPS = 0.02, 0.5
MANY = 0.9  # share of near copies from which on they are an error; where content is simple, some of it recurs by chance
BEYOND = 0.05  # of the range of training: how far beyond it other splits may lie
NARROW = 0.1  # of [0, 1]: training clips within so little of it use a tenth of what a network's output can say
APART = "split by recording, or by time with a gap of a clip's length"
SCALE = "scale by the data's own largest value"
SATURATED = 0.25  # share of values at the upper end of the range from which on clips look clipped


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelFacts:
    """Values of one channel over all frames of a split, in [0, 1] as a network sees them; `brightest` is the share at 1."""

    name: str
    minimum: float
    maximum: float
    mean: float
    deviation: float
    brightest: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """One split. Numbers of frames, but for the first; errors are MSE per value of [0, 1] on frames from `observed` on.

    Attributes:
        constant: all of whose values are the same, such as black ones: nothing is there.
        still: not constant, and exactly as the frame before in their clip.
        repeated: not constant, and as another frame of the split; where clips overlap, most are. Of the `remembered`.
        same_clips: clips, not all constant, that stand in the split once more, frame by frame.
        copy_last: error of repeating the last observed frame.
        mean_frame: error of the mean frame of training.
    """

    clips: int
    frames: int
    channels: tuple[ChannelFacts, ...]
    constant: int
    still: int
    repeated: int
    remembered: int
    same_clips: int
    copy_last: float
    mean_frame: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
    """What of the split `second` stands in `first` as well; constant frames do not count.

    Attributes:
        frames: that are exactly the same, of the `of_frames` that are remembered.
        clips: with at least one such frame, of the `of_clips` with a frame that is remembered.
        near: frames as good as the same (noise, compression), of the `of_near` that were looked for; only against training.
    """

    first: Split
    second: Split
    frames: int
    of_frames: int
    clips: int
    of_clips: int
    near: int = 0
    of_near: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything about a store. `observed` is how many frames of a clip are taken as seen: half of them."""

    path: str
    shape: str
    length: int
    dtype: str
    observed: int
    splits: Mapping[Split, SplitFacts]
    shared: tuple[Shared, ...]
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return dataclasses.asdict(self)


def examine(store: ClipStore, progress: Progress | None = None) -> Diagnosis:
    """Read every clip of `store` once.

    Memory is that of a few batches and at most one file of the store, whatever the size of the data.

    Raises:
        DataError: clips of one frame, of which nothing can be predicted.
        IntegrityError: a file of the store is damaged.
    """
    if store.length < 2:
        raise DataError(f"{store.path} holds clips of {store.length} frame, of which nothing can be predicted; cut longer ones")
    observed = store.length // 2
    probes: dict[Split, _Probes] = {split: _Probes(store, split) for split in SPLITS if split != "train"}
    hashes = _Hashes()
    sums: dict[Split, _Sums] = {}
    total, done = sum(store.manifest.sizes.values()), 0
    for split in SPLITS:
        sums[split] = _Sums(store, observed)
        for first, raw in _batches(store, split):
            clips = raw.to(torch.float32).div_(255) if raw.dtype is torch.uint8 else raw
            constant = sums[split].add(clips)
            hashes.add(split, first, raw, constant)
            if split == "train":
                for probe in probes.values():
                    probe.compare(first, clips)
            done += len(raw)
            if progress:
                progress(done / total, f"{split}: {first + len(raw):,} of {store.manifest.sizes[split]:,} clips")
    diagnosis = Diagnosis(
        path=str(store.path),
        shape=str(store.shape),
        length=store.length,
        dtype=store.recipe.dtype,
        observed=observed,
        splits={split: sums[split].facts(hashes, split, sums["train"].later_mean) for split in SPLITS},
        shared=tuple(_shared(hashes, probes, *pair) for pair in itertools.combinations(SPLITS, 2)),
    )
    return dataclasses.replace(diagnosis, findings=tuple(_findings(diagnosis)))


def _batches(store: ClipStore, name: Split) -> Iterator[tuple[int, Tensor]]:
    """The clips of a split as they are at rest, with the number of the first of each batch."""
    per_file = store.manifest.layout.shard_rows
    size = max(1, BATCH_VALUES // (store.length * store.shape.channels * store.shape.height * store.shape.width))
    for start in range(0, store.manifest.sizes[name], per_file):
        split = store.split(name)  # anew for each file: what the one before has mapped is let go
        stop = min(start + per_file, len(split))
        for first in range(start, stop, size):
            yield first, split.gather(range(first, min(first + size, stop)))


class _Sums:
    """What is added up over the clips of a split: per pixel for mean frames, per channel for the table."""

    def __init__(self, store: ClipStore, observed: int) -> None:
        channels, self.pixels = store.shape.channels, store.shape.height * store.shape.width
        self.names = [channel.name for channel in store.recipe.channels] or [str(number) for number in range(channels)]
        self.observed = observed
        self.clips = self.frames = self.later_frames = self.constant = 0
        # Per value of a frame: over all frames, and over those to be predicted.
        self.values, self.squares = torch.zeros(2, 2, channels * self.pixels, dtype=torch.float64)
        self.minimum, self.maximum = torch.full((2, channels), float("nan"))
        self.brightest = torch.zeros(channels, dtype=torch.int64)
        self.copy_error = 0.0

    def add(self, clips: Tensor) -> np.ndarray:
        """Add (B, T, C, H, W). Gives which frames are constant, (B, T)."""
        later = clips[:, self.observed :]
        self.clips += len(clips)
        self.frames += clips.shape[0] * clips.shape[1]
        self.later_frames += later.shape[0] * later.shape[1]
        # As products of matrices, which take a fraction of the time of sums over the first axis.
        frames = clips.flatten(2).flatten(0, 1)
        taken = torch.ones(2, *clips.shape[:2])
        taken[1, :, : self.observed] = 0
        self.values += taken.flatten(1) @ frames
        self.squares += taken.flatten(1) @ frames.square()
        low, high = clips.amin((-2, -1)), clips.amax((-2, -1))
        self.minimum = torch.fmin(self.minimum, low.amin((0, 1)))
        self.maximum = torch.fmax(self.maximum, high.amax((0, 1)))
        self.brightest += (clips >= 1).sum((0, 1, 3, 4))
        self.copy_error += float((later - clips[:, self.observed - 1 : self.observed]).square().sum(dtype=torch.float64))
        constant = low.amin(-1) == high.amax(-1)
        self.constant += int(constant.sum())
        return constant.numpy()

    @property
    def later_mean(self) -> Tensor:
        """The mean of the frames that are to be predicted, one number for each value of a frame."""
        return self.values[1] / self.later_frames

    def facts(self, hashes: _Hashes, split: Split, mean_frame: Tensor) -> SplitFacts:
        """All of it in numbers, with `mean_frame` as the prediction."""
        per_channel = self.frames * self.pixels
        mean = self.values[0].view(-1, self.pixels).sum(1) / per_channel
        # Rounding may leave a little less than nothing.
        deviation = (self.squares[0].view(-1, self.pixels).sum(1) / per_channel - mean**2).clamp(min=0).sqrt()
        error = self.squares[1] - 2 * mean_frame * self.values[1] + self.later_frames * mean_frame**2
        values = self.later_frames * len(mean_frame)
        return SplitFacts(
            clips=self.clips,
            frames=self.frames,
            channels=tuple(
                ChannelFacts(name=name, minimum=low, maximum=high, mean=middle, deviation=spread, brightest=at_one / per_channel)
                for name, low, high, middle, spread, at_one in zip(
                    self.names,
                    *(v.tolist() for v in (self.minimum, self.maximum, mean, deviation, self.brightest)),
                    strict=True,
                )
            ),
            constant=self.constant,
            still=hashes.still[split],
            repeated=hashes.repeated(split),
            remembered=len(hashes.frames(split)),
            same_clips=hashes.same_clips(split),
            copy_last=self.copy_error / values,
            mean_frame=float(error.sum()) / values,
        )


class _Hashes:
    """Which frames are exactly the same, by eight bytes of each one's BLAKE2."""

    def __init__(self) -> None:
        self.still: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._frames: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
        self._clip_of: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
        self._clips: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
        self._limit = np.uint64(2**64 - 1)
        self._kept = 0

    def add(self, split: Split, first: int, clips: Tensor, constant: np.ndarray) -> None:
        """Remember the frames of the clips (B, T, C, H, W) from number `first` on, all but the `constant` ones."""
        found = np.array([[_content(frame) for frame in clip] for clip in clips.numpy()], np.uint64)
        self.still[split] += int(((found[:, 1:] == found[:, :-1]) & ~constant[:, 1:]).sum())
        whole = np.array([_content(row) for row in found[~constant.all(1)]], np.uint64)
        kept = ~constant & (found <= self._limit)
        self._frames[split].append(found[kept])
        self._clip_of[split].append((first + np.nonzero(kept)[0]).astype(np.uint32))
        self._clips[split].append(whole[whole <= self._limit])
        self._kept += int(kept.sum())
        while self._kept > MOST_HASHES:
            self._thin()

    def _thin(self) -> None:
        """Forget every second frame, by its content, so that one that stands in two splits is kept or forgotten in both."""
        self._limit //= np.uint64(2)
        self._kept = 0
        for split in SPLITS:
            frames, clips = self.frames(split), self.clip_of(split)
            kept = frames <= self._limit
            self._frames[split], self._clip_of[split] = [frames[kept]], [clips[kept]]
            self._clips[split] = [whole[whole <= self._limit] for whole in self._clips[split]]
            self._kept += int(kept.sum())

    def frames(self, split: Split) -> np.ndarray:
        """Of every frame that is remembered."""
        return _joined(self._frames, split, np.uint64)

    def clip_of(self, split: Split) -> np.ndarray:
        """The clip of each of `frames`."""
        return _joined(self._clip_of, split, np.uint32)

    def repeated(self, split: Split) -> int:
        """Frames beyond the first of each content."""
        return _beyond_first(self.frames(split))

    def same_clips(self, split: Split) -> int:
        """Clips beyond the first of each content."""
        return _beyond_first(_joined(self._clips, split, np.uint64))


def _content(values: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=8).digest(), "little")


def _joined(parts: dict[Split, list[np.ndarray]], split: Split, dtype: type) -> np.ndarray:
    parts[split] = [np.concatenate([np.empty(0, dtype), *parts[split]])]
    return parts[split][0]


def _beyond_first(contents: np.ndarray) -> int:
    return len(contents) - len(np.unique(contents))


class _Probes:
    """Some frames of a split, for each of which the most similar frame of training is sought.

    By thumbnails, which says where to look; whether the two are the same is decided by all of their pixels.
    """

    def __init__(self, store: ClipStore, name: Split) -> None:
        self.store, self.split = store, store.split(name)
        clips = np.linspace(0, len(self.split) - 1, min(len(self.split), PROBE_CLIPS)).astype(int)
        times = np.linspace(0, store.length - 1, min(store.length, PROBE_FRAMES)).astype(int)
        self.places = [(int(clip), int(time)) for clip in clips for time in times]
        thumbnails = [_thumbnails(self.split.clips([clip]))[times] for clip in clips]
        self.thumbnails = torch.cat(thumbnails)
        self.distance = torch.full((len(self.places),), float("inf"))
        self.nearest = torch.zeros(len(self.places), dtype=torch.int64)

    def compare(self, first: int, clips: Tensor) -> None:
        """Look at the training clips (B, T, C, H, W) from number `first` on."""
        distance, frame = torch.cdist(self.thumbnails, _thumbnails(clips)).min(1)
        nearer = distance < self.distance
        self.distance = torch.where(nearer, distance, self.distance)
        self.nearest = torch.where(nearer, frame + first * self.store.length, self.nearest)

    def near(self) -> tuple[int, int]:
        """How many frames are nearly, not exactly, one of training's, and how many could be told from their neighbours at all."""
        train, near, told = self.store.split("train"), 0, 0
        for (clip, time), nearest in zip(self.places, self.nearest.tolist(), strict=True):
            frames = self.split.clips([clip])[0]
            neighbour = time + 1 if time + 1 < len(frames) else time - 1
            step = _difference(frames[time], frames[neighbour])
            if step == 0:
                continue
            told += 1
            number, other = divmod(nearest, self.store.length)
            near += 0 < _difference(frames[time], train.clips([number])[0, other]) <= min(NEAR, NEAR_STEPS * step)
        return near, told


def _thumbnails(clips: Tensor) -> Tensor:
    """(B, T, C, H, W) to (B * T, 64): means over channels and over areas, as `adaptive_avg_pool2d`, in a fifth of its time."""
    rows, columns = (_areas(side) for side in clips.shape[-2:])
    return (rows @ (clips @ columns.T)).mean(2).flatten(2).flatten(0, 1)


def _areas(side: int) -> Tensor:
    """(8, side): which pixels are averaged for each of a thumbnail's."""
    return adaptive_avg_pool1d(torch.eye(side), THUMBNAIL).T.contiguous()


def _difference(frame: Tensor, other: Tensor) -> float:
    return float((frame - other).square().mean().sqrt())


def _shared(hashes: _Hashes, probes: Mapping[Split, _Probes], first: Split, second: Split) -> Shared:
    frames, clips = hashes.frames(second), hashes.clip_of(second)
    also = np.isin(frames, hashes.frames(first))
    near, of_near = probes[second].near() if first == "train" else (0, 0)
    return Shared(
        first=first,
        second=second,
        frames=int(also.sum()),
        of_frames=len(frames),
        clips=len(np.unique(clips[also])),
        of_clips=len(np.unique(clips)),
        near=near,
        of_near=of_near,
    )


# -------------------------------------------------------------------------------------------------------------------- judging


def _findings(diagnosis: Diagnosis) -> Iterator[Finding]:
    """What is wrong, what is doubtful, and what was looked for in vain."""
    yield from _of("range", _range(diagnosis), "every channel fits the 0 to 1 that a network predicts")
    yield from _of("content", _content_of(diagnosis), "few frames are empty or stand still, and no clip stands in a split twice")
    yield from _of("leak", _leaks(diagnosis), "no frame stands in two splits; constant frames, where nothing is, do not count")


def _of(check: str, problems: Iterator[tuple[str, str, str]], good: str) -> Iterator[Finding]:
    found = [Finding(check, "fail" if state == "fail" else "warn", seen, remedy) for state, seen, remedy in problems]
    yield from found or [Finding(check, "ok", good)]


def _range(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str]]:
    train = diagnosis.splits["train"].channels
    for channel in train:
        where = f"channel {channel.name}: training's values lie between {channel.minimum:.4g} and {channel.maximum:.4g}"
        if channel.minimum == channel.maximum:
            yield "fail", f"{where}: there is nothing to learn from it", "leave the channel out"
        elif channel.maximum - channel.minimum < NARROW:
            yield "warn", f"{where}, while a network predicts 0 to 1", "scale them to that range"
        if channel.minimum < channel.maximum and channel.brightest > SATURATED:
            yield (
                "warn",
                f"channel {channel.name}: {channel.brightest:.0%} of training's values are 1, as if they were cut off",
                SCALE,
            )
    for split, facts in diagnosis.splits.items():
        for channel, known in zip(facts.channels, train, strict=True):
            room = BEYOND * (known.maximum - known.minimum)
            if channel.minimum < known.minimum - room or channel.maximum > known.maximum + room:
                yield (
                    "warn",
                    f"channel {channel.name}: {split} has values from {channel.minimum:.4g} to {channel.maximum:.4g}, training"
                    f" from {known.minimum:.4g} to {known.maximum:.4g}: a network never saw such",
                    "compare what the splits are cut from",
                )


def _content_of(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str]]:
    for split, facts in diagnosis.splits.items():
        if facts.constant == facts.frames:
            yield "fail", f"{split}: every frame is constant: nothing is there", "look at what the clips are cut from"
        elif facts.constant > facts.frames / 2:
            yield "warn", f"{split}: {_part(facts.constant, facts.frames)} frames are constant", "leave out clips without content"
        elif facts.still > facts.frames / 2:
            yield (
                "warn",
                f"{split}: {_part(facts.still, facts.frames)} frames are exactly as the one before: to copy it is no forecast",
                "take every second frame, or fewer",
            )
        if facts.same_clips:
            yield "warn", f"{split}: {facts.same_clips:,} of {facts.clips:,} clips stand in it twice", "leave out copies"


def _leaks(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str]]:
    for pair in diagnosis.shared:
        if pair.frames:
            yield (
                "fail",
                f"{_part(pair.frames, pair.of_frames)} frames of {pair.second} stand in {pair.first} as well, in"
                f" {_part(pair.clips, pair.of_clips)} clips",
                APART,
            )
        if pair.near:
            state = "fail" if pair.near > MANY * pair.of_near else "warn"
            seen = f"{_part(pair.near, pair.of_near)} frames of {pair.second} that were looked at are nearly one of {pair.first}"
            yield state, seen, APART


def _part(some: int, of: int) -> str:
    return f"{some:,} of {of:,} ({some / of:.1%})"
