import itertools

import numpy as np
import pytest
import xarray
from scores.probability import crps_for_ensemble, rank_histogram

from zoocast.metrics.ensemble import fair_crps, ranks, reliability, spread_and_skill

RANDOM = np.random.default_rng(0)
MEMBERS, TRUTH = RANDOM.random((4, 3, 2, 5, 6)), RANDOM.random((3, 2, 5, 6))
DIMS = ("clip", "time", "y", "x")


def test_fair_crps_by_hand() -> None:
    # Members 1, 2, 4 and the truth 2: mean distance (1 + 0 + 2) / 3; pairs 1 + 3 + 2 = 6, over 3 * 2.
    assert fair_crps(np.array([[4.0], [1.0], [2.0]]), np.array([2.0])) == pytest.approx([1 - 1])
    pairs = sum(abs(MEMBERS[i] - MEMBERS[j]) for i, j in itertools.combinations(range(4), 2))
    assert fair_crps(MEMBERS, TRUTH) == pytest.approx(abs(MEMBERS - TRUTH).mean(0) - pairs / 12)


def test_fair_crps_and_ranks_are_those_of_the_package_scores() -> None:
    members, truth = xarray.DataArray(MEMBERS, dims=("member", *DIMS)), xarray.DataArray(TRUTH, dims=DIMS)
    expected = crps_for_ensemble(members, truth, "member", method="fair", preserve_dims="time").to_numpy()
    assert fair_crps(MEMBERS, TRUTH).mean((0, 2, 3)) == pytest.approx(expected)
    assert ranks(MEMBERS, TRUTH) / TRUTH.size == pytest.approx(rank_histogram(members, truth, "member").to_numpy())


def test_a_truth_that_equals_members_is_shared_among_the_ranks_it_could_have() -> None:
    members = np.array([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    assert ranks(members, np.array([0.0, 3.0, np.nan])) == pytest.approx([1 / 3, 1 / 3, 1 / 3 + 1])


def test_spread_is_skill_where_the_truth_is_like_one_more_member() -> None:
    drawn = np.random.default_rng(1).normal(size=(4, 200_000))
    variance, squared = spread_and_skill(drawn[:3], drawn[3])
    assert variance[0] == pytest.approx(drawn[:3, 0].var(ddof=1) * 4 / 3)
    assert variance.mean() == pytest.approx(squared.mean(), rel=0.02)


def test_reliability_counts_votes_and_how_often_the_event_came() -> None:
    members = np.array([[1.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0]])
    truth = np.array([1.0, 0.0, 1.0, 0.0, np.nan])
    assert reliability(members, truth, (1.0,))[0].tolist() == [[2, 1], [1, 0], [1, 1]]
