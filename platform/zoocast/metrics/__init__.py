"""What is measured of predicted frames: statistics whose state is a sum, under named protocols.

The same frames give an SSIM of 0.62, 0.67 or 0.85 by convention, so every number carries its protocol in its name:
`strict/mse`, `predrnn/ssim`, `openstl/mse`. A metric turns each frame of each clip into one number; a `Statistics` adds these
numbers up over clips, so that batches, workers and shards combine without a sample dropped or weighted twice.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoocast.errors import ConfigError

__all__ = ["METRICS", "PROTOCOLS", "PSNR_CAP", "SSIM_WINDOW", "FramePairs", "Metric", "ProtocolName", "Statistics", "metrics_of"]

ProtocolName = Literal["strict", "predrnn", "openstl"]
PROTOCOLS: tuple[ProtocolName, ...] = ("strict", "predrnn", "openstl")

PSNR_CAP = 100.0
"""Decibels of a frame without error in `predrnn/psnr` and `openstl/psnr`, which are means over frames of each frame's PSNR.

There they differ from the codes they are named after, which let the infinite PSNR of such a frame through, so that one of them
makes the mean of a whole test infinite. Such frames lift these two means all the same; `strict/psnr` has none of that. No pair of
different 8-bit frames of up to 392 x 392 values comes near the cap (64 x 64: 84.3 dB at most)."""

SSIM_WINDOW = 7
"""Side of SSIM's uniform window in pixels: scikit-image's default, which both releases use; no side of a frame may be smaller."""

Values = NDArray[np.float64]


class FramePairs:
    """Predicted and true frames of a batch of clips, with the views that several metrics share, each made once.

    Args:
        predicted: (B, T, C, H, W) float32, any finite value; each metric says whether it clips it to [0, 1].
        truth: the same shape, float32 in [0, 1].

    Raises:
        ValueError: the shapes differ, or a value is not finite, which clipping would hide: -inf would count as black.
    """

    def __init__(self, predicted: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        if predicted.shape != truth.shape or predicted.ndim != 5:
            raise ValueError(
                f"predicted and true frames must have one shape (B, T, C, H, W), but got {predicted.shape} and {truth.shape}"
            )
        if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
            raise ValueError("predicted and true frames must be finite, but some values are not")
        self.predicted = predicted
        self.truth = truth

    @functools.cached_property
    def raw(self) -> tuple[Values, Values]:
        """Both as float64, the prediction as the network left it."""
        return self.predicted.astype(np.float64), self.truth.astype(np.float64)

    @functools.cached_property
    def clipped(self) -> tuple[Values, Values]:
        """Both as float64, the prediction clipped to [0, 1]."""
        predicted, truth = self.raw
        return predicted.clip(0.0, 1.0), truth

    @functools.cached_property
    def bytes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Both as uint8 by truncation; the product is rounded to float32 first, as in the release, which decides some pixels."""
        scale = np.float32(255)
        return (self.predicted.clip(0.0, 1.0) * scale).astype(np.uint8), (self.truth * scale).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number per frame, under one protocol. Over frames and clips it is a function of the plain mean of these numbers."""

    name: str
    better: Literal["lower", "higher"]
    unit: str
    per_frame: Callable[[FramePairs], Values]
    """(B, T) from the pairs of a batch; a clip's numbers do not depend on the rest of the batch."""
    of_mean: Callable[[float], float] = float
    """From the mean of these numbers to the metric; nearly always the mean itself."""

    @property
    def protocol(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def arrow(self) -> str:
        """Which way it is better, for the head of a column."""
        return {"lower": "↓", "higher": "↑"}[self.better]


# ------------------------------------------------------------------------------------------------------ what metrics are made of


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    # (B, T, C, H, W) to (B, T, values of a frame).
    return values.reshape(*values.shape[:2], -1)


def _squared(pair: tuple[Values, Values]) -> Values:
    return _flat((pair[0] - pair[1]) ** 2)


def _absolute(pair: tuple[Values, Values]) -> Values:
    return _flat(np.abs(pair[0] - pair[1]))


def _psnr_of_mean(mean_squared_error: float) -> float:
    """10 log10(1 / MSE) in decibels for a data range of 1; infinite where no frame has an error."""
    return -10 * math.log10(mean_squared_error) if mean_squared_error else math.inf


def _psnr(mean_squared_error: Values, data_range: float) -> Values:
    """10 log10(range^2 / MSE) of each frame in decibels, at most `PSNR_CAP`."""
    # The error at which the cap is reached: below it the logarithm of an error of 0 would be infinite.
    floor = data_range**2 * 10 ** (-PSNR_CAP / 10)
    return 10 * np.log10(data_range**2 / np.maximum(mean_squared_error, floor))


def _ssim(pair: tuple[NDArray[Any], NDArray[Any]], data_range: float) -> Values:
    """Mean SSIM of each frame, averaged over channels; uniform 7 x 7 window, sample covariance (scikit-image's defaults).

    One library call per frame: 0.09 ms for 32 x 32 pixels. A batched formula on scipy's filter was 1.4 to 2.7 times as fast,
    which saves seconds in a whole pipeline: not worth a formula of our own.
    """
    # Imported here, for training imports this module, measures no SSIM, and would pay a second for it.
    from skimage.metrics import structural_similarity

    predicted, truth = pair
    out = np.empty(predicted.shape[:2])
    for b, t in np.ndindex(*out.shape):
        out[b, t] = structural_similarity(
            predicted[b, t], truth[b, t], win_size=SSIM_WINDOW, data_range=data_range, channel_axis=0
        )
    return out


def _psnr_of_bytes(pairs: FramePairs) -> Values:
    predicted, truth = pairs.bytes
    # Widened first: a difference of two uint8 wraps around at 0.
    return _psnr(_squared((predicted.astype(np.float64), truth.astype(np.float64))).mean(-1), 255.0)


# ---------------------------------------------------------------------------------------------------------------- the protocols

_PIXEL, _FRAME = "per pixel", "summed over a frame's pixels and channels"

# What a newcomer expects: everything on float frames clipped to [0, 1], data range 1, means over pixels. PSNR is that of the mean
# error over clips and frames, as FFmpeg's `psnr` filter gives it for a video and torchmetrics for a data set: a frame without
# error, whose own PSNR is infinite, adds an error of 0 and lifts no mean of decibels.
_STRICT = (
    Metric("strict/mse", "lower", f"squared intensity, {_PIXEL}", lambda p: _squared(p.clipped).mean(-1)),
    Metric("strict/mae", "lower", f"intensity, {_PIXEL}", lambda p: _absolute(p.clipped).mean(-1)),
    Metric("strict/ssim", "higher", "none, -1 to 1", lambda p: _ssim(p.clipped, 1.0)),
    Metric("strict/psnr", "higher", "dB, of the mean squared error", lambda p: _squared(p.clipped).mean(-1), _psnr_of_mean),
)

# predrnn-pytorch, `test` in core/trainer.py: no MAE. Its "mse per seq" is `predrnn/mse` times the horizon. PSNR: see `PSNR_CAP`.
_PREDRNN = (
    Metric("predrnn/mse", "lower", f"squared intensity, {_FRAME}", lambda p: _squared(p.clipped).sum(-1)),
    Metric("predrnn/ssim", "higher", "none, -1 to 1", lambda p: _ssim(p.bytes, 255.0)),
    Metric("predrnn/psnr", "higher", "dB", _psnr_of_bytes),
)

# OpenSTL, `metric` in openstl/core/metrics.py: MSE and MAE come before its clipping, SSIM and PSNR after. It names no data range
# for SSIM, and scikit-image up to 0.19 (the range that OpenSTL pins) then takes 2, the width of [-1, 1], for float frames.
# PSNR: see `PSNR_CAP`.
_OPENSTL = (
    Metric("openstl/mse", "lower", f"squared intensity, {_FRAME}", lambda p: _squared(p.raw).sum(-1)),
    Metric("openstl/mae", "lower", f"intensity, {_FRAME}", lambda p: _absolute(p.raw).sum(-1)),
    Metric("openstl/ssim", "higher", "none, -1 to 1", lambda p: _ssim(p.clipped, 2.0)),
    Metric("openstl/psnr", "higher", "dB", lambda p: _psnr(_squared(p.clipped).mean(-1), 1.0)),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*_STRICT, *_PREDRNN, *_OPENSTL)}
