"""The worker's side of a step, called here without Ray."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from ray._raylet import raise_sys_exit_with_custom_error_message

from zoocast.dag import Fenced, StepContext
from zoocast.dag.context import begin_attempt, request_stop
from zoocast.dag.worker import execute
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, Interrupted, StepFailed
from zoocast.provenance import machine


def squares(context: StepContext) -> dict[str, Any]:
    (context.directory / "result").write_text("1")
    return {"squares": (1, 4, 9), "name": context.name}


def test_a_steps_result_comes_back_as_plain_json(tmp_path: Path) -> None:
    report = execute(squares, StepContext.standalone(tmp_path))
    assert report.error is None
    assert report.result == {"squares": [1, 4, 9], "name": "standalone"}
    assert report.finished >= report.started
    assert report.machine == machine()
    assert json.loads((tmp_path / "progress.json").read_text())["started"] == report.started


def test_a_step_that_was_stopped_before_it_began_is_not_called(tmp_path: Path) -> None:
    context = StepContext.standalone(tmp_path)
    request_stop(tmp_path, context.token)
    report = execute(squares, context)
    assert isinstance(report.error, Interrupted)
    assert not (tmp_path / "result").exists()


def in_a_train_worker(context: StepContext) -> dict[str, Any]:
    from ray.train import WorkerGroupError

    raise WorkerGroupError("rank 1 failed", {0: RuntimeError("connection lost"), 1: context.config})


def in_a_task(context: StepContext) -> dict[str, Any]:
    from ray.exceptions import RayTaskError

    raise RayTaskError("f", "a traceback", context.config).as_instanceof_cause()


def chained(context: StepContext) -> dict[str, Any]:
    try:
        raise context.config
    except Exception as error:
        raise RuntimeError("the loader broke down") from error


@pytest.mark.parametrize("fn", [in_a_train_worker, in_a_task, chained])
def test_our_errors_are_found_inside_what_ray_and_others_wrap_them_in(tmp_path: Path, fn: Any) -> None:
    error = ConfigError("sources.one.rate", "must be positive, but got -1")
    report = execute(fn, StepContext.standalone(tmp_path, error))
    assert type(report.error) is ConfigError
    assert (report.error.field, report.error.message) == (error.field, error.message)


def stumbles(context: StepContext) -> dict[str, Any]:
    try:
        raise context.config
    except Exception:
        raise RuntimeError("unexpected position 1216 against 1088")  # noqa: B904


def test_a_full_disk_is_recognised_behind_what_stumbles_over_it(tmp_path: Path) -> None:
    report = execute(stumbles, StepContext.standalone(tmp_path, OSError(errno.ENOSPC, "No space left on device")))
    assert isinstance(report.error, InfrastructureError)
    assert str(report.error) == (
        f"step standalone: cannot write to {tmp_path} (No space left on device); free some space and run again"
    )


def test_an_error_that_was_merely_being_handled_is_not_taken_for_the_reason(tmp_path: Path) -> None:
    report = execute(stumbles, StepContext.standalone(tmp_path, IntegrityError("an older shard")))
    assert isinstance(report.error, StepFailed)


def test_a_foreign_error_becomes_one_line_with_its_traceback_in_a_file(tmp_path: Path) -> None:
    report = execute(chained, StepContext.standalone(tmp_path, KeyError("x")))
    assert isinstance(report.error, StepFailed)
    line = chained.__code__.co_firstlineno + 4
    assert str(report.error).endswith(
        f"test_worker.py:{line}: RuntimeError: the loader broke down; the traceback is in {tmp_path / 'error.txt'}"
    )
    text = (tmp_path / "error.txt").read_text()
    assert text.startswith(str(report.error))
    assert "KeyError: 'x'" in text


def test_an_interruption_leaves_no_error_file(tmp_path: Path) -> None:
    def interrupted(_context: StepContext) -> dict[str, Any]:
        raise Interrupted("at a checkpoint")

    assert isinstance(execute(interrupted, StepContext.standalone(tmp_path)).error, Interrupted)
    assert not (tmp_path / "error.txt").exists()


def test_sigterm_to_a_steps_own_process_is_no_sys_exit_of_the_step(tmp_path: Path) -> None:
    def terminated(_context: StepContext) -> dict[str, Any]:
        # What Ray's handler of SIGTERM does in its workers.
        raise_sys_exit_with_custom_error_message("The process receives a SIGTERM.", exit_code=1)

    error = execute(terminated, StepContext.standalone(tmp_path)).error
    assert isinstance(error, Interrupted)
    assert "asked to end by SIGTERM" in str(error)


def test_a_late_worker_writes_no_error_into_the_folder_of_a_new_attempt(tmp_path: Path) -> None:
    def late(context: StepContext) -> dict[str, Any]:
        begin_attempt(context.directory, "another run")
        context.check_fence()
        raise IntegrityError("never reached")

    assert isinstance(execute(late, StepContext.standalone(tmp_path)).error, Fenced)
    assert not (tmp_path / "error.txt").exists()
