"""What Ray leaves in the temporary folder, and who removes it."""

import os
import subprocess
import time

from zoocast.cluster.sessions import sweep_sessions


def session(folder, pid, age):
    """A session of the driver `pid` whose logs were written `age` seconds ago."""
    logs = folder / f"session_2026-11-30_20-26-31_429233_{pid}" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("")
    then = time.time() - age
    for path in (logs / "raylet.out", logs, logs.parent):
        os.utime(path, (then, then))
    return logs.parent


def test_only_quiet_sessions_of_drivers_that_are_gone_are_removed(tmp_path):
    child = subprocess.Popen(["true"])
    child.wait()
    dead, fresh = session(tmp_path, child.pid, 7200), session(tmp_path / "fresh", child.pid, 60)
    alive = session(tmp_path, os.getpid(), 7200)
    (tmp_path / "session_latest").symlink_to(alive)
    (tmp_path / "session_notes").mkdir()
    sweep_sessions(tmp_path)
    sweep_sessions(tmp_path / "fresh")
    assert not dead.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["fresh", alive.name, "session_latest", "session_notes"])
    assert (fresh / "logs" / "raylet.out").exists()
