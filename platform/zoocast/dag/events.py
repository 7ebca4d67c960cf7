"""What a run reports while it goes on and what it leaves: events, outcomes, the result, and the wish to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal

__all__ = ["Event", "Finished", "Outcome", "OutcomeState", "Planned", "Progress", "RunResult", "Started", "StopSignal", "Waiting"]

OutcomeState = Literal["cached", "done", "failed", "skipped", "interrupted"]


@dataclasses.dataclass(frozen=True)
class _Event:
    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Planned(_Event):
    """The first event: every step as `PlannedStep.to_json` gives it, inputs first."""

    kind: ClassVar[str] = "planned"
    steps: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Started(_Event):
    """A step's function is about to be called; `directory` is where it writes, `at` in seconds since the epoch."""

    kind: ClassVar[str] = "started"
    name: str
    directory: str
    at: float


@dataclasses.dataclass(frozen=True)
class Progress(_Event):
    """How far a running step is, 0 to 1; `eta` in seconds, None as long as it is not known."""

    kind: ClassVar[str] = "progress"
    name: str
    fraction: float
    message: str
    eta: float | None


@dataclasses.dataclass(frozen=True)
class Waiting(_Event):
    """A step cannot start: `for_whom` names the other driver that is at work on it."""

    kind: ClassVar[str] = "waiting"
    name: str
    for_whom: str


@dataclasses.dataclass(frozen=True)
class Finished(_Event):
    """A step has come to its end in this run, also a cached one; `directory` holds its result or its unfinished work."""

    kind: ClassVar[str] = "finished"
    name: str
    state: OutcomeState
    seconds: float
    error: str
    directory: str


Event = Planned | Started | Progress | Waiting | Finished


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a step. Times are seconds since the epoch, of the attempt that made the result; `error` is one line.

    `repeats`: the same command would only meet the error again, so a setting has to change.
    """

    name: str
    key: str
    state: OutcomeState
    directory: Path
    started: float = 0.0
    finished: float = 0.0
    error: str = ""
    exit_code: int = 0
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeats: bool = False

    @property
    def seconds(self) -> float:
        return self.finished - self.started

    @property
    def ok(self) -> bool:
        return self.state in ("cached", "done")


@dataclasses.dataclass(frozen=True)
class RunResult:
    """All outcomes by the steps' names, inputs first."""

    outcomes: Mapping[str, Outcome]
    stopped: bool

    @property
    def exit_code(self) -> int:
        """0 fine, 130 stopped by the user before the end, 5 integrity, 4 infrastructure, 2 only the user's data, 1 any other."""
        # Before `stopped`: a wish to stop that came after the last step changed nothing.
        if all(o.ok for o in self.outcomes.values()):
            return 0
        # Scripts that stop a run on purpose look for 130, whatever else had failed before.
        if self.stopped:
            return 130
        codes = {o.exit_code for o in self.outcomes.values() if o.state in ("failed", "interrupted")}
        return next((code for code in (5, 4, 130, 1, 2) if code in codes), 1)


class StopSignal:
    """The user's wish to stop: asked once, steps end at their next checkpoint; asked again, they are killed."""

    def __init__(self) -> None:
        self.level = 0

    def request(self) -> None:
        self.level += 1

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[StopSignal]:
        """Take Ctrl-C and SIGTERM as `request` inside the block. Enter it after Ray has started: Ray sets handlers of its own.

        Outside the main thread, where Python takes no signals, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.request()

        # SIGTERM as well: batch systems and containers send it before they kill.
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
