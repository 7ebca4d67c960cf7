"""Who is compared with whom, and by how much they differ: paired by seed and by clip, never chosen on the test split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal

import numpy as np

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.evaluation import (
    PairedDifference,
    Scores,
    paired_difference,
    paired_over_blocks,
    paired_over_both,
    paired_over_clips,
    relative_difference,
)

__all__ = [
    "HEADLINE_METRIC",
    "MIN_ITERATIONS",
    "MIN_SEEDS",
    "Comparison",
    "Difference",
    "Measured",
    "best_arm",
    "check_arms",
    "compare",
    "decimals",
    "decimals_of",
    "difference",
    "interval_ends",
    "mean_and_spread",
    "percents",
    "relative_words",
    "signed",
]

HEADLINE_METRIC = "strict/mse"
MIN_SEEDS = 3
"""In common, for a verdict. Two seeds have one distance between them, and how wide their interval is depends on it alone."""
MIN_ITERATIONS = 100
"""Of the shortest training of either arm, for a verdict. What a network has learnt from a few batches says how it starts."""
MAX_HALF_WIDTH = 0.5
"""Half the interval over seeds as a part of the other arm's error. A wider one could not tell half of an error from all of it."""

Verdict = Literal["won", "lost", "open", "small"]
Interval = tuple[float, float]
Measured = Mapping[str, Mapping[int, Scores]]
"""The scores of every arm by seed; a baseline without weights has one entry."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whose comparison is the headline: two sides, each an arm or several, and what they are called within a sentence.

    Where a side has several arms, the one with the lowest error on the validation split stands for it: chosen on the test split,
    its error would be too low by what chance gave it.
    """

    ours: tuple[str, ...] = setting(help="arms that the report is about")
    rival: tuple[str, ...] = setting(help="arms that they are to beat")
    ours_words: str = setting(help="what the first are called within a sentence")
    rival_words: str = setting(help="what the others are called within a sentence")

    def __post_init__(self) -> None:
        for name in ("ours", "rival"):
            if not getattr(self, name):
                raise ConfigError(name, "must name at least one arm, but got none")
        if both := sorted({*self.ours} & {*self.rival}):
            raise ConfigError("rival", f"must be other arms than ours, but both name {', '.join(both)}")

    def check(self, arms: Collection[str]) -> None:
        """Raise `ConfigError` unless all arms that are named are among `arms`."""
        check_arms("ours", self.ours, arms)
        check_arms("rival", self.rival, arms)


