"""Which clips are cut from recordings, and which split each belongs to.

No split is drawn from the windows of one recording at random: neighbouring windows share frames, so that a test would know what
was trained on. Whole recordings are shared out, or whole groups of them, or the time is cut with a gap between the parts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TypeVar

from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import SPLITS, Split, pools
from zoocast.errors import ConfigError

__all__ = ["Cut", "by_group", "by_recording", "by_time", "clips_in", "clips_of", "spread"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """How clips lie in a recording.

    Attributes:
        length: frames in each clip.
        step: every how many frames of the recording one is taken.
        stride: frames of the recording from the start of a clip to that of the next one; 0: they follow one another.
    """

    length: int
    step: int = 1
    stride: int = 0

    @property
    def span(self) -> int:
        """Frames of the recording from the first frame of a clip to the last one, both counted."""
        return (self.length - 1) * self.step + 1


def clips_of(number: int, recording: Recording, cut: Cut, part: range | None = None) -> list[Window]:
    """The clips of a recording, or of a part of it, each within one run."""
    first, end = (part.start, part.stop) if part is not None else (0, recording.frames)
    return [
        Window(number, start, cut.length, cut.step)
        for run in recording.runs or (range(recording.frames),)
        for start in range(max(first, run.start), min(end, run.stop) - cut.span + 1, cut.stride or cut.span)
    ]


def by_recording(recordings: Sequence[Recording], cut: Cut) -> dict[Split, list[Window]]:
    """Whole recordings, in the order they are given, in the shares of `splits.SHARES`.

    Raises:
        ConfigError: fewer than three, of which no split can have its own.
    """
    if len(recordings) < len(SPLITS):
        raise ConfigError(
            "split",
            f"sequence gives each split recordings of its own, but there are {len(recordings)}; set split=time, which cuts each"
            " in time",
        )
    shares = pools(len(recordings))
    if not all(shares.values()):  # of three to nine recordings no tenth can be taken: one validates, and one or two test
        tests = max(1, len(recordings) // 5)
        edges = (0, len(recordings) - 1 - tests, len(recordings) - tests, len(recordings))
        shares = {split: range(*edge) for split, edge in zip(SPLITS, itertools.pairwise(edges), strict=True)}
    return clips_in(shares, recordings, cut)


def clips_in(shares: Mapping[Split, Sequence[int]], recordings: Sequence[Recording], cut: Cut) -> dict[Split, list[Window]]:
    """The clips of the recordings whose numbers each split is given."""
    return {split: [w for n in shares[split] for w in clips_of(n, recordings[n], cut)] for split in SPLITS}


def by_time(recordings: Sequence[Recording], cut: Cut, gap: int = 0) -> dict[Split, list[Window]]:
    """Of each recording the first part to train on, then one to validate and the last one to test, in the shares of `SHARES`.

    Args:
        recordings: each is cut for itself.
        cut: of the clips.
        gap: frames that are left out between two parts; 0: as many as a clip spans.
    """
    apart = gap or cut.span
    clips: dict[Split, list[Window]] = {split: [] for split in SPLITS}
    for number, recording in enumerate(recordings):
        for split, part in pools(max(recording.frames - 2 * apart, 0)).items():
            moved = apart * SPLITS.index(split)
            clips[split] += clips_of(number, recording, cut, range(part.start + moved, part.stop + moved))
    return clips


def by_group(
    recordings: Sequence[Recording], cut: Cut, *, validation: Sequence[str], test: Sequence[str]
) -> dict[Split, list[Window]]:
    """Recordings by their group: those named validate or test, all others train.

    Raises:
        ConfigError: a name that no recording has, or one in both splits, or none in one.
    """
    known = sorted({recording.group for recording in recordings})
    for field, names in (("validation_groups", validation), ("test_groups", test)):
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ConfigError(
                field, f"must be some of the groups {', '.join(known)}, but got {', '.join(unknown) or 'none'}; name them"
            )
    if both := sorted({*validation} & {*test}):
        raise ConfigError("test_groups", f"{', '.join(both)} is in validation_groups too; no clip may be in two splits")
    splits: dict[str, Split] = {**dict.fromkeys(validation, "validation"), **dict.fromkeys(test, "test")}
    clips: dict[Split, list[Window]] = {split: [] for split in SPLITS}
    for number, recording in enumerate(recordings):
        clips[splits.get(recording.group, "train")] += clips_of(number, recording, cut)
    return clips


def spread(windows: Sequence[T], count: int) -> list[T]:
    """`count` of `windows`, spread evenly over them and in their order; all of them for 0."""
    if not count:
        return list(windows)
    return [windows[i * len(windows) // count] for i in range(count)]
