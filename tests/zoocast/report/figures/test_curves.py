import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from zoocast.report.figures import horizon_error, learning_curves, mean_interval, result_bars
from zoocast.report.figures.curves import join_seeds
from zoocast.report.figures.style import text_width

ITERATIONS = np.arange(10, 110, 10)
PANEL = {
    "scratch": {s: (ITERATIONS, 1 / ITERATIONS + 0.001 * s) for s in range(3)},
    "tmu": {s: (ITERATIONS, 0.5 / ITERATIONS + 0.001 * s) for s in range(3)},
}


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_seeds_on_one_grid_are_stacked_as_they_are() -> None:
    iterations, values = join_seeds({0: ([1, 2], [5.0, 6.0]), 1: ([1, 2], [7.0, 8.0])}) or ((), ())
    np.testing.assert_array_equal(iterations, [1, 2])
    np.testing.assert_array_equal(values, [[5, 6], [7, 8]])


def test_seeds_on_other_grids_meet_where_all_have_been() -> None:
    # Seed 0 was seen at 0, 10, 20; seed 1 at 5 and 15. All have been at 5..15; there lie 5, 10 and 15.
    # Seed 0 rises by 1 per iteration, seed 1 is 100 everywhere.
    iterations, values = join_seeds({0: ([0, 10, 20], [0.0, 10.0, 20.0]), 1: ([5, 15], [100.0, 100.0])}) or ((), ())
    np.testing.assert_array_equal(iterations, [5, 10, 15])
    np.testing.assert_array_equal(values, [[5, 10, 15], [100, 100, 100]])


def test_the_first_of_two_values_at_an_iteration_counts_and_nan_does_not() -> None:
    joined = join_seeds({0: ([1, 2, 2, 3], [1.0, 2.0, 9.0, math.nan])})
    assert joined is not None
    np.testing.assert_array_equal(joined[0], [1, 2])
    np.testing.assert_array_equal(joined[1], [[1, 2]])


def test_seeds_without_a_common_iteration_give_nothing() -> None:
    assert join_seeds({0: ([1, 2], [1.0, 1.0]), 1: ([3, 4], [1.0, 1.0])}) is None
    assert join_seeds({}) is None


def test_long_curves_are_averaged_in_bins() -> None:
    # 1000 points in 200 bins of 5: the first holds iterations 0..4, their mean is 2.
    iterations, values = join_seeds({0: (np.arange(1000), np.arange(1000) * 2.0)}) or ((), ())
    assert len(iterations) == 200
    assert (iterations[0], values[0][0]) == (2.0, 4.0)


def test_mean_interval_is_students() -> None:
    # sd of 1, 2, 3 is 1; t(0.975, 2 degrees of freedom) = 4.302653; 4.302653 / sqrt(3) = 2.484138
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 2.484138), abs=1e-6)


def test_one_value_has_no_interval() -> None:
    mean, half = mean_interval(np.array([4.0]))
    assert mean == 4.0
    assert math.isnan(half)


def test_learning_curves_name_panels_arms_and_axis() -> None:
    assert {"val/mse", "train/loss", "scratch", "tmu", "iteration"} <= set(
        texts(learning_curves({"val/mse": PANEL, "train/loss": PANEL}))
    )


def test_learning_curves_draw_a_line_and_a_band_per_arm() -> None:
    svg = learning_curves({"val/mse": PANEL})
    assert svg.count("FillBetweenPolyCollection") == 2
    assert svg.count("#0072b2") >= 2  # line and band of scratch


@pytest.mark.parametrize("panels", [{}, {"val/mse": {}}, {"val/mse": {"tmu": {0: ([5], [0.1])}}}, {"val/mse": {"tmu": {}}}])
def test_learning_curves_of_little_are_still_a_figure(panels: dict) -> None:
    ElementTree.fromstring(learning_curves(panels))


def test_horizon_counts_frames_from_the_first_predicted() -> None:
    svg = horizon_error({"strict/mse": {"tmu": np.ones((3, 4)), "copy-last": np.ones((1, 4)) * 2}}, first=11)
    assert {"11", "14", "strict/mse", "copy-last"} <= set(texts(svg))


def test_the_same_data_give_the_same_bytes() -> None:
    assert learning_curves({"val/mse": PANEL}) == learning_curves({"val/mse": PANEL})


def test_a_figure_is_as_wide_as_its_longest_name_in_the_legend() -> None:
    name = "finetune." + "from-a-source-with-a-very-long-name-" * 4
    svg = learning_curves({"val/mse": {name: {0: ([1, 2], [0.2, 0.1])}}})
    width = float(re.findall(r'width="([\d.]+)pt"', svg)[0])
    assert width > text_width(name, 9)


def test_names_are_text_and_not_markup() -> None:
    name = "<b>&$x_1$"
    svg = learning_curves({"val/mse": {name: {0: ([1, 2], [1.0, 2.0])}}})
    assert name in texts(svg)


def test_an_arm_far_off_is_written_at_the_edge() -> None:
    close = {f"finetune.{i}": [40.0 + i, 41.0 + i] for i in range(5)}
    shown = texts(result_bars({"predrnn/mse": {"copy-last": [102.0], **close}}))
    assert "102 →" in shown
    assert "100" not in shown  # the axis ends before


def test_arms_near_each_other_are_all_on_the_scale() -> None:
    shown = texts(result_bars({"strict/mse": {"scratch": [1.0, 1.1], "tmu": [0.9, 1.0]}}))
    assert not [t for t in shown if "→" in t or "←" in t]


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0]])
def test_equal_results_are_drawn(values: list[float]) -> None:
    assert "tmu" in texts(result_bars({"strict/mse": {"tmu": values, "scratch": values}}))
