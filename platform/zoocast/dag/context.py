"""What a step's function is given: where to write, what to read, and how to report to the driver.

The driver and the step exchange control files in the step's folder (`zoocast.store.layout`), because the step may run on another
machine, in a Ray task or in a Ray Train worker, and outlive the driver. The root carries them and says how often to look at them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoocast.config import load
from zoocast.dag.step import GROUP, Resources
from zoocast.errors import InfrastructureError
from zoocast.store.address import root_of
from zoocast.store.files import JOURNAL_FILE, as_json
from zoocast.store.layout import ATTEMPT, CONTROL_FILES, PROGRESS, STOP
from zoocast.store.root import Root, Wanted, everything

__all__ = ["Fenced", "StepContext", "begin_attempt", "owner_of", "request_stop", "stop_requested"]

T = TypeVar("T")


class Fenced(InfrastructureError):
    """Another attempt has taken over this step's folder; what this one still does must not reach it."""


@dataclasses.dataclass(kw_only=True)
class StepContext:
    """A running step, seen by its function. Travels to Ray tasks and Ray Train workers, which begin with `localize`.

    Args:
        name: of the step.
        key: of the step; says what is computed.
        version: of the kind of its work.
        config: what is computed.
        directory: where the step writes.
        inputs: the folders of the finished steps that it reads.
        results: what the functions of these steps returned.
        resources: what the step's own process holds.
        root: the storage root in which all of these folders lie.
        run_id: the run that started it.
        token: names this attempt at the step; see `check_fence`.
    """

    name: str
    key: str
    version: int = 1
    config: Any
    directory: Path
    inputs: Mapping[str, Path]
    results: Mapping[str, dict[str, Any]]
    resources: Resources
    root: Root
    run_id: str
    token: str
    # Of this object alone: what `dataclasses.replace` makes of it has asked for nothing yet.
    _last: dict[str, float] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)
    _stop: bool = dataclasses.field(default=False, init=False, repr=False, compare=False)

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
        return cls(
            name=name,
            key=key,
            config=config,
            directory=directory,
            inputs=inputs or {},
            results=results or {},
            resources=resources,
            root=root_of(directory),
            run_id="standalone",
            token=begin_attempt(directory, "standalone"),
        )

    @property
    def journal_path(self) -> Path:
        """Where the step's metrics are written."""
        return self.directory / JOURNAL_FILE

    def localize(self, wanted: Wanted = everything) -> StepContext:
        """The context on the machine that asks: with all that was handed over of the step, and its inputs, on its own disk.

        Of the steps that the inputs rest on it fetches what reports read: records, journals and studies.

        Args:
            wanted: which of the step's own files are needed, by their paths in its folder.

        Raises:
            InfrastructureError: the inputs do not fit on this machine, or the object store does not answer.
            IntegrityError: a file does not match its checksum.
        """
        root = self.root.here()
        inputs = {name: root.localize(path, self.root) for name, path in self.inputs.items()}
        root.fetch_notes_behind(inputs.values())
        directory = root.localize(self.directory, self.root)
        root.pull(directory, wanted)
        return dataclasses.replace(self, directory=directory, inputs=inputs, root=root)

    def push(self) -> None:
        """Hand what was written to the other machines: after each checkpoint, and before another process reads it.

        Raises:
            Fenced: the folder belongs to another attempt by now.
            InfrastructureError: the object store does not answer.
        """
        if self.root.partial_copies:  # where all see one folder, each write is fenced by its writer
            self.check_fence()
        self.root.push(self.directory)

    def pull(self, wanted: Wanted = everything) -> None:
        """Take what other processes have pushed of the step."""
        self.root.pull(self.directory, wanted)

    def group(self, name: str) -> dict[str, Path]:
        """The folders of the inputs in a `group`, by their names in it; none when there is no such group."""
        prefix = f"{name}{GROUP}"
        return {key.removeprefix(prefix): path for key, path in self.inputs.items() if key.startswith(prefix)}

    def result(self, name: str, cls: type[T]) -> T:
        """What the step behind the input `name` returned, a dataclass of type `cls`."""
        return load(cls, self.results[name])

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1. Cheap: at most five times a second something is written."""
        # The end is always written, or the last thing to be seen of a fast step would be some fraction.
        if fraction < 1 and not self._due("progress", self.root.pace.progress):
            return
        note = {"token": self.token, "fraction": min(max(float(fraction), 0.0), 1.0), "message": message}
        with contextlib.suppress(InfrastructureError):  # a store that is away for a moment ends no training
            self.root.write_note(self.directory / PROGRESS, json.dumps(note))

    def should_stop(self) -> bool:
        """Whether the user asked to stop: save a checkpoint and raise `Interrupted`. Cheap enough for every iteration."""
        if not self._stop and self._due("stop", self.root.pace.stop):
            # Who cannot ask goes on training: the wish is still there at the next look.
            with contextlib.suppress(InfrastructureError):
                self._stop = stop_requested(self.directory, self.token)
        return self._stop

    def check_fence(self) -> None:
        """Call before writing a checkpoint or a result.

        Raises:
            Fenced: the folder belongs to another attempt by now.
        """
        owner = owner_of(self.directory)
        # None: the driver removes attempt.json when it publishes, so a worker that wakes up after that finds no owner.
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
    # Attempts that go on from each other's files are the same work, under the token of the first.
    work = (owner_of(directory) or {}).get("work") or token
    note = {"token": token, "run": run_id, "host": host, "started": time.time(), "work": work}
    # The owner first: from here on a worker of the earlier attempt is fenced, and cannot write again what is removed below.
    root_of(directory).write_note(directory / ATTEMPT, json.dumps(note), durable=True)
    # In an object store the notes themselves stay, but they name the earlier token, which nobody heeds any more.
    for name in CONTROL_FILES:
        if name != ATTEMPT:
            (directory / name).unlink(missing_ok=True)
    return token


def owner_of(directory: Path) -> dict[str, Any] | None:
    """What the attempt that owns `directory` wrote when it began; None when nobody does."""
    return as_json(root_of(directory).read_note(directory / ATTEMPT))


def request_stop(directory: Path, token: str) -> None:
    """Ask the attempt `token` to stop. Later attempts do not heed it."""
    root_of(directory).write_note(directory / STOP, token)


def stop_requested(directory: Path, token: str) -> bool:
    """Whether the attempt `token` was asked to stop."""
    return root_of(directory).read_note(directory / STOP) == token
