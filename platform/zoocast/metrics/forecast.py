"""What those who forecast measure: which of it, in whose convention, as sums that add up, and the scores made of the sums.

Frames are of 0 to 1, as networks see them. What they stand for is a `Quantity`, by which thresholds in units are turned into
values of 0 to 1 and errors into units, so that no frame is converted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoocast.config import check_ranges, setting
from zoocast.errors import ConfigError, IntegrityError
from zoocast.frames import FrameShape
from zoocast.metrics import contingency, ensemble, spectrum, weather

if TYPE_CHECKING:
    from zoocast.metrics.lpips import Lpips

__all__ = ["BASELINES", "ForecastConfig", "Quantity", "Sums", "along", "measure", "measure_ensemble", "summary"]

Convention = Literal["none", "units", "sevir", "earthformer", "hko"]

SEVIR_THRESHOLDS = (16.0, 74.0, 133.0, 160.0, 181.0, 219.0)
HKO_THRESHOLDS = (0.5, 2.0, 5.0, 10.0, 30.0)
THRESHOLDS: Mapping[Convention, tuple[float, ...]] = {
    "sevir": SEVIR_THRESHOLDS,
    "earthformer": SEVIR_THRESHOLDS,
    "hko": HKO_THRESHOLDS,
}
ROUNDING = 1e-6
"""What a value of 0 to 1 may lie below a threshold and still be equal to it: 74 of 255 bytes is no float32 that is 74 / 255."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """What values of 0 to 1 stand for: ``offset + factor * value`` in `unit`."""

    unit: str = ""
    offset: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise ConfigError("channels", f"must grow with their values for events above a threshold, but got {self.factor:g}")

    def stored(self, values: Sequence[float]) -> list[float]:
        """Values in `unit` as values of 0 to 1."""
        return [(value - self.offset) / self.factor for value in values]


BASELINES: Mapping[Convention, Quantity] = {
    "sevir": Quantity(factor=255.0),
    "earthformer": Quantity(factor=255.0),
    "hko": Quantity(unit="dBZ", offset=-10.0, factor=70.0),
}
"""What a convention takes clips for of which nothing is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """Measures of forecasts besides the protocols of video prediction; none unless a convention is chosen."""

    convention: Convention = setting(
        "none",
        "whose thresholds, and how scores are made of counts: units (yours), sevir, earthformer (0 to 255), hko (mm/h, means over"
        " lead times); none: nothing of this",
    )
    thresholds: tuple[float, ...] = setting((), "an event is a value of at least so much, in units; none: the convention's")
    channel: int = setting(0, "which is measured, counted from 0", at_least=0)
    pooling: tuple[int, ...] = setting((4, 16), "sides of the blocks of pixels whose events are counted too", at_least=2)
    windows: tuple[int, ...] = setting((5, 15), "sides of the windows of the fractions skill score, pixels", at_least=1)
    latitudes: tuple[float, ...] = setting(
        (),
        "of the first and last row's centres, degrees, for weighted RMSE and ACC; none: without these",
        at_least=-90,
        at_most=90,
    )
    lpips: str = setting("", "file of AlexNet's and LPIPS's weights, for torch; empty: without LPIPS", identity=False)
    lpips_sha256: str = setting("", "of that file")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.convention == "none" and any(getattr(self, f.name) != f.default for f in dataclasses.fields(self)):
            raise ConfigError("convention", "is none, so that nothing else here is used; set it to units, or to another")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ConfigError("thresholds", f"must grow, but got {', '.join(f'{t:g}' for t in self.thresholds)}")
        if len(self.latitudes) not in (0, 2):
            raise ConfigError("latitudes", f"must be those of the first and the last row, but got {len(self.latitudes)}")

    @property
    def asked(self) -> bool:
        """Whether any of it is measured."""
        return self.convention != "none"

    @property
    def events(self) -> tuple[float, ...]:
        """The thresholds: those given, or the convention's."""
        return self.thresholds or THRESHOLDS.get(self.convention, ())

    @property
    def threshold_unit(self) -> str:
        """The unit of a convention's thresholds, where it has one whatever the data are."""
        return "mm/h" if self.convention == "hko" else ""

    def check(self, frames: FrameShape) -> None:
        """Raise `ConfigError` or `DataError` for what is asked and cannot be measured of such frames."""
        if not self.asked:
            return
        if self.channel >= frames.channels:
            raise ConfigError("channel", f"must be below {frames.channels}, the number of channels, but got {self.channel}")
        side = min(frames.height, frames.width)
        for field in ("pooling", "windows"):
            if (largest := max(getattr(self, field), default=0)) > side:
                raise ConfigError(field, f"must be at most {side}, the shorter side of a frame, but got {largest}")
        self.distance(frames)

    def distance(self, frames: FrameShape) -> Lpips | None:
        """LPIPS with the weights of the file; None where it is not asked for. Raises as `check` does."""
        if not (self.lpips_sha256 or self.lpips):
            return None
        from zoocast.metrics.lpips import SMALLEST, Lpips  # imports torch, which making a config must not wait for

        if frames.channels not in (1, 3) or min(frames.height, frames.width) < SMALLEST:
            raise ConfigError(
                "lpips", f"needs frames of 1 or 3 channels and at least {SMALLEST}x{SMALLEST} pixels, but got {frames}"
            )
        return Lpips.read(Path(self.lpips), self.lpips_sha256)

    def levels(self, quantity: Quantity) -> tuple[float, ...]:
        """The thresholds as values of 0 to 1, a rounding error lower.

        Raises:
            ConfigError: HKO's thresholds are asked for of data in other units than dBZ or mm/h.
        """
        values = self.events
        if self.convention == "hko" and quantity.unit == "dBZ":
            values = tuple(weather.reflectivity(np.array(values)).tolist())
        elif self.convention == "hko" and quantity.unit != "mm/h":
            raise ConfigError("convention", f"hko is for clips in dBZ or mm/h, but these are in {quantity.unit or 'no unit'}")
        return tuple(level - ROUNDING for level in quantity.stored(values))


