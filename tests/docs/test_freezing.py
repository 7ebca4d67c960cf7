"""The method of docs/extending.md is a method like those that are there."""

import pytest
import torch

from docs.examples.freezing import Freezing
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.training import MODEL_FOLDER, TrainingConfig, clips_of, fit
from zoocast.transfer.method import Setup

FRAMES = FrameShape(height=8, width=8)
NETWORK = PredictorConfig(hidden_channels=(4, 4), patch_size=2)


@pytest.fixture
def setup(tmp_path):
    """What a method gets of a zoo with one source, which is the best."""
    torch.manual_seed(7)
    save_predictor(Predictor(NETWORK, FRAMES), tmp_path / "source" / MODEL_FOLDER)
    return Setup(
        predictor=NETWORK,
        frames=FRAMES,
        decouple_weight=0.0,
        observed=2,
        clips=tmp_path / "clips",
        sources={"one": tmp_path / "source"},
        best="one",
    )


def test_the_lower_layers_stay_as_the_source_has_them_and_the_others_learn(setup):
    torch.manual_seed(7)
    source = Predictor(NETWORK, FRAMES)
    objective = Freezing(layers=1).build(setup)
    clips = clips_of(torch.rand(8, 5, 1, 8, 8))
    fit(objective, clips, clips, observed=2, config=TrainingConfig(iterations=4, batch_size=4, validate_every=4))
    trained, before = objective.exported.state_dict(), source.state_dict()
    changed = {name for name in before if not torch.equal(trained[name], before[name])}
    assert changed
    assert not any(name.startswith("cells.0.") for name in changed)
    assert any(name.startswith("cells.1.") for name in changed)
    assert any(name.startswith("head.") for name in changed)


def test_it_asks_for_the_ranking_and_the_sources():
    assert Freezing().needs == {"rank", "sources"}
    assert Freezing().reads(["one", "two"]) == ("one", "two")
    with pytest.raises(ConfigError, match="layers: must be at least 0, but got -1"):
        Freezing(layers=-1)
