import functools
import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from zoocast.errors import ConfigError
from zoocast.metrics import METRICS, PROTOCOLS, PSNR_CAP, FramePairs, Statistics, metrics_of


def pairs_of(predicted: float, truth: float, shape: tuple[int, ...] = (1, 1, 1, 8, 8)) -> FramePairs:
    return FramePairs(np.full(shape, predicted, np.float32), np.full(shape, truth, np.float32))


def value(name: str, pairs: FramePairs) -> float:
    return METRICS[name].of_mean(float(METRICS[name].per_frame(pairs).mean()))


@pytest.fixture(scope="module")
def noisy() -> FramePairs:
    """Bright squares on black and a faded, noisy prediction of them: 3 clips of 2 frames with 2 channels, not square."""
    generator = np.random.default_rng(7)
    truth = np.zeros((3, 2, 2, 16, 20), np.float32)
    truth[..., 4:11, 5:13] = 1.0
    predicted = (0.8 * truth + generator.normal(0.0, 0.05, truth.shape)).astype(np.float32)
    return FramePairs(predicted, truth)


# Prediction 0.75 (exact in float32), truth 0.25, 8 x 8 = 64 pixels, one channel: the difference is 0.5 everywhere.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("strict/mse", 0.25),
        ("strict/mae", 0.5),
        ("strict/psnr", 10 * math.log10(1 / 0.25)),
        # no variance: SSIM = (2 m n + C1) / (m^2 + n^2 + C1), C1 = (0.01 R)^2; 2 m n = 0.375, m^2 + n^2 = 0.625
        ("strict/ssim", (0.375 + 1e-4) / (0.625 + 1e-4)),
        ("openstl/ssim", (0.375 + 4e-4) / (0.625 + 4e-4)),
        ("predrnn/mse", 16.0),
        # truncation: 191.25 -> 191 and 63.75 -> 63
        ("predrnn/psnr", 10 * math.log10(255**2 / 128**2)),
        ("predrnn/ssim", (2 * 191 * 63 + 2.55**2) / (191**2 + 63**2 + 2.55**2)),
        ("openstl/mse", 16.0),
        ("openstl/mae", 32.0),
        ("openstl/psnr", 10 * math.log10(1 / 0.25)),
    ],
)
def test_every_metric_of_constant_frames_is_the_number_of_its_formula(name: str, expected: float) -> None:
    assert value(name, pairs_of(0.75, 0.25)) == pytest.approx(expected, rel=1e-12)


def test_every_metric_has_an_expected_number_above() -> None:
    (mark,) = (m for m in test_every_metric_of_constant_frames_is_the_number_of_its_formula.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert {name for name, _ in mark.args[1]} == set(METRICS)


# Prediction 1.5, truth 1: clipping removes the error of 0.5 altogether; without it, it is 0.25 squared, times 64 pixels.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("strict/mse", 0.0),
        ("strict/mae", 0.0),
        ("strict/ssim", 1.0),
        ("strict/psnr", math.inf),
        ("predrnn/mse", 0.0),
        ("predrnn/ssim", 1.0),
        ("predrnn/psnr", PSNR_CAP),
        ("openstl/mse", 16.0),
        ("openstl/mae", 32.0),
        ("openstl/ssim", 1.0),
        ("openstl/psnr", PSNR_CAP),
    ],
)
def test_only_openstl_errors_see_values_outside_the_range(name: str, expected: float) -> None:
    assert value(name, pairs_of(1.5, 1.0)) == pytest.approx(expected, rel=1e-12)


def test_psnr_below_the_cap_is_untouched() -> None:
    # one of 64 * 64 bytes differs by 1: 10 log10(255^2 * 4096) = 84.25 dB, the most that different frames of this size reach
    pairs = pairs_of(0.0, 0.0, (1, 1, 1, 64, 64))
    pairs.predicted[..., 0, 0] = 1 / 255
    assert value("predrnn/psnr", pairs) == pytest.approx(10 * math.log10(255**2 * 4096), rel=1e-12)


