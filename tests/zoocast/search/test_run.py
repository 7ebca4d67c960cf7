"""Studies on a real local Ray: ends of all kinds, deaths, limits, and what is refused before any trial starts."""

import dataclasses
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from zoocast.cluster.connect import connect
from zoocast.config import override, parse_overrides
from zoocast.dag import Kind, StepContext
from zoocast.errors import ConfigError, InfrastructureError, Interrupted, StepFailed
from zoocast.search import SearchConfig, SearchSpace, Study, Trial, read_study, search
from zoocast.search.tuner import _scheduler
from zoocast.tracking import curves

KIND = Kind("fate", 1)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    import ray.cloudpickle

    # Workers cannot import a test module under the name that pytest gave it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connect(num_cpus=2):
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fate:
    """What a trial does, and the x on which its error depends."""

    x: float = 0.0
    fate: str = "works"


def train(trial: Trial) -> dict[str, Any]:
    """Four iterations, each with a file, so that a second process goes on where the first died."""
    config, folder = trial.context.config, trial.context.directory
    done = sorted(int(p.name) for p in folder.glob("[0-9]"))
    for i in range(len(done) + 1, 5):
        if i == 3 and config.fate == "dies" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if config.fate == "breaks":
            raise ValueError("no such luck")
        if config.fate == "fills the disk":
            raise InfrastructureError("the disk is full")
        (folder / str(i)).touch()
        trial.report(i, math.nan if config.fate == "diverges" and i == 3 else config.x**2 + 1 / i)
    return {"x": config.x, "threads": os.environ["OMP_NUM_THREADS"], "went_on_from": len(done)}


def space(*fates: str) -> SearchSpace:
    """x in [0, 1]; the first trials have these fates, in order, with x = 1, 1/2, 1/4, ...; the rest works."""
    points = tuple({"x": 0.5**i, "fate": fate} for i, fate in enumerate(fates))
    choices = tuple(dict.fromkeys(("works", *fates)))
    return SearchSpace(fields={"x": FloatDistribution(0.0, 1.0), "fate": CategoricalDistribution(choices)}, points=points)


def go(directory: Path, the_space: SearchSpace, **settings: Any) -> Study:
    config = SearchConfig(**{"num_trials": len(the_space.points), "max_iterations": 4, "grace_cycles": 4, **settings})
    context = StepContext.standalone(directory / "search", config=config, name="search")
    return search(context, config, the_space, Fate(), train, kind=KIND)


def test_each_trial_ends_as_its_settings_make_it(tmp_path: Path) -> None:
    study = go(tmp_path, space("works", "diverges", "breaks", "dies"))
    works, diverges, breaks, dies = study.trials
    assert (works.state, works.best_error, works.iterations) == ("done", 1 + 1 / 4, 4)
    assert works.result == {"x": 1.0, "threads": "1", "went_on_from": 0}
    assert (diverges.state, diverges.best_error) == ("failed", None)
    assert "diverged: its error is nan at iteration 3" in diverges.message
    assert (breaks.state, breaks.message) == ("failed", "ValueError: no such luck")
    assert "no such luck" in (tmp_path / "search" / "trials" / breaks.id / "error.txt").read_text()
    assert (dies.state, dies.result["went_on_from"]) == ("done", 2)  # its process was killed before iteration 3
    assert [i for i, _ in dies.curve] == [1, 2, 3, 4]
    # x = 1/8 and 1; that of the diverged trial would have been in between
    assert [t.id for t in study.best(9)] == [dies.id, works.id]
    assert read_study(tmp_path / "search").best() == study.best()
    assert curves(tmp_path / "search" / "journal.jsonl")["search/best_error"][-1] == (4, 1 / 64 + 1 / 4)
    assert not (tmp_path / "search" / "ray").exists()


