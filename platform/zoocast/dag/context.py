"""What a step's function is given: where to write, what to read, and how to speak with the driver.

The driver and the step talk through small files in the step's folder, because the step may run on another machine, in a Ray task
or in a Ray Train worker, and outlive the driver: `attempt.json` says who owns the folder, `stop` asks for an end, `progress.json`
says how far the work is.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoocast.dag.step import Resources
from zoocast.errors import InfrastructureError
from zoocast.storage import write_atomically

__all__ = ["Fenced", "StepContext"]

ATTEMPT, STOP, PROGRESS, ERROR = "attempt.json", "stop", "progress.json", "error.txt"
TALK = (ATTEMPT, STOP, PROGRESS, ERROR)
PROGRESS_INTERVAL = 0.2
STOP_INTERVAL = 0.5


class Fenced(InfrastructureError):
    """Another attempt has taken over this step's folder; what this one still does must not reach it."""


@dataclasses.dataclass
class StepContext:
    """A running step, seen by its function. Travels to Ray tasks and Ray Train workers."""

    name: str
    key: str
    directory: Path
    config: Any
    inputs: Mapping[str, Path]
    results: Mapping[str, dict[str, Any]]
    resources: Resources
    run_id: str
    token: str
    version: int = 1
    _last: dict[str, float] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    _stop: bool = dataclasses.field(default=False, repr=False, compare=False)

    @classmethod
    def standalone(
        cls,
        directory: Path,
        config: Any = None,
        inputs: Mapping[str, Path] | None = None,
        results: Mapping[str, dict[str, Any]] | None = None,
        resources: Resources = Resources(),  # noqa: B008
        name: str = "standalone",
        key: str = "0" * 12,
    ) -> StepContext:
        """A context outside any pipeline, for scripts and tests: makes `directory` and takes it over."""
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        token = begin_attempt(directory, "standalone")
        return cls(name, key, directory, config, inputs or {}, results or {}, resources, "standalone", token)

    @property
    def journal_path(self) -> Path:
        """Where the step's metrics are written."""
        return self.directory / "journal.jsonl"

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1. Cheap: at most five times a second something is written."""
        if fraction < 1 and not self._due("progress", PROGRESS_INTERVAL):
            return
        note = {"token": self.token, "fraction": min(max(float(fraction), 0.0), 1.0), "message": message}
        write_atomically(self.directory / PROGRESS, json.dumps(note), durable=False)

    def should_stop(self) -> bool:
        """Whether the user asked to stop: save a checkpoint and raise `Interrupted`. Cheap enough for every iteration."""
        if not self._stop and self._due("stop", STOP_INTERVAL):
            self._stop = stop_requested(self.directory, self.token)
        return self._stop

    def check_fence(self) -> None:
        """Call before writing a checkpoint or a result.

        Raises:
            Fenced: the folder belongs to another attempt by now.
        """
        owner = read_json(self.directory / ATTEMPT)
        if owner is None or owner.get("token") != self.token:
            by = f"taken over by run {owner.get('run')} on {owner.get('host')}" if owner else "published or removed"
            raise Fenced(f"step {self.name}: its folder was {by}; this attempt ends here: {self.directory}")

    def _due(self, what: str, interval: float) -> bool:
        now = time.monotonic()
        last = self._last.get(what)
        # A clock that runs backwards means that the context has travelled to another machine.
        if last is not None and 0 <= now - last < interval:
            return False
        self._last[what] = now
        return True


def begin_attempt(directory: Path, run_id: str, host: str = "") -> str:
    """Take over `directory`: remove what an earlier attempt left for its driver, and return the new attempt's token."""
    token = uuid.uuid4().hex
    write_atomically(directory / ATTEMPT, json.dumps({"token": token, "run": run_id, "host": host, "started": time.time()}))
    for name in TALK[1:]:
        (directory / name).unlink(missing_ok=True)
    return token


def request_stop(directory: Path, token: str) -> None:
    """Ask the attempt `token` to stop. Later attempts do not listen to it."""
    write_atomically(directory / STOP, token, durable=False)


def stop_requested(directory: Path, token: str) -> bool:
    """Whether the attempt `token` was asked to stop."""
    try:
        return (directory / STOP).read_text() == token
    except OSError:
        return False


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none that can be read."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
