"""The key says what a step computes, and nothing else."""

import dataclasses
from typing import Any

import pytest

from zoocast.config import setting
from zoocast.dag import Kind, Resources, Step, StepContext, group, ordered, step_kind
from zoocast.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    learning_rate: float = setting(0.001, "step size")
    num_workers: int = setting(1, "where it runs", identity=False)


@step_kind("train", version=1)
def train(_context: StepContext) -> dict[str, Any]:
    return {}


@step_kind("train", version=2)
def train_otherwise(_context: StepContext) -> dict[str, Any]:
    return {}


@step_kind("train", version=1)
def train_moved(_context: StepContext) -> dict[str, Any]:
    return {}


@step_kind("evaluate")
def evaluate(_context: StepContext) -> dict[str, Any]:
    return {}


def unmarked(_context: StepContext) -> dict[str, Any]:
    return {}


BASE = Step("train", train, Training())


@pytest.mark.parametrize(
    "other",
    [
        Step("train", evaluate, Training()),
        Step("train", train, Training(learning_rate=0.01)),
        Step("train", train_otherwise, Training()),
        Step("train", train, Training(), salt="digest of a file"),
        Step("train", train, Training(), inputs={"data": Step("data", train)}),
    ],
    ids=["kind", "config", "version", "salt", "inputs"],
)
def test_the_key_changes_with_what_is_computed(other: Step) -> None:
    assert other.key != BASE.key


@pytest.mark.parametrize(
    "same",
    [
        Step("another-name", train, Training()),
        Step("train", train_moved, Training()),
        Step("train", train, Training(num_workers=8)),
        Step("train", train, Training(), resources=Resources(num_cpus=4, num_gpus=1)),
        Step("train", train, Training(), launches=(Resources(num_cpus=2),)),
    ],
    ids=["name", "place of the function", "non-identity setting", "resources", "launches"],
)
def test_the_key_does_not_change_with_where_and_how_it_runs(same: Step) -> None:
    assert same.key == BASE.key


def test_a_change_upstream_reaches_every_key_downstream() -> None:
    def chain(learning_rate: float) -> Step:
        source = Step("source", train, Training(learning_rate=learning_rate))
        bank = Step("bank", train, inputs={"source": source})
        return Step("target", train, inputs={"bank": bank})

    assert chain(0.1).key != chain(0.2).key
    assert chain(0.1).key == chain(0.1).key


def test_the_key_is_the_same_on_every_machine() -> None:
    # sha256 of {"config":{"rate":0.5},"inputs":{},"kind":"publish","salt":"","version":3}
    @step_kind("publish", version=3)
    def publish(_context: StepContext) -> dict[str, Any]:
        return {}

    publish.__qualname__ = "publish"
    step = Step("x", publish, {"rate": 0.5})
    assert step.key == "fcf155030061"
    assert step.folder == "x-fcf155030061"


def test_a_function_without_a_kind_is_known_by_its_place() -> None:
    assert Step("x", unmarked).kind == Kind(f"{__name__}:unmarked", 1)


def test_a_group_makes_several_inputs_of_a_step_under_one_name() -> None:
    one, two = Step("one", train), Step("two", evaluate)
    step = Step("x", train, inputs={"data": one, **group("sources", {"a": one, "b": two})})
    assert step.inputs == {"data": one, "sources/a": one, "sources/b": two}


@pytest.mark.parametrize("name", ["", "Upper", ".hidden", "a/b", "a b", "-x"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a step's name is made of"):
        Step(name, train)


def test_a_function_that_no_worker_can_find_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be at module level"):
        Step("x", lambda _: {})


def test_negative_resources_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_gpus: must not be negative, but got -1"):
        Resources(num_gpus=-1)


def test_ordered_puts_inputs_first_and_each_step_once() -> None:
    data = Step("data", train)
    one, two = (Step(n, train, n, inputs={"data": data}) for n in ("one", "two"))
    report = Step("report", train, inputs={"two": two, "one": one})
    assert [s.name for s in ordered([report, one])] == ["data", "two", "one", "report"]


def test_steps_with_equal_keys_are_one_step_wherever_they_were_made() -> None:
    def bank(name: str) -> Step:
        return Step("bank", evaluate, {"of": 1}, inputs={"data": Step(name, train)})

    one, two = bank("data.target"), bank("data.source")
    report = Step("report", train, {"r": 1}, inputs={"one": one, "two": two, "data": two.inputs["data"]})
    steps = ordered([report])
    assert [s.name for s in steps] == ["data.target", "bank", "report"]
    assert {id(parent) for s in steps for parent in s.inputs.values()} <= set(map(id, steps))
    assert steps[-1].key == report.key


def test_two_different_steps_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="train: two different steps of a pipeline have this name"):
        ordered([BASE, Step("train", train, Training(learning_rate=1.0))])
