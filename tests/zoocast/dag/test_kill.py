"""Drivers that are killed, stopped, or two at once, each a process with a Ray of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from zoocast.cluster.connect import source_roots

SCRIPT = Path(__file__).with_name("driver_script.py")


class Driver:
    """A running `driver_script.py`; its events are read from its standard output."""

    def __init__(self, root: Path, run_id: str, seconds: float, listens: str = "listens") -> None:
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(root), run_id, str(seconds), listens],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(source_roots())},
        )

    def until(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """The next event of this kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind and name in (None, self.events[-1].get("name")):
                return self.events[-1]
        raise AssertionError(f"the driver ended without {kind}; it reported {self.events}")

    def end(self) -> int:
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait()

    def states(self) -> dict[str, str]:
        return {e["name"]: e["state"] for e in self.events if e["event"] == "finished"}


@contextlib.contextmanager
def driver(root: Path, run_id: str, seconds: float, listens: str = "listens") -> Iterator[Driver]:
    one = Driver(root, run_id, seconds, listens)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        if one.process.stdout:
            one.process.stdout.close()


def test_after_sigkill_the_same_command_goes_on_at_once(tmp_path: Path) -> None:
    with driver(tmp_path, "first", 3) as first:
        for _ in range(3):
            first.until("progress")
        workers = [p for p in psutil.Process(first.process.pid).children(recursive=True) if p.name() == "ray::slow"]
        assert len(workers) == 1
        first.process.kill()
        first.process.wait()
        with driver(tmp_path, "second", 3) as second:
            planned = second.until("planned")["steps"]
            assert {s["name"]: s["state"] for s in planned} == {"slow": "resume", "after": "run"}
            assert "tenths" in planned[0]["why"][0]
            assert second.end() == 0
            assert not [e for e in second.events if e["event"] == "waiting"]
            assert second.states() == {"slow": "done", "after": "done"}
            results = second.events[-1]["results"]
            assert results["after"]["attempts"] == 2
            assert results["after"]["from"] > 0
        assert not any(p.is_running() for p in workers)  # Ray's processes end with their driver, killed or not
    assert not list((tmp_path / "locks").glob("*.lock"))


def holder_of(root: Path) -> dict[str, Any]:
    """Who holds the lock of the step `slow`, as soon as anyone does."""
    while True:
        for path in (root / "locks").glob("slow-*.lock"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                return dict(json.loads(path.read_text()))
        time.sleep(0.05)


def test_of_two_drivers_the_second_waits_and_says_for_whom(tmp_path: Path) -> None:
    with driver(tmp_path, "early", 8) as early, driver(tmp_path, "late", 8) as late:
        # Whichever Ray starts first has the step.
        working = late if holder_of(tmp_path)["pid"] == late.process.pid else early
        waiting = early if working is late else late
        assert f"process {working.process.pid}" in waiting.until("waiting", "slow")["for_whom"]
        assert working.end() == 0
        assert waiting.end() == 0
        assert working.states() == {"slow": "done", "after": "done"}
        assert waiting.states()["slow"] == "cached"
        assert waiting.events[-1]["results"]["after"]["attempts"] == 1


def test_ctrl_c_stops_at_a_checkpoint(tmp_path: Path) -> None:
    with driver(tmp_path, "first", 4) as first:
        first.until("progress")
        os.killpg(
            first.process.pid, signal.SIGINT
        )  # a terminal sends Ctrl-C to the whole process group, Ray's processes included
        assert first.end() == 130
        assert first.states() == {"slow": "interrupted", "after": "skipped"}
        interrupted = next(e for e in first.events if e["event"] == "finished" and e["name"] == "slow")
        assert interrupted["error"] == "stopped at a checkpoint"


def test_a_second_signal_ends_a_step_that_does_not_listen(tmp_path: Path) -> None:
    with driver(tmp_path, "first", 60, "deaf") as first:
        first.until("progress")
        first.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert first.process.poll() is None
        start = time.monotonic()
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 130
        assert time.monotonic() - start < 15  # of 60 seconds that the step would have taken
        assert first.states() == {"slow": "interrupted", "after": "skipped"}
    assert not list((tmp_path / "locks").glob("*.lock"))
