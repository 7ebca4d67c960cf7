from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from zoocast.data.store import Channel
from zoocast.errors import IntegrityError
from zoocast.evaluation import copy_last
from zoocast.evaluation.forecasts import Forecasts, forecast, quantity_of
from zoocast.metrics.forecast import ForecastConfig, measure

CONFIG = ForecastConfig(convention="units", thresholds=(10.0, 30.0), pooling=(4,), windows=(3,))
QUANTITY = quantity_of(CONFIG, [Channel(name="rain", unit="mm/h", factor=40.0)])


class Split:
    """7 clips of 5 frames."""

    data = torch.rand(7, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.data)

    def clips(self, indices: Sequence[int]) -> Tensor:
        return self.data[list(indices)]


def fade(observed: Tensor) -> Tensor:
    return copy_last(2)(observed) * 0.8


def measured(batch_size: int) -> Forecasts:
    predicts = {0: copy_last(2), 1: fade}
    return forecast(predicts, Split(), CONFIG, QUANTITY, observed=3, horizon=2, batch_size=batch_size)


def test_every_seed_is_measured_on_every_clip_and_all_together_are_an_ensemble() -> None:
    found = measured(3)
    data = Split.data.numpy()
    expected = measure(0.8 * data[:, 2:3].repeat(2, 1), data[:, 3:], CONFIG, QUANTITY)
    assert (found.seeds[1].values["tables"] == expected.values["tables"]).all()
    scores = found.scores()
    assert len(scores["CSI at 30"]) == 2
    # By hand: of two members the mean distance to the truth, less half of their distance, times 40 mm/h.
    one, other = data[:, 2:3], 0.8 * data[:, 2:3]
    crps = (abs(one - data[:, 3:]) + abs(other - data[:, 3:])) / 2 - abs(one - other) / 2
    assert scores["fair CRPS, mm/h"] == pytest.approx((40 * crps.mean(),), rel=1e-5)


def test_the_batch_size_changes_nothing_and_json_keeps_everything() -> None:
    found = measured(7)
    for name, values in measured(2).scores().items():
        assert values == pytest.approx(found.scores()[name], rel=1e-10)
    assert Forecasts.from_json(found.to_json()).to_json() == found.to_json()
    with pytest.raises(IntegrityError, match="must hold config, quantity, seeds and ensemble"):
        Forecasts.from_json({"seeds": {}})


def test_one_seed_is_no_ensemble() -> None:
    found = forecast({0: fade}, Split(), CONFIG, QUANTITY, observed=3, horizon=2)
    assert found.ensemble is None
    assert not [name for name in found.scores() if "CRPS" in name]


def test_what_is_not_known_of_a_channel_is_the_conventions() -> None:
    assert quantity_of(ForecastConfig(convention="hko"), ()).unit == "dBZ"
    assert np.isclose(quantity_of(ForecastConfig(convention="sevir"), ()).stored([51.0]), 0.2)
