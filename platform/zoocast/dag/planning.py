"""What a run would do and why, from reading the storage root alone.

Every step is compared with its nearest earlier result, so that "why does this run again?" is answered with the setting or the
input that changed.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from zoocast.config import diff
from zoocast.dag.records import Record, final_path, partial_path, read_record, read_sound, records_of, results, versions
from zoocast.dag.step import Resources, Step, ordered
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, did_you_mean
from zoocast.provenance import differences, machine
from zoocast.store.address import open_root, root_of
from zoocast.store.files import read_json
from zoocast.store.layout import DONE, ERROR, PROGRESS
from zoocast.store.locks import Holder

__all__ = ["Plan", "PlannedStep", "State", "plan", "select"]

State = Literal["done", "resume", "run", "running", "blocked"]


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A step, what a run would do with it, and why.

    done: nothing, its result is there. resume: it goes on from its unfinished folder. run: it starts from nothing.
    running: another driver is at work on it. blocked: it needs a result that is neither there nor selected to be made.
    `earlier_seconds` is what the latest result of the same name took, whatever its settings. `nearest` is the folder of the
    result that `why` compares the step with, if it does.
    """

    step: Step
    state: State
    why: tuple[str, ...]
    record: Record | None
    forced: bool
    earlier_seconds: float | None = None
    nearest: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.step.name,
            "key": self.step.key,
            "state": self.state,
            "why": list(self.why),
            "notes": list(self.step.notes),
            "inputs": {name: parent.name for name, parent in self.step.inputs.items()},
            "seconds": self.record.seconds if self.record else None,
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """The selected steps of a pipeline under a storage root, inputs first."""

    root: Path
    steps: tuple[PlannedStep, ...]

    @property
    def work(self) -> tuple[PlannedStep, ...]:
        """The steps that are not done. When there are none, a run needs no cluster."""
        return tuple(s for s in self.steps if s.state != "done")

    def to_json(self) -> dict[str, Any]:
        return {"root": str(self.root), "steps": [s.to_json() for s in self.steps]}


def select(
    steps: Iterable[Step], *, only: Sequence[str] = (), from_: str | None = None, until: str | None = None
) -> frozenset[str]:
    """Names of the steps to look at: those that match `only`, from `from_` downstream, up to `until`; all three must hold.

    Each is a name or a pattern such as ``source.*``.

    Raises:
        ConfigError: something matches no step.
    """
    all_steps = ordered(steps)
    names = {s.name for s in all_steps}
    if only:
        names &= _match(only, all_steps, "--only")
    if from_ is not None:
        names &= _downstream(_match([from_], all_steps, "--from"), all_steps)
    if until is not None:
        ends = _match([until], all_steps, "--until")
        names &= {s.name for s in ordered(s for s in all_steps if s.name in ends)}
    if not names:
        raise ConfigError("", "no step is selected; --only, --from and --until exclude each other here")
    return frozenset(names)


def _match(patterns: Iterable[str], steps: Sequence[Step], option: str) -> set[str]:
    names = [s.name for s in steps]
    out: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise ConfigError(
                option, f"no step matches {pattern!r}; {did_you_mean(pattern, names)}the steps are {', '.join(names)}"
            )
        out.update(found)
    return out


def _downstream(names: Collection[str], steps: Sequence[Step]) -> set[str]:
    out = set(names)
    # Inputs come first in `steps`, so one pass reaches all.
    for step in steps:
        if any(parent.name in out for parent in step.inputs.values()):
            out.add(step.name)
    return out


def plan(steps: Iterable[Step], root: Path, *, force: Sequence[str] = (), selected: Collection[str] | None = None) -> Plan:
    """What `run` with the same arguments would do. Only reads.

    Args:
        force: names or patterns of steps to run again, with everything downstream of them.
        selected: what `select` returned; None for all.

    Raises:
        ConfigError: `force` matches no step, or two steps share a name.
        InfrastructureError: the root cannot be read.
        IntegrityError: a result that is to be used is not what was finished.
    """
    all_steps = ordered(steps)
    storage = open_root(root)
    # In an object store these two calls are all that a plan asks for; what follows reads this machine's copy.
    storage.refresh({s.folder for s in all_steps}, {s.name for s in all_steps})
    holders = storage.holders([s.folder for s in all_steps])
    # What was made from a result that is made anew is not known to be the same any more, though its key is.
    forced = _downstream(_match(force, all_steps, "--force"), all_steps) if force else set()
    chosen = {s.name for s in all_steps} if selected is None else set(selected)
    reasons = _Reasons(root)
    planned: dict[str, PlannedStep] = {}
    available: set[str] = set()
    try:
        for step in all_steps:
            if step.name in chosen:
                # Inputs were planned before, so what is blocked upstream blocks this step too.
                now = _planned(step, root, holders.get(step.folder), step.name in forced, available, reasons)
                planned[step.name] = dataclasses.replace(now, earlier_seconds=reasons.earlier_seconds(now))
                if now.state != "blocked":
                    available.add(step.name)
    except PermissionError as error:
        raise InfrastructureError(f"cannot read {root} ({error}); choose another --root") from None
    return Plan(root, tuple(planned.values()))


