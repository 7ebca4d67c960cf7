"""Syncing with MLflow: the driver's thread that exports journals while training goes on, and what is left over, later.

The driver reports which steps began and how they ended; all else the thread reads from the journals. A store that is slow or gone
costs the driver nothing: the thread tries again, at most every 30 s, and what it could not export is exported by the next run
on the same store, by `sync_pending` (`pipelines sync`), or to another store, from the same journals.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zoocast.errors import ConfigError, InfrastructureError, ZoocastError
from zoocast.store.files import JOURNAL_FILE
from zoocast.tracking import sqlite
from zoocast.tracking.backend import CREDENTIALS, connect, locate, sqlite_file, store_name
from zoocast.tracking.entries import Status
from zoocast.tracking.export import RunExporter
from zoocast.tracking.journal import Journal
from zoocast.tracking.outbox import PIPELINE, Outbox, Stream, outboxes
from zoocast.tracking.server import Server, http_status

__all__ = ["Sync", "SyncState", "sync_pending"]

# Of looking for new lines in the journals; a failure doubles it each time, up to the maximum.
POLL_SECONDS = 1.0
MAX_WAIT_SECONDS = 30.0
PROGRESS_SECONDS = 2.0
# By parts of the messages of urllib3, requests and MLflow, which in full are chains of nested exceptions.
PROBLEMS = {
    "Connection refused": "no server answers there",
    "Failed to resolve": "no server is known by that name",
    "timed out": "the server does not answer in time",
    "error responses": "the server answers with errors such as 500; see its log",
    "readonly database": "you may not write the store; have its owner let you: chmod g+w mlflow.db",
    "disk image is malformed": "the store is damaged; move it away: a new one is made, and `pipelines sync` delivers all again",
    "Invalid Host header": "the server does not answer to that name; start it with --allowed-hosts",
}


class SyncState(NamedTuple):
    """How far a run is synced: entries still `pending`, entries `refused` by MLflow, and what is wrong, in one line, or ""."""

    pending: int
    refused: int
    problem: str


class Sync:
    """One pipeline run on its way to MLflow. Its own journal, `journal`, becomes the parent run, its steps the children.

    Args:
        root: the storage root.
        run: the pipeline run's name; the same name goes on with the same MLflow runs.
        directory: the pipeline run's own directory, made when missing; its journal is ``journal.jsonl`` in it.
        experiment: MLflow's experiment; a pipeline's name.
        uri: the tracking server; see `locate`.
        tags: labels of the parent and of every child (provenance).

    Raises:
        ConfigError: `uri` cannot be a tracking server.
    """

    def __init__(
        self,
        root: Path,
        run: str,
        directory: Path,
        *,
        experiment: str,
        uri: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self.uri = locate(self.root, uri)
        self.store = store_name(self.root, self.uri)
        former = Outbox.load(self.root, run)
        # Streams of an earlier attempt are kept: their MLflow runs are gone on with. When it began is new, for aliases follow it.
        self.outbox = Outbox(self.root, run, experiment, self.store, streams=former.streams if former else [])
        self._tags = dict(tags or {})
        self._closing = threading.Event()
        self._problem = ""
        self._exporter: RunExporter | None = None
        self._leftovers: Iterator[int] = iter(())
        Path(directory).mkdir(parents=True, exist_ok=True)
        journal = Path(directory) / JOURNAL_FILE
        self.outbox.put(Stream(run, PIPELINE, self.outbox.place(directory), self._tags))
        # Before the first new line: a driver that dies from here on leaves a run that `pipelines sync` takes for unfinished.
        self.outbox.mark(self.store, complete=False)
        self.journal = Journal(journal)
        self.journal.status("running")
        # A daemon: a call that hangs in a dead server must not keep the driver's process alive after `close`.
        self._thread = threading.Thread(target=self._work, name="zoocast-sync", daemon=True)
        self._thread.start()

    def started(self, name: str, key: str, directory: Path) -> None:
        """A step begins, or goes on: its journal is, or will be, in `directory` (with or without ``.partial``)."""
        self.outbox.put(Stream(name, key, self.outbox.place(directory), self._tags))

    def finished(self, name: str, key: str, directory: Path, status: Status = "finished") -> None:
        """A step has come to its end, also one that had been done before; it need not have been `started`, nor have a journal."""
        self.outbox.settle(Stream(name, key, self.outbox.place(directory), self._tags), status)

    def state(self) -> SyncState:
        """How far it is, for a display; reads some small files."""
        return _state(self.outbox, self.store, self._problem)

    def close(self, status: Status, timeout: float = 30.0) -> SyncState:
        """Log how the run ended, export what can be exported within `timeout` seconds, and return what remains.

        Steps that were begun and not finished end as killed. A store that does not answer is tried once more, not waited for.
        """
        self.journal.status(status)
        self.journal.close()
        # All statuses are in files before the thread is asked to end, so what it does not send now `sync_pending` does.
        for stream in self.outbox.unsettled():
            self.outbox.settle(stream, status if stream.key == PIPELINE else "killed")
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive() and not self._problem:
            self._problem = f"{self.store} took longer than {timeout:g} s"
        return self.state()

    # ----------------------------------------------------------------------------------------------------------- thread

    def _work(self) -> None:
        failures = 0
        with contextlib.ExitStack() as held:
            while True:
                closing = self._closing.is_set()  # asked first, so that one whole turn follows the last entry
                exported = 0
                try:
                    exported = self._advance(held)
                    failures, self._problem = 0, ""
                except Exception as error:  # whatever it is, the next try may fare better, and training goes on
                    failures, self._problem = failures + 1, describe(error)
                if exported == 0:
                    self.outbox.mark(self.store, complete=closing and self.outbox.pending(self.store) == 0)
                    if closing:
                        return
                    # Not sleep: `close` ends the wait at once.
                    self._closing.wait(_pause(failures))

    def _advance(self, held: contextlib.ExitStack) -> int:
        """Export some of this run, or else of what earlier runs left over."""
        if self._exporter is None:
            # The lock is kept until the thread ends, but not when connecting fails: `pipelines sync` may fare better then.
            with contextlib.ExitStack() as attempt:
                if not attempt.enter_context(self.outbox.held()):
                    raise InfrastructureError(f"run {self.outbox.run} is being synced by another process")
                store = _Store(self.root, self.uri)
                self._exporter = store.exporter(self.outbox)
                self._leftovers = self._sync_leftovers(store)
                held.enter_context(attempt.pop_all())
        exported = self._exporter.export()
        # This run first; leftovers of earlier ones only when it has nothing new, and one batch at a time.
        return exported if exported or self._closing.is_set() else next(self._leftovers, 0)

    def _sync_leftovers(self, store: _Store) -> Iterator[int]:
        for outbox in outboxes(self.root):
            if outbox.store == self.store and not outbox.is_complete(self.store) and not self._closing.is_set():
                yield from store.sync_left(outbox, self._closing.is_set)


def _pause(failures: int) -> float:
    """Seconds until the next try after so many failures in a row."""
    return min(MAX_WAIT_SECONDS, POLL_SECONDS * 2 ** min(failures, 10))  # those of a day overflow a float


class _Store:
    """A tracking server and the experiments that are open on it."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri, self.name = root, uri, store_name(root, uri)
        self._servers: dict[str, Server] = {}

    def server(self, experiment: str) -> Server:
        if experiment not in self._servers:
            # Kept, for each costs calls to make. Models have one lock per store, since they are registered across experiments.
            self._servers[experiment] = Server(self.uri, experiment, self.root / "delivery" / self.name / "models.lock")
        return self._servers[experiment]

    def exporter(self, outbox: Outbox) -> RunExporter:
        return RunExporter(outbox, self.server(outbox.experiment), self.name)

    def sync_left(self, found: Outbox, stop: Callable[[], bool]) -> Iterator[int]:
        """Export a run whose driver is gone, if it is; yields how much was exported in each turn."""
        with found.held() as free:
            outbox = Outbox.load(found.root, found.run)  # its driver may have written more before it let go
            if not free or outbox is None:
                return
            # Its driver is dead, and nobody else can close what it had begun; a resumed run opens them again.
            for stream in outbox.unsettled():
                outbox.settle(stream, "killed")
            outbox.retry_refused(self.name)
            exporter = self.exporter(outbox)
            while not stop() and (exported := exporter.export()):
                yield exported
            outbox.mark(self.name, complete=outbox.pending(self.name) == 0)

    def answers(self) -> bool:
        """Whether the server is there, and takes us for who we are."""
        try:
            connect(self.uri).search_experiments(max_results=1)
        except Exception:  # MLflow raises all kinds of things; any of them is a no
            return False
        return True

    def has_all(self, outbox: Outbox) -> bool:
        """Whether the run was exported whole, to a store that has not been emptied since."""
        if not outbox.is_complete(self.name) or outbox.refusals(self.name):
            return False
        run_id = outbox.cursor(self.name, PIPELINE).run_id
        return self.server(outbox.experiment).presence(run_id) != "missing"


