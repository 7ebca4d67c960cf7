"""What is to be delivered and how far that has come: files under ROOT/delivery/, so that any later process can go on.

ROOT/delivery/RUN.json              the pipeline run: its own journal and those of its steps
ROOT/delivery/RUN.lock              held by the one process that delivers it; free: its driver is gone
ROOT/delivery/STORE/RUN/KEY.json    how far one journal has come in one MLflow store
ROOT/delivery/STORE/RUN/KEY.refused what MLflow will never take, and why
ROOT/delivery/STORE/RUN/complete    nothing is left to say

A finished step may belong to several pipeline runs; each of them has its own line for it, and its own position in its journal.
A step's journal may name parts of the step that are runs of their own, such as the trials of a search: they get lines as well,
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

from zoocast.store.files import write_atomically, writing
from zoocast.tracking.backend import exclusive
from zoocast.tracking.journal import Status, read_journal

__all__ = ["JOURNAL_FILE", "PIPELINE", "Ledger", "Line", "Position", "ledgers"]

PIPELINE = "pipeline"  # the key of a pipeline run's own journal
JOURNAL_FILE = "journal.jsonl"
IDENTIFIER = re.compile(r"(?!.{201})[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)*", re.ASCII)


@dataclasses.dataclass
class Line:
    """One journal that belongs to the run: that of the run itself, of a step, or of a part of a step.

    `settled` is what the driver says became of the step; `until` is how much of the journal (bytes) had been written when it was
    given up: what another run adds to it later is not this run's. A part has an `owner`, the key of its step; its `directory` is
    relative to the step's, and its own journal says how it ended.
    """

    name: str
    key: str
    directory: str
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    settled: Status | None = None
    until: int | None = None
    owner: str = ""


@dataclasses.dataclass
class Position:
    """How far a journal has come in a store: `offset` bytes are delivered to the MLflow run `run_id`, a child of `parent`.

    `said` is the status that the journal told last, `told` the one that MLflow knows.
    """

    journal: str = ""
    run_id: str = ""
    parent: str = ""
    experiment_id: str = ""
    offset: int = 0
    time: int | None = None
    said: Status | None = None
    told: Status = "running"
    refused: int = 0
    abandoned: bool = False


@dataclasses.dataclass
class Ledger:
    """A pipeline run and its journals. `started` in milliseconds since the epoch; `store` is where its driver delivers to."""

    root: Path
    run: str
    experiment: str
    store: str
    started: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000)
    lines: list[Line] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for word in (self.run, self.experiment):
            if not IDENTIFIER.fullmatch(word):
                raise ValueError(f"a run and an experiment are named with letters, digits and _ - . /, but got {word!r}")
        self._turn = threading.RLock()  # the driver and its delivery both write lines

    @classmethod
    def load(cls, root: Path, run: str) -> Ledger | None:
        """The ledger of `run`; None when there is none, or it is damaged: the journals are what counts."""
        data = _read(_folder(root) / f"{_file(run)}.json")
        try:
            return cls(**{**data, "root": root, "lines": [Line(**line) for line in data["lines"]]}) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def save(self) -> None:
        """Write it down; replaces the former one."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data = {**known, "root": "", "lines": [vars(line) for line in self.lines]}
        self._write(_folder(self.root) / f"{_file(self.run)}.json", data)

    def line(self, key: str) -> Line | None:
        """The line of a step, or of the run itself (`PIPELINE`)."""
        return next((line for line in self.lines if line.key == key), None)

    def unsettled(self) -> list[Line]:
        """The lines of which the driver has not said what became of them; parts are not asked for."""
        return [line for line in self.lines if line.settled is None and not line.owner]

    def parts(self, line: Line) -> list[Line]:
        """The lines that a step's journal has named so far."""
        return [part for part in list(self.lines) if part.owner == line.key]

    def put(self, line: Line) -> None:
        """Add a line, or replace the one of the same key, and with it how far its parts count; then write all down."""
        if not IDENTIFIER.fullmatch(line.key):
            raise ValueError(f"a step's key holds letters, digits and _ - . /, but got {line.key!r}")
        with self._turn:
            place = next((i for i, known in enumerate(self.lines) if known.key == line.key), len(self.lines))
            self.lines[place : place + 1] = [line]
            for part in self.parts(line):
                journal = self.journal(part) if line.until is not None else None
                part.until = journal.stat().st_size if journal is not None else None
            self.save()

    def adopt(self, owner: Line, entry: Mapping[str, Any]) -> None:
        """Add the part that a ``child`` entry of the owner's journal names, unless it is known.

        Raises:
            ValueError: its name is none, or its directory is not inside the owner's.
        """
        with self._turn:
            key = f"{owner.key}/{entry['name']}"
            if os.path.isabs(entry["file"]) or os.path.normpath(entry["file"]).startswith(".."):
                raise ValueError(f"a part lies in the folder of its step, but got {entry['file']!r}")
            if self.line(key) is None:
                self.put(Line(entry["name"], key, entry["file"], owner.tags, owner=owner.key))

    def place(self, directory: Path) -> str:
        """How a directory is written down: its final name, relative to the root when it is inside, so that both may move."""
        final = Path(directory).absolute()
        final = final.with_name(final.name.removesuffix(".partial"))
        root = self.root.absolute()
        return str(final.relative_to(root) if final.is_relative_to(root) else final)

    def journal(self, line: Line) -> Path | None:
        """Where the line's journal is now: a step's directory loses its ``.partial`` when the step is finished."""
        if line.owner:
            owner = self.line(line.owner)
            whole = self.journal(owner) if owner else None
            path = whole.parent / line.directory / JOURNAL_FILE if whole else None
            return path if path and path.exists() else None
        final = self.root / line.directory
        partial = final.with_name(f"{final.name}.partial")
        for directory in (final, partial) if line.settled == "finished" else (partial, final):
            if (directory / JOURNAL_FILE).exists():
                return directory / JOURNAL_FILE
        return None

    def settle(self, line: Line, status: Status) -> None:
        """Note what became of the step; if it did not finish, what its journal says from now on is another run's."""
        line.settled, line.until = status, None
        journal = self.journal(line)
        with self._turn:
            self.put(line)
            if journal is None:
                return
            for entry, _ in read_journal(journal):
                if entry.get("kind") == "child":
                    with contextlib.suppress(ValueError):  # the delivery tells of it
                        self.adopt(line, entry)
            if status != "finished":
                line.until = journal.stat().st_size
                self.put(line)

    def forget(self) -> None:
        """Remove all that is remembered of this run's delivery."""
        for name in (f"{_file(self.run)}.json", f"{_file(self.run)}.lock"):
            (_folder(self.root) / name).unlink(missing_ok=True)
        for book in _folder(self.root).glob(f"*/{_file(self.run)}"):
            shutil.rmtree(book)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """The right to deliver this run, whether or not it was to be had; does not wait."""
        with exclusive(_folder(self.root) / f"{_file(self.run)}.lock", wait=False) as free:
            yield free

    # ------------------------------------------------------------------------------------------------------- positions

    def position(self, store: str, key: str) -> Position:
        """How far the journal of `key` has come in `store`."""
        try:
            return Position(**(_read(self._book(store) / f"{_file(key)}.json") or {}))
        except TypeError:
            return Position()

    def keep(self, store: str, key: str, position: Position) -> None:
        """Write a position down. A lost one costs a repetition, so it is not flushed to the disk."""
        self._write(self._book(store) / f"{_file(key)}.json", dataclasses.asdict(position))

    def note_refusal(self, store: str, key: str, what: str) -> None:
        """Keep what MLflow will never take, for people."""
        with (self._book(store) / f"{_file(key)}.refused").open("a", encoding="utf-8") as file:
            file.write(what.replace("\n", " ") + "\n")

    def is_complete(self, store: str) -> bool:
        """Whether nothing was left to say when the run was last delivered to `store`."""
        return (self._book(store) / "complete").exists()

    def mark(self, store: str, *, complete: bool) -> None:
        """Remember whether anything is left to say."""
        path = self._book(store) / "complete"
        if complete:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def status(self, line: Line, position: Position) -> Status:
        """What MLflow should show: the driver's word, else the journal's. A part that is left behind by its step was killed."""
        owner = self.line(line.owner) if line.owner else None
        if owner is not None and owner.settled is not None and position.said in (None, "running"):
            return "killed"
        return line.settled or position.said or "running"

    def pending(self, store: str) -> int:
        """How many entries `store` has not been told, statuses included."""
        positions = {line.key: self.position(store, line.key) for line in list(self.lines)}
        left = {key for key, position in positions.items() if position.abandoned}
        lines = [line for line in list(self.lines) if line.key in positions and line.owner not in left]
        return sum(self._pending(line, positions[line.key]) for line in lines)

    def _pending(self, line: Line, position: Position) -> int:
        journal = self.journal(line)
        if position.abandoned or (journal is None and line.settled not in ("finished", "failed")):
            return 0
        untold = not position.run_id or position.told != self.status(line, position)
        if journal is None:
            return int(untold)
        with journal.open("rb") as file:
            file.seek(position.offset)
            rest = file.read() if line.until is None else file.read(max(0, line.until - position.offset))
        return rest.count(b"\n") + untold

    def _book(self, store: str) -> Path:
        return _folder(self.root) / store / _file(self.run)

    def _write(self, path: Path, data: dict[str, Any]) -> None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(data), durable=False)


def ledgers(root: Path) -> list[Ledger]:
    """Every pipeline run under `root` that has something to deliver or had, the oldest first."""
    found = (Ledger.load(root, path.stem) for path in _folder(root).glob("*.json"))
    return sorted((ledger for ledger in found if ledger), key=lambda ledger: ledger.started)


def _folder(root: Path) -> Path:
    return root / "delivery"


def _file(name: str) -> str:
    return name.replace("/", "~")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
