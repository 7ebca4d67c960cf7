import math

import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.nn.sampling import ReverseScheduledSampling, ScheduledSampling, TeacherForcing, free_run, teacher_forced

ALL = [TeacherForcing(), ScheduledSampling(), ReverseScheduledSampling()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_teacher_forcing_is_all_ones_and_a_free_run_ones_for_the_observed_frames():
    assert teacher_forced(2, 4).tolist() == [[1, 1, 1], [1, 1, 1]]
    # 2 of 5 frames observed: steps 0 and 1 are true, steps 2 and 3 are not.
    assert free_run(1, 2, 5).tolist() == [[1, 1, 0, 0]]


def test_scheduled_sampling_is_the_releases_countdown():
    # The release starts at 1 and takes `rate` off before each iteration, the first of which is number 1.
    sampling, eta = ScheduledSampling(rate=0.01, stop_iteration=60), 1.0
    for iteration in range(1, 100):
        eta = eta - 0.01 if iteration < 60 else 0.0
        assert sampling.probability(iteration) == pytest.approx(eta)


def test_the_default_schedules_are_the_papers():
    assert ScheduledSampling().probability(25_000) == pytest.approx(0.5)
    assert ScheduledSampling().probability(49_999) == pytest.approx(2e-5)
    assert ScheduledSampling().probability(50_000) == 0
    assert ReverseScheduledSampling().probabilities(24_999) == (0.5, 0.5)
    assert ReverseScheduledSampling().probabilities(25_000) == (0.5, 0.5)
    # One decay constant past the start, a fifth of the way to the stop.
    assert ReverseScheduledSampling().probabilities(30_000) == pytest.approx((1 - 0.5 * math.exp(-1), 0.4))
    assert ReverseScheduledSampling().probabilities(50_000) == (1.0, 0.0)


def test_a_fast_rate_never_goes_below_zero():
    assert ScheduledSampling(rate=0.5).probability(3) == 0


@pytest.mark.parametrize("sampling", ALL, ids=lambda s: s.kind)
@pytest.mark.parametrize("iteration", [1, 27_000, 60_000])
@pytest.mark.parametrize(("observed", "length"), [(4, 8), (1, 2), (7, 8), (8, 8), (1, 5)])
def test_a_mask_is_zeros_and_ones_and_starts_true(sampling, iteration, observed, length):
    feed = sampling.feed(iteration, 16, observed, length, generator())
    assert feed.shape == (16, length - 1)
    assert feed.dtype == torch.float32
    assert ((feed == 0) | (feed == 1)).all()
    assert (feed[:, 0] == 1).all()


@pytest.mark.parametrize("sampling", [ScheduledSampling(), ReverseScheduledSampling()], ids=lambda s: s.kind)
def test_a_schedule_ends_in_free_run(sampling):
    assert torch.equal(sampling.feed(50_000, 3, 4, 8, generator()), free_run(3, 4, 8))


def test_a_scaled_schedule_is_as_far_in_a_shorter_training():
    assert ScheduledSampling(rate=0.01, stop_iteration=100).scaled(0.5) == ScheduledSampling(rate=0.02, stop_iteration=50)
    whole = ReverseScheduledSampling(start_iteration=100, stop_iteration=200, decay=40.0)
    assert whole.scaled(0.25).probabilities(30) == whole.probabilities(120)
    assert TeacherForcing().scaled(0.5) == TeacherForcing()


def test_draws_have_the_schedules_probability():
    # 20,000 draws of probability 0.4: the standard error is 0.0035, and the seed is fixed.
    feed = ScheduledSampling().feed(30_000, 5_000, 4, 9, generator())
    assert (feed[:, :4] == 1).all()
    assert feed[:, 4:].mean().item() == pytest.approx(0.4, abs=0.015)
    feed = ReverseScheduledSampling().feed(30_000, 5_000, 5, 10, generator())
    assert feed[:, 1:5].mean().item() == pytest.approx(1 - 0.5 * math.exp(-1), abs=0.015)
    assert feed[:, 5:].mean().item() == pytest.approx(0.4, abs=0.015)


def test_the_generator_alone_decides():
    sampling = ReverseScheduledSampling()
    same = [sampling.feed(10, 8, 4, 8, generator(3)) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], sampling.feed(10, 8, 4, 8, generator(4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScheduledSampling(start=1.5), "start: a probability lies between 0 and 1, but got 1.5"),
        (lambda: ScheduledSampling(rate=-0.1), "rate: must be 0 or more, but got -0.1"),
        (lambda: ScheduledSampling(stop_iteration=-1), "stop_iteration: .* got -1"),
        (lambda: ReverseScheduledSampling(start_iteration=9, stop_iteration=3), "stop_iteration: .* got 9 and 3"),
        (lambda: ReverseScheduledSampling(decay=0), "decay: must be more than 0, but got 0"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
