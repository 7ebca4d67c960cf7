"""One driver at a time per step under a root in an object store, which knows no exclusive creation.

A driver that wants a lock writes a claim, an object of its own in the lock's folder, and then lists the folder. Finds it another
living claim, it takes its own back and comes again later. Two drivers cannot both hold a lock: each has written before it listed,
so in a store that lists what was written a moment before (S3, GCS and Azure do) the one that listed later has seen the other.
Claims are refreshed and judged as `zoocast.store.locks` does with files, only less often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from pathlib import Path

from zoocast.errors import InfrastructureError
from zoocast.store.files import as_json
from zoocast.store.layout import LOCKS
from zoocast.store.locks import Holder, Locks, as_holder
from zoocast.store.objects import Objects

__all__ = ["Claims", "holders"]


class Claims(Locks):
    """The locks that this driver holds in an object store; see `Locks`.

    Args:
        folder: this machine's copy of the root, below which the paths of the locks lie.
    """

    def __init__(self, run_id: str, objects: Objects, folder: Path) -> None:
        super().__init__(run_id, slowness=3)  # a refresh is two requests for every lock held: every 9 s, and judged after 90 s
        self.objects, self.folder = objects, folder
        self._turn = threading.Lock()  # a claim that is refreshed while it is given up would stay

    def acquire(self, path: Path) -> Holder | None:
        """Take the lock `path`. Returns None when it is ours now, else who holds it. Does not wait."""
        holder = self._living_holder(path)
        if holder is not None:
            return holder
        # Written first, listed second: in the other order two drivers could both list before either has written.
        self.objects.write(self._claim(path), json.dumps(dataclasses.asdict(dataclasses.replace(self.me, since=time.time()))))
        try:
            holder = self._living_holder(path)
        except BaseException:
            # Nobody would refresh it, and everybody would wait for it.
            with contextlib.suppress(InfrastructureError):
                self.objects.remove(self._claim(path))
            raise
        if holder is not None:
            self.objects.remove(self._claim(path))
            return holder
        self._held.add(path)
        return None

    def release(self, path: Path) -> None:
        """Give the lock up, if it is ours."""
        with self._turn:
            # A driver releases each step that it settles, also those which it never got to lock: these would cost a request each.
            if path in self._held:
                self._held.discard(path)
                self.objects.remove(self._claim(path))

    def _living_holder(self, path: Path) -> Holder | None:
        """Who else claims `path` and lives; claims of the dead are removed."""
        folder = self._name(path)
        for token, modified in sorted(self.objects.below(folder).items()):
            # All claims of one driver carry its token, so this is its own.
            if token == self.me.token:
                continue
            holder = _holder(self.objects.read(f"{folder}/{token}"))
            if holder is None:
                continue  # taken back this moment
            if not holder.is_gone() and not self._is_stale(path / token, modified):
                return holder
            self.objects.remove(f"{folder}/{token}")
        return None

    def _refresh(self, path: Path) -> None:
        # A claim that was judged dead, and removed, is not put back: somebody else may hold the lock by now.
        with self._turn, contextlib.suppress(InfrastructureError):
            if path in self._held and (claim := self.objects.read(self._claim(path))) is not None:
                self.objects.write(self._claim(path), claim)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _claim(self, path: Path) -> str:
        return f"{self._name(path)}/{self.me.token}"


def holders(objects: Objects) -> dict[str, Holder]:
    """Who claims what, by the names of the locks."""
    found = {}
    # Named LOCK/TOKEN. Two are there while drivers race, or until a dead one's is removed; a plan can do with either.
    for name in objects.below(LOCKS):
        lock, _, token = name.partition("/")
        holder = _holder(objects.read(f"{LOCKS}/{name}")) if token else None
        if holder is not None:
            found[lock] = holder
    return found


def _holder(data: bytes | None) -> Holder | None:
    return as_holder(as_json((data or b"").decode(errors="replace")))