def sync_pending(
    root: Path,
    uri: str | None = None,
    *,
    runs: Collection[str] | None = None,
    timeout: float = math.inf,
    on_progress: Callable[[str, SyncState], None] = lambda *_: None,
) -> SyncState:
    """Export what earlier pipeline runs could not; runs that are going on now are left to their drivers.

    Args:
        uri: the store; see `locate`. Runs that were meant for it are exported, as far as it does not have them.
        runs: instead these, whichever store they were meant for: so that results move to another server.
        timeout: seconds after which the rest is left for another time.
        on_progress: gets the state of a run, every few seconds and once when no more can be done for it.

    Returns:
        Their states together, with the last of the problems.

    Raises:
        ConfigError: `uri` cannot be a tracking server, or one of `runs` is not known.
    """
    root = Path(root).absolute()
    store = _Store(root, locate(root, uri))
    chosen = [outbox for outbox in outboxes(root) if (outbox.run in runs if runs is not None else outbox.store == store.name)]
    unknown = sorted(set(runs or ()) - {outbox.run for outbox in chosen})
    if unknown:
        known = ", ".join(outbox.run for outbox in outboxes(root)) or "none"
        raise ConfigError("", f"nothing is known of a run {unknown[0]!r} under {root}; known: {known}")
    deadline = time.monotonic() + timeout
    total, gone = SyncState(0, 0, ""), False
    file = sqlite_file(store.uri)
    try:
        if file is not None and file.exists():
            sqlite.check(file)
    except InfrastructureError as error:
        total, gone = SyncState(0, 0, str(error)), True
    for outbox in chosen:
        problem = total.problem if gone else ""
        try:
            if not gone and not store.has_all(outbox):
                _sync_run(store, outbox, deadline, on_progress)
        except Exception as error:  # as in the thread; the others may fare better, unless nobody is there
            problem, gone = describe(error), not store.answers()
        state = _stored_state(outbox, store.name, problem)
        if state.pending and not problem:
            state = state._replace(problem=_busy(outbox) or state.problem)
        on_progress(outbox.run, state)
        total = SyncState(total.pending + state.pending, total.refused + state.refused, state.problem or total.problem)
    return total


