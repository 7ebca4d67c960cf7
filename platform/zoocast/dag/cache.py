"""Care of what steps leave under a storage root: who uses what, whether every byte is still what it was, and what may go.

Nothing here asks what a step computes: a run is known by the folders that it stands on, and a step by its record. What is removed
is renamed first, so that a crash leaves garbage, never a folder that looks like a result.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from zoocast.dag.records import Record, read_record
from zoocast.errors import InfrastructureError, IntegrityError
from zoocast.store.files import is_temporary, temporaries, temporary_name
from zoocast.store.layout import KEY_DIGITS, LOCKS, STEPS
from zoocast.store.locks import STALE_SECONDS, Locks, read_holder
from zoocast.store.recorded import damages

__all__ = ["Cache", "Folder", "Garbage", "damage", "garbage", "remove", "survey"]

State = Literal["finished", "unfinished", "replaced", "removed", "damaged"]
FOLDER = re.compile(
    rf"(?P<trash>\.)?(?P<step>[a-z0-9][a-z0-9._-]*-[0-9a-f]{{{KEY_DIGITS}}})(?P<suffix>|\.partial|\.replaced)"
    r"(?(trash)\.[0-9a-f]{32})"
)
STATES: Mapping[str, State] = {"": "finished", ".partial": "unfinished", ".replaced": "replaced"}
FRESH_SECONDS = 60.0  # a temporary file outside of any step, and so of any lock, may still be written

Runs = Mapping[str, Collection[str]]
"""For each run the folders (NAME-KEY) that it stands on."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """One folder of ROOT/steps. `step` is NAME-KEY, `modified` when anything in it was last written.

    finished: a result, with its `record`. unfinished: kept so that training resumes. damaged: its record cannot be read.
    replaced, removed: what a kill left of an older result. `temporary` are files in it that a kill left half written, `runs`
    those that stand on it, `needed_by` the finished steps that were made from it.
    """

    path: Path
    step: str
    state: State
    bytes: int
    modified: float
    temporary: tuple[Path, ...]
    record: Record | None
    runs: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the step, without its key."""
        return self.step[: -KEY_DIGITS - 1]


@dataclasses.dataclass(frozen=True)
class Cache:
    """What lies under `root`: the folders, the largest first, half-written files elsewhere, and all locks."""

    root: Path
    folders: tuple[Folder, ...]
    temporary: tuple[Path, ...]
    locks: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """Of all folders together."""
        return sum(folder.bytes for folder in self.folders)


def survey(root: Path, runs: Runs) -> Cache:
    """What lies under `root`, and who uses it. Only reads; what vanishes meanwhile is left out.

    Raises:
        InfrastructureError: the root cannot be read.
    """
    root = root.absolute()
    try:
        found = [folder for path in _entries(root / STEPS) if (folder := _folder(path)) is not None]
        # Each node tries to write beside the steps' folders before a run; a node that died then left its try.
        preflights = (path for path in _entries(root) if is_temporary(path))
        temporary = (*preflights, *(path for place in ("runs", "delivery") for path in temporaries(root / place)))
        locks = tuple(path for path in _entries(root / LOCKS) if path.suffix == ".lock")
    except PermissionError as error:
        raise InfrastructureError(f"cannot read {root} ({error}); choose another --root") from None
    records = {folder.step: folder.record for folder in found if folder.record is not None}
    users: dict[str, list[str]] = {}
    for run, steps in runs.items():
        # A run also stands on what its steps were made from, or its results could not be explained or made again.
        for step in _with_inputs(steps, records):
            users.setdefault(step, []).append(run)
    needed_by: dict[str, list[str]] = {}
    for step, record in records.items():
        for parent in _inputs(record):
            needed_by.setdefault(parent, []).append(step)
    folders = [
        dataclasses.replace(
            folder, runs=tuple(sorted(users.get(folder.step, ()))), needed_by=tuple(sorted(needed_by.get(folder.step, ())))
        )
        for folder in found
    ]
    return Cache(root, tuple(sorted(folders, key=lambda f: (-f.bytes, f.path.name))), temporary, locks)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folder(path: Path) -> Folder | None:
    """None for what no step made."""
    # What a user keeps here under a name of his own is none of ours, and never removed.
    match = FOLDER.fullmatch(path.name)
    if match is None or path.is_symlink() or not path.is_dir():
        return None
    state = "removed" if match["trash"] else STATES[match["suffix"]]
    size, modified = 0, 0.0
    for status in map(_status, _walk(path)):
        if status is not None:
            size, modified = size + status.st_size, max(modified, status.st_mtime)
    record = None
    if state == "finished":
        try:
            record = read_record(path)
        except IntegrityError:
            state = "damaged"
    return Folder(path, match["step"], state, size, modified, tuple(temporaries(path)), record)


def _walk(directory: Path) -> Iterator[Path]:
    """The files below `directory`."""
    for folder, _, names in os.walk(directory):
        yield from (Path(folder, name) for name in names)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _inputs(record: Record) -> list[str]:
    return [f"{name}-{key}" for name, key in record.inputs.values()]


def _with_inputs(steps: Collection[str], records: Mapping[str, Record]) -> set[str]:
    """`steps` and all that they were made from."""
    found: set[str] = set()
    queue = list(steps)
    while queue:
        step = queue.pop()
        if step not in found:
            found.add(step)
            queue += _inputs(records[step]) if step in records else []
    return found


