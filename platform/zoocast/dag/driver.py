"""Run what a plan says: every step that is ready and fits starts as a Ray task; a failure stops only what depends on it.

The driver owns all decisions and all publishing; Ray places the tasks and starts them again when a node dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.dag.context import Fenced, StepContext, begin_attempt, request_stop
from zoocast.dag.events import Event, Finished, Outcome, OutcomeState, Planned, Progress, RunResult, Started, StopSignal, Waiting
from zoocast.dag.placement import fits, require_room
from zoocast.dag.planning import Plan, PlannedStep, plan
from zoocast.dag.records import Record, final_path, lock_path, partial_path, publish_step, read_record
from zoocast.dag.step import Resources, Step
from zoocast.dag.worker import Report
from zoocast.errors import ConfigError, InfrastructureError, Interrupted, OutOfMemory, ZoocastError
from zoocast.store.address import open_root
from zoocast.store.files import as_json
from zoocast.store.layout import DONE, ERROR, LOCKS, PROGRESS, STEPS
from zoocast.store.locks import Locks
from zoocast.store.root import Root

if TYPE_CHECKING:
    from zoocast.dag.tasks import Tasks

__all__ = ["run"]

# How long Ray is waited for before the loop looks at the user's wish to stop, the steps' progress and free room again.
POLL_SECONDS = 0.2
# How soon a step is tried again that another driver holds.
LOCK_POLL_SECONDS = 0.5
# How long the head's list of nodes is believed, so that not every turn of the loop asks for it.
NODES_SECONDS = 5.0
# Ray takes half a minute to see that a node is lost (docs/reliability.md), and another one takes time to start.
NO_ROOM_SECONDS = 60.0


def run(
    steps: Iterable[Step],
    root: Path,
    *,
    run_id: str,
    selected: Collection[str] | None = None,
    force: Sequence[str] = (),
    on_event: Callable[[Event], None] = lambda _event: None,
    stop: StopSignal | None = None,
) -> RunResult:
    """Run all (or the selected) steps that have no result yet. Ray must be connected when anything is to be done.

    Args:
        run_id: names this run to other drivers on the same storage.
        on_event: called in this thread with everything that happens.
        stop: the user's wish to stop, looked at several times a second.

    Raises:
        ConfigError: a selected step needs another that is neither finished nor selected; nothing was started.
        InfrastructureError: the cluster can never hold a step; nothing was started.
        IntegrityError: a result that is to be used is damaged; nothing was started.
    """
    root = root.absolute()
    the_plan = plan(steps, root, force=force, selected=selected)
    blocked = [s for s in the_plan.steps if s.state == "blocked"]
    if blocked:
        raise ConfigError("", f"step {blocked[0].step.name} {blocked[0].why[0]}; select it as well, or run without a selection")
    tasks = None
    if the_plan.work:
        from zoocast.dag.tasks import Tasks  # ray takes half a second to import, and nothing needs it when all is done

        tasks = Tasks()
        while (nodes := tasks.nodes()) is None:
            time.sleep(POLL_SECONDS)
        require_room(nodes, (s.step for s in the_plan.work))
    for folder in (STEPS, LOCKS):
        try:
            (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot write under {root} ({error}); choose another --root") from None
    storage = open_root(root)
    with storage.locks(run_id) as locks:
        return _Driver(the_plan, storage, tasks, locks, on_event, stop or StopSignal()).run()


@dataclasses.dataclass
class _Running:
    """A submitted step. `first` is the time and fraction of its first progress, from which the remaining time is estimated."""

    context: StepContext
    started: bool = False
    asked_to_stop: bool = False
    note: str = ""
    look_again: float = 0.0
    first: tuple[float, float] | None = None

    def remaining(self, fraction: float) -> float | None:
        """Seconds until the end at the speed since the first progress, which for a resumed step is not the beginning."""
        now = time.monotonic()
        since, before = self.first = self.first or (now, fraction)
        return (1 - fraction) * (now - since) / (fraction - before) if fraction > before else None


class _Driver:
    def __init__(
        self,
        the_plan: Plan,
        storage: Root,
        tasks: Tasks | None,
        locks: Locks,
        on_event: Callable[[Event], None],
        stop: StopSignal,
    ) -> None:
        self.plan, self.root, self.tasks, self.locks, self.stop = the_plan, the_plan.root, tasks, locks, stop
        self.storage = storage
        self.emit = on_event
        self.outcomes: dict[str, Outcome] = {}
        self.running: dict[str, _Running] = {}
        self.by_name = {s.step.name: s for s in the_plan.steps}
        self.order = _longest_chain_first(the_plan.steps)
        self.waiting: dict[str, tuple[str, float]] = {}
        self.nodes: list[Resources] = []
        self.nodes_until = 0.0
        self.no_room_since: float | None = None

    def run(self) -> RunResult:
        self.emit(Planned([s.to_json() for s in self.plan.steps]))
        try:
            while True:
                self._settle_what_needs_no_work()
                # Without a head nothing new is placed, but steps that run may still finish and are collected.
                if self._head_answers() and self.stop.level == 0:
                    self._start_what_fits()
                if not self.running and (self.stop.level or len(self.outcomes) == len(self.plan.steps)):
                    break
                self._pass_on_stop()
                self._collect(self.tasks.collect(POLL_SECONDS) if self.tasks else [])
                self._report_progress()
        finally:
            # After an error, say in `on_event`: no task may outlive the locks, which are released when this method ends.
            if self.running and self.tasks:
                self._collect(self.tasks.kill())
        for planned in self.plan.steps:
            if planned.step.name not in self.outcomes:
                self._settle(planned.step, "skipped", error="the run was stopped before")
        return RunResult({s.step.name: self.outcomes[s.step.name] for s in self.plan.steps}, stopped=self.stop.level > 0)

    # ------------------------------------------------------------------------------------------------------------ deciding

    def _settle_what_needs_no_work(self) -> None:
        for planned in self.plan.steps:
            step = planned.step
            if step.name in self.outcomes or step.name in self.running:
                continue
            # Inputs come first in a plan, so one pass carries a failure down to all that depend on it.
            lost = [p.name for p in step.inputs.values() if p.name in self.outcomes and not self.outcomes[p.name].ok]
            if planned.state == "done" and planned.record is not None:
                self._settle_cached(step, planned.record)
            elif lost:
                self._settle(step, "skipped", error=f"needs {lost[0]}, which is not there")

    def _head_answers(self) -> bool:
        """Whether the head of the cluster answers; now and then it is asked anew what the nodes have."""
        if self.tasks and time.monotonic() >= self.nodes_until:
            nodes = self.tasks.nodes()
            if nodes is None:
                return False
            self.nodes, self.nodes_until = nodes, time.monotonic() + NODES_SECONDS
        return True

    def _start_what_fits(self) -> None:
        no_room: set[tuple[Resources, ...]] = set()  # of a thousand steps that wait most ask for the same
        for planned in self.order:
            step = planned.step
            if step.name in self.outcomes or step.name in self.running or not self._inputs_are_there(step):
                continue
            _, again_at = self.waiting.get(step.name, ("", 0.0))
            if time.monotonic() < again_at or step.demands in no_room:
                continue
            if not self._has_room(step):
                no_room.add(step.demands)
                continue
            try:
                self._claim(planned)
            except ZoocastError as error:
                self._fail(step, error)
            except OSError as error:
                self._fail(step, InfrastructureError(f"step {step.name}: cannot write under {self.root} ({error})"))

    def _inputs_are_there(self, step: Step) -> bool:
        # Inputs outside of the plan are finished, else it were blocked; after one that failed this step was skipped already.
        return all(p.name not in self.by_name or p.name in self.outcomes for p in step.inputs.values())

    def _has_room(self, step: Step) -> bool:
        """Whether `step` fits beside all that runs. Ray would queue it as well, but a waiting Ray Train run is loud."""
        demands = [d for name in self.running for d in self.by_name[name].step.demands]
        if fits(self.nodes, [*demands, *step.demands]):
            self.no_room_since = None
            return True
        if not self.running:  # a node was lost: wait a while for another one, but not for ever
            self.no_room_since = self.no_room_since or time.monotonic()
            if time.monotonic() - self.no_room_since > NO_ROOM_SECONDS:
                try:
                    require_room(self.nodes, [step])
                except InfrastructureError as error:
                    self._fail(step, error)
        return False

    def _claim(self, planned: PlannedStep) -> None:
        """Lock a step and start it, or find that another driver is at work on it or has just finished it."""
        step = planned.step
        holder = self.locks.acquire(lock_path(self.root, step))
        if holder is not None:
            known, _ = self.waiting.get(step.name, ("", 0.0))
            self.waiting[step.name] = (str(holder), time.monotonic() + LOCK_POLL_SECONDS)
            if known != str(holder):
                self.emit(Waiting(step.name, str(holder)))
            return
        partial, final = partial_path(self.root, step), final_path(self.root, step)
        self.storage.know(step.folder)  # it may have been finished since the plan was made
        if planned.forced:
            self.storage.forget(step.folder)
        # A driver died between writing the record and the rename; the work itself is whole.
        elif (partial / DONE).exists() and read_record(partial).key == step.key:
            publish_step(self.root, step, None)
        # Looked for under the lock: whoever held it before has published by now, or never will.
        if final.exists() and not planned.forced:
            self._settle_cached(step, read_record(final))
        else:
            self._start(step)

    def _start(self, step: Step) -> None:
        assert self.tasks is not None
        # Somebody may clean up by hand while a run lasts for days; the worker's own error would not say what to do.
        for parent in step.inputs.values():
            if not final_path(self.root, parent).exists():
                raise InfrastructureError(
                    f"step {step.name}: {final_path(self.root, parent)}, which it needs, was removed since this run began;"
                    " run again to make it anew"
                )
        partial = partial_path(self.root, step)
        partial.mkdir(exist_ok=True)
        # Under the lock, so that two drivers never take the folder over in turns.
        token = begin_attempt(partial, self.locks.me.run, self.locks.me.host)
        inputs = {name: final_path(self.root, parent) for name, parent in step.inputs.items()}
        results = {name: self._result_of(parent) for name, parent in step.inputs.items()}
        context = StepContext(
            name=step.name,
            key=step.key,
            version=step.kind.version,
            config=step.config,
            directory=partial,
            inputs=inputs,
            results=results,
            resources=step.resources,
            root=self.storage,
            run_id=self.locks.me.run,
            token=token,
        )
        self.tasks.submit(step, context)
        self.running[step.name] = _Running(context)

    def _result_of(self, parent: Step) -> dict[str, Any]:
        outcome = self.outcomes.get(parent.name)
        return outcome.result if outcome else read_record(final_path(self.root, parent)).result

    # ------------------------------------------------------------------------------------------------------------ watching

    def _pass_on_stop(self) -> None:
        if self.stop.level >= 2 and self.tasks:
            self._collect(self.tasks.kill())
        for running in self.running.values():
            if self.stop.level and not running.asked_to_stop:
                running.asked_to_stop = True
                request_stop(running.context.directory, running.context.token)

    def _report_progress(self) -> None:
        for name, running in self.running.items():
            note = self._news(running)
            # A worker that an earlier driver left behind writes into the same file until it meets the fence.
            if note is None or note.get("token") != running.context.token:
                continue
            self._note_start(name, running, note.get("started", time.time()))
            if "started" in note:
                running.first = None  # called for the first time, or once more by Ray after its process died
            else:
                self.emit(Progress(name, note["fraction"], note["message"], running.remaining(note["fraction"])))

    def _news(self, running: _Running) -> dict[str, Any] | None:
        """What a step has noted of its progress since it was last asked."""
        if time.monotonic() < running.look_again:
            return None
        running.look_again = time.monotonic() + self.storage.pace.watch
        try:
            text = self.storage.read_note(running.context.directory / PROGRESS)
        except InfrastructureError:  # a store that is away for a moment ends no run
            return None
        note = as_json(text)
        if text is None or note is None or text == running.note:
            return None
        running.note = text
        return note

    def _note_start(self, name: str, running: _Running, at: float) -> None:
        if not running.started:
            running.started = True
            self.emit(Started(name, str(running.context.directory), at))

    # ------------------------------------------------------------------------------------------------------------ finishing

    def _collect(self, finished: Iterable[tuple[Step, Report | ZoocastError]]) -> None:
        for step, report in finished:
            running = self.running.pop(step.name)
            error = report.error if isinstance(report, Report) else report
            if isinstance(report, Report):
                self._note_start(step.name, running, report.started)
            if error is None and isinstance(report, Report):
                error = self._publish(step, running.context, report)
            if isinstance(error, Fenced) and self.stop.level == 0:
                self.locks.release(lock_path(self.root, step))
                continue  # another driver has it now; it is claimed again, and then waited for
            if error is not None:
                self._fail(step, error, report)

    def _publish(self, step: Step, context: StepContext, report: Report) -> ZoocastError | None:
        """Make the result appear. Returns what kept it from appearing."""
        try:
            # This driver may have been frozen for longer than its lock lives, and the step be another one's by now.
            context.check_fence()
            record = Record.of(
                step,
                report.result,
                started=report.started,
                finished=report.finished,
                host=report.host,
                run=self.locks.me.run,
                files=report.files,
                machine=report.machine,
            )
            publish_step(self.root, step, record)
        except ZoocastError as error:
            return error
        except OSError as error:
            return InfrastructureError(f"step {step.name}: its result cannot be written under {self.root} ({error})")
        self._settle(step, "done", record=record)
        return None

    def _fail(self, step: Step, error: ZoocastError, report: object = None) -> None:
        with contextlib.suppress(ZoocastError):  # the traceback is a help, no more
            self.storage.pull(partial_path(self.root, step), lambda file: file == ERROR)
        times = (report.started, report.finished) if isinstance(report, Report) else (0.0, 0.0)
        state: OutcomeState = "interrupted" if isinstance(error, Interrupted) else "failed"
        repeats = isinstance(error, OutOfMemory)
        self._settle(step, state, error=str(error), exit_code=error.exit_code, times=times, repeats=repeats)

    def _settle_cached(self, step: Step, record: Record) -> None:
        self._settle(step, "cached", record=record)

    def _settle(
        self,
        step: Step,
        state: OutcomeState,
        *,
        record: Record | None = None,
        error: str = "",
        exit_code: int = 0,
        times: tuple[float, float] = (0.0, 0.0),
        repeats: bool = False,
    ) -> None:
        # After publishing, so that whoever waits for the lock finds the result.
        self.locks.release(lock_path(self.root, step))
        started, finished = (record.started, record.finished) if record else times
        directory = final_path(self.root, step) if record else partial_path(self.root, step)
        result = record.result if record else {}
        self.outcomes[step.name] = Outcome(
            step.name, step.key, state, directory, started, finished, " ".join(error.split()), exit_code, result, repeats
        )
        self.emit(Finished(step.name, state, finished - started, " ".join(error.split()), str(directory)))


def _longest_chain_first(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    """`steps` so that those on which the longest chains of further steps wait come first, else in their order."""
    height: dict[str, int] = {}
    # From the end: every step's height is final before it is passed on to its inputs.
    for planned in reversed(steps):
        own = height.setdefault(planned.step.name, 0)
        for parent in planned.step.inputs.values():
            height[parent.name] = max(height.get(parent.name, 0), own + 1)
    return sorted(steps, key=lambda s: -height[s.step.name])
