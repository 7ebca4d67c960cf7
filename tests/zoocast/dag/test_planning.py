"""What would run, and why."""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from zoocast.dag import Step, StepContext, plan, read_record, select, step_kind
from zoocast.dag.context import begin_attempt
from zoocast.dag.records import Record, final_path, lock_path, partial_path, publish_step
from zoocast.errors import ConfigError, IntegrityError
from zoocast.provenance import machine
from zoocast.store.locks import Locks


@step_kind("work")
def work(_context: StepContext) -> dict[str, Any]:
    return {}


@step_kind("other", version=2)
def other(_context: StepContext) -> dict[str, Any]:
    return {}


def pipeline(rate: float = 0.001, width: int = 8) -> list[Step]:
    data = Step("data", work, {"frames": 20})
    one = Step("source.one", work, {"rate": rate}, inputs={"data": data})
    two = Step("source.two", work, {"rate": 0.5}, inputs={"data": data})
    bank = Step("bank", work, {"width": width}, inputs={"one": one, "two": two})
    return [data, one, two, bank, Step("report", work, inputs={"bank": bank})]


def finish(root: Path, step: Step, finished: float | None = None) -> None:
    """Make `step` done, as a run would."""
    partial_path(root, step).mkdir(parents=True)
    finished = finished or time.time()
    publish_step(root, step, Record.of(step, {}, started=finished - 2, finished=finished, host="h", run="r", files={}))


def states(steps: list[Step], root: Path, **options: Any) -> dict[str, str]:
    return {s.step.name: s.state for s in plan(steps, root, **options).steps}


def reasons(steps: list[Step], root: Path) -> dict[str, tuple[str, ...]]:
    return {s.step.name: s.why for s in plan(steps, root).steps}


def test_a_plan_of_an_empty_root_only_reads(tmp_path: Path) -> None:
    root = tmp_path / "not-there"
    assert set(states(pipeline(), root).values()) == {"run"}
    assert set(reasons(pipeline(), root).values()) == {("not run before",)}
    assert not root.exists()


def test_a_finished_step_is_planned_as_done(tmp_path: Path) -> None:
    steps = pipeline()
    for step in steps:
        finish(tmp_path, step)
    found = plan(steps, tmp_path)
    assert found.work == ()
    assert [s.record.seconds for s in found.steps if s.record] == pytest.approx([2.0] * 5)
    assert json.loads(json.dumps(found.to_json()))["steps"][0]["state"] == "done"


def test_a_result_of_another_machine_is_used_and_the_difference_named(tmp_path: Path) -> None:
    step, elsewhere = pipeline()[0], {**machine(), "processor": "Z80"}
    finish(tmp_path, step)
    record = read_record(final_path(tmp_path, step))
    for changed, why in (
        ({"machine": machine()}, ()),
        ({"machine": elsewhere}, (f"computed on another processor, Z80, here {machine()['processor']}",)),
        ({"versions": {**record.versions, "torch": "1.0"}}, (f"computed with torch 1.0, here {record.versions['torch']}",)),
        (
            {"resources": {**record.resources, "num_cpus": 4}},
            ("computed by 1 process of 4 threads, here by 1 process of 1 thread",),
        ),
    ):
        dataclasses.replace(record, **changed).write(final_path(tmp_path, step))
        (planned,) = plan([step], tmp_path).steps
        assert (planned.state, planned.why) == ("done", why)


def test_a_damaged_result_is_refused_when_it_would_be_used_and_made_anew_when_that_is_asked_for(tmp_path: Path) -> None:
    steps = pipeline()
    data, one, two, bank, _ = steps
    for step in steps:
        finish(tmp_path, step)
    shutil.copy(final_path(tmp_path, two) / "done.json", final_path(tmp_path, one))
    with pytest.raises(IntegrityError, match=f"it is the record of {two.folder}.*run again with --force source.one, or remove"):
        plan(steps, tmp_path)
    assert states(steps, tmp_path, force=[one.name])["source.one"] == "run"
    # Whoever asks for the bank alone uses the source, which is not in the plan.
    shutil.rmtree(final_path(tmp_path, bank))
    with pytest.raises(IntegrityError, match="it is the record of"):
        plan(steps, tmp_path, selected={bank.name})
    assert states(steps, tmp_path, selected={data.name}) == {"data": "done"}


def test_a_changed_setting_is_named_everywhere_downstream(tmp_path: Path) -> None:
    for step in pipeline():
        finish(tmp_path, step)
    why = reasons(pipeline(rate=0.0003), tmp_path)
    assert why == {
        "data": (),
        "source.one": ("rate: 0.001 -> 0.0003",),
        "source.two": (),
        "bank": ("input source.one: rate: 0.001 -> 0.0003",),
        "report": ("input bank: input source.one: rate: 0.001 -> 0.0003",),
    }


def test_the_nearest_earlier_result_is_the_one_that_differs_least(tmp_path: Path) -> None:
    # The later result differs in two settings, the earlier one in one.
    finish(tmp_path, Step("x", work, {"a": 1, "b": 1}), finished=1000.0)
    finish(tmp_path, Step("x", work, {"a": 2, "b": 2}), finished=2000.0)
    assert reasons([Step("x", work, {"a": 1, "b": 3})], tmp_path) == {"x": ("b: 1 -> 3",)}