def _planned(step: Step, root: Path, holder: Holder | None, forced: bool, available: set[str], reasons: _Reasons) -> PlannedStep:
    final = final_path(root, step)
    held = holder is not None and not holder.is_gone()
    try:
        # A result that is about to be replaced, here or by another run, need not be whole, and may vanish while it is read.
        replaced = forced or held
        record = (read_record(final) if replaced else _sound(final)) if final.exists() else None
    except IntegrityError:
        if not replaced:
            raise
        record = None
    # First: a step that is made anew under --force elsewhere has a result that is about to be replaced.
    if held:
        return PlannedStep(step, "running", (f"by {holder}",), record, forced)
    if record is not None and not forced:
        return PlannedStep(step, "done", _elsewhere(step, record), record, forced)
    missing = [p for p in step.inputs.values() if p.name not in available and not final_path(root, p).exists()]
    if missing:
        why = tuple(f"needs {p.name}, which is not finished and not selected" for p in missing)
        return PlannedStep(step, "blocked", why, record, forced)
    for parent in step.inputs.values():
        if parent.name not in available:
            _sound(final_path(root, parent))
    if forced:
        return PlannedStep(step, "run", ("forced",), record, forced)
    partial = partial_path(root, step)
    # After `forced`, which drops unfinished work and begins from nothing.
    if partial.exists():
        return PlannedStep(step, "resume", _resumption(partial), record, forced)
    why, nearest = reasons.of(step)
    return PlannedStep(step, "run", why, record, forced, nearest=nearest)


def _sound(final: Path) -> Record:
    return read_sound(final, whole=not root_of(final).partial_copies)


def _elsewhere(step: Step, record: Record) -> tuple[str, ...]:
    """What the last bits of a result hang on and is otherwise here. Nothing is done again for it."""
    out = [f"computed {what}" for what in differences(record.machine, machine())]
    if (torch := record.versions.get("torch")) != (here := dict(versions()).get("torch")):
        out.append(f"computed with torch {torch}, here {here}")
    launched = [Resources(**held) for held in record.resources.get("launches", ())]
    then, now = launched or [Resources(record.resources.get("num_cpus", 1))], step.launches or (step.resources,)
    if [held.threads for held in then] != [held.threads for held in now]:
        out.append(f"computed by {_processes(then)}, here by {_processes(now)}")
    return tuple(out)


def _processes(held: Sequence[Resources]) -> str:
    processes = f"{len(held)} processes" if len(held) > 1 else "1 process"
    return f"{processes} of {held[0].threads} thread{'s' if held[0].threads > 1 else ''}"


def _resumption(partial: Path) -> tuple[str, ...]:
    if (partial / DONE).exists():
        return ("finished, but not yet published",)
    progress = read_json(partial / PROGRESS) or {}
    message = f" ({progress['message']})" if progress.get("message") else ""
    out = [f"goes on from about {100 * progress.get('fraction', 0):.0f} %{message}"]
    if (partial / ERROR).exists():
        error = (partial / ERROR).read_text(encoding="utf-8", errors="replace")
        out.append(f"failed before: {error.partition(chr(10))[0]}")
    return tuple(out)


class _Reasons:
    """Why steps are not cached, each compared with its nearest earlier result."""

    def __init__(self, root: Path) -> None:
        self.folders = functools.cache(lambda: results(root))  # one listing, however many steps there are
        self.records: dict[str, list[Record]] = {}

    def of(self, step: Step) -> tuple[tuple[str, ...], str | None]:
        """What changed since the result of `step` that differs least from it, and that result's folder."""
        # Latest first, and `min` takes the first of equals: of two that differ as much the later one is named.
        candidates = [(self.changes(step, record), record.folder) for record in self._records(step.name)]
        return min(candidates, key=lambda found: len(found[0])) if candidates else (("not run before",), None)

    def earlier_seconds(self, planned: PlannedStep) -> float | None:
        """What the result that is there, or else the latest of the same name, took."""
        records = [planned.record] if planned.record else self._records(planned.step.name)
        return records[0].seconds if records else None

    def changes(self, step: Step, record: Record) -> tuple[str, ...]:
        out = []
        if record.kind != step.kind.name:
            out.append(f"kind: {record.kind} -> {step.kind.name}")
        if record.version != step.kind.version:
            out.append(f"version: {record.version} -> {step.kind.version}")
        out += [str(c) for c in diff(record.config, step.canonical_config)]
        if record.salt != step.salt:
            out.append(f"data: {record.salt[:12] or 'none'} -> {step.salt[:12] or 'none'}")
        for name in [*step.inputs, *(n for n in record.inputs if n not in step.inputs)]:
            out += self._input_changes(name, step.inputs.get(name), record.inputs.get(name))
        return tuple(out)

    def _input_changes(self, name: str, parent: Step | None, before: tuple[str, str] | None) -> list[str]:
        if parent is None:
            return [f"input {name}: removed"]
        if before is None:
            return [f"input {name}: added"]
        # Keys hash all that is upstream, so equal keys end the search here.
        if before[1] == parent.key:
            return []
        if before[0] != parent.name:
            return [f"input {name}: {before[0]} -> {parent.name}"]
        earlier = next((r for r in self._records(parent.name) if r.key == before[1]), None)
        if earlier is None:
            return [f"input {parent.name}: its key changed, {before[1]} -> {parent.key}; the earlier result is gone"]
        # Down to the setting that caused it, however many steps upstream.
        return [f"input {parent.name}: {change}" for change in self.changes(parent, earlier)]

    def _records(self, name: str) -> list[Record]:
        if name not in self.records:
            self.records[name] = records_of(self.folders().get(name, ()))
        return self.records[name]
