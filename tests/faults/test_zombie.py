"""A worker that lives on after its driver died, and still works on a step that another driver has taken over."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.faults.training import attempt, contents, pipeline
from zoocast.dag import Fenced, StepContext
from zoocast.dag.context import begin_attempt
from zoocast.dag.records import final_path, partial_path
from zoocast.dag.unchanged import stamps
from zoocast.dag.worker import Report, execute
from zoocast.errors import InfrastructureError

CLIPS, MODEL = pipeline(iterations=20, every=4)


def first(root: Path) -> StepContext:
    """The attempt at the training that will be overtaken."""
    data = final_path(root, CLIPS)
    return StepContext.standalone(partial_path(root, MODEL), MODEL.config, {"data": data}, name="model", key=MODEL.key)


def work_on(context: StepContext, tell: Connection) -> None:
    tell.send(execute(MODEL.fn, context))


@contextlib.contextmanager
def frozen_worker(context: StepContext) -> Iterator[Callable[[], Report]]:
    """A process that works until its first checkpoint, and then not; called, it goes on, and gives what it has to say."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work_on, args=(context, theirs))
    process.start()
    assert process.pid is not None
    try:
        deadline = time.monotonic() + 120
        while not list((context.directory / "checkpoints").glob("0*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGSTOP)

        def thaw() -> Report:
            os.kill(process.pid, signal.SIGCONT)
            assert ours.poll(120)
            return ours.recv()

        yield thaw
    finally:
        process.kill()
        process.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the clips."""
    assert attempt(tmp_path, CLIPS) is None
    return tmp_path


def test_a_worker_that_was_overtaken_leaves_the_other_alone(root: Path) -> None:
    with frozen_worker(first(root)) as thaw:
        begin_attempt(partial_path(root, MODEL), "another")
        report = thaw()
    assert isinstance(report.error, Fenced)
    assert "taken over by run another" in str(report.error)
    assert attempt(root, MODEL) is None
    disturbed = contents(final_path(root, MODEL))
    shutil.rmtree(final_path(root, MODEL))
    assert attempt(root, MODEL) is None
    assert disturbed == contents(final_path(root, MODEL))


def test_a_worker_that_comes_back_after_the_end_changes_nothing(root: Path) -> None:
    with frozen_worker(first(root)) as thaw:
        assert attempt(root, MODEL) is None
        before = stamps({"model": final_path(root, MODEL)})
        report = thaw()
    # Whichever it meets first: its fence, or that there is no folder for it to write into.
    assert isinstance(report.error, InfrastructureError)
    assert re.search("published or removed|No such file or directory", str(report.error))
    assert stamps({"model": final_path(root, MODEL)}) == before
    assert not partial_path(root, MODEL).exists()