# ------------------------------------------------------------------------------------------------------------------- verifying


def damage(directory: Path) -> list[str]:
    """What is wrong with the finished step in `directory`, from reading all of its bytes; empty when nothing is.

    Files that were added since are not looked at: nobody reads them.
    """
    try:
        return [f"{name} {problem}" for name, problem in damages(directory, read_record(directory).files)]
    except IntegrityError as error:
        return [str(error)]


# -------------------------------------------------------------------------------------------------------------------- removing


@dataclasses.dataclass(frozen=True)
class Garbage:
    """Something that may go. `step` says whose lock must be held, if anyone's; `unused`: only while no run refers to it."""

    path: Path
    why: str
    bytes: int
    step: str = ""
    unused: bool = False


def garbage(cache: Cache, *, older_than: float = 0.0) -> list[Garbage]:
    """What no run refers to and was not written for `older_than` seconds, and what killed processes left; the largest first."""
    now = time.time()
    finished = {folder.step for folder in cache.folders if folder.state == "finished"}
    found: list[Garbage] = []
    for folder in cache.folders:
        unused = not folder.runs
        if folder.state in ("replaced", "removed"):
            found.append(Garbage(folder.path, f"{folder.state} before", folder.bytes, folder.step))
        elif folder.state == "unfinished" and folder.step in finished:
            found.append(Garbage(folder.path, "unfinished, beside its finished result", folder.bytes, folder.step))
        elif unused and now - folder.modified >= older_than:
            found.append(Garbage(folder.path, f"{folder.state}, no run refers to it", folder.bytes, folder.step, unused=True))
        else:
            found += [Garbage(path, "half a file", _size(path), folder.step) for path in folder.temporary]
    for path in cache.temporary:
        status = _status(path)
        if status is not None and now - status.st_mtime >= FRESH_SECONDS:
            found.append(Garbage(path, "half a file", _size(path)))
    for path in cache.locks:
        holder = read_holder(path)
        # Without a name in it, a lock is one that a driver is writing, or was when it died.
        if holder.is_gone() if holder else _looks_stale(path):
            found.append(Garbage(path, "a lock whose holder is gone", 0, path.stem))
    return sorted(found, key=lambda item: (-item.bytes, item.path))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else _walk(path)
    return sum(status.st_size for status in map(_status, files) if status is not None)


def remove(root: Path, items: Collection[Garbage], runs: Callable[[], Runs], report: Callable[[str], None]) -> dict[Path, str]:
    """Remove `items`, each under the lock of its step. Returns what was kept all the same, and why.

    A driver writes down what its run stands on before it looks at what is there. Here the folder vanishes first, and then the
    runs are read once more: whichever comes first, no driver is left with a result that it counts on and that is gone for good.

    Args:
        runs: reads all runs.
        report: called with a line about what takes long.
    """
    kept: dict[Path, str] = {}
    try:
        (root / LOCKS).mkdir(parents=True, exist_ok=True)
        with Locks("cache gc") as locks:
            # The first round begins the watch over all locks of other machines, so that one wait will do for all.
            busy = [item for item in items if not _remove(root, item, locks, runs, kept)]
            watched = [item for item in busy if _looks_stale(_lock(root, item))]
            # A lock that was refreshed a moment ago is held for sure; only the others are worth watching.
            if watched:
                names = ", ".join(item.path.name for item in watched)
                report(f"waiting {STALE_SECONDS:.0f} s to see whether anybody still works on {names}")
                time.sleep(STALE_SECONDS + 1)
                for item in watched:
                    _remove(root, item, locks, runs, kept)
    except OSError as error:
        raise InfrastructureError(f"cannot remove all that may go under {root} ({error}); is it yours to write?") from None
    return kept


def _lock(root: Path, item: Garbage) -> Path:
    return root / LOCKS / f"{item.step}.lock"


def _looks_stale(lock: Path) -> bool:
    status = _status(lock)
    return status is None or time.time() - status.st_mtime > STALE_SECONDS


def _remove(root: Path, item: Garbage, locks: Locks, runs: Callable[[], Runs], kept: dict[Path, str]) -> bool:
    """Remove one item, or note why it is kept. False when its lock was not to be had."""
    kept.pop(item.path, None)
    lock = _lock(root, item)
    holder = locks.acquire(lock) if item.step else None
    if holder is not None:
        kept[item.path] = f"in the hands of {holder}"
        return False
    try:
        if item.unused:
            user = _discard_unused(item, runs)
            if user is not None:
                kept[item.path] = f"run {user} refers to it by now"
        elif item.path != lock:  # a dead one's lock goes by being taken over here and released below
            _discard(item.path)
    except FileNotFoundError:
        pass  # somebody else was faster
    finally:
        if item.step:
            locks.release(lock)
    return True


def _discard_unused(item: Garbage, runs: Callable[[], Runs]) -> str | None:
    """Remove a folder unless a run has come to refer to it, which is then returned."""
    trash = temporary_name(item.path)
    # A rename is atomic, where removing a tree takes time and a kill would leave half a result.
    item.path.rename(trash)
    try:
        user = next((run for run, steps in runs().items() if item.step in steps), None)
    except BaseException:  # Ctrl-C, or a run that cannot be read and may refer to it
        trash.rename(item.path)
        raise
    if user is None:
        shutil.rmtree(trash)
    else:
        trash.rename(item.path)
    return user


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
