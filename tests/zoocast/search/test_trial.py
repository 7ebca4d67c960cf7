"""A trial from the inside, without Ray: what it is given, what it leaves, and what surrounds it."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from zoocast.dag import Resources, StepContext
from zoocast.errors import InfrastructureError, Interrupted, StepFailed
from zoocast.search import SearchConfig, SearchSpace, Trial
from zoocast.search.progress import Progress
from zoocast.search.study import read_trial, write_trial
from zoocast.search.trial import run_trial
from zoocast.store.address import open_root
from zoocast.tracking import Journal, curves, read_entries
from zoocast.tracking.entries import StatusChange


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    rate: float = 1.0
    cycle: int = 10


def run(tmp_path: Path, train: Any, **params: Any) -> list[tuple[int, float]]:
    """One attempt at trial 7 of a step; returns what the scheduler heard."""
    step = StepContext.standalone(tmp_path, name="search", inputs={"data": tmp_path / "data"})
    if not (tmp_path / "trial-0007").exists():
        write_trial(tmp_path / "trial-0007", 7, params, "identity")
    heard: list[tuple[int, float]] = []
    run_trial(step, tmp_path / "trial-0007", Base(), train, Resources(1), lambda *said: heard.append(said))
    return heard


def statuses(tmp_path: Path) -> list[str]:
    return [entry.status for entry in read_entries(tmp_path / "trial-0007" / "journal.jsonl", StatusChange)]


def test_a_trial_sees_its_own_folder_and_config_and_the_inputs_of_its_step(tmp_path: Path) -> None:
    def train(trial: Trial) -> dict[str, Any]:
        context = trial.context
        assert context.config == Base(rate=0.5)
        assert context.directory == tmp_path / "trial-0007"
        assert context.inputs == {"data": tmp_path / "data"}
        trial.report(10, 0.25)
        trial.report(20, 0.5)
        return {"name": context.name}

    assert run(tmp_path, train, rate=0.5) == [(10, 0.25), (20, 0.5)]
    record = read_trial(tmp_path / "trial-0007")
    assert (record.state, record.result, record.curve) == ("done", {"name": "search.trial-0007"}, ((10, 0.25), (20, 0.5)))
    assert curves(tmp_path / "trial-0007" / "journal.jsonl")["trial/best_error"] == [(0, 0.25)]
    assert statuses(tmp_path) == ["running", "finished"]
    assert run(tmp_path, lambda trial: pytest.fail(f"{trial} was run again")) == []


def test_a_trial_may_go_on_on_another_machine(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(machine: str, train: Any) -> None:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        here = step.localize(lambda file: file.startswith(f"trials/{name}/"))
        assert here.directory.is_relative_to(tmp_path / machine)
        try:
            run_trial(
                here,
                here.directory / "trials" / name,
                Base(),
                train,
                Resources(1),
                lambda *report: progress.record(name, *report),
            )
        finally:
            here.push()

    def interrupted(trial: Trial) -> dict[str, Any]:
        (trial.context.directory / "checkpoint").write_text("1")
        trial.report(1, 0.5)
        raise Interrupted("stopped at a checkpoint")

    def finishes(trial: Trial) -> dict[str, Any]:
        trial.report(2, 0.25)
        return {"from": (trial.context.directory / "checkpoint").read_text()}

    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / "home"))
    step = StepContext.standalone(open_root(f"{store}/study").folder / "steps" / "search-0123456789ab.partial", name="search")
    step.pull()
    with Journal(step.journal_path) as journal:
        space = SearchSpace(fields={"rate": FloatDistribution(0.0, 1.0)})
        progress = Progress(step, SearchConfig(num_trials=1, max_iterations=2), space, "identity", journal)
        name = progress.begin()
        assert name == "trial-0000"
        with pytest.raises(Interrupted):
            on("one", interrupted)
        on("two", finishes)
        progress.end(name, died=False)
    (record,) = progress.records
    assert (record.state, record.result, record.curve) == ("done", {"from": "1"}, ((1, 0.5), (2, 0.25)))


def test_a_trial_that_goes_on_reports_its_last_error_again(tmp_path: Path) -> None:
    def interrupted(trial: Trial) -> dict[str, Any]:
        trial.report(1, 0.5)
        trial.report(2, 0.25)
        raise Interrupted("stopped at a checkpoint")

    def finishes(trial: Trial) -> dict[str, Any]:
        trial.report(3, 0.125)
        return {}

    with pytest.raises(Interrupted):
        run(tmp_path, interrupted)
    assert read_trial(tmp_path / "trial-0007").state == "running"
    assert run(tmp_path, finishes) == [(2, 0.25), (3, 0.125)]
    assert read_trial(tmp_path / "trial-0007").curve == ((1, 0.5), (2, 0.25), (3, 0.125))
    assert statuses(tmp_path) == ["running", "killed", "running", "finished"]


@pytest.mark.parametrize(
    ("params", "train", "message"),
    [
        ({}, lambda trial: trial.report(1, math.nan), "search.trial-0007 diverged: its error is nan at iteration 1"),
        ({}, lambda _: {}, "search.trial-0007 reported no error"),
        ({"cycle": 0.5}, lambda _: {}, "cycle: expected a whole number, but got 0.5"),
        ({}, lambda trial: trial.report(1, 0.5) or {"error": math.inf}, "ValueError: Out of range float values"),
    ],
)
def test_what_the_settings_of_a_trial_cause_is_its_failure(tmp_path: Path, params: dict, train: Any, message: str) -> None:
    run(tmp_path, train, **params)
    record = read_trial(tmp_path / "trial-0007")
    assert record.state == "failed"
    assert record.message.startswith(message)
    assert record.best_error is None
    assert statuses(tmp_path) == ["running", "failed"]


def test_a_full_disk_is_no_outcome_of_a_trial(tmp_path: Path) -> None:
    def train(trial: Trial) -> dict[str, Any]:
        raise InfrastructureError(f"the disk is full at {trial.context.directory}")

    with pytest.raises(InfrastructureError):
        run(tmp_path, train)
    assert not (tmp_path / "trial-0007" / "outcome.json").exists()


def test_an_attempt_at_a_trial_that_was_overtaken_writes_no_outcome(tmp_path: Path) -> None:
    def train(trial: Trial) -> dict[str, Any]:
        trial.report(1, 0.5)
        (trial.context.directory / "attempt.json").write_text(json.dumps({"token": "another", "run": "later", "host": "here"}))
        return {}

    with pytest.raises(InfrastructureError, match="taken over by run later"):
        run(tmp_path, train)
    assert not (tmp_path / "trial-0007" / "outcome.json").exists()


def test_the_training_of_a_trial_can_be_a_step_of_its_own(tmp_path: Path) -> None:
    trial = Trial(StepContext.standalone(tmp_path / "control", config=Base()))
    trial.report(1, 0.5)
    assert curves(trial.context.journal_path) == {"trial/error": [(1, 0.5)]}
    with pytest.raises(StepFailed, match="diverged: its error is inf"):
        trial.report(2, math.inf)
