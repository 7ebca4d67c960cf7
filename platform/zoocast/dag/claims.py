"""One driver at a time per step under a root in an object store, which knows no exclusive creation.

A driver that wants a lock writes a claim, an object of its own in the lock's folder, and then lists the folder. Finds it another
living claim, it takes its own back and comes again later. Two drivers cannot both hold a lock: each has written before it listed,
so in a store that lists what was written a moment before (S3, GCS and Azure do) the one that listed later has seen the other.
Claims are refreshed and judged as `zoocast.dag.lock` does with files, only less often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from pathlib import Path

from zoocast.dag.context import as_json
from zoocast.dag.lock import Holder, Locks
from zoocast.errors import InfrastructureError
from zoocast.store.bucket import Mirror

__all__ = ["Claims", "holders"]


class Claims(Locks):
    """The locks that this driver holds in the store of `mirror`; see `Locks`."""

    def __init__(self, run_id: str, mirror: Mirror) -> None:
        super().__init__(run_id, slowness=3)
        self.mirror = mirror
        self._turn = threading.Lock()  # a claim that is refreshed while it is given up would stay

    def acquire(self, path: Path) -> Holder | None:
        """Take the lock `path`. Returns None when it is ours now, else who holds it. Does not wait."""
        holder = self._living_holder(path)
        if holder is not None:
            return holder
        self.mirror.write(self._claim(path), json.dumps(dataclasses.asdict(dataclasses.replace(self.me, since=time.time()))))
        holder = self._living_holder(path)
        if holder is not None:
            self.mirror.remove(self._claim(path))
            return holder
        self._held.add(path)
        return None

    def release(self, path: Path) -> None:
        """Give the lock up, if it is ours."""
        with self._turn:
            if path in self._held:
                self._held.discard(path)
                self.mirror.remove(self._claim(path))

    def _living_holder(self, path: Path) -> Holder | None:
        """Who else claims `path` and lives; claims of the dead are removed."""
        folder = self.mirror.name(path)
        for token, modified in sorted(self.mirror.objects(folder).items()):
            if token == self.me.token:
                continue
            holder = _holder(self.mirror.read(f"{folder}/{token}"))
            if holder is None:
                continue  # taken back this moment
            if not holder.is_gone() and not self._is_stale(path / token, modified):
                return holder
            self.mirror.remove(f"{folder}/{token}")
        return None

    def _refresh(self, path: Path) -> None:
        # A claim that was judged dead, and removed, is not put back: somebody else may hold the lock by now.
        with self._turn, contextlib.suppress(InfrastructureError):
            if path in self._held and (claim := self.mirror.read(self._claim(path))) is not None:
                self.mirror.write(self._claim(path), claim)

    def _claim(self, path: Path) -> str:
        return f"{self.mirror.name(path)}/{self.me.token}"


def holders(mirror: Mirror) -> dict[str, Holder]:
    """Who claims what under `mirror`, by the names of the locks."""
    found = {}
    for name in mirror.objects("locks"):
        lock, _, token = name.partition("/")
        holder = _holder(mirror.read(f"locks/{name}")) if token else None
        if holder is not None:
            found[lock] = holder
    return found


def _holder(data: bytes | None) -> Holder | None:
    try:
        return Holder(**(as_json((data or b"").decode()) or {}))
    except TypeError:
        return None
