"""What all readers share: what opening gives, names in the order in which people count, and runs without a gap."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from zoocast.data.formats.trust import reading
from zoocast.data.recordings import Recording

__all__ = ["Opened", "natural", "stamp", "unbroken"]


@dataclasses.dataclass(frozen=True)
class Opened:
    """Recordings, and in words how they are read: what was guessed, left out, or is doubtful."""

    recordings: tuple[Recording, ...]
    remarks: tuple[str, ...] = ()


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts names by the numbers in them: frame2 before frame10."""
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part)


def unbroken(moments: Sequence[int]) -> tuple[range, ...]:
    """Runs of frames that follow one another in the most frequent step between `moments`, frame numbers or seconds.

    Empty where all frames do. Of steps that are as frequent the smallest counts.
    """
    steps = [after - before for before, after in itertools.pairwise(moments)]
    if not steps:
        return ()
    counted = collections.Counter(steps)
    usual = min(counted, key=lambda step: (-counted[step], step))
    if len(counted) == 1 and usual > 0:
        return ()
    starts = [0, *(i + 1 for i, step in enumerate(steps) if step != usual or step <= 0)]
    return tuple(range(start, stop) for start, stop in itertools.pairwise([*starts, len(moments)]))


def stamp(path: Path) -> tuple[int, ...]:
    """What tells a file that was changed from the one that was opened. Raises `DataError` if it does not exist."""
    with reading(path, "a file"):
        status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
