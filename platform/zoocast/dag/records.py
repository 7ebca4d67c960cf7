"""Where steps lie under a storage root, and the record (`done.json`) that makes a folder a result.

ROOT/steps/NAME-KEY/            a finished step; its done.json was written last
ROOT/steps/NAME-KEY.partial/    an unfinished one, kept so that training resumes
ROOT/locks/NAME-KEY.lock        who is at work on it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoocast.dag.context import TALK, read_json
from zoocast.dag.step import Step
from zoocast.errors import IntegrityError
from zoocast.store.bucket import DONE, FOLDER, mirror_of
from zoocast.store.files import FileInfo, publish, write_atomically

__all__ = ["Record", "discard", "final_path", "lock_path", "partial_path", "publish_step", "read_record", "records_of", "results"]


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a finished step. Times are seconds since the epoch; `inputs` maps to (name, key).

    `files` are all that it left, by path relative to its folder, as they were when it returned.
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
            resources={
                **dataclasses.asdict(step.resources),
                "launches": [dataclasses.asdict(r) for r in step.launches],
            },
            versions=dict(_versions()),
            files=dict(files),
        )

    @property
    def folder(self) -> str:
        """``NAME-KEY``, the name of the step's folder."""
        return f"{self.name}-{self.key}"

    def to_json(self) -> dict[str, Any]:
        """What ``done.json`` holds: the record and a digest of it."""
        data = dataclasses.asdict(self)
        return {**data, "digest": _digest(data)}

    def write(self, directory: Path) -> None:
        """Make `directory` a result."""
        write_atomically(directory / DONE, json.dumps(self.to_json(), indent=1))


def _digest(data: dict[str, Any]) -> str:
    """SHA-256 of a record's JSON, however its lines are broken."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = {"python": platform.python_version()}
    for package in ("ray", "torch", "zoocast"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found.items())


def final_path(root: Path, step: Step) -> Path:
    return root / "steps" / step.folder


def partial_path(root: Path, step: Step) -> Path:
    return root / "steps" / f"{step.folder}.partial"


def lock_path(root: Path, step: Step) -> Path:
    return root / "locks" / f"{step.folder}.lock"


def read_record(directory: Path) -> Record:
    """The record of a finished step.

    Raises:
        IntegrityError: `directory` has no readable record.
    """
    data = read_json(directory / DONE)
    try:
        if data is None:
            raise TypeError("missing or not JSON")
        if data.pop("digest") != _digest(data):
            raise TypeError("it does not match its own digest")
        inputs = {k: (str(v[0]), str(v[1])) for k, v in data["inputs"].items()}
        return Record(**{**data, "inputs": inputs, "files": {k: FileInfo(*v) for k, v in data["files"].items()}})
    except (TypeError, AttributeError, IndexError, KeyError) as error:
        raise IntegrityError(
            f"{directory / DONE} cannot be read ({error}), so the step's result cannot be trusted;"
            f" remove {directory} and run the pipeline again"
        ) from None


def results(root: Path) -> dict[str, list[Path]]:
    """The folders of all finished steps under `root`, of any key, by the steps' names."""
    found: dict[str, list[Path]] = {}
    try:
        for folder in (root / "steps").iterdir():
            if match := FOLDER.fullmatch(folder.name):
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
    return sorted(records, key=lambda r: (-r.finished, r.key))


def publish_step(root: Path, step: Step, record: Record | None) -> None:
    """Turn the partial folder of `step` into its result; `record` is None when it is already written there.

    A crash at any point leaves the old result, the new one, or a partial folder with its record, which is published next time.
    """
    mirror = mirror_of(root)
    if mirror is not None and record is not None:
        files = {file: FileInfo(*info) for file, info in mirror.handed_over(step.folder).items()}
        mirror.commit(step.folder, dataclasses.replace(record, files=files).to_json())
        return
    partial, final = partial_path(root, step), final_path(root, step)
    if record is not None:
        record.write(partial)
    for name in TALK:
        (partial / name).unlink(missing_ok=True)
    replaced = final.with_name(f"{final.name}.replaced")
    discard(replaced)
    if final.exists():
        final.rename(replaced)
    publish(partial, final)
    discard(replaced)


def discard(directory: Path) -> None:
    """Remove `directory` if it is there."""
    if directory.exists():
        shutil.rmtree(directory)
