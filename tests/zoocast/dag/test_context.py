"""The small files through which a step and its driver speak."""

import json
import pickle
import time
from pathlib import Path

import pytest

from zoocast.dag import Fenced, Resources, StepContext
from zoocast.dag import context as module
from zoocast.store.folder import FolderRoot
from zoocast.store.root import Pace


def test_a_standalone_context_makes_its_directory_and_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    context = StepContext.standalone(
        tmp_path / "a" / "b", {"x": 1}, inputs={"data": tmp_path}, results={"data": {"n": 2}}, resources=Resources(num_cpus=2)
    )
    assert context.directory.is_dir()
    assert context.journal_path == context.directory / "journal.jsonl"
    copy = pickle.loads(pickle.dumps(context))
    assert (copy.config, copy.inputs, copy.results, copy.resources.threads) == (
        {"x": 1},
        {"data": tmp_path},
        {"data": {"n": 2}},
        2,
    )
    copy.check_fence()


def test_a_new_attempt_fences_off_the_earlier_one(tmp_path: Path) -> None:
    first = StepContext.standalone(tmp_path)
    second = StepContext.standalone(tmp_path)
    with pytest.raises(Fenced, match="taken over by run standalone"):
        first.check_fence()
    second.check_fence()
    (tmp_path / "attempt.json").unlink()
    with pytest.raises(Fenced, match="published or removed"):
        second.check_fence()


def test_only_the_attempt_that_was_asked_to_stop_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderRoot, "pace", Pace(progress=0.0, stop=0.0, watch=0.0))
    first = StepContext.standalone(tmp_path)
    assert not first.should_stop()
    module.request_stop(tmp_path, first.token)
    assert first.should_stop()
    # A marker that is left over, even one written late by a driver that is gone, does not stop the next attempt.
    second = StepContext.standalone(tmp_path)
    module.request_stop(tmp_path, first.token)
    assert not second.should_stop()


def test_should_stop_is_cheap_enough_for_every_iteration(tmp_path: Path) -> None:
    context = StepContext.standalone(tmp_path)
    start = time.perf_counter()
    for _ in range(20_000):
        context.should_stop()
    # 20,000 calls at a generous 20 microseconds each; asking the disk each time would take longer on shared storage.
    assert time.perf_counter() - start < 0.4


def test_progress_is_throttled_but_its_end_is_always_written(tmp_path: Path) -> None:
    context = StepContext.standalone(tmp_path)
    context.progress(0.25, "first")
    context.progress(0.5, "too soon")
    assert json.loads((tmp_path / "progress.json").read_text())["message"] == "first"
    context.progress(1.5, "end")
    note = json.loads((tmp_path / "progress.json").read_text())
    assert (note["fraction"], note["message"], note["token"]) == (1.0, "end", context.token)


def test_a_new_attempt_removes_the_control_files_of_the_earlier_one(tmp_path: Path) -> None:
    StepContext.standalone(tmp_path).progress(0.5)
    (tmp_path / "checkpoint").write_text("kept")
    (tmp_path / "error.txt").write_text("gone")
    StepContext.standalone(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attempt.json", "checkpoint"]
