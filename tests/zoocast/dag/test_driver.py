"""Runs on a real local Ray: caching, parallel branches, isolated failures, resuming, forcing, stopping."""

import errno
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoocast.cluster.connect import connect
from zoocast.dag import Event, Finished, Progress, Resources, RunResult, Started, Step, StepContext, StopSignal, Waiting, run
from zoocast.dag.cache import damage, garbage, remove, survey
from zoocast.dag.context import begin_attempt
from zoocast.dag.records import final_path, lock_path, partial_path, read_record
from zoocast.errors import ConfigError, InfrastructureError, IntegrityError, Interrupted
from zoocast.store.files import list_files


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    import ray.cloudpickle

    # Workers cannot import a test module under the name that pytest gave it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    before = os.umask(0o022)  # as on a cluster's nodes
    with connect(num_cpus=2):
        yield
    os.umask(before)


def go(root: Path, *steps: Step, events: list[Event] | None = None, **options: Any) -> RunResult:
    return run(steps, root, run_id="test", on_event=(events if events is not None else []).append, **options)


def states(result: RunResult) -> dict[str, str]:
    return {name: outcome.state for name, outcome in result.outcomes.items()}


def calls(context: StepContext) -> int:
    """How often a step was called in this folder, this call included."""
    with (context.directory / "calls").open("a") as file:
        file.write("x")
    return len((context.directory / "calls").read_text())


def work(context: StepContext) -> dict[str, Any]:
    time.sleep(context.config.get("seconds", 0))
    return {"calls": calls(context), "from": sorted(context.results), "inputs": [str(p) for p in context.inputs.values()]}


# ---------------------------------------------------------------------------------------------------------------- results


def test_a_pipeline_runs_once_and_is_cached_then(tmp_path: Path) -> None:
    data = Step("data", work, {"n": 1})
    report = Step("report", work, {"n": 2}, inputs={"data": data})
    events: list[Event] = []
    first = go(tmp_path, report, events=events)
    assert states(first) == {"data": "done", "report": "done"}
    assert first.exit_code == 0
    assert [type(e).__name__ for e in events] == ["Planned", "Started", "Finished", "Started", "Finished"]
    assert all(json.loads(json.dumps(e.to_json()))["event"] == e.kind for e in events)
    assert first.outcomes["report"].result == {"calls": 1, "from": ["data"], "inputs": [str(final_path(tmp_path, data))]}
    second = go(tmp_path, report)
    assert states(second) == {"data": "cached", "report": "cached"}
    assert second.outcomes["report"].result == first.outcomes["report"].result
    assert second.outcomes["report"].seconds == first.outcomes["report"].seconds
    # A result holds what the step wrote and its record: nothing of the talk between step and driver.
    assert sorted(p.name for p in final_path(tmp_path, report).iterdir()) == ["calls", "done.json"]
    assert sorted(p.name for p in (tmp_path / "steps").iterdir()) == sorted([data.folder, report.folder])


def test_an_input_that_vanishes_under_a_run_is_named_and_made_anew_by_the_next_run(tmp_path: Path) -> None:
    data = Step("data", work, {"n": 1})
    report = Step("report", work, {"n": 2}, inputs={"data": data})
    go(tmp_path, data)

    def remove(event: Event) -> None:
        if isinstance(event, Finished) and event.state == "cached":
            shutil.rmtree(final_path(tmp_path, data))

    result = run([report], tmp_path, run_id="test", on_event=remove)
    assert states(result) == {"data": "cached", "report": "failed"}
    assert result.exit_code == 4
    assert f"{final_path(tmp_path, data)}, which it needs, was removed since this run began; run again" in (
        result.outcomes["report"].error
    )
    assert states(go(tmp_path, report)) == {"data": "done", "report": "done"}


