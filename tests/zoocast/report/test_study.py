from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from zoocast.errors import IntegrityError
from zoocast.report.figures import FieldView
from zoocast.report.study import read_rates, read_search
from zoocast.search import SearchSpace, Study, TrialRecord
from zoocast.tracking.journal import Journal


def steps(run: Any) -> Path:
    return next(iter(run.evaluations.values())).parent


def test_a_study_is_read_as_plain_values(searched: Any) -> None:
    search = read_search(next(steps(searched).glob("the-search-*")))
    assert [t.number for t in search.trials] == list(range(16))
    assert {state: search.count(state) for state in ("done", "stopped", "failed")} == {"done": 8, "stopped": 7, "failed": 1}
    assert (search.trials[9].state, search.trials[9].error) == ("failed", None)
    assert search.num_given == 1
    assert search.trials[0].params["adapter.chain_ratio"] == 2.0
    errors = {t.number: t.error for t in search.trials if t.state == "done"}
    assert search.ranking[0] == min(errors, key=errors.__getitem__)
    assert sorted(search.ranking) == [n for n in range(16) if n != 9]
    fields = {f.name: f for f in search.fields}
    assert fields["adapter.initial_rate"] == FieldView("adapter.initial_rate", 2e-5, 1e-3, log=True)
    assert fields["adapter.chain_ratio"] == FieldView("adapter.chain_ratio", 1.0, 4.0)
    assert fields["adapter.moments"].choices == ("private", "shared")


def test_importance_is_of_the_fields_that_all_whole_trials_have(searched: Any) -> None:
    shares = read_search(next(steps(searched).glob("the-search-*"))).importance
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "adapter.initial_rate"  # which the error of the fixture follows
    assert "adapter.chain_ratio" not in shares


def test_a_field_that_never_varied_has_no_importance(tmp_path: Path) -> None:
    space = SearchSpace(fields={"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})
    trials = [TrialRecord(i, {"x": i / 4, "y": 0.5}, "done", ((1, 0.04 + i / 100),)) for i in range(4)]
    Study({}, space, (*trials, TrialRecord(4, {"x": 0.0, "y": 0.9}, "stopped", ((1, 0.9),)))).save(tmp_path)
    assert set(read_search(tmp_path).importance) == {"x"}


def test_a_damaged_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"study\.json"):
        read_search(tmp_path)


def test_rates_come_with_the_rate_that_they_began_with(searched: Any) -> None:
    rates = read_rates(next(steps(searched).glob("target.searched.1.seed0-*")))
    assert rates is not None
    assert rates.initial == 3.1e-4
    assert len(rates.levels) == 12
    iterations, values = rates.levels["forward.head"]
    np.testing.assert_array_equal(iterations, [20, 40, 60, 80, 100, 120])
    # The fixture's head ends at 1.9 times the initial rate.
    assert values[-1] == pytest.approx(1.9 * 3.1e-4)


def test_a_training_without_rates_has_none(searched: Any, tmp_path: Path) -> None:
    assert read_rates(next(steps(searched).glob("target.adam.seed0-*"))) is None
    assert read_rates(tmp_path) is None


def test_the_initial_rate_may_be_unknown(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.metrics({"rate/head": 1e-4}, step=1)
    journal.close()
    rates = read_rates(tmp_path)
    assert rates is not None
    assert rates.initial is None
