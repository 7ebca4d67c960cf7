"""One run of a pipeline from the terminal: plan, connect, run, and report how it ended.

The board, the display and `run.json` are fed from the engine's events; nothing here decides what runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoocast.cli.board import Board, rows_of
from zoocast.cli.catalogue import DEFAULT_PRESET, Configured
from zoocast.cli.console import Display, display_for
from zoocast.cli.options import RUNS
from zoocast.cli.runs import RunRecord, run_name
from zoocast.cli.tracked import TrackedRun, is_synced, tracked
from zoocast.cli.views import notes
from zoocast.cluster.connect import LOCAL, address_of
from zoocast.cluster.preflight import require_fit
from zoocast.config import dump
from zoocast.dag import Event, Plan, RunResult, StopSignal, ordered, plan, select
from zoocast.dag import run as run_steps
from zoocast.dag.memory import require_memory
from zoocast.dag.records import read_record
from zoocast.errors import ConfigError, Interrupted
from zoocast.provenance import program
from zoocast.store.address import address
from zoocast.tracking.backend import locate, relocate

__all__ = ["Request", "execute", "execute_grid"]

PAGE = "report.html"
RECORD_SHARE = 0.05  # of the time at most may go into writing `run.json`


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked `plan` or `run` for."""

    configured: Configured
    root: Path
    address: str | None = None
    tracking_uri: str | None = None
    force: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    from_: str | None = None
    until: str | None = None

    @property
    def selected(self) -> frozenset[str] | None:
        """The chosen steps; None for all."""
        if not self.only and self.from_ is None and self.until is None:
            return None
        return select(self.configured.steps, only=self.only, from_=self.from_, until=self.until)

    @property
    def run(self) -> str:
        """The run's name."""
        chosen = self.selected
        return run_name(
            self.configured.pipeline.name, self.configured.steps[-1].key, sorted(chosen) if chosen is not None else []
        )

    def plan(self) -> Plan:
        """What would run, and why. Raises `OutOfMemory` for what this machine can never hold, where it is to run here."""
        the_plan = plan(self.configured.steps, self.root.absolute(), force=self.force, selected=self.selected)
        if address_of(self.address) == LOCAL:
            require_memory(planned.step for planned in the_plan.work)
        return the_plan

    def command(self) -> str:
        """The command that does what is left of this run; `--force` is left out, or it would begin anew."""
        configured = self.configured
        what = what_to_run(configured.pipeline.name, configured.preset, configured.overrides, self.only, self.from_, self.until)
        return shlex.join([*program(), "run", *what, *self._where(), *_option("--address", self.address)])

    def ui_command(self) -> str:
        """The command that shows this run in MLflow."""
        return shlex.join([*program(), "ui", *self._where()])

    def sync_command(self) -> str:
        """The command that sends MLflow what this run could not."""
        return shlex.join([*program(), "sync", *self._where()])

    def _where(self) -> list[str]:
        root = address(self.root) if self.root != RUNS else None
        return [*_option("--root", root), *_option("--tracking-uri", self.tracking_uri)]


def what_to_run(
    name: str, preset: str, overrides: Sequence[str], only: Sequence[str], from_: str | None, until: str | None
) -> list[str]:
    """The arguments of `run` that say what is computed, not where."""
    return [
        *(name, *_option("--preset", preset if preset != DEFAULT_PRESET else None)),
        *(part for item in overrides for part in ("-S", item)),
        *(part for pattern in only for part in ("--only", pattern)),
        *(*_option("--from", from_), *_option("--until", until)),
    ]


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def execute(request: Request) -> RunRecord:
    """Do the run; what is asked for and how it goes is kept in the record.

    Raises:
        ZoocastError: it could not begin: a setting, the cluster, or a damaged result.
    """
    locate(request.root, request.tracking_uri)  # raises for what can be no server, before anything else begins
    # The engine plans again when it begins; this one is for the user, and refuses before Ray has started.
    the_plan = request.plan()
    for step in the_plan.steps:
        if step.state == "blocked":
            raise ConfigError("", f"step {step.step.name} {step.why[0]}; select it as well, or run without a selection")
    board = Board(rows_of(the_plan))
    record = RunRecord(
        run=request.run,
        pipeline=request.configured.pipeline.name,
        preset=request.configured.preset,
        overrides=list(request.configured.overrides),
        config=dump(request.configured.config),
        argv=sys.argv,
        resume=request.command(),
        ui=request.ui_command(),
        started=time.time(),
        needs=[step.folder for step in ordered(planned.step for planned in the_plan.steps)],
    )
    record.go_on(the_plan.root)
    log = _Log(board, record, the_plan.root)
    # Before the engine plans for itself: from here on `cache gc` keeps every folder that `needs` names.
    log.write()
    try:
        result = _run(request, the_plan, log)
        board.settle(result)
        record.exit_code = result.exit_code
        record.message = "; ".join(o.error for o in result.outcomes.values() if o.state == "failed")
        if any(outcome.repeats for outcome in result.outcomes.values()):
            record.resume += " -S FIELD=VALUE"  # the message names the fields
        last = result.outcomes.get(request.configured.steps[-1].name)
        if last and last.ok:
            record.result = last.result
            # A pipeline of the user's own need not write one.
            if PAGE in read_record(last.directory).files:
                record.report = address(last.directory / PAGE)
    except KeyboardInterrupt:  # before the engine listens for it: while Ray starts, or twice at the end
        record.exit_code, record.message = 130, "interrupted"
        raise Interrupted(f"interrupted; what was finished is kept, go on with: {record.resume}") from None
    except BaseException as error:
        record.exit_code = getattr(error, "exit_code", 1)
        record.message = str(error)
        raise
    finally:
        # However it ended, and whatever comes now: a record without an end is that of a run whose process died.
        with StopSignal().on_signals():
            record.finished = time.time()
            log.write()
    return record