def test_gc_beside_a_run_takes_nothing_from_it(tmp_path: Path) -> None:
    data, other = Step("data", work, {"n": 1}), Step("other", work, {"n": 3})
    report = Step("report", work, {"n": 2, "seconds": 0.5}, inputs={"data": data})
    go(tmp_path, other)
    runs = {"test": [data.folder, report.folder]}
    ended = threading.Event()

    def remove_all_the_time() -> None:
        while not ended.is_set():
            remove(tmp_path, garbage(survey(tmp_path, runs)), lambda: runs, report=lambda _text: None)

    thread = threading.Thread(target=remove_all_the_time)
    thread.start()
    try:
        result = go(tmp_path, report)
    finally:
        ended.set()
        thread.join()
    assert states(result) == {"data": "done", "report": "done"}
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == [data.folder, report.folder]
    assert [damage(final_path(tmp_path, step)) for step in (data, report)] == [[], []]


def test_the_record_says_what_was_done_where_and_with_what(tmp_path: Path) -> None:
    step = Step("data", work, {"n": 1}, salt="abc", resources=Resources(num_cpus=0.5))
    before = time.time()
    go(tmp_path, step)
    record = read_record(final_path(tmp_path, step))
    assert (record.name, record.key, record.config, record.salt, record.run) == ("data", step.key, {"n": 1}, "abc", "test")
    assert before < record.started <= record.finished < time.time()
    assert record.resources == {"num_cpus": 0.5, "num_gpus": 0, "launches": []}
    assert record.files == list_files(final_path(tmp_path, step), skip=("done.json",))
    assert list(record.files) == ["calls"]
    assert (final_path(tmp_path, step) / "calls").stat().st_mode & 0o077 == 0
    assert set(record.versions) >= {"python", "ray", "torch"}


def test_branches_run_at_the_same_time_as_far_as_resources_allow(tmp_path: Path) -> None:
    steps = [Step(f"s{i}", work, {"seconds": 0.5, "i": i}) for i in range(4)]
    result = go(tmp_path, *steps)
    times = [(o.started, o.finished) for o in result.outcomes.values()]
    at_once = [sum(a < start < b for a, b in times) + 1 for start, _ in times]
    assert max(at_once) == 2  # two CPUs
    both = Resources(num_cpus=2)
    alone = go(tmp_path, *[Step(f"t{i}", work, {"seconds": 0.1, "i": i}, resources=both) for i in range(3)])
    times = sorted((o.started, o.finished) for o in alone.outcomes.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(times))


def test_steps_that_launch_workers_queue_for_what_those_need(tmp_path: Path) -> None:
    two = (Resources(num_cpus=1), Resources(num_cpus=1))
    steps = [Step(f"s{i}", work, {"seconds": 0.3, "i": i}, resources=Resources(num_cpus=0), launches=two) for i in range(2)]
    first, second = sorted((o.started, o.finished) for o in go(tmp_path, *steps).outcomes.values())
    assert first[1] <= second[0]


def test_the_longest_chain_begins_first(tmp_path: Path) -> None:
    both = Resources(num_cpus=2)  # so that one step runs at a time
    lone = Step("lone", work, {"i": 0}, resources=both)
    head = Step("head", work, {"i": 1}, resources=both)
    tail = Step("tail", work, {"i": 2}, inputs={"head": head}, resources=both)
    events: list[Event] = []
    go(tmp_path, lone, tail, events=events)
    assert [e.name for e in events if isinstance(e, Started)] == ["head", "lone", "tail"]


def threads(_context: StepContext) -> dict[str, Any]:
    import torch

    return {"torch": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}


def test_a_step_computes_with_the_cpus_that_it_was_given(tmp_path: Path) -> None:
    first = Step("a", threads, 1)
    second = Step("b", threads, 2, inputs={"before": first}, resources=Resources(num_cpus=2))
    result = go(tmp_path, Step("c", threads, 3, inputs={"before": second}))
    found = [o.result for o in result.outcomes.values()]
    assert [(r["torch"], r["omp"]) for r in found] == [(1, "1"), (2, "2"), (1, "1")]
    # Processes are used again, so torch is imported once per process.
    assert len({r["pid"] for r in found}) < 3


def far(context: StepContext) -> dict[str, Any]:
    for i in range(5):
        context.progress((i + 1) / 5, f"{i + 1} of 5")
        time.sleep(0.25)
    return {}


