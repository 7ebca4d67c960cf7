"""Room on this machine for copies of what lies in object stores.

All copies lie below ZOOCAST_CACHE (default: ~/.cache/zoocast), each laid out like any other root. ZOOCAST_CACHE_GB bounds what
finished steps take there: those that were used longest ago and that no process holds make room, but keep their records.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zoocast.errors import ConfigError, InfrastructureError, IntegrityError
from zoocast.store.files import human_bytes, require_free_space
from zoocast.store.flock import lock
from zoocast.store.layout import DONE, STEPS
from zoocast.store.recorded import listed_in, read_done

__all__ = ["USES", "copies", "make_room", "size_of"]

USES = "uses"  # for each finished step a file that was touched when it was used last, and is locked while it is held
DEFAULT_CACHE_GB = 50.0  # enough for small studies; docs/scaling.md works out a paper's bank, which needs 800


def copies() -> Path:
    """The folder with this machine's copies of roots, by a digest of their URLs."""
    return _cache() / "roots"


def _cache() -> Path:
    given = os.environ.get("ZOOCAST_CACHE")
    home = os.path.expanduser("~")  # which is `~` still where nobody knows it
    if not given and not os.path.isabs(home):
        raise ConfigError("ZOOCAST_CACHE", "there is no home folder to keep copies in; set it to a folder of yours")
    return Path(given or f"{home}/.cache/zoocast").absolute()


def _limit() -> int:
    given = os.environ.get("ZOOCAST_CACHE_GB", "")
    try:
        return int(float(given or DEFAULT_CACHE_GB) * 1e9)
    except (ValueError, OverflowError):
        raise ConfigError("ZOOCAST_CACHE_GB", f"must be a number of gigabytes, but got {given!r}") from None


def make_room(folder: Path, step: str, needed: int) -> None:
    """Let finished steps go that nobody uses, the one used longest ago first, until `needed` bytes more of `step` fit.

    Args:
        folder: the copy of the root in which `step` lies; other roots make room as well.

    Raises:
        InfrastructureError: they do not fit all the same.
    """
    limit = _limit()
    found = []
    for final in copies().glob(f"*/{STEPS}/*/"):
        use = final.parents[1] / USES / final.name
        if (final / DONE).exists():
            # A copy without a note of its use goes first.
            found.append((use.stat().st_mtime_ns if use.exists() else 0, final, use))
    sizes = {final: sum(size_of(final / file) or 0 for file in _listed(final)) for _, final, _ in found}
    for _, final, use in sorted(found):
        # The step's own files that are here already stay: the rest is to join them.
        if sum(sizes.values()) + needed > limit and final != folder / STEPS / step and _let_go(final, use):
            del sizes[final]
    if sum(sizes.values()) + needed > limit:
        raise InfrastructureError(
            f"{step} needs {human_bytes(needed)} on this machine, but ZOOCAST_CACHE_GB allows {human_bytes(limit)} at"
            f" {_cache()}, of which {human_bytes(sum(sizes.values()))} are in use; allow more"
        )
    require_free_space(folder, needed, f"a copy of {step}")


def _let_go(final: Path, use: Path) -> bool:
    """Remove the files of a finished step, all but its record, unless a process holds it."""
    with use.open("a") as held:
        # Not waited for: whoever holds it may train for hours. See `Finished.hold` for the other side.
        if not lock(held.fileno(), wait=False):
            return False
        # The record stays, so that a plan still knows the step as finished without asking for its files.
        for file in _listed(final):
            (final / file).unlink(missing_ok=True)
    return True


def _listed(final: Path) -> Iterable[str]:
    """The files of the finished step in `final`, here or not; none when its record is damaged, or was removed this moment."""
    try:
        return read_done(final, listed_in)
    except IntegrityError:
        return ()


def size_of(path: Path) -> int | None:
    """Of the file `path` in bytes; None when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None
