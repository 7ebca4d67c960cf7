import pytest
import torch

from zoocast.nn.sampling import ScheduledSampling
from zoocast.training import SampleOrder, TrainingConfig, Worker
from zoocast.training.order import feed


def test_every_epoch_is_a_permutation_of_the_split():
    order = SampleOrder(seed=3, size=10)
    # Batches of 4 from 10 clips: iterations 0-4 hold positions 0-19, which are two whole epochs.
    seen = torch.cat([order.batch(i, 4, Worker()) for i in range(5)])
    assert sorted(seen[:10].tolist()) == list(range(10))
    assert sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_workers_share_out_one_order_whatever_their_number():
    whole = SampleOrder(seed=0, size=50).batch(7, 12, Worker())
    for world in (2, 3, 4):
        parts = [SampleOrder(seed=0, size=50).batch(7, 12, Worker(rank, world)) for rank in range(world)]
        assert torch.equal(torch.stack(parts, dim=1).flatten(), whole)


def test_the_clips_of_an_iteration_need_none_of_those_before_it():
    walked = SampleOrder(seed=1, size=7)
    for i in range(9):
        batch = walked.batch(i, 5, Worker())
    assert torch.equal(SampleOrder(seed=1, size=7).batch(8, 5, Worker()), batch)


def test_masks_follow_seed_and_iteration_and_are_shared_out_like_clips():
    config = TrainingConfig(batch_size=6, sampling=ScheduledSampling(start=0.5, rate=0.0))
    whole = feed(config, 4, observed=3, length=8, worker=Worker())
    assert whole.shape == (6, 7)
    parts = [feed(config, 4, observed=3, length=8, worker=Worker(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)
    assert not torch.equal(feed(config, 5, observed=3, length=8, worker=Worker()), whole)


def test_a_curriculum_can_go_on_from_an_earlier_training():
    config = TrainingConfig(batch_size=400, sampling=ScheduledSampling(start=1.0, rate=0.1))

    def share_of_true_frames(offset):
        return feed(config, 1, observed=3, length=8, worker=Worker(), offset=offset)[:, 3:].mean().item()

    # Iterations count from 1 in the schedule: 1 - 0.1 * 2 = 0.8 at the start, 1 - 0.1 * (5 + 2) = 0.3 after five iterations.
    assert share_of_true_frames(0) == pytest.approx(0.8, abs=0.04)
    assert share_of_true_frames(5) == pytest.approx(0.3, abs=0.04)
    assert share_of_true_frames(8) == 0
