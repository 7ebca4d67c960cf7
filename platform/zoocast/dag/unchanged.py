"""Whether the inputs of a step are still what they were when it began: else nobody could say what its result was made from.

Only names, sizes, times and inodes are looked at, which costs one call per file. The bytes are checked by their readers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zoocast.errors import IntegrityError

__all__ = ["require_unchanged", "stamps"]

Stamps = Mapping[Path, tuple[int, int, int]]


def stamps(inputs: Mapping[str, Path]) -> Stamps:
    """Size, time of the last change in nanoseconds, and inode of every file below the folders `inputs`."""
    found = {}
    for directory in inputs.values():
        for folder, _, files in os.walk(directory):
            for path in (Path(folder, name) for name in files):
                # Of a link itself: readers that check bytes refuse links anyhow (`own_file`).
                status = path.lstat()
                # The inode sees a file that was replaced by one of equal size with the same time, as rsync does it.
                found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def require_unchanged(step: str, inputs: Mapping[str, Path], before: Stamps) -> None:
    """Compare with what `stamps` gave when the step began.

    Raises:
        IntegrityError: names the first file that was changed, added or removed.
    """
    now = stamps(inputs)
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if changed:
        raise IntegrityError(
            f"step {step}: its input {changed[0]} was changed while it ran, so its result is not used; leave the folders of"
            " finished steps alone, do that input's step again with --force if its file is not what it was, and run again"
        )
