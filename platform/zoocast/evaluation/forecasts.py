"""What those who forecast measure, over a split: of every seed, and of all seeds of an arm as one ensemble."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from zoocast.config import dump, load
from zoocast.data.store import Channel, ClipSplit
from zoocast.errors import IntegrityError
from zoocast.evaluation import Clips, Predict, predicted_and_true
from zoocast.metrics.forecast import BASELINES, ForecastConfig, Quantity, Sums, measure, measure_ensemble, summary
from zoocast.metrics.lpips import Lpips

__all__ = ["Forecasts", "climatology", "forecast", "quantity_of"]


@dataclasses.dataclass(frozen=True)
class Forecasts:
    """The sums of an arm.

    Attributes:
        config: what was measured.
        quantity: what the measured channel stands for.
        seeds: the sums of each seed.
        ensemble: those of all seeds as one ensemble; None for fewer than two.
    """

    config: ForecastConfig
    quantity: Quantity
    seeds: Mapping[int, Sums]
    ensemble: Sums | None = None

    @property
    def unit(self) -> str:
        """Of the thresholds."""
        return self.config.threshold_unit or self.quantity.unit

    def scores(self) -> dict[str, tuple[float, ...]]:
        """Every score over the whole horizon, of each seed; those of the ensemble have one value."""
        of_seeds = [summary(sums, self.config, self.quantity.unit) for sums in self.seeds.values()]
        found = {name: tuple(scores[name] for scores in of_seeds) for name in of_seeds[0]}
        together = summary(self.ensemble, self.config, self.quantity.unit) if self.ensemble else {}
        return found | {name: (value,) for name, value in together.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON data, from which `from_json` restores every bit."""
        return {
            "config": dump(self.config, identity_only=True),
            "quantity": dump(self.quantity),
            "seeds": {str(seed): sums.to_json() for seed, sums in self.seeds.items()},
            "ensemble": self.ensemble.to_json() if self.ensemble else None,
        }

    @classmethod
    def from_json(cls, data: Any) -> Forecasts:
        """What `to_json` turned into `data`. Raises `IntegrityError` for anything else."""
        try:
            seeds = {int(seed): Sums.from_json(sums) for seed, sums in data["seeds"].items()}
            together = Sums.from_json(data["ensemble"]) if data["ensemble"] else None
            return cls(load(ForecastConfig, data["config"]), load(Quantity, data["quantity"]), seeds, together)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"forecasts must hold config, quantity, seeds and ensemble: {data!r:.80} ({error})") from None


def quantity_of(config: ForecastConfig, channels: Sequence[Channel]) -> Quantity:
    """What the measured channel stands for, by what a store says of its channels, or by the convention where it says nothing."""
    if not channels:
        return BASELINES.get(config.convention, Quantity())
    channel = channels[config.channel]
    return Quantity(unit=channel.unit, offset=channel.offset, factor=channel.factor)


def climatology(split: ClipSplit, channel: int, batch_size: int = 32) -> np.ndarray:
    """The mean frame (H, W) of all clips of a split, of 0 to 1."""
    starts = range(0, len(split), batch_size)
    batches = (split.clips(range(start, min(start + batch_size, len(split))))[:, :, channel] for start in starts)
    total = functools.reduce(operator.add, (batch.double().sum((0, 1)) for batch in batches))
    return (total / (len(split) * split.length)).numpy()


def forecast(
    predicts: Mapping[int, Predict],
    split: Clips,
    config: ForecastConfig,
    quantity: Quantity,
    *,
    observed: int,
    horizon: int,
    mean_frame: np.ndarray | None = None,
    distance: Lpips | None = None,
    batch_size: int = 32,
) -> Forecasts:
    """Measure the predictions of every seed on all clips of `split`, and where there are several what they are together.

    Only the predictions of one batch are held at a time.

    Args:
        predicts: by seed.
        split: the clips.
        config: what is measured.
        quantity: what the measured channel stands for.
        observed, horizon: frames that are seen, and frames that are predicted after them.
        mean_frame: the `climatology`, for `config.latitudes`.
        distance: LPIPS, where it is measured.
        batch_size: clips that are predicted at once.

    Raises:
        ConfigError: thresholds that the clips' unit has no meaning for.
        DataError, ZoocastError: as `evaluate` does.
    """
    seeds: dict[int, Sums] = {}
    together: Sums | None = None
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            batch = range(start, min(start + batch_size, len(split)))
            clips = split.clips(batch)
            pairs = {k: predicted_and_true(predict, clips, batch, observed, horizon) for k, predict in predicts.items()}
            truth = next(iter(pairs.values())).truth
            for seed, pair in pairs.items():
                found = measure(pair.predicted, truth, config, quantity, climatology=mean_frame, distance=distance)
                seeds[seed] = seeds[seed] + found if seed in seeds else found
            if len(pairs) > 1:
                members = np.stack([pair.predicted for pair in pairs.values()])
                found = measure_ensemble(members, truth, config, quantity)
                together = together + found if together else found
    return Forecasts(config, quantity, seeds, together)
