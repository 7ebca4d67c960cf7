"""From journals to MLflow, parcel by parcel: a `Courier` carries one journal to one MLflow run, a `Round` those of one pipeline.

A parcel is delivered whole before the position moves past it. After any failure the same parcel is packed again from the journal,
and since `Server` says nothing twice, it does not matter how much of it had arrived.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoocast.tracking.journal import Status, read_journal
from zoocast.tracking.outbox import PIPELINE, Ledger, Line, Position
from zoocast.tracking.server import (
    JOURNAL,
    KEY,
    PARENT,
    RUN,
    STEP,
    VALIDATION_ERROR,
    Point,
    Refused,
    Server,
    is_refusal,
)

__all__ = ["Courier", "Round"]

MAX_POINTS, MAX_WORDS, MAX_FILES = 1000, 100, 8
FILES = ("image", "artifact", "dataset", "model", "note", "compare")
# MLflow draws colours from run ids, often several of the same blue.
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


@dataclasses.dataclass
class Parcel:
    """Some entries of a journal, made ready: `files` are the entries that cost a call each."""

    end: int
    count: int = 0
    points: list[Point] = dataclasses.field(default_factory=list)
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    files: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    parts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    said: Status | None = None
    time: int | None = None

    @property
    def full(self) -> bool:
        """Whether it should go: a parcel is what may have to be said again."""
        words = len(self.params) + len(self.tags)
        return len(self.points) >= MAX_POINTS or words >= MAX_WORDS or len(self.files) >= MAX_FILES


class Courier:
    """Carries one journal to one MLflow run."""

    def __init__(self, ledger: Ledger, line: Line, server: Server, store: str) -> None:
        self.ledger, self.line, self.server, self.store = ledger, line, server, store
        self.position = ledger.position(store, line.key)
        self._inode: int | None = None
        self._steps: dict[str, set[int]] = {}
        self._words: set[str] = set()

    def carry(self, parent: str | None) -> int:
        """Deliver the next parcel, or the status when all is said; returns how much that was, 0 when nothing is left for now."""
        line, position = self.line, self.position
        journal = self.ledger.journal(line)
        if position.abandoned or (journal is None and line.settled not in ("finished", "failed")):
            return 0
        try:
            if not self._enter(journal, parent):
                return 0
            parcel = self._pack(journal) if journal is not None else Parcel(end=0)
            if parcel.count:
                self._deliver(parcel)
                return parcel.count
            return self._tell()
        except FileNotFoundError:  # the directory has just lost its `.partial`
            self._inode = None
            return 0
        except BaseException:
            self._inode = None
            raise

    def _enter(self, journal: Path | None, parent: str | None) -> bool:
        """Find or make the MLflow run of this journal, and remember which points it has."""
        inode = journal.stat().st_ino if journal is not None else 0
        if inode == self._inode:
            return True
        head = next((entry for entry, _ in read_journal(journal)), None) if journal is not None else {}
        if head is None:
            return False
        identity = str(head.get("id", ""))
        known = self.server.presence(self.position.run_id) if self.position.run_id else "missing"
        same = (self.position.journal, self.position.parent) == (identity, parent or "")
        if known == "deleted" and same:  # a user's decision
            self.position.abandoned = True
            self._save()
            return False
        if known != "active" or not same:
            former, time = self.position.run_id, head.get("time")
            run_id = self.server.run(self._tags(identity, parent), self.line.name, time)
            if known == "active" and former != run_id:
                self.server.discard(former)
            self.position = Position(identity, run_id, parent or "", self.server.experiment_id, time=time)
            if self.line.key == PIPELINE:
                self.server.share_view(self.position.run_id, VALIDATION_ERROR)
            self._save()
        self._remember(journal)
        self._inode = inode
        return True

    def _tags(self, journal: str, parent: str | None) -> dict[str, str]:
        tags = {RUN: self.ledger.run, STEP: self.line.name, KEY: self.line.key, JOURNAL: journal, **self.line.tags}
        place = next((i for i, line in enumerate(self.ledger.lines) if line.key == self.line.key), 0)
        tags.setdefault("mlflow.runColor", COLOURS[(place - 1) % len(COLOURS)])
        return tags if parent is None else {**tags, PARENT: parent}

    def _remember(self, journal: Path | None) -> None:
        self._steps, self._words = {}, set()
        if journal is not None:
            for entry, _ in read_journal(journal, 0, self.position.offset):
                self._take(entry, Parcel(end=0))

    def _pack(self, journal: Path) -> Parcel:
        parcel = Parcel(end=self.position.offset)
        for entry, end in read_journal(journal, self.position.offset, self.line.until):
            self._take(entry, parcel)
            parcel.end = end
            parcel.count += 1
            if parcel.full:
                break
        return parcel

    def _take(self, entry: Mapping[str, Any], parcel: Parcel) -> None:
        parcel.time = entry.get("time", parcel.time)
        match entry.get("kind"):
            case "metrics":
                self._take_metrics(entry, parcel)
            case "params":
                parcel.params |= {k: v for k, v in entry["values"].items() if k not in self._words}
                self._words |= set(entry["values"])
            case "tags":
                parcel.tags |= entry["values"]
            case "status":
                parcel.said = entry["status"]
            case "rewind":
                parcel.said = "running"
                parcel.tags["zoocast.resumed"] = f"from step {entry['step']}"
            case "child":
                parcel.parts.append(dict(entry))
            case kind if kind in FILES:
                parcel.files.append(dict(entry))

    def _take_metrics(self, entry: Mapping[str, Any], parcel: Parcel) -> None:
        step = entry["step"]
        for key, said in entry["values"].items():
            steps = self._steps.setdefault(key, set())
            if step in steps:
                continue
            steps.add(step)
            value = float(said)
            if not math.isfinite(value):
                parcel.tags.setdefault("zoocast.nonfinite", f"{key} was {said} at step {step}")
            # MLflow would store an infinity as 1.8e308, which flattens every chart; a NaN is a gap.
            parcel.points.append(Point(key, step, math.nan if math.isinf(value) else value, entry["time"]))

    # --------------------------------------------------------------------------------------------------------- delivery

    def _deliver(self, parcel: Parcel) -> None:
        run_id = self.position.run_id
        try:
            self.server.log(run_id, parcel.points, parcel.params, parcel.tags)
        except Exception as error:
            if not is_refusal(error) or self.server.presence(run_id) != "active":
                raise
            self._one_by_one(parcel)
        for entry in parcel.files:
            self._try(f"{entry['kind']} {entry.get('file') or entry.get('name', '')}", self._say, entry)
        for entry in parcel.parts:
            self._try(f"part {entry['name']}", self._adopt, entry)
        self.position.offset = parcel.end
        self.position.said = parcel.said or self.position.said
        self.position.time = parcel.time or self.position.time
        self._save()

    def _one_by_one(self, parcel: Parcel) -> None:
        """What MLflow takes of a parcel that it refused as a whole."""
        run_id = self.position.run_id
        for point in parcel.points:
            self._try(f"metric {point}", self.server.log, run_id, [point], {}, {})
        for key, value in parcel.params.items():
            self._try(f"param {key}={value}", self.server.log, run_id, [], {key: value}, {})
        for key, value in parcel.tags.items():
            self._try(f"tag {key}={value}", self.server.log, run_id, [], {}, {key: value})

    def _try(self, what: str, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            if not is_refusal(error):
                raise
            self.position.refused += 1
            self.ledger.note_refusal(self.store, self.line.key, f"{what}: {error}")

    def _say(self, entry: dict[str, Any]) -> None:
        run_id = self.position.run_id
        match entry["kind"]:
            case "note":
                self.server.note(run_id, entry["text"])
            case "compare":
                self.server.share_view(run_id, entry["metric"], entry["params"])
            case "dataset":
                self.server.dataset(run_id, entry)
            case "image":
                self.server.image(run_id, entry["key"], entry["step"], entry["time"], self._file(entry))
            case "artifact":
                self.server.artifact(run_id, self._file(entry), entry["folder"])
            case "model":
                self.server.model(run_id, entry, self._file(entry), self.line.key, self.ledger.started)

    def _adopt(self, entry: Mapping[str, Any]) -> None:
        try:
            self.ledger.adopt(self.line, entry)
        except ValueError as error:
            raise Refused(str(error)) from None

    def _file(self, entry: Mapping[str, Any]) -> Path:
        journal = self.ledger.journal(self.line)
        if journal is None:
            raise Refused("the journal's directory is gone")
        path = journal.parent / entry["file"]
        if not path.exists() and self.ledger.journal(self.line) == journal:
            raise Refused(f"{path} is gone")
        places = [self.ledger.root.resolve(), journal.parent.resolve()]
        linked = (p for p in path.rglob("*") if p.is_symlink()) if path.is_dir() else ()
        for found in (path, *linked):
            if not any(found.resolve().is_relative_to(place) for place in places):
                raise Refused(f"{found} lies outside of {self.ledger.root}, and what lies there is not told to MLflow")
        return path

    def _tell(self) -> int:
        status = self.ledger.status(self.line, self.position)
        if status == self.position.told:
            return 0
        self.server.status(self.position.run_id, status, self.position.time)
        self.position.told = status
        self._save()
        return 1

    def _save(self) -> None:
        self.ledger.keep(self.store, self.line.key, self.position)


class Round:
    """Carries all journals of a pipeline run in turns: the run itself, its steps as its children, their parts as theirs."""

    def __init__(self, ledger: Ledger, server: Server, store: str) -> None:
        self.ledger, self.server, self.store = ledger, server, store
        self._couriers: dict[str, Courier] = {}

    def go(self) -> int:
        """One parcel for each journal that has one; returns how much was delivered.

        A journal that cannot be delivered does not keep the others, unless the server is gone; it is an error once nothing else
        is left to do.
        """
        moved, failure = 0, None
        # A parent's run must be there before its children's.
        for line in sorted(self.ledger.lines, key=lambda line: (line.key != PIPELINE, line.owner != "")):
            parent = self._parent(line)
            if parent == "":
                continue
            try:
                moved += self._courier(line).carry(parent)
            except Exception as error:
                if not self.server.answers():
                    raise
                failure = failure or error
        if failure is not None and moved == 0:
            raise failure
        return moved

    def _parent(self, line: Line) -> str | None:
        """The MLflow run above that of `line`: None for the pipeline run, "" while there is none or when it was deleted."""
        if line.key == PIPELINE:
            return None
        above = self.ledger.line(line.owner or PIPELINE)
        if above is None or self._parent(above) == "":
            return ""
        position = self._courier(above).position
        return "" if position.abandoned else position.run_id

    def _courier(self, line: Line) -> Courier:
        courier = self._couriers.get(line.key)
        if courier is None:
            courier = self._couriers[line.key] = Courier(self.ledger, line, self.server, self.store)
        courier.line = line
        return courier
