"""Several predictions of one truth as an ensemble: how good their distribution is, and whether it is as wide as it is wrong.

Trainings of one arm with several seeds are such predictions, and cost nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["fair_crps", "ranks", "reliability", "spread_and_skill"]

Members = NDArray[np.floating]
"""(M, ...): the predictions of M members."""


def fair_crps(members: Members, truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """The continuous ranked probability score of every value, as an infinite ensemble of such members would have it on average.

    mean |x_i - y| - sum_{i<j} |x_i - x_j| / (M (M - 1)) (Ferro, Quarterly Journal 140, 2014), in the unit of the values; (M, ...)
    of at least two members and (...) to (...).
    """
    count = len(members)
    ordered = np.sort(members.astype(np.float64), axis=0)
    # Of sorted values, the k-th is the larger of k pairs and the smaller of the others.
    ranks_of = 2.0 * np.arange(count) - count + 1
    pairs = np.tensordot(ranks_of, ordered, 1)
    return np.abs(ordered - truth).mean(0) - pairs / (count * (count - 1))


def spread_and_skill(members: Members, truth: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every value the variance between members, unbiased and widened by (M + 1) / M, and the squared error of their mean.

    Over many values both have the same mean where the truth is like one more member (Fortin et al., Journal of
    Hydrometeorology 15, 2014).
    """
    count = len(members)
    values = members.astype(np.float64)
    return values.var(0, ddof=1) * (count + 1) / count, (values.mean(0) - truth) ** 2


def ranks(members: Members, truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """How often the truth had each rank among the M members, (M + 1,): flat where it is like one of them.

    A truth that equals members counts in equal parts for each rank that it could have among them. Missing truths count nowhere.
    """
    known = ~np.isnan(truth)
    below, equal = (compared(members, truth).sum(0)[known] for compared in (np.less, np.equal))
    out = np.zeros(len(members) + 1)
    for low, many in np.unique(np.stack([below, equal], 1), axis=0):
        out[low : low + many + 1] += np.count_nonzero((below == low) & (equal == many)) / (many + 1)
    return out


def reliability(members: Members, truth: NDArray[np.floating], thresholds: Sequence[float]) -> NDArray[np.float64]:
    """How often an event came that k of M members forecast: (thresholds, M + 1, 2), counts of values and of events among them.

    An event is a value of at least the threshold.
    """
    known = ~np.isnan(truth)
    out = np.empty((len(thresholds), len(members) + 1, 2))
    for row, threshold in zip(out, thresholds, strict=True):
        votes, came = (members >= threshold).sum(0)[known], (truth >= threshold)[known]
        row[:, 0] = np.bincount(votes, minlength=len(row))
        row[:, 1] = np.bincount(votes[came], minlength=len(row))
    return out
