"""Ray's sessions: folders with logs and sockets, one for each Ray of our own, which Ray itself never removes."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

__all__ = ["sweep_sessions"]

SESSION = re.compile(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_(\d+)")  # its last number is the driver's process id
QUIET_SECONDS = 3600.0  # a living Ray writes into its logs every minute


def sweep_sessions(folder: Path) -> None:
    """Remove from `folder` the sessions of drivers that were killed, and could not do it themselves.

    That is: none with this process id lives, and no log has been written for an hour. Each of the two can be wrong where
    containers share a folder, or a process is stopped.
    """
    for session in folder.glob("session_*"):
        name = SESSION.fullmatch(session.name)
        if name and not session.is_symlink() and not _lives(int(name[1])) and _quiet_for(session) > QUIET_SECONDS:
            shutil.rmtree(session, ignore_errors=True)


def _lives(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()


def _quiet_for(session: Path) -> float:
    """Seconds since a log was written last; 0 when another driver is removing the session just now."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (session, *session.glob("logs/*")))
    except FileNotFoundError:
        return 0.0
