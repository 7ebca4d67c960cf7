"""Studies as data: what is suggested, which trial is best, what a report reads, and trial folders."""

import dataclasses
import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from zoocast.errors import IntegrityError
from zoocast.search import SearchSpace, Study, TrialRecord, When, importance, read_study
from zoocast.search.study import conclude, read_trial, suggest, write_trial
from zoocast.tracking import Journal

SPACE = SearchSpace(
    fields={
        "x": FloatDistribution(-1.0, 1.0),
        "y": FloatDistribution(-1.0, 1.0),
        "mode": CategoricalDistribution(("plain", "chained")),
        "weight": When("mode", ("chained",), FloatDistribution(0.0, 1.0)),
    },
    points=({"x": 0.9, "y": 0.0, "mode": "plain"},),
)


def record(number: int, *errors: float, state: str = "done", **params: object) -> TrialRecord:
    params = {"x": 0.1 * number, "y": 0.0, "mode": "plain", **params}
    return TrialRecord(number, params, state, tuple(enumerate(errors, 1)))  # type: ignore[arg-type]


def valley(params: dict, number: int) -> TrialRecord:
    """A trial whose error is (x - 0.3)^2, whatever y is."""
    return TrialRecord(number, params, "done", ((1, (params["x"] - 0.3) ** 2),))


def search(count: int, seed: int, start: tuple[TrialRecord, ...] = ()) -> list[TrialRecord]:
    trials = list(start)
    while len(trials) < count:
        trials.append(valley(suggest(SPACE, trials, len(trials), seed=seed, num_startup=8), len(trials)))
    return trials


def test_suggestions_begin_with_the_points_and_are_a_function_of_seed_number_and_history():
    first = search(12, seed=1)
    assert first[0].params == SPACE.points[0]
    assert search(12, seed=1) == first
    assert search(12, seed=1, start=tuple(first[:7])) == first  # a study that went on, or was extended
    assert search(2, seed=2)[1] != first[1]


def test_tpe_finds_the_bottom_better_than_its_random_start():
    trials = search(40, seed=1)
    errors = [t.best_error for t in trials]
    # Uniform x in [-1, 1]: the mean of (x - 0.3)^2 is 1/3 + 0.09 = 0.42; TPE's last ten are drawn near 0.3.
    assert sum(errors[30:]) / 10 < 0.42 / 4


def test_failed_trials_are_never_best_and_whole_ones_come_before_stopped_ones():
    trials = (
        record(0, 0.5, 0.2, 0.3),
        record(1, 0.1, state="stopped"),
        record(2, 0.01, math.nan, state="failed"),
        record(3, 0.4, 0.25, 0.1),
        record(4, 0.4, 0.3, state="stopped"),
    )
    study = Study({}, SPACE, trials)
    # 3 has 0.1 at its best, 0 has 0.2; of those that were stopped 4 came further.
    assert [t.number for t in study.best(9)] == [3, 0, 4, 1]
    assert [t.number for t in study.best()] == [3]
    assert [study.count(s) for s in ("done", "stopped", "failed")] == [2, 2, 1]


def test_an_error_that_is_no_number_is_never_the_lowest():
    assert TrialRecord(0, {}, "stopped", ((5, math.nan), (10, 0.3), (15, -math.inf))).best_error == 0.3
    assert TrialRecord(0, {}, "stopped", ((5, math.nan),)).best_error is None


def test_axes_have_the_range_scale_and_choices_of_their_fields():
    x, _, mode, weight = Study({}, SPACE, ()).axes()
    assert (x.name, x.low, x.high, x.log, x.choices) == ("x", -1.0, 1.0, False, ())
    assert (mode.low, mode.high, mode.choices) == (0, 1, ("plain", "chained"))
    assert weight.name == "weight"


def test_a_study_is_read_as_it_was_saved(tmp_path):
    trials = (
        dataclasses.replace(record(0, 0.5, 0.2, mode="chained", weight=0.5), result={"iterations": 2}),
        record(1, 0.01, math.inf, state="failed"),
    )
    Study({"num_trials": 2}, SPACE, trials).save(tmp_path)
    study = read_study(tmp_path)
    assert (study.search, study.space, study.trials[0]) == ({"num_trials": 2}, SPACE, trials[0])
    assert math.isnan(study.trials[1].curve[1][1])
    assert [t.id for t in study.best(2)] == ["trial-0000"]
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"study\.json cannot be read"):
        read_study(tmp_path)


def test_importance_names_the_field_that_matters():
    shares = importance(Study({}, SPACE, tuple(search(30, seed=1))))
    assert set(shares) == {"x", "y", "mode"}  # weight does not exist in all trials
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["x"] > 0.8
    assert importance(Study({}, SPACE, (record(0, 0.1), record(1, 0.1, state="stopped")))) == {}
    assert importance(Study({}, SPACE, (record(0, 0.1), record(1, 0.1)))) == {}  # nothing to account for


def test_the_state_of_a_trial_is_read_from_its_folder(tmp_path):
    folder = tmp_path / "trial-0003"
    write_trial(folder, 3, {"x": 0.25}, "identity")
    assert read_trial(folder) == TrialRecord(3, {"x": 0.25})
    journal = Journal(folder / "journal.jsonl")
    for iteration, error in ((2, 0.5), (4, 0.25), (4, 0.75)):  # said twice: the first counts
        journal.metrics({"trial/error": error}, step=iteration)
    assert read_trial(folder).curve == ((2, 0.5), (4, 0.25))
    conclude(folder, "done", result={"seconds": 1.5})
    done = read_trial(folder)
    assert (done.id, done.state, done.best_error, done.iterations) == ("trial-0003", "done", 0.25, 4)
    assert done.result == {"seconds": 1.5}
    (folder / "trial.json").unlink()
    with pytest.raises(IntegrityError, match="remove that folder to run it again"):
        read_trial(folder)
