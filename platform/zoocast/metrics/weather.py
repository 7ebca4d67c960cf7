"""Errors of fields on the globe and of rain: latitude-weighted RMSE and ACC, balanced MSE and MAE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BALANCED_WEIGHTS",
    "anomaly_correlation",
    "balanced_errors",
    "latitude_weights",
    "rain_rate",
    "reflectivity",
    "weighted_squares",
]

Z_FACTOR, Z_EXPONENT = 58.53, 1.56
"""Of the relation Z = a R^b between reflectivity and rain rate that HKO-7's benchmark takes (Shi et al., NeurIPS 2017)."""

BALANCED_WEIGHTS = ((0.5, 1.0), (2.0, 2.0), (5.0, 5.0), (10.0, 10.0), (30.0, 30.0))
"""From so many mm/h of the truth on, so much weight; 1 below (Shi et al., NeurIPS 2017)."""


def rain_rate(reflectivity: NDArray[np.floating]) -> NDArray[np.float64]:
    """dBZ to mm/h: dBZ = 10 log10(a) + 10 b log10(R)."""
    return 10 ** ((np.asarray(reflectivity, np.float64) - 10 * np.log10(Z_FACTOR)) / (10 * Z_EXPONENT))


def reflectivity(rain: NDArray[np.floating]) -> NDArray[np.float64]:
    """mm/h to dBZ, the inverse of `rain_rate`."""
    return 10 * np.log10(Z_FACTOR) + 10 * Z_EXPONENT * np.log10(np.asarray(rain, np.float64))


def balanced_errors(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], rain: NDArray[np.floating]
) -> NDArray[np.float64]:
    """B-MSE and B-MAE of every frame: sums over the pixels that were measured of weight times error.

    Args:
        predicted, truth: (B, T, H, W), of 0 to 1; NaN in the truth where nothing was measured.
        rain: the truth in mm/h, which decides the weights; see `BALANCED_WEIGHTS`.

    Returns:
        (2, B, T).
    """
    weights = np.ones(rain.shape)
    for least, weight in BALANCED_WEIGHTS:
        weights[rain >= least] = weight
    error = np.asarray(predicted, np.float64) - truth
    return np.stack([np.nansum(weights * measure(error), (-2, -1)) for measure in (np.square, np.abs)])


def latitude_weights(first: float, last: float, rows: int) -> NDArray[np.float64]:
    """cos(latitude) over its mean, for `rows` rows whose centres lie evenly from latitude `first` to `last`, in degrees."""
    weights = np.cos(np.deg2rad(np.linspace(first, last, rows)))
    return weights / weights.mean()


def weighted_squares(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted squared errors, summed over clips and pixels, and the sum of the weights of what was measured.

    (B, T, H, W) both, and a weight for each of the H rows, to (T, 2). The root of the quotient is the weighted RMSE over all
    clips (WeatherBench, Rasp et al., JAMES 12, 2020).
    """
    error = np.asarray(predicted, np.float64) - truth
    spread = np.where(np.isnan(error), 0.0, weights[:, None])
    return np.stack([(spread * np.nan_to_num(error) ** 2).sum((0, 2, 3)), spread.sum((0, 2, 3))], -1)


def anomaly_correlation(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    climatology: NDArray[np.floating],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """ACC of every frame (B, T): the weighted correlation of both fields' departures from the climatology (H, W), not centred
    again (WeatherBench 2, Rasp et al., JAMES 16, 2024). NaN for a frame without any departure."""
    known = ~np.isnan(truth)
    ours, theirs = (np.where(known, v - climatology, 0.0).astype(np.float64) for v in (predicted, truth))
    row = weights[:, None]
    both, mine, its = ((row * v).sum((-2, -1)) for v in (ours * theirs, ours**2, theirs**2))
    whole = np.sqrt(mine * its)
    return np.divide(both, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
