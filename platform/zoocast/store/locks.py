"""One driver at a time per step, on any shared storage, and no lock that outlives its holder.

A lock is a file made with O_EXCL that says who holds it, whose modification time the holder refreshes. On the same machine a dead
holder is known at once by its process; on another one when the file has not changed for `STALE_SECONDS` of the watcher's own
clock, so that clocks which disagree do no harm. Should two drivers do the same work all the same, because one was frozen for
longer than that, the fence in `zoocast.dag.context` lets only one of them publish it.

Why this is not `filelock.SoftFileLease`, which works by the same rules (tried with 4.2.11): a holder that was killed and not yet
collected by its parent, as happens in containers, counts as living there and is waited for 30 s, where the next one is to go on
at once; a living holder on another machine with the same host name loses its lock, since only the names are compared; and a lease
says nobody's run or user and lets nobody read its file, so `Holder` and the judging of it, which `pipelines plan` and `pipelines
cache` need, would stay beside it. Claims in an object store need the heartbeat and the rules anyhow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from zoocast.provenance import user_name
from zoocast.store.files import read_json
from zoocast.store.flock import lock
from zoocast.store.processes import lives, machine, start_ticks

__all__ = ["STALE_SECONDS", "Holder", "Locks", "as_holder", "exclusive", "read_holder"]

# Ten beats may be missed before a lock counts as stale: a file system that stalls for some seconds costs nobody his lock.
HEARTBEAT_SECONDS = 3.0
STALE_SECONDS = 30.0
POLL_SECONDS = 0.1  # between two looks at a lock that is waited for
TAKEOVER = "takeover"  # a file in the folder of the locks, which whoever removes a dead one's lock holds meanwhile


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock. `machine`, `pid` and `ticks` name its process for good; `since` is in seconds since the epoch."""

    host: str
    machine: str
    pid: int
    run: str
    user: str
    since: float
    token: str
    ticks: int = 0  # not noted by an older zoocast

    @classmethod
    def this_process(cls, run_id: str) -> Holder:
        pid, token = os.getpid(), uuid.uuid4().hex
        return cls(socket.gethostname(), machine(), pid, run_id, user_name(), time.time(), token, start_ticks(pid) or 0)

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"run {self.run} of {self.user} on {self.host}, process {self.pid}, since {since}"

    def is_gone(self) -> bool:
        """Whether the holder is known to be dead; False as well when this machine cannot know."""
        return lives(self.machine, self.pid, self.ticks) is False


class Locks:
    """The locks that this driver holds. A context manager: a thread refreshes them, and leaving releases them.

    Args:
        run_id: names this run to other drivers.
        slowness: how many times less often than files locks are refreshed, and judged dead.
    """

    def __init__(self, run_id: str, slowness: int = 1) -> None:
        self._slowness = slowness
        self.me = Holder.this_process(run_id)
        self._held: set[Path] = set()
        self._seen: dict[Path, tuple[int, float]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="zoocast-locks", daemon=True)  # dies with a crashing driver

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        for path in list(self._held):
            self.release(path)

    def acquire(self, path: Path) -> Holder | None:
        """Take the lock `path`. Returns None when it is ours now, else who holds it. Does not wait."""
        while True:
            try:
                # O_EXCL is the one thing that all file systems do atomically, NFS since version 3; the umask narrows the mode.
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                holder = self._living_holder(path)
                if holder is not None:
                    return holder
                continue
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(dataclasses.asdict(dataclasses.replace(self.me, since=time.time())), file)
            except OSError:
                path.unlink(missing_ok=True)  # a lock that says nobody's name would have to be waited out
                raise
            self._held.add(path)
            return None

    def release(self, path: Path) -> None:
        """Give the lock up; leaves it alone when another driver has taken it over."""
        self._held.discard(path)
        holder = read_holder(path)
        # After a freeze longer than `STALE_SECONDS` this file may be another driver's.
        if holder is not None and holder.token == self.me.token:
            path.unlink(missing_ok=True)

    def _living_holder(self, path: Path) -> Holder | None:
        """The holder of `path`, or None after a dead one's lock was removed."""
        modified = _modified(path)
        if modified is None:
            return None
        holder = read_holder(path)
        if not self._is_stale(path, modified) and not (holder and holder.is_gone()):
            # Between its creation and its first write a lock is empty: held, but by whom is not yet known.
            return holder or dataclasses.replace(self.me, host="?", pid=0, run="?", user="?", since=modified / 1e9)
        # Without the guard a slow second one would remove the new lock of a fast first one, and both would hold it.
        with _guard(path.parent / TAKEOVER):
            # Whoever comes second under the guard finds another lock here, or none.
            if read_holder(path) == holder and _modified(path) == modified:
                path.unlink(missing_ok=True)  # where there is no flock, another contender may have been faster
        return None

    def _is_stale(self, path: Path, modified: int) -> bool:
        """Whether `path` has been seen with this modification time for so long that its holder must be dead."""
        seen, since = self._seen.get(path, (0, 0.0))
        if seen != modified:
            # Only a change of this time is evidence: the clock that set it may be another machine's.
            since = time.monotonic()
            self._seen[path] = (modified, since)
        return time.monotonic() - since >= STALE_SECONDS * self._slowness

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS * self._slowness):
            for path in list(self._held):
                self._refresh(path)

    def _refresh(self, path: Path) -> None:
        # The lock may have been released this moment; and a disk that fails once may take the next beat.
        with contextlib.suppress(OSError):
            os.utime(path)


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, where the file system knows how; the kernel frees it when the process dies."""
    with path.open("w") as file:
        lock(file.fileno())
        yield


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`, which is free again when its holder dies. Without `wait` says whether it was free.

    The one lock for whatever else than steps is done by one at a time. Where the file system knows no locks of the kernel, a file
    beside `path` is made and refreshed instead, as for steps: a holder that died elsewhere is then waited for `STALE_SECONDS`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        free = lock(descriptor, wait=wait)
        if free is not None:
            yield free
            return
    finally:
        os.close(descriptor)
    beside = path.with_name(f"{path.name}.held")
    with Locks("") as locks:
        while locks.acquire(beside) is not None:
            if not wait:
                yield False
                return
            time.sleep(POLL_SECONDS)
        yield True


def read_holder(path: Path) -> Holder | None:
    """Who holds the lock `path`; None when it is free or not yet written."""
    return as_holder(read_json(path))


def as_holder(data: Mapping[str, Any] | None) -> Holder | None:
    """What is written in a lock, by whatever version of zoocast; None when it is no holder."""
    known = {field.name for field in dataclasses.fields(Holder)}
    try:
        return Holder(**{name: value for name, value in (data or {}).items() if name in known})
    except TypeError:
        return None
