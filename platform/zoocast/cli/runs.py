"""What is remembered of each run in ROOT/runs/RUN/run.json, so that `status` and `report` work from another terminal or day.

A run's name is the pipeline's with eight digits of what it computes: the same configuration gives the same run, which is what
makes running it again a resumption: one more of its attempts. The file is written anew, whole, whenever a step changes. Places in
the root are written down relative to it, and commands without it, so that a root may be moved.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoocast.cli.board import Board
from zoocast.cli.options import RUNS
from zoocast.config import digest
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, did_you_mean
from zoocast.store.address import address, open_root
from zoocast.store.files import parse_json, writing
from zoocast.store.layout import STEPS, in_root
from zoocast.store.locks import read_holder
from zoocast.store.processes import lives, machine, start_ticks
from zoocast.words import redacted

__all__ = ["RunRecord", "find", "forget", "read_all", "require_root", "run_name", "steps_of_other_presets", "survey"]

SCHEMA = 1
ENDINGS = {0: "done", 130: "interrupted"}  # of attempts, by their exit codes; all others failed
SHOWN = 5  # runs that are named to whoever asked for another one


def run_name(pipeline: str, last_key: str, chosen: Sequence[str]) -> str:
    """``NAME-0123abcd`` of the last step's key and the steps that were chosen (empty: all).

    A module's name that could not be a folder's is made fit: in lower case, without what is not ASCII, and shortened.
    """
    what = [last_key, sorted(chosen)]
    fit = _fit(pipeline)
    # Two modules whose names become alike are two pipelines.
    return f"{fit}-{digest(what if fit == pipeline else [pipeline, *what])[:8]}"


def _fit(pipeline: str) -> str:
    """The name of a pipeline, which is that of any module, as the part of a folder's name before the digits."""
    ascii_only = unicodedata.normalize("NFKD", pipeline).encode("ascii", "ignore").decode()
    # What `check_name` asks of it, and short enough for a hyphen and eight digits.
    return re.sub(r"[^a-z0-9._-]+", "-", ascii_only.lower()).lstrip("._-")[:55] or "run"


