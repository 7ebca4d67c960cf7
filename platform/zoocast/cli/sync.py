"""`pipelines sync`: what MLflow was not told while its server was away, or while no driver lived to tell it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from zoocast.cli.console import print_table
from zoocast.tracking import Delivered, deliver_pending
from zoocast.tracking.backend import locate, store_name
from zoocast.tracking.outbox import ledgers

__all__ = ["Synced", "deliver", "print_synced"]


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one run stands: entries that wait, entries that MLflow will never take, and why, as far as something is wrong."""

    run: str
    pending: int
    refused: int
    problem: str


@dataclasses.dataclass(frozen=True)
class Synced:
    """What came of it. `elsewhere` lists runs that wait for another server than `server`, as RUN: STORE."""

    server: str
    runs: list[Standing]
    elsewhere: dict[str, str]

    @property
    def waits(self) -> bool:
        """Whether anything is not delivered."""
        return bool(self.elsewhere) or any(standing.pending for standing in self.runs)


def deliver(root: Path, uri: str | None, run: str | None) -> Synced:
    """Deliver `run` (None: all that were meant for the server in force); says on stderr how it goes.

    Raises:
        ConfigError: `uri` cannot be a tracking server.
    """
    runs: dict[str, Standing] = {}

    def take(name: str, state: Delivered) -> None:
        runs[name] = Standing(name, *state)
        what = f"{state.pending} entries wait" if state.pending else "MLflow knows all of it"
        print(f"{name}: {what}{f' ({state.problem})' if state.problem else ''}", file=sys.stderr, flush=True)

    uri = locate(root, uri)
    deliver_pending(root, uri, runs=None if run is None else [run], on_progress=take)
    here = store_name(root, uri)
    elsewhere = {
        ledger.run: ledger.store
        for ledger in (ledgers(root.absolute()) if run is None else [])
        if ledger.store != here and not ledger.is_complete(ledger.store) and not ledger.is_complete(here)
    }
    for name, store in elsewhere.items():
        print(f"{name}: waits for another server, {store}; name it with --tracking-uri", file=sys.stderr)
    return Synced(uri, list(runs.values()), elsewhere)


def print_synced(synced: Synced) -> None:
    """A line for each run."""
    if not synced.runs:
        print(f"no run was meant for {synced.server}", file=sys.stderr)
        return
    rows = [(standing.run, standing.pending, standing.refused, standing.problem) for standing in synced.runs]
    print_table(["run", "waiting", "refused", "why"], rows)
