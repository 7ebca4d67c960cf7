"""What is remembered of each run in ROOT/runs/RUN/run.json, so that `status` and `report` work from another terminal or day.

A run's name is the pipeline's with eight digits of what it computes: the same configuration gives the same run, which is what
makes running it again a resumption. The file is written anew, whole, whenever a step changes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoocast.cli.board import Board
from zoocast.config import digest
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, did_you_mean
from zoocast.store.address import address, open_root
from zoocast.store.files import parse_json, writing
from zoocast.store.locks import read_holder
from zoocast.store.processes import lives, machine, start_ticks

__all__ = ["RunRecord", "find", "forget", "read_all", "run_name"]

SCHEMA = 1


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

    `result` is what the last step returned, and `report` the page that it wrote, if it did.
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
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        # Once, here, so that no way of writing a record can leave it out.
        self.argv = [_without_password(argument) for argument in self.argv]
        self.resume, self.ui = _without_password(self.resume), _without_password(self.ui)

    def state(self) -> str:
        """``running``, ``died`` (its process is gone), ``done``, ``failed``, ``interrupted`` or ``unknown`` (another host's)."""
        if self.finished is not None:
            return {0: "done", 130: "interrupted"}.get(self.exit_code or 0, "failed")
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
        # Steps keep their own durable records; this one may be lost to a power cut.
        # vars, not asdict: a deep copy of hundreds of steps for every event made large runs slow.
        open_root(root).write_shared(path, json.dumps(vars(self)))

    def note_steps(self, board: Board, root: Path) -> None:
        """Take over what the board shows."""
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


def _without_password(text: str) -> str:
    """`text` without the name and password of any URL in it: records are there for all to read."""
    return re.sub(r"(://)[^/\s]+@", r"\1", text)


def path_of(root: Path, run: str) -> Path:
    """Where the record of `run` is."""
    return root / "runs" / run / "run.json"


def read(path: Path) -> RunRecord:
    """The record at `path`. Raises `IntegrityError` when it is not one."""
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
        return RunRecord(**data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path} is not a record of a run ({error}); delete its folder, the steps' results are kept elsewhere"
        ) from error


def read_all(root: Path) -> list[RunRecord]:
    """Every run known under `root`, the latest first."""
    # Records of runs on other machines, where the root is an object store.
    open_root(root).gather(root / "runs")
    return sorted((read(path) for path in root.glob("runs/*/run.json")), key=lambda record: record.started, reverse=True)


def find(root: Path, name: str | None) -> RunRecord:
    """The run called `name`, the latest run of the pipeline called `name`, or the latest of all.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    records = read_all(root)
    if not records:
        raise ConfigError(
            "--root", f"no run is known under {address(root)}; start one with `pipelines run`, or give another --root"
        )
    for record in records:
        if name in (None, record.run, record.pipeline):
            return record
    runs = [record.run for record in records]
    raise ConfigError(
        "", f"there is no run {name!r} under {address(root)}; {did_you_mean(str(name), runs)}known: {', '.join(runs)}"
    )


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
