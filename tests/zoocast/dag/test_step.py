"""The key says what a step computes, and nothing else."""

import dataclasses
from typing import Any

import pytest

from zoocast.dag import Resources, Step, StepContext, ordered
from zoocast.errors import ConfigError
from zoocast.identity import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    learning_rate: float = setting(0.001, "step size")
    num_workers: int = setting(1, "where it runs", identity=False)


def train(_context: StepContext) -> dict[str, Any]:
    return {}


def evaluate(_context: StepContext) -> dict[str, Any]:
    return {}


BASE = Step("train", train, Training())


@pytest.mark.parametrize(
    "other",
    [
        Step("train", evaluate, Training()),
        Step("train", train, Training(learning_rate=0.01)),
        Step("train", train, Training(), version=2),
        Step("train", train, Training(), salt="digest of a file"),
        Step("train", train, Training(), inputs={"data": Step("data", train)}),
    ],
    ids=["function", "config", "version", "salt", "inputs"],
)
def test_the_key_changes_with_what_is_computed(other: Step) -> None:
    assert other.key != BASE.key


@pytest.mark.parametrize(
    "same",
    [
        Step("another-name", train, Training()),
        Step("train", train, Training(num_workers=8)),
        Step("train", train, Training(), resources=Resources(num_cpus=4, num_gpus=1)),
        Step("train", train, Training(), launches=(Resources(num_cpus=2),)),
    ],
    ids=["name", "non-identity setting", "resources", "launches"],
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
    # sha256 of {"config":{"rate":0.5},"function":"zoocast.storage:publish","inputs":{},"salt":"","version":1}
    from zoocast.storage import publish

    step = Step("x", publish, {"rate": 0.5})  # type: ignore[arg-type]
    assert step.key == "914009103776"
    assert step.folder == "x-914009103776"


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
    one, two = (Step(n, train, inputs={"data": data}) for n in ("one", "two"))
    report = Step("report", train, inputs={"two": two, "one": one})
    assert [s.name for s in ordered([report, one])] == ["data", "two", "one", "report"]


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="train: two steps of a pipeline have this name"):
        ordered([BASE, Step("train", train, Training(learning_rate=1.0))])
