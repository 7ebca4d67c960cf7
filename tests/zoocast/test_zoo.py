"""Sources before anything is trained: whose weights fit whom, and what is refused."""

import dataclasses

import pytest

from zoocast.data import DigitsConfig
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.tmu import TmuConfig
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.zoo import SourceConfig, can_start, check_observed

PREDICTOR = PredictorConfig(hidden_channels=(4, 4))
DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=12, validation=4, test=2)
TRAINING = TrainingConfig(iterations=12, batch_size=4, validate_every=6, checkpoint_every=5)


def test_weights_fit_networks_that_differ_in_transfer_units_only():
    frames, larger = FrameShape(channels=1, height=16, width=16), FrameShape(channels=1, height=32, width=32)
    target = dataclasses.replace(PREDICTOR, tmu=TmuConfig(), num_sources=2)
    assert can_start(target, frames, PREDICTOR, frames)
    assert can_start(target, frames, PREDICTOR, larger)
    assert not can_start(target, frames, dataclasses.replace(PREDICTOR, cell=ConvLSTM(kernel_size=5)), frames)
    normed = dataclasses.replace(PREDICTOR, cell=ConvLSTM(layer_norm=True))
    assert can_start(normed, frames, normed, frames)
    assert not can_start(normed, frames, normed, larger)


def test_observed_frames_must_leave_a_horizon():
    check_observed(5, 6, "target")
    with pytest.raises(
        ConfigError, match=r"observed: must leave at least one of the 6 frames in the clips of target .* use 1 to 5"
    ):
        check_observed(6, 6, "target")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "KTH"}, "name: a source's name is made of a-z, 0-9, .* at most 64 characters, but got 'KTH'"),
        (
            {"predictor": dataclasses.replace(PREDICTOR, patch_size=3)},
            "predictor.patch_size: must divide .* got 3 for frames of 16x16",
        ),
        ({"workers": WorkerConfig(num_workers=3)}, "training.batch_size: must be a multiple of num_workers, but got 4"),
        ({"model": "nowhere"}, r"model: /.*/nowhere holds no network \(predictor.json is missing\); give the folder"),
    ],
)
def test_a_source_that_cannot_work_is_refused_before_work_starts(fields, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        SourceConfig(**{"data": DATA, "predictor": PREDICTOR, "training": TRAINING, **fields}).check()


def test_the_folder_of_a_step_that_trained_a_source_is_answered_with_the_model_in_it(tmp_path):
    (tmp_path / "source-1" / "model").mkdir(parents=True)
    (tmp_path / "source-1" / "model" / "predictor.json").touch()
    with pytest.raises(ConfigError, match=r"^model: .*/source-1 holds no network .*; give /.*/source-1/model$"):
        SourceConfig(data=DATA, predictor=PREDICTOR, training=TRAINING, model=str(tmp_path / "source-1")).check()
