"""Layer-wise decay of the learning rate: how far each layer moves, and what a run that goes on finds."""

import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.training import AdamUpdater, Batch, TrainingConfig, Worker
from zoocast.transfer import LayerDecay

RATE = 1e-3


@pytest.fixture
def batch():
    return Batch(torch.arange(4), torch.rand(4, 5, 1, 8, 8), torch.ones(4, 4), False)


def updater(objective):
    return AdamUpdater(objective, TrainingConfig(learning_rate=RATE), Worker())


def test_each_layer_learns_at_its_share_of_the_rate(zoo, setup, batch):
    objective = LayerDecay(decay=0.5).build(setup)
    updater(objective).update(batch, 0)
    # The first step of Adam moves each weight by its rate, whatever the gradient: 1/4, 1/2 and all of it.
    for part, share in (("cells.0.", 0.25), ("cells.1.", 0.5), ("head.", 1.0)):
        moved = [
            (weights - zoo["two"].state_dict()[name]).abs().max()
            for name, weights in objective.exported.state_dict().items()
            if name.startswith(part)
        ]
        assert max(moved).item() == pytest.approx(share * RATE, rel=1e-2), part


def test_a_training_that_goes_on_has_the_same_moments_of_the_same_weights(setup, batch):
    whole, parts = (LayerDecay(decay=0.5).build(setup) for _ in range(2))
    one, first = updater(whole), updater(parts)
    for iteration in range(2):
        one.update(batch, iteration)
    first.update(batch, 0)
    second = updater(parts)
    second.load(first.state())
    second.update(batch, 1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_both_directions_of_a_training_have_the_rates(setup):
    ahead, back = (LayerDecay(decay=0.5).build(setup) for _ in range(2))
    scales = BidirectionalObjective(ahead, back, BidirectionalConfig()).rate_scales()
    for objective in (ahead, back):
        assert [scales[cell.conv.weight] for cell in objective.exported.layers] == [0.25, 0.5]


def test_a_decay_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"decay: must be at most 1 and above 0, but got 0.0"):
        LayerDecay(decay=0.0)