# ---------------------------------------------------------------------------------------------------------------- sums


@dataclasses.dataclass(frozen=True)
class Sums:
    """Named sums over clips, float64 arrays; those of different clips add up to those of all."""

    values: Mapping[str, NDArray[np.float64]]

    def __add__(self, other: Sums) -> Sums:
        if {k: v.shape for k, v in self.values.items()} != {k: v.shape for k, v in other.values.items()}:
            raise ValueError("only sums of the same measures and shapes add up")
        return Sums({name: value + other.values[name] for name, value in self.values.items()})

    def to_json(self) -> dict[str, Any]:
        """As JSON data, from which `from_json` restores every bit."""
        return {name: value.tolist() for name, value in self.values.items()}

    @classmethod
    def from_json(cls, data: Any) -> Sums:
        """The sums that `to_json` turned into `data`. Raises `IntegrityError` for anything else."""
        try:
            sums = {str(name): np.array(value, np.float64) for name, value in data.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise IntegrityError(f"sums must be numbers by name, but got {data!r:.80} ({error})") from None
        if not all(np.isfinite(value).all() for value in sums.values()):
            raise IntegrityError("sums must be finite numbers, but some are not; evaluate again")
        return cls(sums)


def measure(
    predicted: NDArray[np.float32],
    truth: NDArray[np.float32],
    config: ForecastConfig,
    quantity: Quantity,
    *,
    climatology: NDArray[np.floating] | None = None,
    distance: Lpips | None = None,
) -> Sums:
    """The sums of a batch.

    Args:
        predicted, truth: (B, T, C, H, W) of 0 to 1; NaN in the truth where nothing was measured.
        config: what is measured.
        quantity: what the values of its channel stand for.
        climatology: (H, W), the mean training frame of 0 to 1, for `config.latitudes`.
        distance: for LPIPS.
    """
    ours, theirs = (v[:, :, config.channel] for v in (predicted, truth))
    ours = ours.clip(0.0, 1.0)
    levels = config.levels(quantity)
    # Frames without a missing value, of which a spectrum can be made.
    whole = np.asarray(np.isnan(theirs).sum((-2, -1)) == 0)
    sums: dict[str, NDArray[np.float64]] = {"clips": np.array(float(len(theirs)))}
    if levels:
        sums["tables"] = np.stack([contingency.tables(*fields, levels) for fields in _views(ours, theirs, config)])
        sums["neighbourhoods"] = contingency.neighbourhoods(ours, theirs, levels, config.windows)
    filled = np.where(whole[..., None, None], theirs, 0.0), np.where(whole[..., None, None], ours, 0.0)
    sums["power"] = np.stack([spectrum.radial_power(v).sum(0) for v in reversed(filled)])
    sums["gradient"] = spectrum.gradient_error(*filled).sum(0)
    sums["whole"] = whole.sum(0).astype(np.float64)
    if config.convention == "hko":
        rain = quantity.offset + quantity.factor * theirs.astype(np.float64)
        rain = weather.rain_rate(rain) if quantity.unit == "dBZ" else rain
        sums["balanced"] = weather.balanced_errors(ours, theirs, rain).sum(1)
    if climatology is not None:
        weights = weather.latitude_weights(config.latitudes[0], config.latitudes[1], theirs.shape[-2])
        correlation = weather.anomaly_correlation(ours, theirs, climatology, weights)
        sums["squares"] = weather.weighted_squares(ours, theirs, weights) * np.array([quantity.factor**2, 1.0])
        sums["anomalies"] = np.stack([np.nansum(correlation, 0), (~np.isnan(correlation)).sum(0)], -1)
    if distance is not None:
        sums["lpips"] = _lpips(predicted, truth, whole, distance)
    return Sums(sums)


def _views(
    ours: NDArray[np.floating], theirs: NDArray[np.floating], config: ForecastConfig
) -> list[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Prediction and truth by pixel, then by the largest and by the mean value of blocks of each size."""
    seen = np.where(np.isnan(theirs), np.nan, ours)  # a block's prediction is made of the pixels that its truth is made of
    found = [(ours, theirs)]
    for size, how in _blocks(config):
        found.append((contingency.pooled(seen, size, how), contingency.pooled(theirs, size, how)))
    return found


def _blocks(config: ForecastConfig) -> list[tuple[int, contingency.Pooling]]:
    return [(size, how) for size in config.pooling for how in contingency.POOLINGS]


def _lpips(
    predicted: NDArray[np.float32], truth: NDArray[np.float32], whole: NDArray[np.bool_], distance: Lpips
) -> NDArray[np.float64]:
    import torch

    out = np.zeros(whole.shape)
    for b, t in np.argwhere(whole):
        pair = (torch.from_numpy(v[b : b + 1, t].clip(0.0, 1.0)) for v in (predicted, truth))
        out[b, t] = float(distance(*pair))
    return out.sum(0)


def measure_ensemble(
    members: NDArray[np.float32], truth: NDArray[np.float32], config: ForecastConfig, quantity: Quantity
) -> Sums:
    """The sums of a batch that several predictions have together: (M, B, T, C, H, W) and (B, T, C, H, W), as in `measure`."""
    ours, theirs = members[:, :, :, config.channel].clip(0.0, 1.0), truth[:, :, config.channel]
    variance, squared = ensemble.spread_and_skill(ours, theirs)
    known = ~np.isnan(theirs)
    sums = {
        "crps": np.nansum(ensemble.fair_crps(ours, theirs), (0, 2, 3)) * quantity.factor,
        "variance": np.where(known, variance, 0.0).sum((0, 2, 3)) * quantity.factor**2,
        "squared": np.nansum(squared, (0, 2, 3)) * quantity.factor**2,
        "values": known.sum((0, 2, 3)).astype(np.float64),
        "ranks": ensemble.ranks(ours, theirs),
    }
    if config.events:
        sums["reliability"] = ensemble.reliability(ours, theirs, config.levels(quantity))
    return Sums(sums)


# ---------------------------------------------------------------------------------------------------------------- scores


def along(sums: Sums, score: str) -> NDArray[np.float64]:
    """A score of `contingency.SCORES` by threshold and lead time, of pixels: (thresholds, T)."""
    return contingency.SCORES[score](sums.values["tables"][0])


def summary(sums: Sums, config: ForecastConfig, unit: str = "") -> dict[str, float]:
    """Every score over the whole horizon, by name, NaN where it is not defined.

    Of counts it is that of all lead times' counts together, for `hko` the mean of the lead times' scores. A mean over thresholds
    leaves those out whose score is not defined.
    """
    values = sums.values
    in_unit = f", {unit}" if unit else ""
    out: dict[str, float] = {}
    if "tables" in values:
        by_score = {name: _over_leads(values["tables"], score, config) for name, score in contingency.SCORES.items()}
        for threshold, csi in zip(config.events, by_score["csi"][0], strict=True):
            out[f"CSI at {threshold:g}"] = float(csi)
        for name, found in by_score.items():
            out[f"{name.upper() if name != 'bias' else name}, mean over thresholds"] = _mean(found[0])
        for (size, how), found in zip(_blocks(config), by_score["csi"][1:], strict=True):
            out[f"CSI, {how} of {size}x{size}, mean over thresholds"] = _mean(found)
        for window, found in zip(config.windows, contingency.fractions_skill(values["neighbourhoods"].sum(2)), strict=True):
            out[f"FSS, {window}x{window}, mean over thresholds"] = _mean(found)
    if "power" in values:
        out["power of the finest third over that of the truth"] = float(spectrum.fine_power_ratio(values["power"].sum(1)))
        out["sharpness, dB"] = float(spectrum.sharpness(values["gradient"].sum() / max(values["whole"].sum(), 1.0)))
    if "balanced" in values:
        out["B-MSE"], out["B-MAE"] = (values["balanced"].mean(1) / values["clips"]).tolist()
    if "squares" in values:
        squares, weights = values["squares"].sum(0)
        out[f"weighted RMSE{in_unit}"] = math.sqrt(squares / weights)
        out["ACC"] = _quotient(*values["anomalies"].sum(0))
    if "lpips" in values:
        out["LPIPS"] = _quotient(values["lpips"].sum(), values["whole"].sum())
    if "crps" in values:
        count = values["values"].sum()
        out[f"fair CRPS{in_unit}"] = _quotient(values["crps"].sum(), count)
        out["spread over skill"] = math.sqrt(_quotient(values["variance"].sum(), values["squared"].sum()))
    return out


def _over_leads(tables: NDArray[np.float64], score: contingency.Score, config: ForecastConfig) -> NDArray[np.float64]:
    """(..., T, 4) to (...)."""
    if config.convention == "hko":
        return np.apply_along_axis(_mean, -1, score(tables))
    return score(tables.sum(-2))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