def test_a_frame_without_error_lifts_no_mean_in_strict() -> None:
    # Two frames: one equal, one with an error of 0.1 squared, alone infinite and 20 dB. The mean error of 0.005 is 23.01 dB.
    pairs = FramePairs(np.zeros((1, 2, 1, 8, 8), np.float32), np.zeros((1, 2, 1, 8, 8), np.float32))
    pairs.predicted[:, 1] = 0.1
    statistics = statistics_of(pairs)
    assert statistics.overall("strict/psnr") == pytest.approx(-10 * math.log10(0.005), rel=1e-6)
    assert statistics.per_frame("strict/psnr") == (math.inf, pytest.approx(20.0, rel=1e-6))
    # the others are means of decibels, as their codes have it, but for 100 dB in place of infinity: (100 + 20) / 2
    assert statistics.overall("openstl/psnr") == pytest.approx((PSNR_CAP + 20.0) / 2, rel=1e-6)
    assert statistics.overall("predrnn/psnr") > 60


def test_strict_psnr_says_no_more_than_strict_mse(noisy: FramePairs) -> None:
    statistics = statistics_of(noisy)
    assert statistics.overall("strict/psnr") == pytest.approx(-10 * math.log10(statistics.overall("strict/mse")), rel=1e-12)


def test_bytes_of_stored_images_come_back() -> None:
    # truncation in float32 must not turn k / 255 into k - 1, or 8-bit data would be measured darker than they are
    levels = np.arange(256, dtype=np.float32).reshape(1, 1, 1, 16, 16)
    predicted, truth = FramePairs(levels / 255, levels / 255).bytes
    np.testing.assert_array_equal(truth, levels)
    np.testing.assert_array_equal(predicted, levels)


def reference_ssim(convert: Callable[[np.ndarray], np.ndarray], data_range: float) -> Callable[[FramePairs], float]:
    """As the releases call it: channels last, one frame at a time."""

    def compute(pairs: FramePairs) -> float:
        predicted, truth = (np.moveaxis(convert(v.clip(0, 1)), 2, -1) for v in (pairs.predicted, pairs.truth))
        scores = [
            structural_similarity(predicted[b, t], truth[b, t], data_range=data_range, channel_axis=-1)
            for b in range(predicted.shape[0])
            for t in range(predicted.shape[1])
        ]
        return float(np.mean(scores))

    return compute


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("strict/ssim", reference_ssim(np.float64, 1.0)),
        ("openstl/ssim", reference_ssim(np.float64, 2.0)),
        ("predrnn/ssim", reference_ssim(lambda v: np.uint8(v * 255), 255.0)),
    ],
)
def test_ssim_is_scikit_images(name: str, reference: Callable[[FramePairs], float], noisy: FramePairs) -> None:
    assert value(name, noisy) == pytest.approx(reference(noisy), rel=1e-12)


def test_the_same_frames_give_three_ssims() -> None:
    # Networks leave a faint haze where the truth is black. A constant haze h on black has SSIM C1 / (h^2 + C1), C1 = (0.01 R)^2:
    # range 2 forgives most; bytes forgive a part, since 0.007 * 255 = 1.785 is cut to 1. (On Moving MNIST: 0.622, 0.666, 0.852.)
    haze = pairs_of(0.007, 0.0)
    strict, predrnn, openstl = (value(f"{protocol}/ssim", haze) for protocol in PROTOCOLS)
    assert strict == pytest.approx(1e-4 / (0.007**2 + 1e-4), rel=1e-6)
    assert predrnn == pytest.approx(2.55**2 / (1 + 2.55**2), rel=1e-12)
    assert openstl == pytest.approx(4e-4 / (0.007**2 + 4e-4), rel=1e-6)
    assert strict < predrnn < openstl


def test_openstl_in_float32_as_the_release_computes_it(noisy: FramePairs) -> None:
    difference = noisy.predicted - noisy.truth
    assert value("openstl/mse", noisy) == pytest.approx(float(np.mean(difference**2, axis=(0, 1)).sum()), rel=1e-5)
    assert value("openstl/mae", noisy) == pytest.approx(float(np.mean(np.abs(difference), axis=(0, 1)).sum()), rel=1e-5)
    assert value("openstl/ssim", noisy) == pytest.approx(reference_ssim(np.float32, 2.0)(noisy), rel=1e-4)


