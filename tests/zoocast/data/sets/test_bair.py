"""BAIR's examples, from TFRecord."""

import numpy as np
import pytest

from tests.fakes import bair
from zoocast.data.sets.bair import BairConfig
from zoocast.errors import DataError
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.training import PredictionObjective, TrainingConfig, fit


def quiet(_fraction, _message):
    pass


@pytest.fixture
def path(tmp_path):
    bair.write(tmp_path, train=12, test=2)
    return tmp_path


def test_examples_become_clips_and_the_last_of_the_training_validates(path):
    config = BairConfig(path=str(path), stride=5)
    assert [recording.name for recording in config.recordings()][4:6] == ["train/traj_4_to_7/000", "train/traj_4_to_7/001"]
    # 30 frames have clips of 16 from frames 0, 5 and 10 on.
    assert config.counts() == {"train": 11 * 3, "validation": 3, "test": 6}
    store = config.build(path / "store", quiet)
    expected = np.stack([bair.picture(12, frame) for frame in range(5, 21)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(store.split("test").gather([1])[0], expected)


def test_openstl_validates_on_its_test(path):
    config = BairConfig(path=str(path), protocol="openstl")
    windows = config.windows(config.recordings())
    assert len(windows["train"]) == 12
    assert windows["validation"] == windows["test"]
    assert any("its test validate" in remark for remark in config.remarks())


def test_the_other_camera_is_read_when_asked_for(path):
    recording = BairConfig(path=str(path), camera="main").recordings()[3]
    np.testing.assert_array_equal(recording.read(7, 8)[0], 255 - bair.picture(3, 7).transpose(2, 0, 1))


def test_a_network_is_trained_on_the_clips(path):
    store = BairConfig(path=str(path), length=6).build(path / "store", quiet)
    train, validation = store.split("train"), store.split("validation")
    seen, truth = validation.clips(range(len(validation))).split(3, dim=1)
    objective = PredictionObjective(Predictor(PredictorConfig(hidden_channels=(4,), patch_size=4), store.shape))
    before = (objective.predictor.predict(seen, 3) - truth).square().mean().item()
    config = TrainingConfig(iterations=20, batch_size=4, validate_every=10, learning_rate=1e-2)
    trained = fit(objective, train, validation, observed=3, config=config)
    assert trained.val_mse < 0.8 * before


def test_damage_is_named(path):
    file = path / "train" / "traj_0_to_3.tfrecords"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(DataError, match=r"traj_0_to_3\.tfrecords .* cut off"):
        BairConfig(path=str(path)).check()
    file.write_bytes(whole[:5000] + b"\0\0\0\0" + whole[5004:])
    with pytest.raises(DataError, match="differs from its checksum"):
        BairConfig(path=str(path)).check()
    with pytest.raises(DataError, match=r"has no traj_0_to_255\.tfrecords"):
        BairConfig(path=str(path / "train")).check()
