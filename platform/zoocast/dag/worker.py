"""The worker's side of a step: call its function in a Ray task and return a result or an error that people can read."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from zoocast.config import dump
from zoocast.dag.context import StepContext, owner_of, stop_requested
from zoocast.dag.memory import lack_of_memory
from zoocast.dag.unchanged import require_unchanged, stamps
from zoocast.errors import ConfigError, InfrastructureError, Interrupted, StepFailed, ZoocastError
from zoocast.provenance import machine
from zoocast.store.files import FileInfo, keep_private, sync_tree, write_atomically
from zoocast.store.layout import ERROR, PROGRESS
from zoocast.usercode import described, place_of

__all__ = ["Report", "execute"]

TRACEBACK_LINES = 40
# Full, over quota, over the file size limit, broken, read-only, gone from its server: the user's to mend, not the step's.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of calling a step's function; `error` is None when `result` holds. Times are seconds since the epoch."""

    result: dict[str, Any]
    files: dict[str, FileInfo]
    error: ZoocastError | None
    started: float
    finished: float
    host: str
    machine: dict[str, str]


def execute(fn: Callable[[StepContext], Any], context: StepContext) -> Report:
    """Run `fn`, flush what it wrote to the disk or an object store, take its checksums, and see that its inputs are as they were.

    Never raises for what `fn` raises.
    """
    started = time.time()
    result: dict[str, Any] = {}
    files: dict[str, FileInfo] = {}
    error: ZoocastError | None = None
    try:
        keep_private()
        # The task may have waited in Ray's queue when the user stopped the run.
        if stop_requested(context.directory, context.token):
            raise Interrupted("stopped before it began")
        limit_threads(context.resources.threads)
        context = context.localize()
        # Copies of inputs may grow while a step runs, when others want more of their files; each was checked when it came.
        watched = {} if context.root.partial_copies else context.inputs
        inputs = stamps(watched)
        # Left by an earlier call of this attempt, when Ray has started it once more.
        (context.directory / ERROR).unlink(missing_ok=True)
        note = {"token": context.token, "fraction": 0.0, "message": "", "started": started}
        context.root.write_note(context.directory / PROGRESS, json.dumps(note))
        result = _checked(context.name, fn(context))
        # All data reach the disk before the driver writes the record that vouches for them.
        sync_tree(context.directory)
        files = context.root.checksums(context.directory)
        require_unchanged(context.name, watched, inputs)
        context.push()
    except (Exception, SystemExit) as raised:
        # `sys.exit` in a step would else end Ray's process, and the step would be called again for nothing.
        error = readable(context, raised, fn.__module__.partition(".")[0])
        _note_error(context, error, raised)
        with contextlib.suppress(ZoocastError, OSError):  # what is wrong is known already
            context.push()
    return Report(result, files, error, started, time.time(), socket.gethostname(), machine())


def limit_threads(count: int) -> None:
    """Let this process compute with `count` threads. Ray uses processes again for other steps, so each step sets it anew."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    torch = sys.modules.get("torch")  # when it is not imported yet, it will read the environment
    if torch is not None:
        torch.set_num_threads(count)


def _checked(name: str, result: Any) -> dict[str, Any]:
    try:
        data = dump(result) if dataclasses.is_dataclass(result) else result
        if not isinstance(data, dict):
            raise TypeError(f"got {type(result).__name__}")
        # There and back: the next step reads the same whether it comes from this run or from done.json (tuples are lists).
        return dict(json.loads(json.dumps(data, allow_nan=False)))
    except (TypeError, ValueError, ConfigError) as error:  # `dump` refuses infinite numbers as a `ConfigError`
        raise StepFailed(f"step {name}: its function must return a dict of plain finite JSON values ({error})") from None


def readable(context: StepContext, raised: BaseException, package: str) -> ZoocastError:
    """`raised` as an error of ours: itself, one that it carries through Ray, or its one-line summary with the user's line.

    Args:
        package: the one that the step's function is from.
    """
    if hasattr(raised, "ray_terminate_msg"):  # Ray's handler of SIGTERM, which a batch system may send to every process
        return Interrupted(f"step {context.name}: its process was asked to end by SIGTERM")
    # Ray raises a class made of the error's own and of RayTaskError, whose text is a traceback; the error itself is its `cause`.
    for cause in _chain(raised):
        if isinstance(cause, ZoocastError) and not hasattr(cause, "cause"):
            return cause
    # Libraries that meet a full disk often stumble over it with an error of their own that does not mention it.
    for cause in _chain(raised, implicit=True):
        if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            return InfrastructureError(
                f"step {context.name}: cannot write to {context.directory} ({cause.strerror}); free some space and run again"
            )
    for cause in _chain(raised):
        if memory := lack_of_memory(context.name, cause):
            return memory
    place = next((place for cause in _chain(raised) if (place := place_of(cause, package))), None)
    at = f"{place}: " if place else ""
    return StepFailed(f"step {context.name}: {at}{described(raised)}; the traceback is in {context.directory / ERROR}")


def _chain(error: BaseException | None, implicit: bool = False) -> Iterator[BaseException]:
    """`error` and what it wraps: Ray's `cause`, Ray Train's `worker_failures`, ``raise from``, and what was being handled."""
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        failures = getattr(current, "worker_failures", None)
        queue += list(failures.values()) if isinstance(failures, dict) else []
        # `__context__` only when asked for: an error that was being handled when another arose need not be its reason.
        queue += [getattr(current, "cause", None), current.__cause__, current.__context__ if implicit else None]


def _note_error(context: StepContext, error: ZoocastError, raised: BaseException) -> None:
    # A late worker of an earlier attempt must not leave its error in the folder of its successor.
    if isinstance(error, Interrupted) or not _is_ours(context):
        return
    lines = "".join(traceback.format_exception(raised)).splitlines()[-TRACEBACK_LINES:]
    try:
        write_atomically(context.directory / ERROR, "\n".join([str(error), "", *lines, ""]), durable=False)
    except InfrastructureError:
        return  # the message itself still reaches the driver


def _is_ours(context: StepContext) -> bool:
    try:
        return (owner_of(context.directory) or {}).get("token") == context.token
    except InfrastructureError:
        return False
