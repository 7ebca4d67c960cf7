"""A pipeline run's own page in MLflow: its steps as children, and what its report says in its note, metrics and artifacts.

Steps write journals and know nothing of this; `zoocast.tracking.Delivery` carries everything, now or when the server is back.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from zoocast.cli.catalogue import Configured
from zoocast.config import canonical, diff
from zoocast.dag import Event, Finished, Outcome, Progress, RunResult, Started
from zoocast.errors import ZoocastError
from zoocast.store.address import address, local
from zoocast.tracking import Delivery, Status, git_state
from zoocast.tracking.backend import locate, store_name
from zoocast.tracking.fetch import bring
from zoocast.tracking.outbox import Ledger

__all__ = ["TrackedRun", "is_delivered", "tracked"]

CLOSE_SECONDS = 60.0
STATUS: dict[str, Status] = {"cached": "finished", "done": "finished", "failed": "failed", "interrupted": "killed"}


def is_delivered(root: Path, run: str, uri: str | None) -> bool:
    """Whether the store in force has been told everything about `run`. Reads two small files; MLflow is not imported."""
    ledger = Ledger.load(root, run)
    return ledger is not None and ledger.is_complete(store_name(root, locate(root, uri)))


@contextlib.contextmanager
def tracked(root: Path, run: str, configured: Configured, uri: str | None, sync: str) -> Iterator[TrackedRun]:
    """The page of `run`, told all that happens in the block. A slow or absent server costs a minute at most, at the end.

    Args:
        sync: the command that delivers what could not be delivered here.
    """
    git = git_state()
    tags = {"zoocast.commit": git["commit"], "zoocast.dirty": str(git["dirty"]).lower(), "zoocast.preset": configured.preset}
    delivery = Delivery(root, run, root / "runs" / run, experiment=configured.pipeline.name, uri=uri, tags=tags)
    page = TrackedRun(delivery, configured, sync)
    try:
        yield page
    except BaseException as error:
        page.status = "killed" if getattr(error, "exit_code", None) == 130 or isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        page.close()


class TrackedRun:
    """Tells `Delivery` what the engine tells us."""

    def __init__(self, delivery: Delivery, configured: Configured, sync: str) -> None:
        self.status: Status = "finished"
        self._delivery, self._sync = delivery, sync
        self._running: dict[str, Path] = {}
        self._keys = {step.name: step.key for step in configured.steps}
        changes = diff(canonical(configured.preset_config), canonical(configured.config))
        delivery.journal.params({"preset": configured.preset, **{change.path: json.dumps(change.after) for change in changes}})

    def take(self, event: Event) -> None:
        """A step began, goes on or ended. One that was not run has no page."""
        if isinstance(event, Started):
            self._running[event.name] = Path(event.directory)
            self._delivery.started(event.name, self._keys[event.name], Path(event.directory))
        elif isinstance(event, Progress):
            with contextlib.suppress(ZoocastError):  # the next time will do
                bring(self._running[event.name])
        elif isinstance(event, Finished) and event.state in STATUS:
            try:
                bring(Path(event.directory))
            except ZoocastError as error:
                print(f"MLflow will not know all of {event.name}: {error}", file=sys.stderr)
            self._delivery.finished(event.name, self._keys[event.name], Path(event.directory), STATUS[event.state])

    def conclude(self, result: RunResult, report: Outcome | None) -> None:
        """How the run ended, and what its report says: numbers of the report step's result become the page's metrics."""
        self.status = {0: "finished", 130: "killed"}.get(result.exit_code, "failed")  # type: ignore[assignment]
        if report is None or not report.ok:
            return
        journal = self._delivery.journal
        journal.metrics(
            {k: v for k, v in report.result.items() if isinstance(v, int | float) and not isinstance(v, bool)}, step=0
        )
        directory = local(address(report.directory))
        journal.note((directory / "table.md").read_text(encoding="utf-8"))
        for name in ("report.html", "figures"):
            if (directory / name).exists():
                journal.artifact(directory / name)

    def close(self) -> None:
        """Deliver the rest, and say what could not be delivered."""
        if self._delivery.state().pending:
            print("telling MLflow what it does not know yet", file=sys.stderr)
        try:
            delivered = self._delivery.close(self.status, CLOSE_SECONDS)
        except KeyboardInterrupt:  # whoever does not want to wait for this gets the end of the run all the same
            delivered = self._delivery.state()._replace(problem="stopped by Ctrl-C")
        if delivered.pending:
            print(
                f"MLflow does not know all of it yet ({delivered.problem or 'it is slow'}): {delivered.pending} entries wait,"
                f" nothing is lost; deliver them with: {self._sync}",
                file=sys.stderr,
            )
        if delivered.refused:
            print(f"MLflow refused {delivered.refused} entries; see *.refused under the root's delivery folder", file=sys.stderr)
