"""Exit codes and the wish to stop."""

import os
import signal
import threading
from pathlib import Path

import pytest

from zoocast.dag import Outcome, RunResult, StopSignal
from zoocast.dag.events import OutcomeState


def result(*states: tuple[OutcomeState, int], stopped: bool = False) -> RunResult:
    outcomes = {f"s{i}": Outcome(f"s{i}", "k", state, Path(), exit_code=code) for i, (state, code) in enumerate(states)}
    return RunResult(outcomes, stopped)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (result(("cached", 0), ("done", 0)), 0),
        (result(), 0),
        (result(("done", 0), stopped=True), 0),  # the stop came too late to stop anything
        (result(("failed", 1), ("skipped", 0)), 1),
        (result(("failed", 2)), 2),  # a data file whose fault only its step could find
        (result(("failed", 2), ("failed", 1)), 1),
        (result(("failed", 1), ("failed", 4)), 4),
        (result(("failed", 4), ("failed", 5)), 5),
        (result(("interrupted", 130)), 130),
        (result(("failed", 1), ("interrupted", 130), stopped=True), 130),
    ],
)
def test_the_exit_code_of_a_run_is_that_of_its_gravest_outcome(found: RunResult, expected: int) -> None:
    assert found.exit_code == expected


def test_signals_are_stop_requests_inside_the_block_only() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopSignal()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.level == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def other() -> None:
        with StopSignal().on_signals():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [before]
