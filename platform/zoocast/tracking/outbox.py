"""The outbox: what is to be exported to MLflow and how far that has come, in files, so that any later process can go on.

ROOT/delivery/RUN.json              the pipeline run: its own journal and those of its steps
ROOT/delivery/RUN.lock              held by the one process that exports it; free: its driver is gone
ROOT/delivery/STORE/RUN/KEY.json    the cursor: how far one journal has come in one MLflow store
ROOT/delivery/STORE/RUN/KEY.refused what MLflow will never take, and why
ROOT/delivery/STORE/RUN/complete    nothing is left to export

A finished step may belong to several pipeline runs; each of them has its own stream for it, and its own cursor in its journal.
A step's journal may name parts of the step that are runs of their own, such as the trials of a search: they get streams as well,
which share the step's fate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoocast.errors import InfrastructureError
from zoocast.store.files import JOURNAL_FILE, parse_json, write_atomically, writing
from zoocast.store.locks import exclusive
from zoocast.tracking.entries import Child, Status
from zoocast.tracking.journal import read_entries

__all__ = ["PIPELINE", "Cursor", "Outbox", "Stream", "outboxes"]

PIPELINE = "pipeline"  # the key of a pipeline run's own journal
# Names go into MLflow's search filters and into file names (at most 255 bytes): no quotes, no "..", at most 200 characters.
IDENTIFIER = re.compile(r"(?!.{201})[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)*", re.ASCII)
EXPERIMENT = re.compile(r"[\w.\-]{1,250}")  # a pipeline, which may be any module; MLflow's tables hold 256 characters
# Attributes whose names in the files are older than those here.
NAMES_ON_DISK = {"streams": "lines", "reported": "said", "exported": "told"}


@dataclasses.dataclass
class Stream:
    """One journal that belongs to the run: that of the run itself, of a step, or of a part of a step.

    `settled` is the status with which the driver closed the step; `until` is how much of the journal (bytes) had been written
    when the step was given up: what another run adds to it later is not this run's. A part has an `owner`, the key of its step;
    its `directory` is relative to the step's, and its own journal holds how it ended.
    """

    name: str
    key: str
    directory: str
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    settled: Status | None = None
    until: int | None = None
    owner: str = ""


@dataclasses.dataclass
class Cursor:
    """How far a journal has come in a store: `offset` bytes are exported to the MLflow run `run_id`, a child of `parent`.

    `journal` is the id in the journal's header. `reported` is the last status in the exported part of the journal, `exported` the
    status that MLflow shows. `refused` entries were not taken by MLflow; an `abandoned` run was deleted there by its user.
    """

    journal: str = ""
    run_id: str = ""
    parent: str = ""
    experiment_id: str = ""
    offset: int = 0
    time: int | None = None
    reported: Status | None = None
    exported: Status = "running"
    refused: int = 0
    abandoned: bool = False


@dataclasses.dataclass
class Outbox:
    """A pipeline run and its journals. `started` in milliseconds since the epoch; `store` is where its driver exports to."""

    root: Path
    run: str
    experiment: str
    store: str
    started: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000)
    streams: list[Stream] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.run):
            raise ValueError(f"a run is named with letters, digits and _ - . /, but got {self.run!r}")
        if not EXPERIMENT.fullmatch(self.experiment):
            raise ValueError(f"an experiment is named as a module is, in at most 250 characters, but got {self.experiment!r}")
        self._turn = threading.RLock()  # the driver and its thread of `Sync` both write streams

    @classmethod
    def load(cls, root: Path, run: str) -> Outbox | None:
        """The outbox of `run`; None when there is none, or it is damaged: the journals are what counts."""
        data = _read(_folder(root) / f"{_file(run)}.json")
        try:
            return cls(**{**data, "root": root, "streams": [Stream(**each) for each in data["streams"]]}) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def save(self) -> None:
        """Write it down; replaces the former one."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # Without the root: it may move, and `load` is told where it is.
        data = {**known, "root": "", "streams": [vars(stream) for stream in self.streams]}
        _write(_folder(self.root) / f"{_file(self.run)}.json", data)

    def stream(self, key: str) -> Stream | None:
        """The stream of a step, or of the run itself (`PIPELINE`)."""
        return next((stream for stream in self.streams if stream.key == key), None)

    def unsettled(self) -> list[Stream]:
        """The streams that the driver has not closed; those of parts end with their step."""
        return [stream for stream in self.streams if stream.settled is None and not stream.owner]

    def parts(self, stream: Stream) -> list[Stream]:
        """The streams of the parts that a step's journal has named so far."""
        # A copy: the exporting thread may add a part while the driver goes through the list.
        return [part for part in list(self.streams) if part.owner == stream.key]

    def put(self, stream: Stream) -> None:
        """Add a stream, or replace the one of the same key, and with it how far its parts count; then write all down."""
        if not IDENTIFIER.fullmatch(stream.key):
            raise ValueError(f"a step's key holds letters, digits and _ - . /, but got {stream.key!r}")
        with self._turn:
            place = next((i for i, known in enumerate(self.streams) if known.key == stream.key), len(self.streams))
            self.streams[place : place + 1] = [stream]
            # The parts of a step that was given up are cut off at the same moment as its own journal; resumed, they count again.
            for part in self.parts(stream):
                journal = self.journal(part) if stream.until is not None else None
                part.until = journal.stat().st_size if journal is not None else None
            self.save()

    def add_part(self, owner: Stream, child: Child) -> None:
        """Add the part that the owner's journal names, unless it is known.

        Raises:
            ValueError: its name is none, or its directory is not inside the owner's.
        """
        with self._turn:
            key = f"{owner.key}/{child.name}"
            if os.path.isabs(child.file) or os.path.normpath(child.file).startswith(".."):
                raise ValueError(f"a part lies in the folder of its step, but got {child.file!r}")
            if self.stream(key) is None:
                self.put(Stream(child.name, key, child.file, owner.tags, owner=owner.key))

    def place(self, directory: Path) -> str:
        """How a directory is written down: its final name, relative to the root when it is inside, so that both may move."""
        final = Path(directory).absolute()
        final = final.with_name(final.name.removesuffix(".partial"))
        root = self.root.absolute()
        return str(final.relative_to(root) if final.is_relative_to(root) else final)

    def journal(self, stream: Stream) -> Path | None:
        """Where the stream's journal is now: a step's directory loses its ``.partial`` when the step is finished."""
        if stream.owner:
            owner = self.stream(stream.owner)
            # Found through its step's journal, since the step's folder may be with or without `.partial`.
            whole = self.journal(owner) if owner else None
            path = whole.parent / stream.directory / JOURNAL_FILE if whole else None
            return path if path and path.exists() else None
        final = self.root / stream.directory
        partial = final.with_name(f"{final.name}.partial")
        # Both may be there: another run does the step all over again, while this run has used the old result.
        for directory in (final, partial) if stream.settled == "finished" else (partial, final):
            if (directory / JOURNAL_FILE).exists():
                return directory / JOURNAL_FILE
        return None

    def settle(self, stream: Stream, status: Status) -> None:
        """Close a step's stream with its status; if it did not finish, what its journal gets from now on is another run's."""
        stream.settled, stream.until = status, None
        journal = self.journal(stream)
        with self._turn:
            # Saved before its parts: a kill in between leaves a closed step, whose parts the export still finds.
            self.put(stream)
            if journal is None:
                return
            # The export may not have come here yet; without a stream a part would neither count as pending nor be cut off.
            for child in read_entries(journal, Child):
                with contextlib.suppress(ValueError):  # the export notes it as refused
                    self.add_part(stream, child)
            if status != "finished":
                # Only now that its parts are listed, so that `put` cuts them off as well.
                stream.until = journal.stat().st_size
                self.put(stream)

    def forget(self) -> None:
        """Remove all that is remembered of this run's export.

        Raises:
            InfrastructureError: it is being exported.
        """
        with self.held() as free:
            if not free:
                raise InfrastructureError(f"run {self.run} is being synced by another process; wait for it, then try again")
            for name in (f"{_file(self.run)}.json", f"{_file(self.run)}.lock"):
                (_folder(self.root) / name).unlink(missing_ok=True)
            for cursors in _folder(self.root).glob(f"*/{_file(self.run)}"):
                shutil.rmtree(cursors)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """The right to export this run, whether or not it was to be had; does not wait."""
        with exclusive(_folder(self.root) / f"{_file(self.run)}.lock", wait=False) as free:
            yield free

    # ---------------------------------------------------------------------------------------------------------- cursors

    def cursor(self, store: str, key: str) -> Cursor:
        """How far the journal of `key` has come in `store`; the beginning when that is not known any more."""
        try:
            return Cursor(**(_read(self._cursors_folder(store) / f"{_file(key)}.json") or {}))
        except TypeError:
            return Cursor()

    def save_cursor(self, store: str, key: str, cursor: Cursor) -> None:
        """Write a cursor down. A lost one costs a repetition, so it is not flushed to the disk."""
        _write(self._cursors_folder(store) / f"{_file(key)}.json", dataclasses.asdict(cursor))

    def note_refusal(self, store: str, key: str, what: str) -> None:
        """Keep what MLflow will never take, for people."""
        with (self._cursors_folder(store) / f"{_file(key)}.refused").open("a", encoding="utf-8") as file:
            file.write(what.replace("\n", " ") + "\n")

    def refusals(self, store: str) -> list[str]:
        """What `store` will not take of this run, and why, a line each."""
        files = sorted(self._cursors_folder(store).glob("*.refused"))
        return [line for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]

    def retry_refused(self, store: str) -> None:
        """Have the journals of which `store` refused something exported to it once more, from their beginning."""
        for stream in self.streams:
            cursor = self.cursor(store, stream.key)
            if cursor.refused:
                self.save_cursor(store, stream.key, dataclasses.replace(cursor, offset=0, refused=0))
                (self._cursors_folder(store) / f"{_file(stream.key)}.refused").unlink(missing_ok=True)

    def is_complete(self, store: str) -> bool:
        """Whether nothing was left when the run was last exported to `store`, and nothing has come since, for whatever store."""
        return (self._cursors_folder(store) / "complete").exists() and not self.pending(store)

    def mark(self, store: str, *, complete: bool) -> None:
        """Remember whether anything is left to export."""
        path = self._cursors_folder(store) / "complete"
        if complete:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def status(self, stream: Stream, cursor: Cursor) -> Status:
        """What MLflow should show: the driver's status, else the journal's. A part that its step has left behind was killed."""
        owner = self.stream(stream.owner) if stream.owner else None
        if owner is not None and owner.settled is not None and cursor.reported in (None, "running"):
            return "killed"
        return stream.settled or cursor.reported or "running"

    def pending(self, store: str) -> int:
        """How many entries `store` does not have yet, statuses included."""
        cursors = {stream.key: self.cursor(store, stream.key) for stream in list(self.streams)}
        # What a user has moved to the trash in MLflow waits for nothing, and neither do the parts below it.
        left = {key for key, cursor in cursors.items() if cursor.abandoned}
        streams = [stream for stream in list(self.streams) if stream.key in cursors and stream.owner not in left]
        return sum(self._pending(stream, cursors[stream.key]) for stream in streams)

    def _pending(self, stream: Stream, cursor: Cursor) -> int:
        journal = self.journal(stream)
        if cursor.abandoned or (journal is None and stream.settled not in ("finished", "failed")):
            return 0
        status_differs = not cursor.run_id or cursor.exported != self.status(stream, cursor)
        if journal is None:
            return int(status_differs)
        with journal.open("rb") as file:
            file.seek(cursor.offset)
            rest = file.read() if stream.until is None else file.read(max(0, stream.until - cursor.offset))
        # Each line is an entry; a torn one at the end, without its newline, is none yet.
        return rest.count(b"\n") + status_differs

    def _cursors_folder(self, store: str) -> Path:
        return _folder(self.root) / store / _file(self.run)


def outboxes(root: Path) -> list[Outbox]:
    """Every pipeline run under `root` that has something to export or had, the oldest first."""
    found = (Outbox.load(root, path.stem) for path in _folder(root).glob("*.json"))
    return sorted((outbox for outbox in found if outbox), key=lambda outbox: outbox.started)


def _folder(root: Path) -> Path:
    return root / "delivery"


def _file(name: str) -> str:
    # A part's key is STEP/PART; `IDENTIFIER` has no "~", so two keys never share a file.
    return name.replace("/", "~")


def _write(path: Path, data: Mapping[str, Any]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({NAMES_ON_DISK.get(name, name): value for name, value in data.items()}), durable=False)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    for name, on_disk in NAMES_ON_DISK.items():
        if on_disk in data:
            data[name] = data.pop(on_disk)
    return data