def test_a_plan_names_every_kind_of_change_since_the_earlier_result(tmp_path: Path) -> None:
    data, more = Step("data", work), Step("more", work, {"n": 1})
    finish(tmp_path, Step("x", work, {"a": 1}, inputs={"data": data, "old": data}, salt="abc"))
    now = Step("x", other, {"a": 1}, inputs={"data": more, "new": data}, salt="def")
    assert plan([now], tmp_path).steps[-1].why == (
        "kind: work -> other",
        "version: 1 -> 2",
        "data: abc -> def",
        "input data: data -> more",
        "input new: added",
        "input old: removed",
    )


def test_a_plan_names_both_keys_of_an_input_whose_earlier_result_is_gone(tmp_path: Path) -> None:
    before, after = Step("data", work, {"n": 1}), Step("data", work, {"n": 2})
    finish(tmp_path, Step("x", work, inputs={"data": before}))
    assert plan([Step("x", work, inputs={"data": after})], tmp_path).steps[-1].why == (
        f"input data: its key changed, {before.key} -> {after.key}; the earlier result is gone",
    )


def test_a_step_whose_name_begins_like_another_is_not_compared_with_it(tmp_path: Path) -> None:
    finish(tmp_path, Step("x-y", work, {"a": 1}))
    assert reasons([Step("x", work, {"a": 2})], tmp_path) == {"x": ("not run before",)}


def test_an_unfinished_step_is_planned_to_resume(tmp_path: Path) -> None:
    step = pipeline()[0]
    partial = partial_path(tmp_path, step)
    partial.mkdir(parents=True)
    token = begin_attempt(partial, "r")
    (partial / "progress.json").write_text(json.dumps({"token": token, "fraction": 0.425, "message": "iteration 170 of 400"}))
    (partial / "error.txt").write_text("the disk is full\n\nTraceback ...\n")
    (found,) = plan([step], tmp_path).steps
    assert found.state == "resume"
    assert found.why == ("goes on from about 42 % (iteration 170 of 400)", "failed before: the disk is full")


def test_a_plan_says_that_a_step_is_finished_but_not_yet_published(tmp_path: Path) -> None:
    step = pipeline()[0]
    finish(tmp_path, step)
    final_path(tmp_path, step).rename(partial_path(tmp_path, step))
    assert reasons([step], tmp_path) == {"data": ("finished, but not yet published",)}


def test_a_plan_names_the_driver_that_already_runs_a_step(tmp_path: Path) -> None:
    step = pipeline()[0]
    (tmp_path / "locks").mkdir()
    with Locks("morning") as locks:
        locks.acquire(lock_path(tmp_path, step))
        (found,) = plan([step], tmp_path).steps
    assert found.state == "running"
    assert found.why[0].startswith("by run morning of ")


def test_forced_steps_take_everything_downstream_with_them(tmp_path: Path) -> None:
    for step in pipeline():
        finish(tmp_path, step)
    found = {s.step.name: s for s in plan(pipeline(), tmp_path, force=["source.o*"]).steps}
    assert [n for n, s in found.items() if s.state == "run"] == ["source.one", "bank", "report"]
    assert found["bank"].why == ("forced",)


def test_a_damaged_record_of_a_needed_step_is_refused_with_its_remedy(tmp_path: Path) -> None:
    step = pipeline()[0]
    finish(tmp_path, step)
    (final_path(tmp_path, step) / "done.json").write_text('{"name": "data"')
    with pytest.raises(IntegrityError, match=r"done\.json cannot be used: .* remove .*data-.* and run the pipeline again"):
        plan([step], tmp_path)


def test_a_plan_passes_over_a_damaged_record_that_nobody_needs(tmp_path: Path) -> None:
    old = Step("x", work, {"a": 1})
    finish(tmp_path, old)
    (final_path(tmp_path, old) / "done.json").unlink()
    assert reasons([Step("x", work, {"a": 2})], tmp_path) == {"x": ("not run before",)}


def test_a_selection_holds_the_steps_on_which_only_from_and_until_agree() -> None:
    steps = pipeline()
    assert select(steps) == {"data", "source.one", "source.two", "bank", "report"}
    assert select(steps, only=["source.*", "report"]) == {"source.one", "source.two", "report"}
    assert select(steps, from_="source.two") == {"source.two", "bank", "report"}
    assert select(steps, until="source.two") == {"data", "source.two"}
    assert select(steps, from_="source.*", until="bank") == {"source.one", "source.two", "bank"}


def test_an_unknown_step_is_refused_with_the_nearest_names_and_all_names() -> None:
    message = (
        r"--from: no step matches 'sorce.one'; did you mean source\.one or source\.two\?"
        r" the steps are data, source\.one, source\.two, bank, report"
    )
    with pytest.raises(ConfigError, match=message):
        select(pipeline(), from_="sorce.one")
    with pytest.raises(ConfigError, match="--force: no step matches 'nothing'; the steps are"):
        plan(pipeline(), Path(), force=["nothing"])


def test_a_selection_of_no_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="no step is selected"):
        select(pipeline(), from_="bank", until="data")


def test_a_selected_step_without_its_inputs_is_blocked(tmp_path: Path) -> None:
    steps = pipeline()
    found = {s.step.name: s for s in plan(steps, tmp_path, selected={"bank", "report"}).steps}
    assert found["bank"].state == "blocked"
    assert found["bank"].why == (
        "needs source.one, which is not finished and not selected",
        "needs source.two, which is not finished and not selected",
    )
    assert found["report"].state == "blocked"
    for step in steps[:3]:
        finish(tmp_path, step)
    assert states(steps, tmp_path, selected={"bank", "report"}) == {"bank": "run", "report": "run"}