def test_progress_comes_with_the_remaining_time(tmp_path: Path) -> None:
    events: list[Event] = []
    go(tmp_path, Step("far", far), events=events)
    reported = [e for e in events if isinstance(e, Progress)]
    assert len(reported) >= 3
    assert [e.fraction for e in reported] == sorted({e.fraction for e in reported})
    assert reported[0].eta is None
    # After 3 of 5 the other 2 take 2 * 0.25 s; polling adds at most 0.2 s of uncertainty per step seen.
    assert [e.eta for e in reported if e.message == "4 of 5" and e.eta is not None] == [pytest.approx(0.25, abs=0.2)]


# ---------------------------------------------------------------------------------------------------------------- failures


def fail(context: StepContext) -> dict[str, Any]:
    kinds = {
        "value": ValueError("first line\nsecond line"),
        "config": ConfigError("target.rate", "must be positive, but got -1"),
        "damage": IntegrityError("shard 3 is damaged"),
        "missing": InfrastructureError("no server"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "exit": SystemExit(3),
    }
    raise kinds[context.config]


def test_a_failure_stops_only_what_depends_on_it(tmp_path: Path) -> None:
    bad = Step("bad", fail, "value")
    child = Step("child", work, {}, inputs={"bad": bad})
    good = Step("good", work, {"seconds": 0.3})
    result = go(tmp_path, Step("grandchild", work, {}, inputs={"child": child}), Step("next", work, {}, inputs={"good": good}))
    assert states(result) == {"bad": "failed", "child": "skipped", "grandchild": "skipped", "good": "done", "next": "done"}
    assert result.exit_code == 1
    error = partial_path(tmp_path, bad) / "error.txt"
    line = fail.__code__.co_firstlineno + 9
    assert result.outcomes["bad"].error.endswith(
        f"test_driver.py:{line}: ValueError: first line second line; the traceback is in {error}"
    )
    assert result.outcomes["child"].error == "needs bad, which is not there"
    assert "in fail\n    raise kinds[context.config]" in error.read_text()
    assert "second line" in error.read_text()
    assert not lock_path(tmp_path, bad).exists()


@pytest.mark.parametrize(
    ("kind", "exit_code", "message"),
    [
        ("config", 2, "target.rate: must be positive, but got -1"),
        ("damage", 5, "shard 3 is damaged"),
        ("missing", 4, "no server"),
        ("full", 4, "(No space left on device); free some space and run again"),
        ("exit", 1, "it ends Python, with sys.exit(3)"),
    ],
)
def test_errors_keep_their_meaning_across_processes(tmp_path: Path, kind: str, exit_code: int, message: str) -> None:
    result = go(tmp_path, Step("bad", fail, kind))
    assert result.exit_code == exit_code
    assert message in result.outcomes["bad"].error


def unspeakable(context: StepContext) -> Any:
    return {"list": [1], "set": {"x": {1}}, "nan": {"x": float("nan")}}[context.config]


@pytest.mark.parametrize("kind", ["list", "set", "nan"])
def test_a_result_that_is_no_json_object_is_a_failure(tmp_path: Path, kind: str) -> None:
    result = go(tmp_path, Step("bad", unspeakable, kind))
    assert "step bad: its function must return a dict of plain finite JSON values" in result.outcomes["bad"].error


def fails_once(context: StepContext) -> dict[str, Any]:
    if calls(context) == 1:
        raise ValueError("the first time")
    return {"calls": calls(context)}


def test_a_failed_step_goes_on_from_its_folder(tmp_path: Path) -> None:
    step = Step("x", fails_once)
    assert states(go(tmp_path, step)) == {"x": "failed"}
    assert go(tmp_path, step).outcomes["x"].result == {"calls": 3}  # one call, and one that counts itself twice
    assert not (final_path(tmp_path, step) / "error.txt").exists()


def dies_once(context: StepContext) -> dict[str, Any]:
    if calls(context) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"token": context.token}


def test_a_killed_worker_is_started_again_by_ray(tmp_path: Path) -> None:
    step = Step("x", dies_once)
    assert states(go(tmp_path, step)) == {"x": "done"}
    assert (final_path(tmp_path, step) / "calls").read_text() == "xx"


