"""Which process is meant, and whether it lives, by what no clock can change.

The kernel numbers its boots, and notes of each process how many clock ticks after the boot it began. A process's time of birth on
the calendar is no such thing: it is worked out from the boot's, which moves when the clock is set or a virtual machine wakes up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from pathlib import Path

import psutil

__all__ = ["lives", "machine", "start_ticks"]

STATE, START = 0, 19  # places behind the command's name in /proc/PID/stat, whose third field is the first of them


@functools.cache
def machine() -> str:
    """This boot of this machine, or this container on it: the processes that one process id can mean."""
    try:
        # After a reboot process ids begin anew; those of another container mean nothing here.
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since the boot: with `machine` and its id it names a process for good.

    None when there is none, or when it has ended and waits to be collected; 0 where the system does not say.
    """
    with contextlib.suppress(OSError):
        # The name may hold spaces and brackets, so the last one ends it.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[STATE] in ("Z", "X") else int(fields[START])
    return 0 if not Path("/proc/self/stat").exists() and psutil.pid_exists(pid) else None


def lives(where: str, pid: int, ticks: int) -> bool | None:
    """Whether the process that `machine` and `start_ticks` named lives; None when this machine cannot know."""
    if where != machine():
        return None
    now = start_ticks(pid)
    # One of which no ticks were noted may be another that was given its id.
    return False if now is None else None if ticks == 0 else now == ticks