def _sync_run(store: _Store, outbox: Outbox, deadline: float, on_progress: Callable[[str, SyncState], None]) -> None:
    shown = time.monotonic()
    for _ in store.sync_left(outbox, lambda: time.monotonic() > deadline):
        if time.monotonic() - shown > PROGRESS_SECONDS:
            on_progress(outbox.run, _stored_state(outbox, store.name))
            shown = time.monotonic()


def _busy(outbox: Outbox) -> str:
    with outbox.held() as free:
        return "" if free else "it is in the hands of another process"


def _stored_state(found: Outbox, store: str, problem: str = "") -> SyncState:
    return _state(Outbox.load(found.root, found.run) or found, store, problem)  # the export may have settled things


def _state(outbox: Outbox, store: str, problem: str) -> SyncState:
    # A copy of the list, which the exporting thread may extend meanwhile.
    refused = sum(outbox.cursor(store, stream.key).refused for stream in list(outbox.streams))
    if refused and not problem:
        problem = f"refused: {next(iter(outbox.refusals(store)), 'see its journals')[:300]}"
    return SyncState(outbox.pending(store), refused, problem)


def describe(error: Exception) -> str:
    """An error of MLflow's, or of what it stands on, in one short line."""
    text = " ".join(str(error).split())
    if isinstance(error, ZoocastError):
        return text
    for known, words in PROBLEMS.items():
        if known in text:
            return words
    match http_status(error):
        case 401:
            return f"the server does not take the name and password (401); {CREDENTIALS}"
        case 403:
            return "the server does not let you write there (403); ask for EDIT on the experiment and its models"
    return f"{type(error).__name__}: {text[:200]}"
