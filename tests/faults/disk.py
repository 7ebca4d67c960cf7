"""A disk that fails at the N-th write, fsync or rename of this process, as a full one does: the write is cut in half first."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class Disk:
    """Counts operations; the one numbered `fails_at`, from 1, fails. 0 lets all succeed."""

    def __init__(self, fails_at: int = 0) -> None:
        self.fails_at = fails_at
        self.operations: list[str] = []

    def next_fails(self, what: str) -> bool:
        self.operations.append(what)
        return len(self.operations) == self.fails_at

    @property
    def failed(self) -> bool:
        return 0 < self.fails_at <= len(self.operations)


def full(what: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)


class _File(io.FileIO):
    """A file on that disk, opened for writing."""

    disk: Disk

    def write(self, data: Any) -> int:
        if self.disk.next_fails(f"write {self.name}"):
            super().write(memoryview(data)[: len(data) // 2])
            raise full(str(self.name))
        return super().write(data)


@contextlib.contextmanager
def disk(fails_at: int = 0) -> Iterator[Disk]:
    """Let Python's files and `os` write to such a disk inside the block; libraries' own code is not reached.

    Nothing is flushed for real: no power fails here, and thousands of flushes would take minutes.
    """
    it = Disk(fails_at)
    real_open, real_write = io.open, os.write

    def open_(file: Any, mode: str = "r", buffering: int = -1, *text: Any, closefd: bool = True, **more: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return real_open(file, mode, buffering, *text, closefd=closefd, **more)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd=closefd)
        raw.disk = it
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)

    def write(descriptor: int, data: bytes) -> int:
        return real_write(descriptor, data[: len(data) // 2] if it.next_fails("os.write") else data)

    def failing(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if it.next_fails(f"{name} {Path(str(arguments[-1])).name}"):
                raise full(str(arguments[0]))
            real(*arguments)

        return call

    with (
        mock.patch.object(io, "open", open_),
        mock.patch.object(builtins, "open", open_),
        mock.patch.object(os, "write", write),
        mock.patch.object(os, "fsync", failing("fsync", lambda _descriptor: None)),
        mock.patch.object(os, "rename", failing("rename", os.rename)),
        mock.patch.object(os, "replace", failing("replace", os.replace)),
    ):
        yield it
