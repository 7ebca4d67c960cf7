"""A pipeline run's own page in MLflow: its steps as children, and what its report says in its note, metrics and artifacts.

Steps write journals and know nothing of this; `zoocast.tracking.Sync` exports everything, now or when the server is back.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoocast.cli.catalogue import Configured
from zoocast.config import canonical, diff, dump
from zoocast.dag import Event, Finished, Outcome, Progress, RunResult, Started
from zoocast.errors import ZoocastError
from zoocast.store.address import address, local
from zoocast.tracking import Status, Sync, git_state
from zoocast.tracking.backend import locate, store_name
from zoocast.tracking.fetch import fetch_journal
from zoocast.tracking.outbox import Outbox

__all__ = ["TrackedRun", "is_synced", "tracked"]

# What a user waits at most after the last step; `pipelines sync` sends the rest.
CLOSE_SECONDS = 60.0
MAX_VALUE = 6000  # characters of a param in MLflow
TRAININGS = "target."  # how the names of the steps begin that the page compares, by their arms
# Of the engine's endings those that have a page; a skipped step did nothing that could be shown.
STATUS: dict[str, Status] = {"cached": "finished", "done": "finished", "failed": "failed", "interrupted": "killed"}


def is_synced(root: Path, run: str, uri: str | None) -> bool:
    """Whether the store in force has everything about `run`. Reads two small files; MLflow is not imported."""
    outbox = Outbox.load(root, run)
    return outbox is not None and outbox.is_complete(store_name(root, locate(root, uri)))


@contextlib.contextmanager
def tracked(root: Path, run: str, configured: Configured, uri: str | None, command: str) -> Iterator[TrackedRun]:
    """The page of `run`, which follows all that happens in the block. A slow or absent server costs a minute at most, at the end.

    Args:
        command: what exports later what could not be exported here.
    """
    git = git_state()
    tags = {"zoocast.commit": git["commit"], "zoocast.dirty": str(git["dirty"]).lower(), "zoocast.preset": configured.preset}
    sync = Sync(root, run, root / "runs" / run, experiment=configured.pipeline.name, uri=uri, tags=tags)
    page = TrackedRun(sync, configured, command)
    try:
        yield page
    except BaseException as error:
        page.status = "killed" if getattr(error, "exit_code", None) == 130 or isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        page.close()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each setting of a canonical config by its path, its value as JSON; of a list of named configs by their names."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for i, each in enumerate(value):
            yield from _leaves(each, f"{path}.{each.get('name', i) if isinstance(each, dict) else i}")
    else:
        yield path, json.dumps(value)


def _param(name: str) -> str:
    """`name` as MLflow takes it: a setting's may hold a user's own words."""
    return re.sub(r"[^\w.\-/ :]", "_", name)[:250]


class TrackedRun:
    """Passes the engine's events on to `Sync`."""

    def __init__(self, sync: Sync, configured: Configured, command: str) -> None:
        from zoocast.report.compare import HEADLINE_METRIC  # with scipy, for which no other command should wait

        self.status: Status = "finished"
        self._sync, self._command = sync, command
        self._running: dict[str, Path] = {}
        self._keys = {step.name: step.key for step in configured.steps}
        # Those that differ from the preset first: they are what runs are compared by.
        changes = diff(canonical(configured.preset_config), canonical(configured.config))
        changed = {change.path: json.dumps(change.after) for change in changes}
        settings = {"preset": configured.preset, **changed, **dict(_leaves(dump(configured.config, identity_only=True)))}
        sync.journal.params({_param(name): text[:MAX_VALUE] for name, text in settings.items()})
        self._compared = any(name.startswith(TRAININGS) for name in self._keys)
        if self._compared:
            sync.journal.group(f"test/{HEADLINE_METRIC}", "arm", TRAININGS)

    def take(self, event: Event) -> None:
        """A step began, goes on or ended. One that was not run has no page."""
        if isinstance(event, Started):
            self._running[event.name] = Path(event.directory)
            self._sync.started(event.name, self._keys[event.name], Path(event.directory))
        elif isinstance(event, Progress):
            with contextlib.suppress(ZoocastError):  # the next time will do
                fetch_journal(self._running[event.name])
        elif isinstance(event, Finished) and event.state in STATUS:
            # Before the step is settled: how much of a given-up step's journal counts is decided then.
            try:
                fetch_journal(Path(event.directory))
            except ZoocastError as error:
                print(f"MLflow will not know all of {event.name}: {error}", file=sys.stderr)
            self._sync.finished(event.name, self._keys[event.name], Path(event.directory), STATUS[event.state])

    def conclude(self, result: RunResult, report: Outcome | None) -> None:
        """How the run ended, and what its report says: numbers of the last step's result become the page's metrics.

        They may stand in the result itself or in its `metrics`, as those of `zoocast.experiment`'s reports do.
        """
        self.status = {0: "finished", 130: "killed"}.get(result.exit_code, "failed")  # type: ignore[assignment]
        if report is None or not report.ok:
            return
        journal = self._sync.journal
        inner = report.result.get("metrics")
        numbers = {**report.result, **(inner if isinstance(inner, dict) else {})}
        journal.metrics({k: v for k, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool)}, step=0)
        # On an object store the report was made on another machine; this has its files come here.
        directory = local(address(report.directory))
        if (directory / "table.md").is_file():  # pipelines of users' own need not write one
            table = (directory / "table.md").read_text(encoding="utf-8", errors="replace")
            links = ["[The report](artifact:report.html)"] if (directory / "report.html").exists() else []
            links += ["[Pictures of all trainings](view:pictures)"] if self._compared else []
            journal.note("\n\n".join([*links, table]))
        for name in ("report.html", "figures"):
            if (directory / name).exists():
                journal.artifact(directory / name)

    def close(self) -> None:
        """Export the rest, and print what could not be exported."""
        if self._sync.state().pending:
            print("syncing with MLflow", file=sys.stderr)
        try:
            left = self._sync.close(self.status, CLOSE_SECONDS)
        except KeyboardInterrupt:  # whoever does not want to wait for this gets the end of the run all the same
            left = self._sync.state()._replace(problem="stopped by Ctrl-C")
        if left.pending:
            print(
                f"MLflow does not know all of it yet ({left.problem or 'it is slow'}): {left.pending} entries wait,"
                f" nothing is lost; send them with: {self._command}",
                file=sys.stderr,
            )
        if left.refused:
            print(f"MLflow refused {left.refused} entries; see *.refused under the root's delivery folder", file=sys.stderr)
