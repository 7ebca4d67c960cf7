"""The learning rate of plain Adam over a training."""

import pytest
import torch

from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor
from zoocast.training import AdamUpdater, Batch, PredictionObjective, TrainingConfig, Worker


@pytest.mark.parametrize(
    ("decay", "iteration", "share"), [("none", 3, 1.0), ("linear", 0, 1.0), ("linear", 2, 0.5), ("linear", 3, 0.25)]
)
def test_a_learning_rate_falls_in_equal_steps_or_not_at_all(predictor_config, decay, iteration, share):
    objective = PredictionObjective(Predictor(predictor_config, FrameShape(channels=1, height=8, width=8)))
    before = objective.exported.head.weight.detach().clone()
    config = TrainingConfig(iterations=4, learning_rate=1e-3, learning_rate_decay=decay)
    batch = Batch(torch.arange(2), torch.rand(2, 4, 1, 8, 8), torch.ones(2, 3), False)
    AdamUpdater(objective, config, Worker()).update(batch, iteration)
    # The first step of Adam moves each weight by its rate, whatever the gradient.
    assert (objective.exported.head.weight - before).abs().max().item() == pytest.approx(share * 1e-3, rel=1e-2)
