"""What is known about a run while it goes on: one row per step, and how long the rest will take.

The board holds no terminal and no Ray, so that the live tree, the plain lines, `run.json` and the tests all read the same state.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from zoocast.dag import Event, Finished, Plan, Planned, Progress, RunResult, Started, Waiting
from zoocast.words import duration

__all__ = ["Board", "Row", "RowState", "arms_of", "rows_of", "tree_parents"]

RowState = Literal["waiting", "running", "elsewhere", "cached", "done", "failed", "skipped", "interrupted"]
OPEN: tuple[RowState, ...] = ("waiting", "running", "elsewhere")


@dataclasses.dataclass
class Row:
    """One step: what it needs, how far it is, and when (seconds since the epoch) it began and ended.

    `iterations` are those of a step that trains, None for others; `pure_seconds` is what its whole work takes at its last known
    speed, without what came before that, such as imports.
    """

    name: str
    key: str = ""
    kind: str = ""
    parents: tuple[str, ...] = ()
    num_cpus: float = 1.0
    earlier_seconds: float | None = None
    iterations: int | None = None
    pure_seconds: float | None = None
    state: RowState = "waiting"
    fraction: float | None = None
    message: str = ""
    started: float | None = None
    finished: float | None = None
    ends_at: float | None = None

    def elapsed(self, now: float) -> float | None:
        """Seconds that the step has taken so far, or took."""
        return None if self.started is None else (self.finished or now) - self.started

    def left(self, now: float) -> float | None:
        """Seconds until a running step ends, by its own last estimate."""
        return max(self.ends_at - now, 0.0) if self.state == "running" and self.ends_at is not None else None


class Board:
    """The rows of one run, in an order in which every step comes after its inputs.

    Args:
        rows: the steps.
        num_cpus: what the cluster has.
        clock: seconds since the epoch.
    """

    def __init__(self, rows: Iterable[Row], *, num_cpus: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        self.rows = {row.name: row for row in rows}
        self.num_cpus = num_cpus
        self.clock = clock
        self.began = clock()

    def apply(self, event: Event) -> Row | None:
        """Take over an event of the engine; returns the row that it is about, None when it is about all."""
        if isinstance(event, Planned):
            return None
        row = self.rows[event.name]
        match event:
            case Started(at=at):
                # All anew, for a step that was lost with its worker starts a second time.
                row.state, row.message, row.fraction, row.ends_at = "running", "", None, None
                row.started, row.finished = at, None
            case Progress(fraction=fraction, message=message, eta=eta):
                row.fraction, row.message = fraction, message
                # Kept as a moment, not as a duration, so that the clock counts down between two reports of the step.
                row.ends_at = None if eta is None else self.clock() + eta
                if eta is not None and fraction < 1:
                    row.pure_seconds = eta / (1 - fraction)
            case Waiting(for_whom=holder):
                row.state, row.message = "elsewhere", holder
            case Finished(state=state, error=error, seconds=seconds):
                row.state, row.message = state, _without_name(row.name, error)
                if row.started is not None and row.finished is None:
                    # A step that was killed could not tell how long it took.
                    row.finished = row.started + seconds if seconds else self.clock()
        return row

    def settle(self, result: RunResult) -> None:
        """Take over how everything ended; a step that was done before, or by another run, took the time that it took then."""
        for name, outcome in result.outcomes.items():
            row = self.rows[name]
            row.state, row.message = outcome.state, _without_name(name, outcome.error)
            if outcome.started:  # else it never began, or was killed and what was seen of it is all that is known
                row.started, row.finished = outcome.started, outcome.finished

    def count(self, *states: RowState) -> int:
        """How many steps are in one of these states."""
        return sum(row.state in states for row in self.rows.values())

    def elapsed(self) -> float:
        """Seconds since the board was made."""
        return self.clock() - self.began

    def left(self) -> str:
        """How long the whole run will still take, in words; ``at least`` when nothing is known of some waiting step.

        That is the longer of the longest chain of steps and the work that all CPUs share.
        """
        now = self.clock()
        guesses = self._guesses()
        costs = {row.name: _cost(row, now, guesses[row.name]) for row in self.rows.values()}
        chain: dict[str, float] = {}
        # One pass is enough: every row comes after its inputs. Inputs outside of the selection are done, and cost nothing.
        for row in self.rows.values():
            chain[row.name] = (costs[row.name] or 0.0) + max((chain.get(parent, 0.0) for parent in row.parents), default=0.0)
        work = sum((costs[row.name] or 0.0) * row.num_cpus for row in self.rows.values())
        seconds = max([work / max(self.num_cpus, 1.0), *chain.values()])
        return f"{'at least' if None in costs.values() else 'about'} {duration(seconds)} left" if seconds >= 1 else ""

    def _guesses(self) -> dict[str, float | None]:
        """What each step should take in all, by the best that is known of it or its kin; None when nothing is.

        What steps of its kind take just now, on this cluster, is better than what it took in an earlier run, and that is better
        than what its kin took then. The first trainings of a run are sources, of another kind: they tell the pace of the others.
        """
        usual, earlier = self._usual("done", "running"), self._usual("cached")
        pace = _mean([row.pure_seconds / row.iterations for row in self.rows.values() if row.pure_seconds and row.iterations])
        return {
            row.name: usual.get(row.kind)
            or row.earlier_seconds
            or earlier.get(row.kind)
            or (pace * row.iterations if pace and row.iterations else None)
            for row in self.rows.values()
        }

    def _usual(self, *states: RowState) -> dict[str, float | None]:
        """What steps of each kind that are in one of these states took on average, or by their own estimates will take in all."""
        taken: dict[str, list[float]] = {}
        for row in self.rows.values():
            end = row.ends_at if row.state == "running" else row.finished
            if row.state in states and row.started is not None and end is not None:
                # One that went on from a checkpoint has taken less than the whole.
                taken.setdefault(row.kind, []).append(max(end - row.started, row.pure_seconds or 0.0))
        return {kind: _mean(seconds) for kind, seconds in taken.items()}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _cost(row: Row, now: float, guess: float | None) -> float | None:
    """Seconds that a step will still take; `guess` is what it should take in all. None when nothing is known."""
    if row.state not in OPEN:
        return 0.0
    left = row.left(now)
    if left is not None:
        return left
    return None if guess is None else max(guess - (row.elapsed(now) or 0.0), 0.0)


def _without_name(name: str, error: str) -> str:
    """The engine's messages often begin with the step's name, which stands beside them here."""
    return error.removeprefix(f"step {name}: ").removeprefix(f"step {name} ")


def rows_of(plan: Plan) -> list[Row]:
    """A row for each planned step, inputs first."""
    rows = []
    for planned in plan.steps:
        step = planned.step
        done = planned.record if planned.state == "done" else None
        rows.append(
            Row(
                name=step.name,
                key=step.key,
                kind=step.kind.name,
                parents=tuple(parent.name for parent in step.inputs.values()),
                num_cpus=sum(demand.num_cpus for demand in step.demands),
                earlier_seconds=planned.earlier_seconds,
                iterations=_iterations(step.config),
                state="cached" if done else "waiting",
                started=done.started if done else None,
                finished=done.finished if done else None,
            )
        )
    return rows


def _iterations(config: Any) -> int | None:
    """How long a step with this config trains; a pipeline of the user's own may call anything `training`."""
    iterations = getattr(getattr(config, "training", None), "iterations", None)
    return iterations if isinstance(iterations, int) else None


