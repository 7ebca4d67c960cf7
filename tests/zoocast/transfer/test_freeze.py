"""Freezing: the lowest layers stay as the source has them."""

import pytest
import torch

from tests.zoocast.transfer.conftest import NETWORK
from zoocast.errors import ConfigError
from zoocast.training import TrainingConfig, clips_of, fit
from zoocast.transfer import Freeze


def test_the_lowest_layers_stay_as_the_source_has_them_and_the_others_learn(zoo, setup):
    objective = Freeze(layers=1).build(setup)
    clips = clips_of(torch.rand(8, 5, 1, 8, 8))
    fit(objective, clips, clips, observed=2, config=TrainingConfig(iterations=4, batch_size=4, validate_every=4))
    trained, before = objective.exported.state_dict(), zoo["two"].state_dict()
    changed = {name for name in before if not torch.equal(trained[name], before[name])}
    assert {name.split(".conv")[0] for name in changed} == {"cells.1", "head.weight"}


def test_more_layers_than_the_target_has_are_refused():
    Freeze(layers=2).check(NETWORK, TrainingConfig())
    with pytest.raises(ConfigError, match=r"layers: must be at most the 2 layers of the target, but got 3"):
        Freeze(layers=3).check(NETWORK, TrainingConfig())
    with pytest.raises(ConfigError, match="layers: must be at least 0, but got -1"):
        Freeze(layers=-1)
