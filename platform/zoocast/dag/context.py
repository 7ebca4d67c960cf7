"""What a step's function is given: where to write, what to read, and how to speak with the driver.

The driver and the step talk through small files in the step's folder, because the step may run on another machine, in a Ray task
or in a Ray Train worker, and outlive the driver: `attempt.json` says who owns the folder, `stop` asks for an end, `progress.json`
says how far the work is. Under a root in an object store they are objects, which is slower, so they are looked at less often.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoocast.config import load
from zoocast.dag.step import GROUP, Resources
from zoocast.errors import InfrastructureError
from zoocast.store.bucket import DONE, FOLDER, Mirror, everything, mirror_of, open_mirror
from zoocast.store.files import JOURNAL_FILE, write_atomically

__all__ = ["Fenced", "StepContext"]

T = TypeVar("T")

ATTEMPT, STOP, PROGRESS, ERROR = "attempt.json", "stop", "progress.json", "error.txt"
TALK = (ATTEMPT, STOP, PROGRESS, ERROR)
PROGRESS_INTERVAL = 0.2
STOP_INTERVAL = 0.5
REMOTE_INTERVAL = 2.0


class Fenced(InfrastructureError):
    """Another attempt has taken over this step's folder; what this one still does must not reach it."""


@dataclasses.dataclass
class StepContext:
    """A running step, seen by its function. Travels to Ray tasks and Ray Train workers, which begin with `localize`.

    `remote` is the mirror in which its paths lie, under a root in an object store; None where all machines see one folder.
    """

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
    remote: Mirror | None = None
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
        remote = mirror_of(directory)
        return cls(name, key, directory, config, inputs or {}, results or {}, resources, "standalone", token, remote=remote)

    @property
    def journal_path(self) -> Path:
        """Where the step's metrics are written."""
        return self.directory / JOURNAL_FILE

    def localize(self, wanted: Callable[[str], bool] = everything) -> StepContext:
        """The context on the machine that asks: with all that was handed over of the step, and its inputs, in its own mirror.

        Of the steps that the inputs rest on it brings what reports read: records, journals and studies.

        Args:
            wanted: which of the step's own files are needed, by their paths in its folder.

        Raises:
            InfrastructureError: the inputs do not fit on this machine, or the object store does not answer.
            IntegrityError: a file does not match its checksum.
        """
        if self.remote is None:
            return self
        mirror = open_mirror(self.remote.url)
        inputs = {name: mirror.bring(path, self.remote) for name, path in self.inputs.items()}
        for name in _ancestors(mirror, [path.name for path in inputs.values()]):
            if mirror.know(name):  # results that nothing needs any more may have been removed
                mirror.complete(name, _is_note)
        directory = mirror.bring(self.directory, self.remote)
        mirror.pull(mirror.step_of(directory), wanted)
        return dataclasses.replace(self, directory=directory, inputs=inputs, remote=mirror)

    def push(self) -> None:
        """Hand what was written to the other machines: after each checkpoint, and before another process reads it.

        Raises:
            Fenced: the folder belongs to another attempt by now.
            InfrastructureError: the object store does not answer.
        """
        if self.remote is not None:
            self.check_fence()
            self.remote.push(self.remote.step_of(self.directory))

    def pull(self, wanted: Callable[[str], bool] = everything) -> None:
        """Take what other processes have pushed of the step; see `here`."""
        if self.remote is not None:
            self.remote.pull(self.remote.step_of(self.directory), wanted)

    def group(self, name: str) -> dict[str, Path]:
        """The folders of the inputs in a `group`, by their names in it; none when there is no such group."""
        prefix = f"{name}{GROUP}"
        return {key.removeprefix(prefix): path for key, path in self.inputs.items() if key.startswith(prefix)}

    def result(self, name: str, cls: type[T]) -> T:
        """What the step behind the input `name` returned, a dataclass of type `cls`."""
        return load(cls, self.results[name])

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1. Cheap: at most five times a second something is written."""
        if fraction < 1 and not self._due("progress", REMOTE_INTERVAL if self.remote else PROGRESS_INTERVAL):
            return
        note = {"token": self.token, "fraction": min(max(float(fraction), 0.0), 1.0), "message": message}
        with contextlib.suppress(InfrastructureError):  # a store that is away for a moment ends no training
            write_note(self.directory / PROGRESS, json.dumps(note))

    def should_stop(self) -> bool:
        """Whether the user asked to stop: save a checkpoint and raise `Interrupted`. Cheap enough for every iteration."""
        if not self._stop and self._due("stop", REMOTE_INTERVAL if self.remote else STOP_INTERVAL):
            with contextlib.suppress(InfrastructureError):
                self._stop = stop_requested(self.directory, self.token)
        return self._stop

    def check_fence(self) -> None:
        """Call before writing a checkpoint or a result.

        Raises:
            Fenced: the folder belongs to another attempt by now.
        """
        owner = as_json(read_note(self.directory / ATTEMPT))
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
    note = {"token": token, "run": run_id, "host": host, "started": time.time()}
    mirror = mirror_of(directory)
    if mirror is not None:
        note["work"] = (as_json(read_note(directory / ATTEMPT)) or {}).get("work") or token
    write_note(directory / ATTEMPT, json.dumps(note), durable=True)
    for name in TALK[1:]:
        (directory / name).unlink(missing_ok=True)
    return token


def request_stop(directory: Path, token: str) -> None:
    """Ask the attempt `token` to stop. Later attempts do not listen to it."""
    write_note(directory / STOP, token)


def stop_requested(directory: Path, token: str) -> bool:
    """Whether the attempt `token` was asked to stop."""
    return read_note(directory / STOP) == token


def write_note(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a control file where the other side reads it: in the folder, or the object store of its root."""
    mirror = mirror_of(path.parent)
    if mirror is None:
        write_atomically(path, text, durable=durable)
    else:
        mirror.write(mirror.name(path), text)


def read_note(path: Path) -> str | None:
    """The text of a control file; None when there is none. Under a mirror also when the attempt's folder was removed here."""
    mirror = mirror_of(path.parent)
    if mirror is not None:
        data = mirror.read(mirror.name(path))
        return None if data is None else data.decode()
    try:
        return path.read_text()
    except OSError:
        return None


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none that can be read."""
    try:
        return as_json(path.read_text())
    except (OSError, ValueError):
        return None


def as_json(text: str | None) -> dict[str, Any] | None:
    """The JSON object in `text`; None when it is none."""
    try:
        data = json.loads(text or "")
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _ancestors(mirror: Mirror, folders: list[str]) -> Iterator[str]:
    """The steps that finished steps rest on, each once."""
    seen = set(folders)
    queue = list(folders)
    while queue:
        record = read_json(mirror.root / "steps" / queue.pop() / DONE) or {}
        for name, key in record.get("inputs", {}).values():
            folder = f"{name}-{key}"
            if folder not in seen and FOLDER.fullmatch(folder):
                seen.add(folder)
                yield folder  # its record is here when the caller asks for the next one
                queue.append(folder)


def _is_note(file: str) -> bool:
    return "/" not in file and file.endswith((".json", ".jsonl"))
