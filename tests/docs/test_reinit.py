"""The method of docs/extending.md is a method like those that are there."""

import pytest
import torch

from docs.examples.reinit import Reinit
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.training import MODEL_FOLDER
from zoocast.transfer.method import Setup

FRAMES = FrameShape(height=8, width=8)
NETWORK = PredictorConfig(hidden_channels=(4, 4), patch_size=2)


def test_the_upper_layers_begin_at_random_and_the_others_as_the_source_has_them(tmp_path):
    torch.manual_seed(7)
    source = Predictor(NETWORK, FRAMES)
    save_predictor(source, tmp_path / "source" / MODEL_FOLDER)
    setup = Setup(
        predictor=NETWORK,
        frames=FRAMES,
        decouple_weight=0.0,
        observed=2,
        clips=tmp_path / "clips",
        sources={"one": tmp_path / "source"},
        best="one",
    )
    started, before = Reinit(layers=1).build(setup).exported.state_dict(), source.state_dict()
    changed = {name for name in before if not torch.equal(started[name], before[name])}
    assert changed == {name for name in before if name.startswith("cells.1.")}


def test_it_asks_for_the_ranking_and_the_sources():
    assert Reinit().needs == {"rank", "sources"}
    assert Reinit().reads(["one", "two"]) == ("one", "two")
    with pytest.raises(ConfigError, match="layers: must be at least 0, but got -1"):
        Reinit(layers=-1)
