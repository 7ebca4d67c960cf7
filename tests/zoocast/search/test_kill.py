"""Studies whose driver is killed, stopped, or given more trials, each driver a process with a Ray of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoocast.cluster.connect import source_roots
from zoocast.search import Study, read_study
from zoocast.tracking.backend import connect

SCRIPT = Path(__file__).with_name("study_script.py")


class Driver:
    """A running `study_script.py`; its events are read from its standard output."""

    def __init__(self, root: Path, num_trials: int, seconds: float, max_concurrent: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(root), str(num_trials), str(seconds), str(max_concurrent)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(source_roots())},
        )

    def until(self, fraction: float) -> None:
        """Wait until so much of the study is done."""
        assert self.process.stdout is not None
        told = []
        for line in self.process.stdout:
            told.append(json.loads(line))
            if told[-1].get("fraction", 0) >= fraction:
                return
        raise AssertionError(f"the driver ended before; it told {told}")

    def end(self) -> dict[str, Any]:
        """What it said last, with its exit code."""
        assert self.process.stdout is not None
        *_, last = [json.loads(line) for line in self.process.stdout]
        return {**last, "exit_code": self.process.wait()}


@contextlib.contextmanager
def driver(root: Path, num_trials: int = 6, seconds: float = 0.05, max_concurrent: int = 1) -> Iterator[Driver]:
    one = Driver(root, num_trials, seconds, max_concurrent)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        if one.process.stdout:
            one.process.stdout.close()


def folder(root: Path, num: int = 0) -> Path:
    """The folder of the search, finished or not."""
    return sorted((root / "steps").glob("search-*"))[num]


def noted(trial: Path) -> tuple[int, list[int]]:
    """How often a trial was called, and the iterations that it did."""
    return len((trial / "calls").read_text()), [int(i) for i in (trial / "iterations").read_text().split()]


def runs(root: Path, experiment: str = "study") -> dict[str, str]:
    """Status of every run in MLflow by name; a name that occurs twice is an error."""
    client = connect(f"sqlite:///{root}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names)
    return {run.info.run_name: run.info.status for run in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study that nobody disturbs."""
    root = tmp_path_factory.mktemp("whole")
    with driver(root, seconds=0.0) as one:
        assert one.end()["exit_code"] == 0
    return read_study(folder(root))


def test_after_sigkill_the_same_command_ends_with_the_very_same_study(tmp_path: Path, whole: Study) -> None:
    with driver(tmp_path) as first:
        first.until(3.3 / 6)
        first.process.kill()
        first.process.wait()
    before = {
        trial.name: noted(trial) for trial in (folder(tmp_path) / "trials").glob("trial-*") if (trial / "outcome.json").exists()
    }
    assert len(before) >= 2
    assert not (folder(tmp_path) / "study.json").exists()
    with driver(tmp_path) as second:
        assert second.end() == {
            "event": "end",
            "error": "",
            "result": {"best": whole.best()[0].id, "error": whole.best()[0].best_error},
            "pending": 0,
            "exit_code": 0,
        }
    study = read_study(folder(tmp_path))
    # Same settings, same rungs, same ends: as if nothing had happened.
    assert [(t.id, t.params, t.state, t.curve) for t in study.trials] == [
        (t.id, t.params, t.state, t.curve) for t in whole.trials
    ]
    assert study.count("stopped") > 0
    called = {trial.name: noted(trial) for trial in (folder(tmp_path) / "trials").iterdir()}
    assert {name: called[name] for name in before} == before  # what had ended was not run again
    assert all(calls == 1 for calls, _ in before.values())
    assert sum(calls for calls, _ in called.values()) <= 6 + 1  # the one that was killed went on
    for trial in study.trials:
        _, iterations = called[trial.id]
        assert sorted(set(iterations)) == list(range(1, trial.iterations + 1))
        assert len(iterations) <= trial.iterations + 1  # the iteration that was killed before its checkpoint
    status = runs(tmp_path)
    assert {name for name in status if name.startswith("trial-")} == {t.id for t in study.trials}
    assert set(status.values()) == {"FINISHED"}


def test_a_study_that_is_stopped_keeps_its_trials_and_one_with_more_takes_them_over(tmp_path: Path) -> None:
    with driver(tmp_path, seconds=0.1, max_concurrent=2) as first:
        first.until(2 / 6)
        (tmp_path / "hold").touch()  # or all trials that are running may end before they hear of it
        first.process.send_signal(signal.SIGINT)
        end = first.end()
    assert end["exit_code"] == 130
    assert "search was stopped with" in end["error"]
    stopped = folder(tmp_path)
    ended = {t.name for t in (stopped / "trials").iterdir() if (t / "outcome.json").exists()}
    assert 0 < len(ended) < 6
    left = [t for t in (stopped / "trials").iterdir() if t.name not in ended]
    assert left
    assert all((t / "checkpoint").read_text() == str(noted(t)[1][-1]) for t in left)  # they stopped at a checkpoint
    assert {s for name, s in runs(tmp_path).items() if name in {t.name for t in left}} == {"KILLED"}

    (tmp_path / "hold").unlink()
    with driver(tmp_path, num_trials=8, seconds=0.0, max_concurrent=1) as second:
        assert second.end()["exit_code"] == 0
    (done,) = [p for p in (tmp_path / "steps").glob("search-*") if p.suffix != ".partial"]
    study = read_study(done)
    assert [t.number for t in study.trials] == list(range(8))
    for name in ended:
        assert noted(done / "trials" / name) == noted(stopped / "trials" / name)
        assert (done / "trials" / name / "calls").read_text() == "x"