@dataclasses.dataclass
class RunRecord:
    """One run: what was asked for, who is at it, and what became of each step. `needs` are the folders that it stands on.

    `result` is what the last step returned, and `report` the page that it wrote, if it did. `started` is when the run was first
    asked for; how it ended, where and by which process are those of the last of its `attempts`, as `attempt` makes them.
    """

    run: str
    pipeline: str
    preset: str
    overrides: list[str]
    config: Any
    argv: list[str]
    resume: str
    ui: str
    started: float
    finished: float | None = None
    exit_code: int | None = None
    message: str = ""
    host: str = dataclasses.field(default_factory=socket.gethostname)
    pid: int = dataclasses.field(default_factory=os.getpid)
    # Process ids are used again; with these two an id means one process.
    machine: str = dataclasses.field(default_factory=machine)
    pid_ticks: int = dataclasses.field(default_factory=lambda: start_ticks(os.getpid()) or 0)
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    report: str | None = None
    result: dict[str, Any] | None = None
    needs: list[str] = dataclasses.field(default_factory=list)
    attempts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        self.attempts = self.attempts or [self.attempt(self.started)]
        # Once, here, so that no way of writing a record can leave it out.
        self.argv = [redacted(argument) for argument in self.argv]
        self.resume, self.ui = redacted(self.resume), redacted(self.ui)

    def attempt(self, started: float) -> dict[str, Any]:
        """The last attempt as it stands now: its times, how it ended (not yet, or never: None), and how many steps are in what
        state."""
        return {
            "started": started,
            "ended": self.finished or time.time(),
            "exit_code": self.exit_code,
            "message": self.message,
            "host": self.host,
            "pid": self.pid,
            "steps": dict(Counter(step["state"] for step in self.steps)),
        }

    def go_on(self, root: Path) -> None:
        """Begin one more attempt at the run, if there were any."""
        try:
            earlier = read(path_of(root, self.run))
        except IntegrityError:  # there is none, or none that can be read
            return
        self.started, self.attempts = earlier.started, [*earlier.attempts, *self.attempts]

    def took(self) -> float | None:
        """Seconds of all attempts together; None while another machine is at it."""
        if self.state() == "unknown":
            return None
        now = time.time() if self.state() == "running" else self.attempts[-1]["ended"]
        return now - self.attempts[-1]["started"] + sum(a["ended"] - a["started"] for a in self.attempts[:-1])

    def state(self) -> str:
        """``running``, ``died`` (its process is gone), ``done``, ``failed``, ``interrupted`` or ``unknown`` (another host's)."""
        if self.finished is not None:
            return ENDINGS.get(self.exit_code or 0, "failed")
        alive = lives(self.machine, self.pid, self.pid_ticks)
        # A process id means nothing on another machine; on this one nothing outlives a boot.
        if alive is None and self.host == socket.gethostname():
            boot = self.machine.partition(" ")[0]
            gone = boot != machine().partition(" ")[0] if boot else start_ticks(self.pid) is None
            return "died" if gone else "unknown"
        return {True: "running", False: "died", None: "unknown"}[alive]

    def report_path(self, root: Path) -> Path:
        """The report, here. Raises `ConfigError` when there is none, `IntegrityError` when it is not under `root`."""
        if self.report is None and self.result is not None:
            raise ConfigError("", f"{self.run} has no report: the last step of {self.pipeline} writes no report.html")
        if self.report is None:
            raise ConfigError("", f"{self.run} has no report yet (it is {self.state()}); finish it with: {self.resume}")
        return open_root(root).local(self.report)

    def write(self, root: Path) -> None:
        """Replace ROOT/runs/RUN/run.json. Raises `InfrastructureError` when it cannot be written."""
        path = path_of(root, self.run)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        # vars, not asdict: a deep copy of hundreds of steps for every event made large runs slow.
        steps = [{**step, "directory": in_root(step["directory"])} for step in self.steps]
        commands = {"resume": _command(self.resume, None), "ui": _command(self.ui, None)}
        report = None if self.report is None else in_root(self.report)
        open_root(root).write_shared(path, json.dumps({**vars(self), **commands, "steps": steps, "report": report}))

    def note_steps(self, board: Board, root: Path) -> None:
        """Take over what the board shows, and how the attempt stands."""
        self.steps = [
            {
                "name": row.name,
                "key": row.key,
                "state": row.state,
                "fraction": row.fraction,
                "message": row.message,
                "started": row.started,
                "finished": row.finished,
                "directory": address(root / "steps" / f"{row.name}-{row.key}"),
            }
            for row in board.rows.values()
        ]
        self.attempts[-1] = self.attempt(self.attempts[-1]["started"])


