import numpy as np
import pytest

from zoocast.metrics.spectrum import fine_power_ratio, gradient_error, radial_power, sharpness


def waves(across: int, along: int, height: int = 16, width: int = 32) -> np.ndarray:
    """A cosine with so many waves over the width and the height."""
    y, x = np.mgrid[:height, :width]
    return np.cos(2 * np.pi * (across * x / width + along * y / height))


def test_a_wave_has_its_power_at_its_wave_number_across_the_shorter_side() -> None:
    # A cosine has the mean square 1/2; 8 waves over 32 pixels are 4 over 16.
    assert radial_power(3 + waves(8, 0)) == pytest.approx([0, 0, 0, 0.5, 0, 0, 0, 0], abs=1e-15)
    assert radial_power(waves(0, 4)) == pytest.approx([0, 0, 0, 0.5, 0, 0, 0, 0], abs=1e-15)
    assert radial_power(waves(6, 4)) == pytest.approx([0, 0, 0, 0, 0.5, 0, 0, 0], abs=1e-15)  # 3 and 4 over 16: 5


def test_powers_without_mean_and_corners_are_the_variance() -> None:
    frames = np.random.default_rng(0).random((2, 16, 16))
    kept = np.fft.fft2(frames)
    kept[:, np.rint(16 * np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16)))) > 8] = 0
    assert radial_power(frames).sum(-1) == pytest.approx(np.fft.ifft2(kept).real.var((1, 2)))


def test_a_prediction_of_half_the_contrast_has_a_quarter_of_the_fine_power() -> None:
    truth = waves(1, 0) + waves(14, 0)
    predicted = waves(1, 0) + waves(14, 0) / 2
    assert fine_power_ratio(np.stack([radial_power(predicted), radial_power(truth)])) == pytest.approx(0.25)


def test_sharpness_by_hand() -> None:
    truth, flat = np.array([[0.0, 0.0], [0.0, 0.5]]), np.zeros((2, 2))
    # Of the one pixel with neighbours above and on the left both gradients are 0.5.
    assert gradient_error(flat, truth) == 1.0
    assert sharpness(np.array(1.0)) == 0
    assert sharpness(np.array(0.01)) == pytest.approx(20)
