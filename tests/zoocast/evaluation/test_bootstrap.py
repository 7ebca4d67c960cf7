import itertools

import numpy as np
import pytest

from zoocast.evaluation import Scores, paired_over_blocks, paired_over_clips
from zoocast.evaluation.bootstrap import block_bootstrap
from zoocast.metrics import Statistics


def scores_of(values: np.ndarray) -> Scores:
    return Scores(Statistics(len(values), {"strict/mse": (float(values.sum()),)}), dict(enumerate(values.tolist())))


def test_the_interval_is_that_of_all_draws_there_are() -> None:
    # Two seeds, and two recordings of one and of three clips. Each of the 4 draws of seeds meets each of the 4 of recordings.
    differences = np.array([[1.0, 2, 2, 2], [3.0, 4, 4, 4]])
    blocks = ("a", "b", "b", "b")
    parts = {"a": differences[:, :1], "b": differences[:, 1:]}
    means = [
        np.concatenate([parts[x], parts[y]], 1)[[i, j]].mean()
        for i, j in itertools.product(range(2), repeat=2)
        for x, y in itertools.product("ab", repeat=2)
    ]
    assert sorted(set(means)) == [1, 1.75, 2, 2.75, 3, 3.75, 4]
    # 1 of 16 draws each gives the lowest, 1, and the highest, 4: a part of 0.0625, more than the 0.025 cut off at each end.
    assert block_bootstrap(differences, blocks) == (1.0, 4.0)
    # Of the middle half: 3 of 16 draws lie below 2, and 5 of 16 up to it; 0.25 falls on 1.75 (2 of 16) to 2 (2 of 16 more).
    low, high = np.quantile(means, [0.25, 0.75], method="inverted_cdf")
    assert block_bootstrap(differences, blocks, confidence=0.5) == (low, high)


def test_clips_of_one_recording_give_a_wider_interval_than_as_many_independent_ones() -> None:
    random = np.random.default_rng(0)
    of_recordings = random.normal(size=10).repeat(20)
    differences = of_recordings + 0.1 * random.normal(size=(5, 200))
    alone = block_bootstrap(differences, range(200))
    together = block_bootstrap(differences, np.arange(10).repeat(20).tolist())
    assert alone is not None
    assert together is not None
    # The deviation of the mean of 10 recordings is about 1 / sqrt(10), of 200 clips about 1 / sqrt(200).
    assert (together[1] - together[0]) / (alone[1] - alone[0]) == pytest.approx(np.sqrt(20), rel=0.25)


def test_of_independent_clips_it_is_nearly_students_interval() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(1.0, 1.0, 400), np.zeros(400)
    found = paired_over_blocks([scores_of(a)] * 2, [scores_of(b)] * 2)  # seeds that agree add nothing
    student = paired_over_clips([scores_of(a)], [scores_of(b)])
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=0.02)
    assert found.mean == pytest.approx(student.mean)


def test_nothing_is_drawn_of_one_seed_or_one_recording() -> None:
    assert block_bootstrap(np.ones((1, 4)), range(4)) is None
    assert block_bootstrap(np.ones((3, 4)), "aaaa") is None
    with pytest.raises(ValueError, match="each of 4 clips must have a block, but got 2"):
        paired_over_blocks([scores_of(np.ones(4))], [scores_of(np.ones(4))], (1, 2))
