"""Clips of target and sources as one split: who is in it how often, and that the arm is trained on it."""

import dataclasses
from collections import Counter

import pytest
import torch

from zoocast.config import dump
from zoocast.dag import StepContext
from zoocast.data import DigitsConfig
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.training import TrainingConfig, clips_of
from zoocast.training.config import Worker
from zoocast.training.order import SampleOrder
from zoocast.transfer import Joint, JointClips, TrainTargetConfig, train_target_in
from zoocast.zoo import Ranking


def numbered(first, count):
    """Clips whose frames are all one number."""
    numbers = torch.arange(first, first + count, dtype=torch.uint8)
    return clips_of(numbers.view(-1, 1, 1, 1, 1).repeat(1, 3, 1, 2, 2), "NTCHW")


def drawn(clips):
    """How often each number is in the whole split."""
    frames = clips.clips(torch.arange(len(clips)))
    assert frames.shape == (len(clips), 3, 1, 2, 2)
    return Counter((frames[:, 0, 0, 0, 0] * 255).round().int().tolist())


@pytest.mark.parametrize(
    ("share", "own", "others"),
    [
        (0.5, {0: 4, 1: 4}, {**dict.fromkeys((10, 11, 12, 20, 21, 22, 23), 1), 10: 2}),  # 8 and 8, of 7 the first again
        (0.2, {0: 14, 1: 14}, dict.fromkeys((10, 11, 12, 20, 21, 22, 23), 1)),
        (0.9, {0: 1, 1: 1}, {**dict.fromkeys((10, 11, 12, 20, 21, 22, 23), 2), **dict.fromkeys((10, 11, 12, 20), 3)}),
    ],
)
def test_the_sources_clips_are_the_given_share_and_every_clip_is_there(share, own, others):
    joint = JointClips(numbered(0, 2), [numbered(10, 3), numbered(20, 4)], share)
    assert drawn(joint) == {**own, **others}
    assert joint.length == 3


def test_batches_hang_on_seed_and_iteration_alone():
    joint = JointClips(numbered(0, 4), [numbered(10, 30)], 0.5)

    def batch(order, iteration):
        return joint.clips(order.batch(iteration, 8, Worker()))[:, 0, 0, 0, 0].mul(255).round().int().tolist()

    whole = SampleOrder(3, len(joint))
    assert [batch(whole, i) for i in range(9)][8] == batch(SampleOrder(3, len(joint)), 8)


def test_an_arm_is_trained_on_the_sources_clips_and_validated_on_the_targets(tmp_path):
    data = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=4, validation=4, test=1)
    for seed, name in enumerate(("target", "one", "two")):
        dataclasses.replace(data, seed=seed).build(tmp_path / name, lambda _fraction, _message: None)
    network = PredictorConfig(hidden_channels=(4,))
    save_predictor(Predictor(network, data.frame_shape()), tmp_path / "source" / "model")
    training = TrainingConfig(iterations=2, batch_size=4, validate_every=2, num_strips=0)
    config = TrainTargetConfig(arm="joint", method=Joint(), predictor=network, training=training, observed=3)
    results = {"rank": dump(Ranking(val_mse={}, fitting=("s",), best="s"))}

    def error(name, clips):
        inputs = {"data": tmp_path / "target", "sources/s": tmp_path / "source", "clips/s": tmp_path / clips}
        return train_target_in(StepContext.standalone(tmp_path / name, config, inputs, results), config).val_mse

    first = error("first", "one")
    assert error("again", "one") == first
    assert error("other", "two") != first