"""Every metric by its name."""


def metrics_of(protocols: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of the given protocols, in the order of `METRICS`. Raises `ConfigError` for an unknown protocol or none."""
    wanted = set(protocols)
    unknown = sorted(wanted - set(PROTOCOLS))
    if unknown or not wanted:
        got = repr(unknown[0]) if unknown else "none"
        raise ConfigError("protocols", f"must be some of {', '.join(PROTOCOLS)}, but got {got}")
    return tuple(metric for metric in METRICS.values() if metric.protocol in wanted)


# ---------------------------------------------------------------------------------------------------------------- the state


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Sums over clips of the metrics' numbers, per frame of the horizon, in float64: the state that adds up.

    Attributes:
        count: number of clips in the sums.
        sums: for each metric's name one number per frame of the horizon.
    """

    count: int
    sums: Mapping[str, tuple[float, ...]]

    @classmethod
    def zero(cls, metrics: Sequence[Metric], horizon: int) -> Statistics:
        """The state before the first clip."""
        return cls(0, {metric.name: (0.0,) * horizon for metric in metrics})

    @classmethod
    def of(cls, values: Mapping[str, Values]) -> Statistics:
        """The state of one batch from each metric's (B, T) numbers."""
        counts = {len(v) for v in values.values()}
        if len(counts) != 1:
            raise ValueError(f"every metric must have numbers of the same clips, but got {sorted(counts)} clips")
        return cls(counts.pop(), {name: tuple(v.sum(0, dtype=np.float64).tolist()) for name, v in values.items()})

    def __add__(self, other: Statistics) -> Statistics:
        # Else a metric that one part lacks would be summed over fewer clips than `count` says.
        if {k: len(v) for k, v in self.sums.items()} != {k: len(v) for k, v in other.sums.items()}:
            raise ValueError(
                f"only statistics of the same metrics and horizon add up, but got {self._shape()} and {other._shape()}"
            )
        sums = {name: tuple(a + b for a, b in zip(v, other.sums[name], strict=True)) for name, v in self.sums.items()}
        return Statistics(self.count + other.count, sums)

    def _shape(self) -> str:
        return ", ".join(f"{name} over {len(v)} frames" for name, v in self.sums.items()) or "nothing"

    def per_frame(self, name: str) -> tuple[float, ...]:
        """The metric `name`, over clips, for each frame of the horizon. Raises `ConfigError` if it was not measured."""
        return tuple(METRICS[name].of_mean(mean) for mean in self._means(name))

    def overall(self, name: str) -> float:
        """The metric `name`, over clips and frames of the horizon."""
        means = self._means(name)
        return METRICS[name].of_mean(sum(means) / len(means))

    def _means(self, name: str) -> tuple[float, ...]:
        # Over clips, of each frame of the horizon.
        if name not in self.sums:
            raise ConfigError("metric", f"{name!r} was not measured; there is {', '.join(self.sums)}")
        if not self.count:
            raise ValueError("the mean over no clips is not defined; add the statistics of at least one clip")
        return tuple(total / self.count for total in self.sums[name])