def test_asha_ends_what_is_worse_than_the_median_at_a_rung(tmp_path: Path) -> None:
    settings = {"max_concurrent": 1, "grace_cycles": 2, "reduction_factor": 2}
    four = space("works", "works", "works", "works")
    worse = dataclasses.replace(four, points=four.points[::-1])  # x = 1/8, 1/4, 1/2, 1: each is worse than all before
    assert [(t.state, t.iterations) for t in go(tmp_path, worse, **settings).trials] == [("done", 4)] + [("stopped", 2)] * 3
    better = go(tmp_path / "better", four, **settings)
    assert [(t.state, t.iterations) for t in better.trials] == [("done", 4)] * 4


def test_a_study_in_which_all_trials_fail_says_why(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"all 2 trials failed; the first: ValueError: no such luck; .* --force search"):
        go(tmp_path, space("breaks", "breaks"))
    assert not (tmp_path / "search" / "study.json").exists()


def test_an_error_that_settings_cannot_cause_is_no_outcome_of_a_trial(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"could not go on .*the disk is full"):
        go(tmp_path, space("fills the disk", "works"), max_concurrent=1)
    assert not list((tmp_path / "search" / "trials").glob("*/outcome.json"))


def test_a_wish_to_stop_the_study_reaches_its_trials(tmp_path: Path) -> None:
    config = SearchConfig(num_trials=2, max_iterations=10_000, grace_cycles=10_000)
    context = StepContext.standalone(tmp_path / "search", config=config, name="search")
    begin = time.monotonic()

    from threading import Timer

    from zoocast.dag.context import request_stop

    timer = Timer(8, request_stop, (context.directory, context.token))
    timer.start()
    with pytest.raises(Interrupted, match=r"search was stopped with 0 of 2 trials ended; best"):
        search(context, config, space("works", "works"), Fate(), wait_for_stop, kind=KIND)
    timer.join()
    assert time.monotonic() - begin < 60
    for folder in (context.directory / "trials").iterdir():
        assert (folder / "stopped_at").exists()


def wait_for_stop(trial: Trial) -> dict[str, Any]:
    """Iterations until the wish to stop comes."""
    for i in range(1, 10_001):
        time.sleep(0.05)
        trial.report(i, 1 / i)
        if trial.context.should_stop():
            (trial.context.directory / "stopped_at").write_text(str(i))
            raise Interrupted("stopped at a checkpoint")
    return {}


def test_a_space_that_does_not_fit_is_refused_before_any_trial(tmp_path: Path) -> None:
    wrong = SearchSpace(fields={"z": FloatDistribution(0.0, 1.0)})
    with pytest.raises(ConfigError, match="z: unknown setting"):
        go(tmp_path, wrong, num_trials=1)
    assert not (tmp_path / "search" / "trials").exists()


def test_a_trial_that_no_node_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="a trial needs a node with 64 CPUs"):
        go(tmp_path, space("works"), cpus_per_trial=64)


def test_a_budget_is_set_by_dotted_overrides_and_checked() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Pipeline:
        search: SearchConfig = SearchConfig()

    config = override(Pipeline(), parse_overrides(["search.num_trials=16", "search.max_iterations=2e3"]))
    assert (config.search.num_trials, config.search.max_iterations) == (16, 2000)
    with pytest.raises(ConfigError, match=r"search\.reduction_factor: must be at least 2, but got 1"):
        override(Pipeline(), parse_overrides(["search.reduction_factor=1"]))
    with pytest.raises(ConfigError, match=r"max_concurrent: must be at least 1, or none, but got 0"):
        SearchConfig(max_concurrent=0)


def test_the_last_rung_is_not_lost_by_rounding() -> None:
    # log(243) / log(3) is 4.999...: of the rungs 1, 3, 9, 27, 81, 243 the last one would be missing.
    progress = SimpleNamespace(
        config=SearchConfig(num_trials=1, max_iterations=244, grace_cycles=1, reduction_factor=3), records=()
    )
    rungs = _scheduler(progress, cycle=1)._brackets[0]._rungs
    assert [milestone for milestone, _ in rungs] == [243, 81, 27, 9, 3, 1]