def test_every_metric_declares_its_direction_and_unit() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit
        assert metric.better == ("lower" if name.endswith(("mse", "mae")) else "higher")
        # the declared direction is the one in which a worse prediction moves
        worse, better = value(name, pairs_of(0.9, 0.25)), value(name, pairs_of(0.5, 0.25))
        assert (better < worse) == (metric.better == "lower")


def test_protocols_choose_their_metrics_and_unknown_ones_are_refused() -> None:
    assert [m.name for m in metrics_of(["predrnn"])] == ["predrnn/mse", "predrnn/ssim", "predrnn/psnr"]
    assert {m.name for m in metrics_of(PROTOCOLS)} == set(METRICS)
    with pytest.raises(ConfigError, match="strict, predrnn, openstl, but got 'sloppy'"):
        metrics_of(["strict", "sloppy"])
    with pytest.raises(ConfigError, match="but got none"):
        metrics_of([])


def test_frames_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 8, 8\) and \(1, 2, 1, 8, 8\)"):
        FramePairs(np.zeros((1, 1, 1, 8, 8), np.float32), np.zeros((1, 2, 1, 8, 8), np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_frames_that_are_not_finite_are_refused_before_they_are_clipped(value: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        pairs_of(value, 0.0)
    with pytest.raises(ValueError, match="must be finite"):
        pairs_of(0.0, value)


# ---------------------------------------------------------------------------------------------------------------- the state


def statistics_of(pairs: FramePairs) -> Statistics:
    return Statistics.of({name: metric.per_frame(pairs) for name, metric in METRICS.items()})


@pytest.mark.parametrize("parts", [[[0, 1, 2]], [[0], [1, 2]], [[0, 1], [2]], [[2], [0], [1]]])
def test_any_split_into_batches_adds_up(parts: Sequence[Sequence[int]], noisy: FramePairs) -> None:
    whole = statistics_of(noisy)
    batches = [statistics_of(FramePairs(noisy.predicted[p], noisy.truth[p])) for p in parts]
    total = functools.reduce(operator.add, batches, Statistics.zero(tuple(METRICS.values()), 2))
    assert total.count == whole.count == 3
    for name in METRICS:
        assert total.per_frame(name) == pytest.approx(whole.per_frame(name), rel=1e-14)


def test_per_frame_and_overall_are_means() -> None:
    # clips with errors (1, 3) and (2, 6): per frame 1.5 and 4.5, overall 3
    statistics = Statistics.of({"strict/mse": np.array([[1.0, 3.0], [2.0, 6.0]])})
    assert statistics.per_frame("strict/mse") == (1.5, 4.5)
    assert statistics.overall("strict/mse") == 3.0


def test_a_clip_in_a_short_batch_weighs_as_much_as_any_other() -> None:
    # batches of 3 and 1 with errors 1, 1, 1 and 5: the mean over clips is 2, the mean of the batches' means would be 3
    total = Statistics.of({"strict/mse": np.ones((3, 1))}) + Statistics.of({"strict/mse": np.full((1, 1), 5.0)})
    assert total.overall("strict/mse") == 2.0


def test_unlike_statistics_do_not_add_up() -> None:
    kinds = (("strict/mse", 1), ("strict/mse", 2), ("strict/mae", 1))
    one, other_horizon, other_metric = (Statistics.of({n: np.ones((1, t))}) for n, t in kinds)
    for other in (other_horizon, other_metric):
        with pytest.raises(ValueError, match=r"strict/mse over 1 frames and strict/m[sa]e over [12] frames"):
            one + other
    with pytest.raises(ValueError, match=r"got \[1, 2\] clips"):
        Statistics.of({"strict/mse": np.ones((1, 1)), "strict/mae": np.ones((2, 1))})


def test_what_was_not_measured_is_named() -> None:
    statistics = Statistics.of({"strict/mse": np.ones((1, 1))})
    with pytest.raises(ConfigError, match="'predrnn/mae' was not measured; there is strict/mse"):
        statistics.overall("predrnn/mae")
    with pytest.raises(ValueError, match="no clips"):
        Statistics.zero(metrics_of(["strict"]), 3).per_frame("strict/mse")
