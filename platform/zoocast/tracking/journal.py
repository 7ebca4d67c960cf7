"""The journal: what a step reports about itself, one JSON object per line, in a file beside its work.

Training never calls a tracking server. It appends whole lines here, from any process on any node that shares the storage, and
the driver's `Sync` exports them to MLflow, at once or days later. Only the standard library is needed, so a worker pays
microseconds. A line that a kill cut off is closed by the next writer and skipped by readers. A run resumed from a checkpoint logs
some (metric, step) pairs again: the first one counts, for MLflow can take no point back, and then every server gets the same
points whenever and however often it is synced. (Such a run repeats its numbers bit for bit, so nothing is lost by it.)
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from zoocast.errors import InfrastructureError, Interrupted
from zoocast.store.files import write_atomically, writing
from zoocast.store.flock import lock, unlock
from zoocast.store.layout import STEPS
from zoocast.tracking import entries
from zoocast.tracking.entries import Entry, Scalar, Status, decode, encode

__all__ = ["Journal", "Status", "curves", "read_entries", "read_journal"]

E = TypeVar("E", bound=Entry)

NAME = re.compile(r"[\w.\-/ :]{1,250}")  # what MLflow takes as the name of a metric, param or tag


class Journal:
    """An append-only record of one step, at `path`, whose directory must exist. Several processes may hold one.

    Used as a context manager it also logs the step's status: running on entry; finished, failed, or killed (after
    `KeyboardInterrupt` or `Interrupted`) on exit. Relative paths of files are relative to the journal's directory, and files
    under the same root are kept as such, so that either may be renamed later.

    Raises:
        InfrastructureError: the journal cannot be written (a full disk, a directory that is gone).
        ValueError: a name that MLflow would refuse.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        self._known: set[str] = set()
        try:
            # Held open, for the folder may be renamed; appending, for another process may write at the same time.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InfrastructureError(f"cannot open the journal {self.path}: {error.strerror}") from error
        # Several processes may create it at once; under the lock exactly one of them finds it empty and writes the header.
        self._begin()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Numbers at a training step. Non-finite ones are kept as what they are."""
        self._check(values)
        self._append(entries.Metrics(int(step), {k: float(v) for k, v in values.items()}))

    def params(self, values: Mapping[str, Scalar]) -> None:
        """Few, flat settings. A parameter is logged once; later values of the same name do not count."""
        self._check(values)
        self._append(entries.Params({k: str(v) for k, v in values.items()}))

    def tags(self, values: Mapping[str, Scalar]) -> None:
        """Labels to search by. A later value replaces an earlier one."""
        self._check(values)
        self._append(entries.Tags({k: str(v) for k, v in values.items()}))

    def rewind(self, step: int) -> None:
        """Work goes on from a checkpoint at `step`: what is logged again for later steps is a repetition, not news."""
        self._append(entries.Rewind(int(step)))

    def image(self, key: str, image: bytes | Path, step: int) -> None:
        """A picture (PNG bytes, or a PNG file) of a series `key` at a step; MLflow shows the series with a slider."""
        self._check((key,))
        if isinstance(image, bytes):
            file = self.path.parent / "images" / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', key)}-{int(step):08d}.png"
            with writing(file):
                file.parent.mkdir(exist_ok=True)
            # The picture before the line that names it: an exporter that reads the line finds the file.
            write_atomically(file, image, durable=False)
        else:
            file = image
        self._append(entries.Image(key, int(step), self._place(file)))

    def artifact(self, path: Path | str, folder: str = "") -> None:
        """A file, or a directory with all that is in it, to be kept with the run, in `folder` of its artifacts."""
        self._append(entries.Artifact(self._place(path), folder))

    def dataset(
        self, name: str, digest: str, *, context: str, source: str = "", profile: Mapping[str, Scalar] | None = None
    ) -> None:
        """A data set that the step reads: `context` says what for (``training``, ``evaluation``), `source` where it lies."""
        self._append(entries.Dataset(name, digest, source, context, dict(profile or {})))

    def model(self, directory: Path | str, name: str, *, alias: str | None = None, step: int = 0) -> None:
        """A directory with weights at rest, to become a version of the registered model `name`; `alias` points to it."""
        # Refused here, where a traceback shows who logged it; the exporter could only note it days later.
        if alias is not None and (alias.lower() == "latest" or re.fullmatch(r"v\d+|\d+", alias, re.IGNORECASE)):
            raise ValueError(f"MLflow reserves the alias {alias!r} (latest, v1, 1); choose another word")
        self._append(entries.Model(self._place(directory), name, alias, int(step)))

    def child(self, name: str, directory: Path | str) -> None:
        """A part of this work that is a run of its own, with a journal in `directory`; `name` is unique in this journal.

        The directory lies inside the journal's. It may be logged again, and before the part has written anything.
        """
        self._append(entries.Child(name, self._place(directory)))

    def compare(self, metric: str, params: Sequence[str]) -> None:
        """How the parts that `child` names are best compared: by the lowest `metric`, over parallel coordinates of `params`."""
        self._check((metric, *params))
        self._append(entries.Compare(metric, list(params)))

    def scores(self, training: Path, values: Mapping[str, float]) -> None:
        """What this step has found out about the training in the step folder `training`: numbers for the training's own page."""
        self._check(values)
        key = Path(training).name.rpartition("-")[2]
        self._append(entries.Scores(key, {k: float(v) for k, v in values.items() if math.isfinite(v)}))

    def group(self, metric: str, param: str, steps: str) -> None:
        """How steps whose names begin with `steps` are best compared: by the lowest `metric`, one group per value of `param`."""
        self._check((metric, param))
        self._append(entries.Group(metric, param, steps))

    def note(self, markdown: str) -> None:
        """What a reader should see first on the run's page; a later note replaces an earlier one.

        A link to ``artifact:FILE`` leads to that artifact of the run, one to ``view:pictures`` to those of the steps of `group`.
        """
        self._append(entries.Note(markdown))

    def status(self, status: Status) -> None:
        """Where the step stands. The last one counts; `running` after another means that it was resumed."""
        self._append(entries.StatusChange(status))

    def close(self) -> None:
        """Give the file back. Nothing is lost without it: every line is written when it is logged."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        self.status("running")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.status("finished")
        else:
            self.status("killed" if issubclass(kind, KeyboardInterrupt | Interrupted) else "failed")
        self.close()

    def _check(self, names: Mapping[str, Any] | tuple[str, ...]) -> None:
        for name in names:
            if name not in self._known:
                if not NAME.fullmatch(name):
                    raise ValueError(f"a name holds letters, digits and _ - . / : or spaces, at most 250, but got {name!r}")
                self._known.add(name)

    def _place(self, path: Path | str) -> str:
        absolute = Path(os.path.normpath(self.path.parent / path))  # never the working directory: Ray changes it
        # Relative to the journal wherever both lie in one root, which may be moved.
        root = next((place.parent for place in self.path.parents if place.name in (STEPS, "runs")), self.path.parent)
        return os.path.relpath(absolute, self.path.parent) if absolute.is_relative_to(root) else str(absolute)

    def _begin(self) -> None:
        """Give a new journal its head, or close the line that a killed writer left open."""
        with _turn(self._file):
            size = os.fstat(self._file).st_size
            if size == 0:
                self._write(encode(entries.Header()))
            elif os.pread(self._file, 1, size - 1) != b"\n":
                self._write(b"\n")

    def _append(self, entry: Entry) -> None:
        line = encode(entry)
        with _turn(self._file):
            self._write(line)

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            if written < len(line):  # a full disk; what is logged when it has room again must not continue half a line
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
        except OSError as error:
            raise InfrastructureError(f"cannot write the journal {self.path}: {error.strerror}") from error
        if written < len(line):
            raise InfrastructureError(f"cannot write the journal {self.path}: the disk took {written} of {len(line)} bytes")


@contextlib.contextmanager
def _turn(file: int) -> Iterator[None]:
    """Let one writer at a time write: another one that opens the journal must not take half a line for a torn one.

    The system ends the turn of a writer that dies. Where the file system knows no locks, O_APPEND alone has to do.
    """
    lock(file)
    try:
        yield
    finally:
        unlock(file)


def read_journal(path: Path, offset: int = 0, until: int | None = None) -> Iterator[tuple[Entry | None, int]]:
    """Entries from byte `offset` on, each with the offset behind it; a torn line comes as None, an unfinished one not yet.

    Args:
        until: stop before the first entry that ends beyond this byte.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n") or (until is not None and offset > until):
                return
            yield decode(line), offset


def read_entries(path: Path, kind: type[E]) -> Iterator[E]:
    """The entries of one kind, in the order in which they were logged."""
    return (entry for entry, _ in read_journal(path) if isinstance(entry, kind))


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric's (step, value) pairs, in the order of steps; of repeated steps the first, as in MLflow."""
    points: dict[str, dict[int, float]] = {}
    for entry in read_entries(path, entries.Metrics):
        for key, value in entry.values.items():
            points.setdefault(key, {}).setdefault(entry.step, value)
    return {key: sorted(values.items()) for key, values in points.items()}