def check_arms(field: str, named: Collection[str], arms: Collection[str]) -> None:
    """Raise `ConfigError` for `field` unless all that it names are among `arms`."""
    if missing := [arm for arm in named if arm not in arms]:
        raise ConfigError(field, f"must be arms of the report ({', '.join(arms)}), but got {', '.join(missing)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """`arm` minus `other` in the headline metric (lower is better), paired by seed, with 95 % intervals.

    Attributes:
        relative: the difference as a part of the other arm's error; `relative_seeds` is its interval over seeds.
        seeds: the interval over seeds, None for fewer than two; `count` is their number, `better` in how many `arm` is better.
        clips: the interval over test clips with the trained weights as they are, None where it is unknown.
        both: the interval over seeds and test clips at once, None where it is unknown.
        blocks: that of a bootstrap over seeds and recordings, None where it is unknown.
        too_small: why nothing can be concluded, in sentences; empty where something can.
        chosen: whether `other` is the rival of the comparison.
    """

    arm: str
    other: str
    mean: float
    relative: float
    relative_seeds: Interval | None
    seeds: Interval | None
    clips: Interval | None
    both: Interval | None
    count: int
    better: int
    blocks: Interval | None = None
    too_small: str = ""
    chosen: bool = False

    @property
    def verdict(self) -> Verdict:
        """Too small to compare, or whether the interval over seeds lies below zero (won), above it (lost), or neither."""
        # Over seeds alone: the interval over clips says nothing of what training again would give.
        if self.too_small or self.seeds is None:
            return "small"
        return "won" if self.seeds[1] < 0 else "lost" if self.seeds[0] > 0 else "open"


def compare(
    measured: Measured,
    validation: Mapping[str, float],
    comparison: Comparison,
    *,
    untrained: Collection[str] = (),
    iterations: Mapping[str, int] | None = None,
    sequences: Sequence[Hashable] = (),
) -> tuple[Difference, ...]:
    """Our arm minus every other one, in the order of `measured`; arms that have no seed in common with ours are left out.

    Args:
        validation: the error of every trained arm on the validation split, which chooses where a side has several arms.
        untrained: baselines without weights.
        iterations: of each arm's shortest training, where they are known.
        sequences: the recording of every clip; empty where that is not known.

    Raises:
        ConfigError: the comparison names arms that are not in `measured`, or several of which none was trained.
    """
    comparison.check(measured)
    ours, rival = (best_arm(name, getattr(comparison, name), validation) for name in ("ours", "rival"))
    others = (other for other in measured if other != ours)
    found = (
        difference(measured, ours, other, untrained=untrained, iterations=iterations, sequences=sequences) for other in others
    )
    return tuple(dataclasses.replace(d, chosen=d.other == rival) for d in found if d is not None)


def best_arm(side: str, arms: Sequence[str], validation: Mapping[str, float]) -> str:
    """The arm that stands for a side of a comparison: of several the one with the lowest error on the validation split.

    Raises:
        ConfigError: for the field `side`, when there are several and none was trained.
    """
    if len(arms) == 1:
        return arms[0]
    known = [arm for arm in arms if math.isfinite(validation.get(arm, math.nan))]
    if not known:
        raise ConfigError(side, f"must be one arm, or trained ones to choose from by validation, but got {', '.join(arms)}")
    return min(known, key=validation.__getitem__)  # of equal ones the first named, so the choice is always the same


def difference(
    measured: Measured,
    arm: str,
    other: str,
    *,
    untrained: Collection[str] = (),
    iterations: Mapping[str, int] | None = None,
    sequences: Sequence[Hashable] | None = None,
) -> Difference | None:
    """`arm` minus `other` over the seeds that both have; None where they have none in common.

    Seeds are paired because both arms saw the same clips in the same order under one seed, which cancels in the difference.
    `iterations` are those of each arm's shortest training, where they are known. With `sequences`, as in `compare`, there is a
    bootstrap too.
    """
    a, b = measured[arm], measured[other]
    # A baseline without weights knows no seeds: its one entry stands beside every seed of the other arm.
    pairs = [(s, next(iter(b))) for s in a] if other in untrained else [(s, s) for s in a if s in b]
    if not pairs:
        return None
    scores_a, scores_b = [a[s] for s, _ in pairs], [b[s] for _, s in pairs]
    values_a, values_b = ([s.overall(HEADLINE_METRIC) for s in scores] for scores in (scores_a, scores_b))
    seeds, relative = paired_difference(values_a, values_b), relative_difference(values_a, values_b)
    clips, both = paired_over_clips(scores_a, scores_b), paired_over_both(scores_a, scores_b)
    return Difference(
        arm=arm,
        other=other,
        mean=seeds.mean,
        relative=relative.mean,
        relative_seeds=_interval(relative),
        seeds=_interval(seeds),
        clips=_interval(clips),
        both=_interval(both),
        blocks=None if sequences is None else _interval(paired_over_blocks(scores_a, scores_b, sequences)),
        count=seeds.count,
        better=sum(x < y for x, y in zip(values_a, values_b, strict=True)),
        too_small=_too_small(seeds, float(np.mean(values_b)), {a: n for a, n in (iterations or {}).items() if a in (arm, other)}),
    )


def _too_small(seeds: PairedDifference, error: float, iterations: Mapping[str, int]) -> str:
    """Why the size of an experiment allows no verdict; empty where it does.

    Args:
        error: of the other arm, by which the width of the interval is judged.
        iterations: of the arms that are compared.
    """
    reasons = []
    if seeds.count < MIN_SEEDS:
        reasons.append(f"A comparison asks for at least {MIN_SEEDS} seeds that both arms have, and there are {seeds.count}.")
    shortest = min(iterations, key=iterations.__getitem__, default="")
    if shortest and iterations[shortest] < MIN_ITERATIONS:
        reasons.append(
            f"A comparison asks for at least {MIN_ITERATIONS} iterations, and {shortest} was trained for {iterations[shortest]}."
        )
    interval = _interval(seeds)
    if interval and interval[0] <= 0 <= interval[1] and seeds.mean - interval[0] > MAX_HALF_WIDTH * error:
        reasons.append("The interval over seeds is so wide that half of an error could not be told from all of it.")
    return " ".join(reasons)


def _interval(found: PairedDifference) -> Interval | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


# ---------------------------------------------------------------------------------------------------------------- numbers


def signed(value: float, digits: int) -> str:
    """A number that always carries its sign; zero has none."""
    text = f"{value:+.{digits}f}"
    # Judged by the text, for what rounds to zero has no sign either.
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def interval_ends(interval: Interval, digits: int) -> str:
    """Both ends of an interval, each with its sign: ``−0.00177 to +0.00222``."""
    return f"{signed(interval[0], digits)} to {signed(interval[1], digits)}"


def percents(interval: Interval) -> str:
    """Both ends of a relative interval in words: ``6.9 to 9.3 % lower``, or ``2.2 % lower to 0.1 % higher``."""
    low, high = (100 * end for end in interval)
    if low * high > 0:
        near, far = sorted((abs(low), abs(high)))
        return f"{near:.1f} to {far:.1f}\N{NO-BREAK SPACE}% {'lower' if high < 0 else 'higher'}"
    return f"{abs(low):.1f}\N{NO-BREAK SPACE}% lower to {abs(high):.1f}\N{NO-BREAK SPACE}% higher"


def relative_words(d: Difference) -> str:
    """How much lower or higher the error of ``d.arm`` is, with its interval over seeds, and in how many of them it is lower."""
    interval = f"95\N{NO-BREAK SPACE}% interval {percents(d.relative_seeds)}, " if d.relative_seeds else ""
    return (
        f"{100 * abs(d.relative):.1f}\N{NO-BREAK SPACE}% {'lower' if d.mean <= 0 else 'higher'}"
        f" ({interval}lower in {d.better} of {d.count} seeds)"
    )


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation over seeds as text; of one seed the mean alone."""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def decimals_of(groups: Sequence[Sequence[float]]) -> int:
    """`decimals` for the means of groups of seeds, whose spreads are their standard deviations."""
    return decimals([float(np.mean(v)) for v in groups], [float(np.std(v, ddof=1)) for v in groups if len(v) > 1])


def decimals(values: Sequence[float], spreads: Sequence[float]) -> int:
    """Decimals that show two digits of the typical spread, but at most five of the largest value; four without a spread."""
    known = [s for s in spreads if s > 0 and math.isfinite(s)]
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    magnitude = _magnitude(largest) if largest > 0 else 0
    # Of a spread of 0.0123, magnitude -2, three decimals show 0.012. Without one: four digits of the largest value.
    wanted = 1 - _magnitude(float(np.median(known))) if known else 3 - magnitude
    return max(0, min(wanted, 4 - magnitude, 8))


def _magnitude(value: float) -> int:
    """The power of ten of the first digit; a rounding error below a power counts as the power."""
    return math.floor(math.log10(value) + 1e-9)
