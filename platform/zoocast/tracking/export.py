"""From journals to MLflow, batch by batch: an `Exporter` carries one journal to one MLflow run, a `RunExporter` all of a run.

Each entry arrives exactly once although any process may be killed anywhere. The cursor moves past a batch only after MLflow has
taken the whole of it, so nothing is lost; after any failure the same batch is packed again from the journal, and since no call of
`Server` adds anything when it is repeated, nothing is doubled, however much of the batch had arrived.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoocast.store.layout import STEPS
from zoocast.tracking import entries
from zoocast.tracking.entries import Entry, Status
from zoocast.tracking.journal import read_journal
from zoocast.tracking.outbox import PIPELINE, Cursor, Outbox, Stream
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

__all__ = ["Exporter", "RunExporter"]

# One call's worth of each, by MLflow's limits (1,000 metrics, 100 params or tags); each single costs calls of its own.
MAX_POINTS, MAX_WORDS, MAX_CALLS = 1000, 100, 8
# MLflow draws colours from run ids, often several of the same blue.
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")

Single = (
    entries.Image
    | entries.Artifact
    | entries.Dataset
    | entries.Model
    | entries.Note
    | entries.Compare
    | entries.Group
    | entries.Scores
)


@dataclasses.dataclass
class ExportBatch:
    """Some entries of a journal, made ready: `singles` are the entries that cost a call each."""

    end: int
    count: int = 0
    points: list[Point] = dataclasses.field(default_factory=list)
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    singles: list[Single] = dataclasses.field(default_factory=list)
    children: list[entries.Child] = dataclasses.field(default_factory=list)
    damaged: list[str] = dataclasses.field(default_factory=list)
    status: Status | None = None
    time: int | None = None

    @property
    def full(self) -> bool:
        """Whether it should go: a batch is what may have to be sent again."""
        words = len(self.params) + len(self.tags)
        return len(self.points) >= MAX_POINTS or words >= MAX_WORDS or len(self.singles) >= MAX_CALLS


class Exporter:
    """Carries one journal to one MLflow run."""

    def __init__(self, outbox: Outbox, stream: Stream, server: Server, store: str) -> None:
        self.outbox, self.stream, self.server, self.store = outbox, stream, server, store
        self.cursor = outbox.cursor(store, stream.key)
        # Of the journal that `_open` was last called for: its inode and its header's id; 0 and "" where there is none.
        self._opened: tuple[int, str] | None = None
        # What the journal has logged so far: a resumed step logs points again, and MLflow would keep both.
        self._steps: dict[str, set[int]] = {}
        self._params: set[str] = set()

    def export(self, parent: str | None) -> int:
        """Send the next batch, or the status when all is sent; returns how much that was, 0 when nothing is left for now."""
        stream, cursor = self.stream, self.cursor
        journal = self.outbox.journal(stream)
        if cursor.abandoned or (journal is None and stream.settled not in ("finished", "failed")):
            return 0
        try:
            if not self._open(journal, parent):
                return 0
            batch = self._pack(journal) if journal is not None else ExportBatch(end=0)
            if batch.count:
                self._send(batch)
                return batch.count
            # The status last: a run must not look finished in MLflow while its points are still on their way.
            return self._send_status()
        except FileNotFoundError:  # the directory has just lost its `.partial`
            self._opened = None
            return 0
        except BaseException:
            # Points were remembered as logged when they were packed, and may not have arrived: read them all again.
            self._opened = None
            raise

    def _open(self, journal: Path | None, parent: str | None) -> bool:
        """Find or make the MLflow run of this journal, and remember which points it has."""
        identity, began, inode = "", None, 0
        if journal is not None:
            inode = journal.stat().st_ino
            first = next(read_journal(journal), None)
            if first is None:  # its writer has made the file and not yet written to it
                return False
            head, _ = first
            identity, began = (head.id if isinstance(head, entries.Header) else "", head.time) if head else ("", None)
        # A journal is renamed with its folder, but another one is another attempt: the step was done all over again.
        if self._opened == (inode, identity):
            return True
        # The cursor may be older than the store: its run may have been deleted, or the whole store begun anew.
        known = self.server.presence(self.cursor.run_id) if self.cursor.run_id else "missing"
        same = (self.cursor.journal, self.cursor.parent) == (identity, parent or "")
        if known == "deleted" and same:  # a user's decision
            self.cursor.abandoned = True
            self._save()
            return False
        if known != "active" or not same:
            former = self.cursor.run_id
            run_id = self.server.run(self._tags(identity, parent), self.stream.name, began)
            if known == "active" and former != run_id:
                self.server.discard(former)
            # A fresh cursor starts at offset 0: the new run gets everything that the journal holds, not only what follows.
            self.cursor = Cursor(identity, run_id, parent or "", self.server.experiment_id, time=began)
            # Before the cursor is saved, so that a kill in between makes the view once more rather than never.
            if self.stream.key == PIPELINE:
                self.server.share_view(self.cursor.run_id, VALIDATION_ERROR)
            self._save()
        self._remember(journal)
        self._opened = (inode, identity)
        return True

    def _tags(self, journal: str, parent: str | None) -> dict[str, str]:
        tags = {RUN: self.outbox.run, STEP: self.stream.name, KEY: self.stream.key, JOURNAL: journal, **self.stream.tags}
        # By place in the outbox, which stays the same; the run itself is at 0, so that steps begin with the first colour.
        place = next((i for i, stream in enumerate(self.outbox.streams) if stream.key == self.stream.key), 0)
        tags.setdefault("mlflow.runColor", COLOURS[(place - 1) % len(COLOURS)])
        return tags if parent is None else {**tags, PARENT: parent}

    def _remember(self, journal: Path | None) -> None:
        self._steps, self._params = {}, set()
        if journal is not None:
            # Into a batch that is thrown away: only what `_take` remembers on the way counts.
            for entry, _ in read_journal(journal, 0, self.cursor.offset):
                self._take(entry, ExportBatch(end=0))

    def _pack(self, journal: Path) -> ExportBatch:
        batch = ExportBatch(end=self.cursor.offset)
        for entry, end in read_journal(journal, self.cursor.offset, self.stream.until):
            self._take(entry, batch)
            if entry is None:
                batch.damaged += _damaged(journal, batch.end, end)
            batch.end = end
            batch.count += 1
            if batch.full:
                break
        return batch

    def _take(self, entry: Entry | None, batch: ExportBatch) -> None:
        """Put an entry into the batch, less what the journal has logged before; torn lines and unknown kinds are passed over."""
        if entry is None:
            return
        batch.time = entry.time
        match entry:
            case entries.Metrics():
                self._take_metrics(entry, batch)
            case entries.Params(values=values):
                # MLflow refuses another value for a param that it has, and with it the whole batch.
                batch.params |= {k: v for k, v in values.items() if k not in self._params}
                self._params |= set(values)
            case entries.Tags(values=values):
                batch.tags |= values
            case entries.StatusChange(status=status):
                batch.status = status
            case entries.Rewind(step=step):
                # The attempt before this one ended, and MLflow may show the run as ended with it.
                batch.status = "running"
                batch.tags["zoocast.resumed"] = f"from step {step}"
            case entries.Child():
                batch.children.append(entry)
            case _ if isinstance(entry, Single):
                batch.singles.append(entry)

    def _take_metrics(self, entry: entries.Metrics, batch: ExportBatch) -> None:
        for key, value in entry.values.items():
            steps = self._steps.setdefault(key, set())
            if entry.step in steps:
                continue
            steps.add(entry.step)
            if not math.isfinite(value):
                batch.tags.setdefault("zoocast.nonfinite", f"{key} was {value} at step {entry.step}")
            # MLflow would store an infinity as 1.8e308, which flattens every chart; a NaN is a gap.
            batch.points.append(Point(key, entry.step, math.nan if math.isinf(value) else value, entry.time))

    # ---------------------------------------------------------------------------------------------------------- sending

    def _send(self, batch: ExportBatch) -> None:
        run_id = self.cursor.run_id
        try:
            self.server.log(run_id, batch.points, batch.params, batch.tags)
        except Exception as error:
            # A deleted run refuses everything as well: no fault of the entries, and `_open` deals with it at the next try.
            if not is_refusal(error) or self.server.presence(run_id) != "active":
                raise
            self._send_one_by_one(batch)
        for entry in batch.singles:
            named = getattr(entry, "file", None) or getattr(entry, "name", "")
            self._try(f"{entry.kind} {named}", self._send_single, entry)
        for child in batch.children:
            self._try(f"part {child.name}", self._add_part, child)
        for line in batch.damaged:
            self._refuse(line)
        # Only now: a kill before this line costs a repetition, one after it nothing.
        self.cursor.offset = batch.end
        self.cursor.reported = batch.status or self.cursor.reported
        self.cursor.time = batch.time or self.cursor.time
        self._save()

    def _send_one_by_one(self, batch: ExportBatch) -> None:
        """What MLflow takes of a batch that it refused as a whole."""
        run_id = self.cursor.run_id
        for point in batch.points:
            self._try(f"metric {point}", self.server.log, run_id, [point], {}, {})
        for key, value in batch.params.items():
            self._try(f"param {key}={value}", self.server.log, run_id, [], {key: value}, {})
        for key, value in batch.tags.items():
            self._try(f"tag {key}={value}", self.server.log, run_id, [], {}, {key: value})

    def _try(self, what: str, call: Callable[..., None], *arguments: Any) -> None:
        """Send something; what MLflow will never take is noted and passed over, or it would hold up all that follows."""
        try:
            call(*arguments)
        except Exception as error:
            if not is_refusal(error):
                raise
            self._refuse(f"{what}: {error}")

    def _refuse(self, what: str) -> None:
        self.cursor.refused += 1
        self.outbox.note_refusal(self.store, self.stream.key, what)

    def _send_single(self, entry: Single) -> None:
        run_id = self.cursor.run_id
        match entry:
            case entries.Note(text=text):
                self.server.note(run_id, text)
            case entries.Compare(metric=metric, params=params):
                self.server.share_view(run_id, metric, params)
            case entries.Group(metric=metric, param=param, steps=steps):
                self.server.share_groups(run_id, metric, param, steps)
            case entries.Scores(of=key, values=values):
                self._send_scores(key, [Point(name, 0, value, entry.time) for name, value in values.items()])
            case entries.Dataset():
                self.server.dataset(run_id, entry)
            case entries.Image(key=key, step=step, file=file):
                self.server.image(run_id, key, step, entry.time, self._file(file))
            case entries.Artifact(file=file, folder=folder):
                self.server.artifact(run_id, self._file(file), folder)
            case entries.Model(file=file):
                self.server.model(run_id, entry, self._file(file), self.stream.key, self.outbox.started)

    def _send_scores(self, key: str, points: list[Point]) -> None:
        stream, cursor = self.outbox.stream(key), self.outbox.cursor(self.store, key)
        # A step that this pipeline run has not, or whose page its user has deleted, has no place for them.
        if stream is None or cursor.abandoned:
            return
        if not cursor.run_id:
            raise FileNotFoundError(f"{stream.name} has no page yet")  # it gets one in its turn, and this is sent again
        self.server.log(cursor.run_id, points, {}, {})

    def _add_part(self, child: entries.Child) -> None:
        try:
            self.outbox.add_part(self.stream, child)
        except ValueError as error:
            raise Refused(str(error)) from None

    def _file(self, named: str) -> Path:
        """The file that an entry names. Whoever writes into a journal must not make us send what lies outside of the root."""
        journal = self.outbox.journal(self.stream)
        if journal is None:
            raise Refused("the journal's directory is gone")
        path = self._moved(journal.parent / named)
        try:
            there = path.exists()
        except (OSError, ValueError) as error:  # too long, or with a zero byte
            raise Refused(f"{named[:200]!r} is no name of a file: {error}") from None
        # When the folder was renamed just now the file is not gone: the call fails with FileNotFoundError and is made again.
        if not there and self.outbox.journal(self.stream) == journal:
            raise Refused(f"{path} is gone")
        # Resolved on both sides: links and ".." would pass a comparison of the names alone.
        places = [self.outbox.root.resolve(), journal.parent.resolve()]
        linked = (p for p in path.rglob("*") if p.is_symlink()) if path.is_dir() else ()
        for found in (path, *linked):
            if not any(found.resolve().is_relative_to(place) for place in places):
                raise Refused(f"{found} lies outside of {self.outbox.root}, and what lies there is not sent to MLflow")
        return path

    def _moved(self, path: Path) -> Path:
        """`path`, or where it is now when it was written down in full before the root was moved or copied."""
        if not path.is_relative_to(self.outbox.root):
            for i, part in enumerate(path.parts):
                here = self.outbox.root.joinpath(*path.parts[i:])
                if part in (STEPS, "runs") and here.exists():
                    return here
        return path

    def _send_status(self) -> int:
        status = self.outbox.status(self.stream, self.cursor)
        if status == self.cursor.exported:
            return 0
        self.server.status(self.cursor.run_id, status, self.cursor.time)
        self.cursor.exported = status
        self._save()
        return 1

    def _save(self) -> None:
        self.outbox.save_cursor(self.store, self.stream.key, self.cursor)


def _damaged(journal: Path, start: int, end: int) -> list[str]:
    """What to say of a line without an entry: nothing of one that a kill has torn, for its writer's successor repeats it."""
    with journal.open("rb") as file:
        file.seek(start)
        line = file.read(end - start)
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [f"the line at byte {start} of the journal is no entry: {line[:200].decode(errors='replace')!r}"]


