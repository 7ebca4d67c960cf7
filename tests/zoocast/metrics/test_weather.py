import numpy as np
import pytest

from zoocast.metrics.weather import (
    anomaly_correlation,
    balanced_errors,
    latitude_weights,
    rain_rate,
    reflectivity,
    weighted_squares,
)


def test_rain_of_a_reflectivity_by_hand() -> None:
    # Z = 58.53 R^1.56: 1 mm/h is 10 log10(58.53) = 17.674 dBZ, and 10 mm/h 15.6 dB more.
    assert reflectivity(np.array([1.0, 10.0])) == pytest.approx([17.6738, 33.2738], abs=1e-4)
    assert rain_rate(reflectivity(np.array([0.5, 30.0]))) == pytest.approx([0.5, 30.0])


def test_balanced_errors_weigh_by_the_rain_that_fell_and_leave_out_what_is_missing() -> None:
    rain = np.array([[0.4, 0.5, 2.0, 5.0], [10.0, 29.0, 30.0, np.nan]])[None, None]
    truth = np.where(np.isnan(rain), np.nan, 0.5)
    predicted = np.full(rain.shape, 0.6)
    weights = 1 + 1 + 2 + 5 + 10 + 10 + 30
    squared, absolute = balanced_errors(predicted, truth, rain)[:, 0, 0]
    assert squared == pytest.approx(weights * 0.01)
    assert absolute == pytest.approx(weights * 0.1)


def test_rows_weigh_as_the_cosine_of_their_latitude() -> None:
    weights = latitude_weights(-60, 60, 3)
    assert weights == pytest.approx([0.75, 1.5, 0.75])  # 0.5, 1, 0.5 over their mean
    error = np.array([[2.0, 2.0], [1.0, np.nan], [0.0, 0.0]])[None, None]
    # 0.75 (4 + 4) + 1.5 (1), over 0.75 * 4 + 1.5
    assert weighted_squares(error, np.where(np.isnan(error), np.nan, 0.0), weights)[0] == pytest.approx([7.5, 4.5])


def test_anomaly_correlation_by_hand() -> None:
    climatology = np.array([[1.0, 1.0], [2.0, 2.0]])
    truth = climatology + np.array([[1, -1], [1, 0]])
    predicted = climatology + np.array([[1, 0], [1, 0]])
    # Weights 0.5 and 1.5: 0.5 + 1.5 = 2, over the root of (0.5 + 1.5) (0.5 + 0.5 + 1.5).
    found = anomaly_correlation(predicted[None, None], truth[None, None], climatology, np.array([0.5, 1.5]))
    assert found == pytest.approx(2 / np.sqrt(2 * 2.5))
    assert np.isnan(anomaly_correlation(climatology[None, None], truth[None, None], climatology, np.ones(2))).all()