def arms_of(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the name under which they are shown: the seeds of an arm (``target.tmu.seed0``) together, other steps alone."""
    rows = list(rows)
    taken = {row.name for row in rows}
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arm, _, number = row.name.rpartition(".seed")
        arms.setdefault(arm if arm and number.isdigit() and arm not in taken else row.name, []).append(row)
    # An only seed keeps its step's name, by which commands know it.
    return {arm if len(seeds) > 1 else seeds[0].name: seeds for arm, seeds in arms.items()}


def tree_parents(parents: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Where each step hangs when a graph is drawn as a tree: below the input that comes last, None is the root.

    Of several inputs that come equally late (seeds of an arm, banks of a target) it hangs below what they share. `parents` gives
    each step's inputs and lists every step after its inputs; inputs that it does not list (left out by ``--only``) do not count.
    """
    above: dict[str, str | None] = {}
    depth: dict[str, int] = {}
    for name, inputs in parents.items():
        known = [parent for parent in inputs if parent in above]
        depth[name] = max((depth[parent] + 1 for parent in known), default=0)
        last = [_path(parent, above) for parent in known if depth[parent] + 1 == depth[name]]
        # Paths begin at the root, so what they share is a prefix; its last step is where they part.
        shared = [steps[0] for steps in zip(*last, strict=False) if len(set(steps)) == 1]
        above[name] = shared[-1] if shared else None
    return above


def _path(name: str, above: Mapping[str, str | None]) -> list[str]:
    """The steps from the root of the tree down to `name`."""
    parent = above[name]
    return [*(_path(parent, above) if parent is not None else []), name]
