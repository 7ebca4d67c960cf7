"""A small clip store and a small network, real ones, shared by the tests of training."""

import pytest

from zoocast.data import DigitsConfig
from zoocast.nn.predictor import PredictorConfig


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    config = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=12, validation=4, test=2)
    folder = tmp_path_factory.mktemp("clips")
    config.build(folder, lambda _fraction, _message: None)
    return folder


@pytest.fixture(scope="session")
def predictor_config():
    return PredictorConfig(hidden_channels=(4, 4), patch_size=4)
