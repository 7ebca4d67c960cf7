"""Tables and their scores, against counts by hand and against the package `scores`."""

import math

import numpy as np
import pytest
import xarray
from scores.categorical import ThresholdEventOperator
from scores.spatial import fss_2d

from zoocast.metrics.contingency import SCORES, fractions_skill, neighbourhoods, pooled, tables


def field(*rows: list[float]) -> np.ndarray:
    """One clip of one frame."""
    return np.array(rows, np.float64)[None, None]


def rain(seed: int) -> np.ndarray:
    """(3, 2, 12, 14): most pixels are dry."""
    return np.random.default_rng(seed).gamma(0.4, 3.0, (3, 2, 12, 14))


def test_a_table_counts_hits_misses_false_alarms_and_correct_negatives_of_at_least_the_threshold() -> None:
    truth = field([5, 5, 0, 0, 9], [5, 0, 0, 0, 0])
    forecast = field([5, 0, 7, 0, 9], [0, 0, 0, 0, 0])
    # At 5: hits where both are at least 5 (first and last of the upper row), misses 2, one false alarm, 5 negatives.
    assert tables(forecast, truth, (5, 8)).tolist() == [[[2, 2, 1, 5]], [[1, 0, 0, 9]]]


def test_what_was_not_measured_counts_nowhere() -> None:
    truth, forecast = field([5, np.nan, np.nan]), field([5, 5, 0])
    assert tables(forecast, truth, (5,)).tolist() == [[[1, 0, 0, 0]]]
    sums = neighbourhoods(forecast, truth, (5,), (1,))
    assert sums[0, 0, 0].tolist() == [0, 2]  # (1 - 1)^2, and 1 + 1: the forecast of 5 where nothing was measured is left out


def test_tables_of_parts_add_up_to_that_of_the_whole() -> None:
    forecast, truth = rain(0), rain(1)
    whole = tables(forecast, truth, (0.5, 5))
    assert (whole == tables(forecast[:1], truth[:1], (0.5, 5)) + tables(forecast[1:], truth[1:], (0.5, 5))).all()


def test_scores_of_a_table_by_hand() -> None:
    # Finley's tornado forecasts of 1884, the classical table (Wilks, chapter 9): CSI 0.228, FAR 0.720, HSS 0.355.
    finley = np.array([28.0, 23, 72, 2680])
    found = {name: float(score(finley)) for name, score in SCORES.items()}
    assert found["csi"] == 28 / 123
    assert found["pod"] == 28 / 51
    assert found["far"] == 72 / 100
    assert found["bias"] == 100 / 51
    assert found["hss"] == pytest.approx(2 * (28 * 2680 - 72 * 23) / (100 * 2752 + 51 * 2703), rel=1e-14)
    assert found["hss"] == pytest.approx(0.355, abs=5e-4)


def test_a_score_of_events_that_never_came_is_none() -> None:
    assert all(math.isnan(score(np.array([0.0, 0, 0, 10]))) for score in SCORES.values())


def test_scores_are_those_of_the_package_scores() -> None:
    forecast, truth = rain(0), rain(1)
    as_xarray = [xarray.DataArray(v, dims=("clip", "time", "y", "x")) for v in (forecast, truth)]
    manager = ThresholdEventOperator(default_event_threshold=2.0).make_contingency_manager(*as_xarray)
    table = manager.transform(preserve_dims=["time"])
    expected = {
        "csi": table.critical_success_index(),
        "pod": table.probability_of_detection(),
        "far": table.false_alarm_ratio(),
        "hss": table.heidke_skill_score(),
        "bias": table.frequency_bias(),
    }
    for name, values in expected.items():
        assert SCORES[name](tables(forecast, truth, (2.0,)))[0] == pytest.approx(values.to_numpy(), rel=1e-12)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_fss_is_that_of_the_package_scores(window: int) -> None:
    forecast, truth = rain(0), rain(1)
    as_xarray = [xarray.DataArray(v, dims=("clip", "time", "y", "x")) for v in (forecast, truth)]
    expected = fss_2d(
        *as_xarray, event_threshold=2.0, window_size=(window, window), spatial_dims=("y", "x"), preserve_dims="time"
    )
    found = fractions_skill(neighbourhoods(forecast, truth, (2.0,), (window,)))
    assert found[0, 0] == pytest.approx(expected.to_numpy(), rel=1e-10)


def test_fss_of_a_rain_that_is_one_pixel_away_by_hand() -> None:
    truth, forecast = np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3))
    truth[..., 1, 0], forecast[..., 1, 1] = 1, 1
    sums = neighbourhoods(forecast, truth, (1,), (1, 2, 3))[:, 0, 0]
    # One pixel: two misses of 1^2 in 1 + 1. Windows of 2: the four hold 1/4 of the forecast each, the two on the left 1/4 of the
    # truth, so two differences of 1/16 in six squares of 1/16. Windows of 3: the one holds 1/9 of both.
    assert fractions_skill(sums) == pytest.approx([0, 1 - 2 / 6, 1])


def test_pooling_takes_the_largest_or_the_mean_of_whole_blocks_and_passes_over_what_is_missing() -> None:
    values = field([1, 2, np.nan, np.nan, 9], [3, np.nan, np.nan, np.nan, 9], [9, 9, 9, 9, 9])
    assert np.array_equal(pooled(values, 2, "max")[0, 0], [[3, np.nan]], equal_nan=True)
    assert np.array_equal(pooled(values, 2, "mean")[0, 0], [[2, np.nan]], equal_nan=True)
