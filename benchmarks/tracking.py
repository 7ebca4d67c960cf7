"""Entries per second that are exported to MLflow: to SQLite under the root, and to the servers named, as ratios.

    python benchmarks/tracking.py http://127.0.0.1:5000

Every round logs a journal of new entries, one metric each, and exports it to every store in random order; the medians are
compared. It leaves an experiment `benchmark-tracking` on the servers.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from zoocast.tracking import Journal, Sync, sync_pending

ENTRIES, ROUNDS = 5_000, 5
NOWHERE = "http://127.0.0.1:9"
BASELINE = "SQLite under the root"


def log(root: Path, run: str) -> None:
    """A finished pipeline run of one step that no store knows of."""
    directory = root / "steps" / run
    directory.mkdir(parents=True)
    journal = Journal(directory / "journal.jsonl")
    for i in range(ENTRIES):
        journal.metrics({"train/loss": 1 / (i + 1)}, step=i)
    sync = Sync(root, run, root / "runs" / run, experiment="benchmark-tracking", uri=NOWHERE)
    sync.finished("step", "step", directory)
    sync.close("finished")


def main(servers: list[str]) -> None:
    """Print entries per second for each store, and their ratio to SQLite."""
    seconds: dict[str, list[float]] = {name: [] for name in (BASELINE, *servers)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(ROUNDS + 1):
            run = f"round-{time.time_ns()}"
            log(root, run)
            for name in random.sample(list(seconds), len(seconds)):
                uri = f"sqlite:///{root}/mlflow.db" if name == BASELINE else name
                began = time.perf_counter()
                state = sync_pending(root, uri, runs=[run])
                if number > 0:  # the first round makes tables and experiments
                    seconds[name].append(time.perf_counter() - began)
                if state.pending:
                    sys.exit(f"{name}: {state.problem}")
    rates = {name: ENTRIES / statistics.median(taken) for name, taken in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:40}{rate:8,.0f} entries/s{rate / rates[BASELINE]:7.0%} of SQLite")


if __name__ == "__main__":
    main(sys.argv[1:])