def dies(_context: StepContext) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_a_worker_that_dies_every_time_is_an_infrastructure_error(tmp_path: Path) -> None:
    result = go(tmp_path, Step("x", dies))
    assert result.exit_code == 4
    assert "step x: its process died 3 times" in result.outcomes["x"].error


def wants_too_much(context: StepContext) -> dict[str, Any]:
    calls(context)
    return {"data": len(bytearray(2**50))}


def test_a_step_whose_memory_is_not_there_is_tried_once_and_known_to_repeat(tmp_path: Path) -> None:
    step = Step("x", wants_too_much)
    result = go(tmp_path, step)
    assert (result.exit_code, result.outcomes["x"].repeats) == (4, True)
    assert result.outcomes["x"].error.startswith("step x: out of memory: it asked for more memory at once, where ")
    assert (partial_path(tmp_path, step) / "calls").read_text() == "x"


def test_a_step_that_can_never_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    small, large = Step("small", work, {}), Step("large", work, {"seconds": 1}, resources=Resources(num_cpus=3))
    with pytest.raises(InfrastructureError, match=r"step large asks for 3 CPUs, but the cluster's largest nodes have: 2 CPUs;"):
        go(tmp_path / "root", small, large)
    assert not (tmp_path / "root").exists()


def test_a_selection_without_its_inputs_is_refused(tmp_path: Path) -> None:
    data = Step("data", work, {})
    report = Step("report", work, {}, inputs={"data": data})
    with pytest.raises(ConfigError, match="step report needs data, which is not finished and not selected; select it as well"):
        go(tmp_path, report, selected={"report"})
    assert states(go(tmp_path, report, selected={"data"})) == {"data": "done"}
    result = go(tmp_path, report, selected={"report"})
    assert states(result) == {"report": "done"}
    assert result.outcomes["report"].result["from"] == ["data"]


def test_a_root_that_cannot_be_written_is_an_infrastructure_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match=r"cannot write under .*; choose another --root"):
        go(tmp_path / "file" / "root", Step("x", work, {}))


# ---------------------------------------------------------------------------------------------------------------- once more


def test_force_runs_a_step_and_all_downstream_again_from_nothing(tmp_path: Path) -> None:
    data = Step("data", work, {})
    other = Step("other", work, {"n": 1})
    report = Step("report", work, {}, inputs={"data": data, "other": other})
    first = go(tmp_path, report)
    (final_path(tmp_path, data) / "stale").touch()
    partial_path(tmp_path, data).mkdir()
    (partial_path(tmp_path, data) / "calls").write_text("xxx")  # unfinished work of who knows what
    second = go(tmp_path, report, force=["data"])
    assert states(second) == {"data": "done", "other": "cached", "report": "done"}
    assert second.outcomes["data"].result["calls"] == 1
    assert second.outcomes["data"].started > first.outcomes["data"].finished
    assert not (final_path(tmp_path, data) / "stale").exists()
    assert len(list((tmp_path / "steps").iterdir())) == 3


def test_a_forced_step_that_fails_leaves_the_earlier_result(tmp_path: Path) -> None:
    step = Step("x", fails_once)
    go(tmp_path, step)
    done = go(tmp_path, step)
    assert states(go(tmp_path, step, force=["x"])) == {"x": "failed"}
    again = go(tmp_path, step)
    assert states(again) == {"x": "cached"}
    assert again.outcomes["x"].result == done.outcomes["x"].result


