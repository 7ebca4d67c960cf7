"""`pipelines sync`: what MLflow did not get while its server was away, or while no driver lived to send it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from zoocast.cli.console import print_table
from zoocast.tracking import SyncState, sync_pending
from zoocast.tracking.backend import locate, store_name
from zoocast.tracking.outbox import outboxes

__all__ = ["Synced", "print_synced", "sync_runs"]


@dataclasses.dataclass(frozen=True)
class SyncedRun:
    """How far one run is synced: entries that wait, entries that MLflow will never take, and what is wrong, if anything."""

    run: str
    pending: int
    refused: int
    problem: str


@dataclasses.dataclass(frozen=True)
class Synced:
    """What came of it. `elsewhere` lists runs that wait for another server than `server`, as RUN: STORE."""

    server: str
    runs: list[SyncedRun]
    elsewhere: dict[str, str]

    @property
    def lacks(self) -> bool:
        """Whether anything is not exported, or nobody can tell."""
        return bool(self.elsewhere) or any(run.pending or run.refused or run.problem for run in self.runs)


def sync_runs(root: Path, uri: str | None, run: str | None) -> Synced:
    """Export `run` (None: all that were meant for the server in force); progress goes to stderr.

    Raises:
        ConfigError: `uri` cannot be a tracking server.
    """
    runs: dict[str, SyncedRun] = {}

    def take(name: str, state: SyncState) -> None:
        runs[name] = SyncedRun(name, *state)
        print(f"{name}: {_words(state)}{f' ({state.problem})' if state.problem else ''}", file=sys.stderr, flush=True)

    uri = locate(root, uri)
    sync_pending(root, uri, runs=None if run is None else [run], on_progress=take)
    here = store_name(root, uri)
    elsewhere = {
        outbox.run: outbox.store
        for outbox in (outboxes(root.absolute()) if run is None else [])
        # One that was moved here as a whole waits for nothing, whatever its first server lacks.
        if outbox.store != here and not outbox.is_complete(outbox.store) and not outbox.is_complete(here)
    }
    for name, store in elsewhere.items():
        print(f"{name}: waits for another server, {store}; name it with --tracking-uri", file=sys.stderr)
    return Synced(uri, list(runs.values()), elsewhere)


def _words(state: SyncState) -> str:
    refused = f"MLflow refused {state.refused} entries" if state.refused else ""
    waiting = f"{state.pending} entries wait" if state.pending else ""
    if words := " and ".join(filter(None, (refused, waiting))):
        return words
    return "whether MLflow knows all of it cannot be told" if state.problem else "MLflow knows all of it"


def print_synced(synced: Synced) -> None:
    """A line for each run."""
    if not synced.runs:
        print(f"no run was meant for {synced.server}", file=sys.stderr)
        return
    rows = [(run.run, run.pending, run.refused, run.problem) for run in synced.runs]
    print_table(["run", "waiting", "refused", "why"], rows)
