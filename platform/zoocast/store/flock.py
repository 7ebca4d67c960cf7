"""Locks of the kernel on open files, which end with whoever holds them: flock, or fcntl's where a file system knows no flock.

Lustre without ``-o flock`` and some FUSE and SMB mounts refuse one of the two, or both; `zoocast.store.locks.exclusive` works on
all of them.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "lock", "locks_known", "unlock"]

Kind = Literal["flock", "fcntl", "none"]


def lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool | None:
    """Lock the open file for as long as it stays open. None where its file system knows no locks.

    Args:
        descriptor: open for writing, or for reading if `shared`.
        wait: else False is returned when somebody else holds it.
    """
    for attempt in (_flock, _fcntl):
        try:
            attempt(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait)
        except BlockingIOError:
            return False
        except OSError:  # ENOSYS, EOPNOTSUPP, ENOLCK, EINVAL: file systems say it in many ways
            continue
        return True
    return None


def unlock(descriptor: int) -> None:
    """Give up what `lock` took, or would have taken, while the file stays open."""
    for attempt in (_flock, _fcntl):
        try:
            attempt(descriptor, fcntl.LOCK_UN, False)
        except OSError:
            continue
        return


def _flock(descriptor: int, operation: int, wait: bool) -> None:
    fcntl.flock(descriptor, operation | (0 if wait else fcntl.LOCK_NB))


def _fcntl(descriptor: int, operation: int, wait: bool) -> None:
    kind = {fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}[operation]
    # Of the open file, as flock's: POSIX's own are of the process, which loses them when it closes any descriptor of the file.
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


def locks_known(folder: Path) -> Kind:
    """Which locks the file system of the nearest existing parent of `folder` knows. Leaves nothing behind.

    Raises:
        OSError: nothing can be written there.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())
    with tempfile.NamedTemporaryFile(dir=place, prefix=".locks.") as file:
        for kind, attempt in (("flock", _flock), ("fcntl", _fcntl)):
            try:
                attempt(file.fileno(), fcntl.LOCK_EX, False)
            except OSError:
                continue
            return kind  # type: ignore[return-value]
    return "none"