class RunExporter:
    """Carries all journals of a pipeline run in turns: the run itself, its steps as its children, their parts as theirs."""

    def __init__(self, outbox: Outbox, server: Server, store: str) -> None:
        self.outbox, self.server, self.store = outbox, server, store
        self._exporters: dict[str, Exporter] = {}

    def export(self) -> int:
        """One batch for each journal that has one; returns how many entries were exported.

        A journal that cannot be exported does not keep the others, unless the server is gone; it is an error once nothing else
        is left to do.
        """
        exported, failure = 0, None
        # A parent's run must be there before its children's.
        for stream in sorted(self.outbox.streams, key=lambda stream: (stream.key != PIPELINE, stream.owner != "")):
            parent = self._parent(stream)
            if parent == "":
                continue
            try:
                exported += self._exporter(stream).export(parent)
            except Exception as error:
                # One try per turn for a server that is gone, not one for each journal: each may take the whole timeout.
                if not self.server.answers():
                    raise
                failure = failure or error
        if failure is not None and exported == 0:
            raise failure
        return exported

    def _parent(self, stream: Stream) -> str | None:
        """The MLflow run above that of `stream`: None for the pipeline run, "" while there is none or when it was deleted."""
        if stream.key == PIPELINE:
            return None
        above = self.outbox.stream(stream.owner or PIPELINE)
        # Nothing is made below a run that is not there yet, or that its user has deleted, however far above.
        if above is None or self._parent(above) == "":
            return ""
        cursor = self._exporter(above).cursor
        return "" if cursor.abandoned else cursor.run_id

    def _exporter(self, stream: Stream) -> Exporter:
        exporter = self._exporters.get(stream.key)
        if exporter is None:
            exporter = self._exporters[stream.key] = Exporter(self.outbox, stream, self.server, self.store)
        exporter.stream = stream  # settled since, perhaps, or replaced by that of a new attempt
        return exporter