def execute_grid(requests: Mapping[str, Request]) -> tuple[dict[str, RunRecord], dict[str, Any] | None]:
    """Do several runs, one after the other; a step that two of them share is done once.

    A run that fails leaves the others theirs; an interruption ends them all.

    Args:
        requests: by what sets each apart.

    Returns:
        The records of the runs that were begun, and one table over the reports of those that finished, if they have arms.
    """
    ends: dict[str, RunRecord] = {}
    for place, (label, request) in enumerate(requests.items(), start=1):
        print(f"run {place} of {len(requests)}: {label}", file=sys.stderr)
        ends[label] = execute(request)
        if ends[label].exit_code == Interrupted.exit_code:
            break
    reports = {label: end.report_path(requests[label].root).parent for label, end in ends.items() if end.report}
    if not reports:
        return ends, None
    from zoocast.report.grid import compare_runs

    table = compare_runs(reports)
    return ends, table if table["rows"] else None


def _run(request: Request, the_plan: Plan, log: _Log) -> RunResult:
    print(*notes(the_plan), summary(the_plan), sep="\n", file=sys.stderr)
    stop = _Stop()
    with _cluster(request, the_plan, log.board), _page(request, the_plan) as page:
        log.page = page
        with stop.on_signals():
            with _display(log, the_plan) as display:
                log.display = stop.display = display
                result = run_steps(
                    request.configured.steps,
                    the_plan.root,
                    run_id=log.record.run,
                    selected=request.selected,
                    force=request.force,
                    on_event=log.take,
                    stop=stop,
                )
            # Inside the outer block, since leaving it exports the last of the journal and waits for that.
            if page is not None:
                page.conclude(result, result.outcomes.get(request.configured.steps[-1].name))
    return result


def summary(the_plan: Plan) -> str:
    """One line: how many steps there are, and what becomes of them."""
    words = {
        "done": "done before",
        "resume": "to go on with",
        "run": "to run",
        "running": "in the hands of another run",
        "blocked": "blocked",
    }
    counts = {state: sum(step.state == state for step in the_plan.steps) for state in words}
    many = f"{len(the_plan.steps)} step{'s' if len(the_plan.steps) != 1 else ''}"
    if not the_plan.work:
        return f"nothing to do: {f'all {many} were' if len(the_plan.steps) > 1 else f'its {many} was'} done before"
    return f"{many}: " + ", ".join(f"{count} {words[state]}" for state, count in counts.items() if count)


@contextlib.contextmanager
def _cluster(request: Request, the_plan: Plan, board: Board) -> Iterator[None]:
    """Ray, when anything is to be done."""
    if not the_plan.work:
        yield
        return
    # Imports Ray, which a run with nothing to do never needs.
    from zoocast.cluster.connect import connect

    local = address_of(request.address) == LOCAL
    print("starting Ray on this machine" if local else "connecting to Ray", file=sys.stderr, flush=True)  # it takes seconds
    with connect(request.address) as cluster:
        print(cluster, file=sys.stderr)
        # Before the page in MLflow is made: what cannot run needs none.
        require_fit(cluster, the_plan.root, request.tracking_uri, [planned.step for planned in the_plan.work])
        board.num_cpus = cluster.num_cpus
        yield


def _page(request: Request, the_plan: Plan) -> contextlib.AbstractContextManager[TrackedRun | None]:
    """The run's page in MLflow, unless nothing is to be done and the page shows everything already."""
    if not the_plan.work and is_synced(the_plan.root, request.run, request.tracking_uri):
        relocate(the_plan.root, request.tracking_uri)
        return contextlib.nullcontext()
    return tracked(the_plan.root, request.run, request.configured, request.tracking_uri, request.sync_command())


def _display(log: _Log, the_plan: Plan) -> contextlib.AbstractContextManager[Display | None]:
    if not the_plan.work:
        return contextlib.nullcontext()
    title = f"{log.record.pipeline} · {log.record.preset} · {log.record.run}"
    return display_for(log.board, title)


class _Log:
    """Passes the engine's events on to the board, the display and `run.json`."""

    def __init__(self, board: Board, record: RunRecord, root: Path) -> None:
        self.board, self.record, self.root = board, record, root
        self.display: Display | None = None
        self.page: TrackedRun | None = None
        self._due = 0.0

    def take(self, event: Event) -> None:
        """Note one event. It reaches `run.json` at once, or with later ones where steps are many and the file is large."""
        row = self.board.apply(event)
        if row is not None and self.display is not None:
            self.display.changed(row)
        if self.page is not None:
            self.page.take(event)
        if time.monotonic() > self._due:
            self.write()

    def write(self) -> None:
        """Bring `run.json` up to date."""
        began = time.monotonic()
        self.record.note_steps(self.board, self.root)
        self.record.write(self.root)
        self._due = time.monotonic() + (time.monotonic() - began) / RECORD_SHARE


class _Stop(StopSignal):
    """A wish to stop whose effect the display shows."""

    # None where nothing is displayed, and between taking the signals and setting it.
    display: Display | None = None

    def request(self) -> None:
        """Called by Ctrl-C and SIGTERM."""
        super().request()
        if self.display is not None:
            self.display.stopping(self.level)
