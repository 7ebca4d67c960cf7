"""Delivery: the driver's thread that carries journals to MLflow while training goes on, and what is left over, later.

The driver says which steps began and how they ended; all else the thread reads from the journals. A store that is slow or gone
costs the driver nothing: the thread tries again, at most every 30 s, and what it could not deliver is delivered by the next run
on the same store, by `deliver_pending` (`pipelines sync`), or to another store, from the same journals.
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
from zoocast.tracking.backend import CREDENTIALS, connect, locate, store_name
from zoocast.tracking.export import Round
from zoocast.tracking.journal import Journal, Status, read_journal
from zoocast.tracking.outbox import JOURNAL_FILE, PIPELINE, Ledger, Line, ledgers
from zoocast.tracking.server import Server, http_status

__all__ = ["Delivered", "Delivery", "deliver_pending"]

POLL_SECONDS = 1.0
MAX_WAIT_SECONDS = 30.0
PROGRESS_SECONDS = 2.0
PROBLEMS = {
    "Connection refused": "no server answers there",
    "Failed to resolve": "no server is known by that name",
    "timed out": "the server does not answer in time",
    "error responses": "the server answers with errors such as 500; see its log",
    "Invalid Host header": "the server does not answer to that name; start it with --allowed-hosts",
}


class Delivered(NamedTuple):
    """How a delivery stands: entries still `pending`, entries `refused` for good by MLflow, and what is wrong, in one line."""

    pending: int
    refused: int
    problem: str


class Delivery:
    """One pipeline run on its way to MLflow. Its own journal, `journal`, becomes the parent run, its steps the children.

    Args:
        root: the storage root.
        run: the pipeline run's name; the same name goes on with the same MLflow runs.
        directory: the pipeline run's own directory, made when missing; its journal is ``journal.jsonl`` in it.
        experiment: MLflow's experiment; a pipeline's name.
        uri: the tracking server; see `locate`.
        tags: labels of the parent and of every child (lineage).

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
        former = Ledger.load(self.root, run)
        self.ledger = Ledger(self.root, run, experiment, self.store, lines=former.lines if former else [])
        self._tags = dict(tags or {})
        self._closing = threading.Event()
        self._problem = ""
        self._carrier: Round | None = None
        self._leftovers: Iterator[int] = iter(())
        Path(directory).mkdir(parents=True, exist_ok=True)
        journal = Path(directory) / JOURNAL_FILE
        self.attempt = _attempts(journal)
        self.ledger.put(Line(run, PIPELINE, self.ledger.place(directory), self._tags))
        self.ledger.mark(self.store, complete=False)
        self.journal = Journal(journal)
        self.journal.status("running")
        self._thread = threading.Thread(target=self._work, name="zoocast-delivery", daemon=True)
        self._thread.start()

    def started(self, name: str, key: str, directory: Path) -> None:
        """A step begins, or goes on: its journal is, or will be, in `directory` (with or without ``.partial``)."""
        self.ledger.put(Line(name, key, self.ledger.place(directory), self._tags))

    def finished(self, name: str, key: str, directory: Path, status: Status = "finished") -> None:
        """A step has come to its end, also one that had been done before; it need not have been `started`, nor have a journal."""
        self.ledger.settle(Line(name, key, self.ledger.place(directory), self._tags), status)

    def state(self) -> Delivered:
        """How far it is, for a display; reads some small files."""
        positions = [self.ledger.position(self.store, line.key) for line in list(self.ledger.lines)]
        return Delivered(self.ledger.pending(self.store), sum(p.refused for p in positions), self._problem)

    def close(self, status: Status, timeout: float = 30.0) -> Delivered:
        """Tell how the run ended, deliver what can be delivered within `timeout` seconds, and say what remains.

        Steps that were begun and not finished end as killed. A store that does not answer is tried once more, not waited for.
        """
        self.journal.status(status)
        self.journal.close()
        for line in self.ledger.unsettled():
            self.ledger.settle(line, status if line.key == PIPELINE else "killed")
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
                closing = self._closing.is_set()  # asked first, so that one whole round follows the last word
                moved = 0
                try:
                    moved = self._advance(held)
                    failures, self._problem = 0, ""
                except Exception as error:  # whatever it is, the next try may fare better, and training goes on
                    failures, self._problem = failures + 1, describe(error)
                if moved == 0:
                    self.ledger.mark(self.store, complete=closing and self.ledger.pending(self.store) == 0)
                    if closing:
                        return
                    self._closing.wait(min(MAX_WAIT_SECONDS, POLL_SECONDS * 2**failures))

    def _advance(self, held: contextlib.ExitStack) -> int:
        """Deliver some of this run, or else of what earlier runs left over."""
        if self._carrier is None:
            with contextlib.ExitStack() as attempt:
                if not attempt.enter_context(self.ledger.held()):
                    raise InfrastructureError(f"run {self.ledger.run} is being delivered by another process")
                store = _Store(self.root, self.uri)
                self._carrier = store.round(self.ledger)
                self._leftovers = self._deliver_leftovers(store)
                held.enter_context(attempt.pop_all())
        moved = self._carrier.go()
        return moved if moved or self._closing.is_set() else next(self._leftovers, 0)

    def _deliver_leftovers(self, store: _Store) -> Iterator[int]:
        for ledger in ledgers(self.root):
            if ledger.store == self.store and not ledger.is_complete(self.store) and not self._closing.is_set():
                yield from store.deliver_left(ledger, self._closing.is_set)


