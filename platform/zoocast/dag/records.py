"""The record (`done.json`) that makes a folder a result, and where a step's folders lie under a root (`zoocast.store.layout`)."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoocast.dag.step import Step
from zoocast.errors import IntegrityError
from zoocast.store.address import open_root
from zoocast.store.files import FileInfo
from zoocast.store.layout import DONE, LOCKS, PARTIAL, STEP_FOLDER, STEPS
from zoocast.store.recorded import check_step, read_done
from zoocast.store.sealed import write_sealed

__all__ = [
    "Record",
    "final_path",
    "latest",
    "lock_path",
    "partial_path",
    "publish_step",
    "read_record",
    "read_sound",
    "records_of",
    "results",
    "versions",
]


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a finished step. Times are seconds since the epoch; `inputs` maps to (name, key).

    `files` are all that it left, by path relative to its folder, as they were when it returned. `machine` is what
    `provenance.machine` said in the process that computed it; nothing in records of before.
    """

    name: str
    key: str
    kind: str
    version: int
    config: Any
    salt: str
    inputs: dict[str, tuple[str, str]]
    started: float
    finished: float
    seconds: float
    result: dict[str, Any]
    host: str
    run: str
    resources: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileInfo]
    machine: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        step: Step,
        result: dict[str, Any],
        *,
        started: float,
        finished: float,
        host: str,
        run: str,
        files: Mapping[str, FileInfo],
        machine: Mapping[str, str] | None = None,
    ) -> Record:
        """The record of `step`, which has just returned `result` and left `files`."""
        return cls(
            name=step.name,
            key=step.key,
            kind=step.kind.name,
            version=step.kind.version,
            config=step.canonical_config,
            salt=step.salt,
            inputs={name: (parent.name, parent.key) for name, parent in step.inputs.items()},
            started=started,
            finished=finished,
            seconds=finished - started,
            result=result,
            host=host,
            run=run,
            # Not part of the key, but what timings are compared with.
            resources={
                **dataclasses.asdict(step.resources),
                "launches": [dataclasses.asdict(r) for r in step.launches],
            },
            versions=dict(versions()),
            files=dict(files),
            machine=dict(machine or {}),
        )

    @property
    def folder(self) -> str:
        """``NAME-KEY``, the name of the step's folder."""
        return f"{self.name}-{self.key}"

    def write(self, directory: Path) -> None:
        """Make `directory` a result."""
        write_sealed(directory / DONE, dataclasses.asdict(self))


@functools.cache
def versions() -> tuple[tuple[str, str], ...]:
    """(package, version) of what results hang on, as it is installed here."""
    found = {"python": platform.python_version()}
    # From the installed metadata: importing torch and ray takes seconds, and the driver needs neither for this.
    for package in ("ray", "torch", "zoocast"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found.items())


def final_path(root: Path, step: Step) -> Path:
    return root / STEPS / step.folder


def partial_path(root: Path, step: Step) -> Path:
    return root / STEPS / f"{step.folder}{PARTIAL}"


def lock_path(root: Path, step: Step) -> Path:
    return root / LOCKS / f"{step.folder}.lock"


def read_record(directory: Path) -> Record:
    """The record of a finished step.

    Raises:
        IntegrityError: `directory` has no readable record of its own.
    """
    return read_done(directory, _parse)


def read_sound(directory: Path, *, whole: bool = True) -> Record:
    """The record of a finished step that is to be used, after a quick look at its files; see `check_step`."""
    check_step(directory, whole=whole)
    return read_record(directory)


def _parse(data: dict[str, Any]) -> Record:
    fields = {name: value for name, value in data.items() if name != "digest"}
    inputs = {name: (str(step), str(key)) for name, (step, key) in data["inputs"].items()}
    files = {name: FileInfo(*info) for name, info in data["files"].items()}
    return Record(**{**fields, "inputs": inputs, "files": files})


def results(root: Path) -> dict[str, list[Path]]:
    """The folders of all finished steps under `root`, of any key, by the steps' names."""
    found: dict[str, list[Path]] = {}
    try:
        for folder in (root / STEPS).iterdir():
            if match := STEP_FOLDER.fullmatch(folder.name):
                found.setdefault(match[1], []).append(folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def records_of(folders: Iterable[Path]) -> list[Record]:
    """Every readable record in `folders`, the latest first."""
    records = []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except IntegrityError:  # damage in a result that nobody asked for is no reason to stop
            continue
    # The key as well, so that two which finished at the same time are in the same order in every plan.
    return sorted(records, key=lambda r: (-r.finished, r.key))


def latest(root: Path, name: str) -> Path | None:
    """The folder of the finished step called `name`, or of this key (``NAME-KEY``), with all of its files; None if there is none.

    Raises:
        IntegrityError: a file is missing or damaged.
    """
    here = open_root(root)
    if STEP_FOLDER.fullmatch(name) and here.know(name):
        return here.fetch(name)
    records = records_of(results(root).get(name, ()))
    return here.fetch(records[0].folder) if records else None


def publish_step(root: Path, step: Step, record: Record | None) -> None:
    """Turn the unfinished folder of `step` into its result; `record` is None when it is already written there.

    A crash at any point leaves the old result, the new one, or an unfinished folder with its record, to be published next time.
    """
    open_root(root).publish(step.folder, None if record is None else dataclasses.asdict(record))
