"""A zoo of two small sources with the target's network, of which the second is the best."""

import pytest
import torch

from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.training import MODEL_FOLDER
from zoocast.transfer import Setup

FRAMES = FrameShape(height=8, width=8)
NETWORK = PredictorConfig(hidden_channels=(4, 4), patch_size=2)


@pytest.fixture
def zoo(tmp_path):
    """The sources by name, whose weights lie where `setup` finds them."""
    made = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        made[name] = Predictor(NETWORK, FRAMES)
        save_predictor(made[name], tmp_path / name / MODEL_FOLDER)
    return made


@pytest.fixture
def setup(zoo, tmp_path):
    """What a method gets of that zoo."""
    return Setup(
        predictor=NETWORK,
        frames=FRAMES,
        decouple_weight=0.0,
        observed=2,
        clips=tmp_path / "clips",
        sources={name: tmp_path / name for name in zoo},
        fitting=tuple(zoo),
        best="two",
    )