def _command(command: str, root: Path | None) -> str:
    """`command` for `root` instead of the one that it was written for; None: for none."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    while "--root" in words[:-1]:
        place = words.index("--root")
        del words[place : place + 2]
    if words and root is not None and root != RUNS:
        words += ["--root", address(root)]
    return shlex.join(words)


def path_of(root: Path, run: str) -> Path:
    """Where the record of `run` is."""
    return root / "runs" / run / "run.json"


def read(path: Path) -> RunRecord:
    """The record at `path`, its places and commands as they are for the root in which it lies now.

    Raises:
        IntegrityError: it is no record, or cannot be read.
    """
    root = path.parents[2]
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        # A copied or renamed folder would make two runs of one name.
        if data["run"] != path.parent.name:
            raise ValueError(f"it is that of {data['run']!r}")
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, but this zoocast reads {SCHEMA}")
        # What an older zoocast did not note of its process is not known, and what it noted instead depends on the clock.
        data = {"machine": "", "pid_ticks": 0, **data}
        data.pop("pid_started", None)
        for step in data["steps"]:
            step["directory"] = address(root.absolute() / in_root(step["directory"]))
        if data["report"] is not None:
            data["report"] = address(root.absolute() / in_root(data["report"]))
        record = RunRecord(**{**data, "resume": _command(data["resume"], root), "ui": _command(data["ui"], root)})
        if "attempts" not in data and record.finished is None:
            record.attempts[-1]["ended"] = path.stat().st_mtime  # the last that an older zoocast wrote of it
        return record
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path} is not a record of a run ({error}); delete its folder, the steps' results are kept elsewhere"
        ) from error


def require_root(root: Path) -> None:
    """Refuse what is no root, for commands that look at one: they must not make it, or take a mistyped name for an empty one.

    Raises:
        ConfigError: nothing was ever run there. Of an object store only its server knows, which is asked later.
        InfrastructureError: it cannot be read.
    """
    try:
        found = [root / name for name in ("runs", STEPS) if (root / name).is_dir()]
        # Who may not look must not say that there is nothing.
        for folder in found:
            os.listdir(folder)
    except OSError as error:
        raise InfrastructureError(f"cannot read {root} ({error.strerror or error}); choose another --root") from None
    if not found and not open_root(root).partial_copies:
        raise ConfigError(
            "--root", f"no run is known under {address(root)}; start one with `pipelines run`, or give another --root"
        )


def survey(root: Path) -> tuple[list[RunRecord], list[IntegrityError]]:
    """Every run known under `root`, the latest first, and what is wrong with records that cannot be read."""
    # Records of runs on other machines, where the root is an object store.
    open_root(root).gather(root / "runs")
    records, damaged = [], []
    # Not by a pattern for the files: what may not be looked into would be left out without a word.
    for folder in root.glob("runs/*/"):
        path = path_of(root, folder.name)
        try:
            records.append(read(path))
        except IntegrityError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # a run that is being forgotten, or a folder of another kind
                damaged.append(error)
    return sorted(records, key=lambda record: record.started, reverse=True), damaged


def read_all(root: Path) -> list[RunRecord]:
    """Every run known under `root`, the latest first; of a damaged record one line on stderr is all."""
    records, damaged = survey(root)
    for error in damaged:
        print(f"warning: {error}", file=sys.stderr)
    return records


def steps_of_other_presets(root: Path, pipeline: str, preset: str) -> dict[str, str]:
    """Folders of steps that `pipeline` needed, and never with `preset`, each with the preset of the latest run that did."""
    records = [record for record in survey(root)[0] if record.pipeline == pipeline]
    own = {folder for record in records if record.preset == preset for folder in record.needs}
    latest_last = reversed(records)
    return {folder: record.preset for record in latest_last for folder in record.needs if folder not in own}


def find(root: Path, name: str | None) -> RunRecord:
    """The run called `name`, the latest run of the pipeline called `name`, or the latest of all.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    require_root(root)
    records = read_all(root)
    for record in records:
        if name in (None, record.run, record.pipeline):
            return record
    if not records:
        raise ConfigError("--root", f"no run is known under {address(root)}; start one with `pipelines run`")
    runs = [record.run for record in records]
    near = did_you_mean(str(name), list(dict.fromkeys([*runs, *(record.pipeline for record in records)])))
    latest = f"{'the latest' if len(runs) > SHOWN else 'known'}: {', '.join(runs[:SHOWN])}"
    more = f" and {len(runs) - SHOWN} more, see `pipelines status`" if len(runs) > SHOWN else ""
    raise ConfigError("", f"there is no run {name!r} under {address(root)}; {near}{latest}{more}")


def forget(root: Path, record: RunRecord) -> None:
    """Remove ROOT/runs/RUN, with all that the run itself left there; its steps are kept.

    Raises:
        ConfigError: the run is going on.
        InfrastructureError: it cannot be removed.
    """
    locks = (read_holder(path) for path in root.glob("locks/*.lock"))  # of runs on other machines nothing else is known
    if record.state() == "running" or any(holder.run == record.run and not holder.is_gone() for holder in locks if holder):
        raise ConfigError("RUN", f"{record.run} is going on; stop it first, or let it end")
    path = path_of(root, record.run)
    try:
        # The record first: what is left when the rest cannot be removed is no run any more.
        path.unlink(missing_ok=True)
        shutil.rmtree(path.parent)
    except OSError as error:
        raise InfrastructureError(f"{path.parent} cannot be removed ({error.strerror or error}); remove it yourself") from None
