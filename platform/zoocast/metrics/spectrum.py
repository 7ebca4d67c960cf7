"""How much detail a prediction has: its power at every wavelength, and how far its gradients are from the truth's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fine_power_ratio", "gradient_error", "radial_power", "sharpness"]


def radial_power(frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """Power of every frame by its number of waves across the shorter side, from 1 to half the pixels of that side.

    Args:
        frames: (..., H, W), without missing values.

    Returns:
        (..., K): the summed squared magnitudes of the discrete Fourier transform, divided by (H W)^2, over all directions whose
        number of waves rounds to 1, ..., K. Without the mean (0 waves), and without the corners beyond K.
    """
    height, width = frames.shape[-2:]
    side = min(height, width)
    waves = side * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    power = np.abs(np.fft.fft2(frames.astype(np.float64))) ** 2 / (height * width) ** 2
    rings = np.rint(waves).astype(int)
    return np.stack([power[..., rings == k].sum(-1) for k in range(1, side // 2 + 1)], -1)


def fine_power_ratio(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predicted over true power in the finest third of the wave numbers: 1 is right, less is blurred, more is noise.

    (2, ..., K), the sums of `radial_power` of prediction and truth, to (...).
    """
    predicted, truth = power[..., -max(power.shape[-1] // 3, 1) :].sum(-1)
    return np.divide(predicted, truth, out=np.full(np.shape(truth), np.nan), where=truth != 0)


def gradient_error(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean absolute difference of summed absolute gradients, which is below the fraction of `sharpness`.

    (..., H, W) both to (...); gradients are differences to the pixel above and to the one on the left, which the first row and
    column do not have.
    """
    return np.abs(_gradient(predicted) - _gradient(truth)).mean((-2, -1), dtype=np.float64)


def sharpness(mean_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """10 log10(1 / error) in decibels for values of 0 to 1: the sharpness measure of Mathieu, Couprie and LeCun (ICLR 2016)."""
    with np.errstate(divide="ignore"):  # without any error it is infinite
        return -10 * np.log10(mean_error)


def _gradient(frames: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.abs(np.diff(frames, axis=-2))[..., 1:] + np.abs(np.diff(frames, axis=-1))[..., 1:, :]