def test_finished_work_that_a_crash_kept_from_appearing_is_published(tmp_path: Path) -> None:
    step = Step("x", work, {})
    go(tmp_path, step)
    final_path(tmp_path, step).rename(partial_path(tmp_path, step))
    assert states(go(tmp_path, step)) == {"x": "cached"}
    assert (final_path(tmp_path, step) / "calls").read_text() == "x"


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    step = Step("x", work, {})
    go(tmp_path, step)
    (final_path(tmp_path, step) / "done.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"done\.json cannot be used"):
        go(tmp_path, step)


def overtaken_once(context: StepContext) -> dict[str, Any]:
    if calls(context) == 1:
        begin_attempt(context.directory, "another run")
    return {"calls": calls(context)}


def test_the_work_of_a_fenced_attempt_is_never_published(tmp_path: Path) -> None:
    # Its folder is taken over while it works, so what it returns counts for nothing and the step is claimed anew.
    result = go(tmp_path, Step("x", overtaken_once))
    assert states(result) == {"x": "done"}
    assert result.outcomes["x"].result == {"calls": 4}  # two attempts that each count twice


def spoils_its_input(context: StepContext) -> dict[str, Any]:
    (context.inputs["data"] / "calls").write_text("x")  # what was there already
    return {}


def test_a_result_from_changed_inputs_is_not_published(tmp_path: Path) -> None:
    data = Step("data", work, {})
    result = go(tmp_path, Step("x", spoils_its_input, inputs={"data": data}))
    assert states(result) == {"data": "done", "x": "failed"}
    assert result.exit_code == 5
    assert "data" in result.outcomes["x"].error
    assert not final_path(tmp_path, Step("x", spoils_its_input, inputs={"data": data})).exists()


def test_a_second_run_on_the_same_storage_waits_and_takes_the_result(tmp_path: Path) -> None:
    step = Step("x", work, {"seconds": 1.0})
    started, events = threading.Event(), list[Event]()
    results: list[RunResult] = []

    def first() -> None:
        result = run([step], tmp_path, run_id="early", on_event=lambda e: started.set() if isinstance(e, Started) else None)
        results.append(result)

    thread = threading.Thread(target=first)
    thread.start()
    started.wait(30)
    second = run([step], tmp_path, run_id="late", on_event=events.append)
    thread.join()
    assert (states(results[0]), states(second)) == ({"x": "done"}, {"x": "cached"})
    (waiting,) = [e for e in events if isinstance(e, Waiting)]
    assert waiting.for_whom.startswith("run early of ")
    assert second.outcomes["x"].result["calls"] == 1


# ---------------------------------------------------------------------------------------------------------------- stopping


def endless(context: StepContext) -> dict[str, Any]:
    first = calls(context) == 1
    for _ in range(600 if first else 1):
        time.sleep(0.05)
        if context.should_stop():
            raise Interrupted("at a checkpoint")
    return {"calls": calls(context)}


def test_stop_ends_steps_at_their_checkpoint_and_the_next_run_goes_on(tmp_path: Path) -> None:
    step = Step("x", endless)
    stop = StopSignal()
    tail = Step("tail", work, {}, inputs={"x": step})

    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            stop.request()

    result = run([tail], tmp_path, run_id="one", on_event=on_event, stop=stop)
    assert states(result) == {"x": "interrupted", "tail": "skipped"}
    assert result.exit_code == 130
    assert (result.outcomes["x"].error, result.outcomes["tail"].error) == ("at a checkpoint", "needs x, which is not there")
    assert (partial_path(tmp_path, step) / "stop").exists()
    assert states(go(tmp_path, tail)) == {"x": "done", "tail": "done"}


def test_a_stop_that_comes_too_late_is_no_interruption(tmp_path: Path) -> None:
    stop = StopSignal()
    step = Step("x", work, {})

    def on_event(event: Event) -> None:
        if isinstance(event, Finished):
            stop.request()

    assert run([step], tmp_path, run_id="one", on_event=on_event, stop=stop).exit_code == 0


def test_steps_that_had_not_begun_are_skipped_by_a_stop(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.request()
    result = go(tmp_path, Step("x", work, {}), stop=stop)
    assert states(result) == {"x": "skipped"}
    assert result.outcomes["x"].error == "the run was stopped before"
    assert result.exit_code == 130


def test_an_error_in_the_listener_ends_the_run_and_frees_the_locks(tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            raise BrokenPipeError("nobody listens")

    step = Step("x", work, {"seconds": 30})
    start = time.monotonic()
    with pytest.raises(BrokenPipeError):
        run([step], tmp_path, run_id="one", on_event=on_event)
    assert time.monotonic() - start < 20
    assert not lock_path(tmp_path, step).exists()