class _Store:
    """A tracking server and the experiments that are open on it."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri, self.name = root, uri, store_name(root, uri)
        self._servers: dict[str, Server] = {}

    def server(self, experiment: str) -> Server:
        if experiment not in self._servers:
            self._servers[experiment] = Server(self.uri, experiment, self.root / "delivery" / self.name / "models.lock")
        return self._servers[experiment]

    def round(self, ledger: Ledger) -> Round:
        return Round(ledger, self.server(ledger.experiment), self.name)

    def deliver_left(self, found: Ledger, stop: Callable[[], bool]) -> Iterator[int]:
        """Deliver a run whose driver is gone, if it is; yields how much each round delivered."""
        with found.held() as free:
            ledger = Ledger.load(found.root, found.run)  # its driver may have said more before it let go
            if not free or ledger is None:
                return
            for line in ledger.unsettled():
                ledger.settle(line, "killed")
            carrier = self.round(ledger)
            while not stop() and (moved := carrier.go()):
                yield moved
            ledger.mark(self.name, complete=ledger.pending(self.name) == 0)

    def answers(self) -> bool:
        """Whether the server is there, and takes us for who we are."""
        try:
            connect(self.uri).search_experiments(max_results=1)
        except Exception:  # MLflow raises all kinds of things; any of them is a no
            return False
        return True

    def has_all(self, ledger: Ledger) -> bool:
        """Whether the run was delivered whole, to a store that has not been emptied since."""
        if not ledger.is_complete(self.name):
            return False
        run_id = ledger.position(self.name, PIPELINE).run_id
        return self.server(ledger.experiment).presence(run_id) != "missing"


def deliver_pending(
    root: Path,
    uri: str | None = None,
    *,
    runs: Collection[str] | None = None,
    timeout: float = math.inf,
    on_progress: Callable[[str, Delivered], None] = lambda *_: None,
) -> Delivered:
    """Deliver what earlier pipeline runs could not; runs that are going on now are left to their drivers.

    Args:
        uri: the store; see `locate`. Runs that were meant for it are delivered, as far as it does not have them.
        runs: instead these, whichever store they were meant for: so that results move to another server.
        timeout: seconds after which the rest is left for another time.
        on_progress: told how a run stands, every few seconds and once when no more can be done for it.

    Returns:
        How they stand together, with the last of the problems.

    Raises:
        ConfigError: `uri` cannot be a tracking server, or one of `runs` is not known.
    """
    root = Path(root).absolute()
    store = _Store(root, locate(root, uri))
    chosen = [ledger for ledger in ledgers(root) if (ledger.run in runs if runs is not None else ledger.store == store.name)]
    unknown = sorted(set(runs or ()) - {ledger.run for ledger in chosen})
    if unknown:
        known = ", ".join(ledger.run for ledger in ledgers(root)) or "none"
        raise ConfigError("", f"nothing is known of a run {unknown[0]!r} under {root}; known: {known}")
    deadline = time.monotonic() + timeout
    total, gone = Delivered(0, 0, ""), False
    for ledger in chosen:
        problem = total.problem if gone else ""
        try:
            if not gone and not store.has_all(ledger):
                _deliver_run(store, ledger, deadline, on_progress)
        except Exception as error:  # as in the thread; the others may fare better, unless nobody is there
            problem, gone = describe(error), not store.answers()
        state = _standing(ledger, store.name, problem or _busy(ledger))
        on_progress(ledger.run, state)
        total = Delivered(total.pending + state.pending, total.refused + state.refused, state.problem or total.problem)
    return total


def _deliver_run(store: _Store, ledger: Ledger, deadline: float, on_progress: Callable[[str, Delivered], None]) -> None:
    said = time.monotonic()
    for _ in store.deliver_left(ledger, lambda: time.monotonic() > deadline):
        if time.monotonic() - said > PROGRESS_SECONDS:
            on_progress(ledger.run, _standing(ledger, store.name))
            said = time.monotonic()


def _busy(ledger: Ledger) -> str:
    with ledger.held() as free:
        return "" if free else "it is in the hands of another process"


def _standing(found: Ledger, store: str, problem: str = "") -> Delivered:
    ledger = Ledger.load(found.root, found.run) or found  # delivering may have settled things
    refused = sum(ledger.position(store, line.key).refused for line in ledger.lines)
    return Delivered(ledger.pending(store), refused, problem)


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


def _attempts(journal: Path) -> int:
    if not journal.exists():
        return 0
    return sum(entry.get("kind") == "status" and entry.get("status") == "running" for entry, _ in read_journal(journal))
