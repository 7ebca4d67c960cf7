"""The comparison on a part of what was measured: on each kind of clip, and on the last frames of the horizon."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.compare import (
    HEADLINE_METRIC,
    Difference,
    Measured,
    decimals,
    decimals_of,
    difference,
    interval_ends,
    mean_and_spread,
    relative_words,
    signed,
)
from zoocast.report.sections import SectionView

__all__ = ["by_kind", "on_last_frames"]


def by_kind(
    measured: Measured, kinds: Sequence[str], split: str, decisive: Difference | None, *, untrained: Collection[str] = ()
) -> SectionView:
    """Every arm's error on each kind of clip, and the headline's difference there.

    Args:
        kinds: the kind of every clip of `split`, by its index.
        decisive: the difference that the headline tells; None for a report without one.
        untrained: baselines without weights.
    """
    clips = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
    parts = {kind: _each(measured, functools.partial(_of_clips, clips=chosen)) for kind, chosen in clips.items()}
    errors = {
        k: {arm: [s.overall(HEADLINE_METRIC) for s in seeds.values()] for arm, seeds in p.items()} for k, p in parts.items()
    }
    digits = decimals_of([values for arms in errors.values() for values in arms.values()])
    rows = [(arm, *(mean_and_spread(errors[kind][arm], digits) for kind in clips)) for arm in measured]
    sentences = []
    if decisive is not None and decisive.verdict != "small":
        found = {kind: difference(part, decisive.arm, decisive.other, untrained=untrained) for kind, part in parts.items()}
        differences = {kind: d for kind, d in found.items() if d is not None}
        rows += _difference_rows(differences)
        told = "; ".join(f"{kind}: {relative_words(d)}" for kind, d in differences.items())
        sentences = [f"{HEADLINE_METRIC} of {decisive.arm}, compared with {decisive.other}, by kind of clip: {told}."]
    return SectionView(
        name="kinds",
        title="Kinds of clips",
        sentences=tuple(sentences),
        caption=f"{HEADLINE_METRIC} of every arm on each kind of clip of the {split} split: mean ± standard deviation over seeds."
        + (
            " Below, the comparison of the headline on that kind alone, paired by seed, each interval by itself."
            * bool(sentences)
        ),
        columns=("arm", *(f"{kind}, {len(chosen)} clip{'s' * (len(chosen) != 1)}" for kind, chosen in clips.items())),
        rows=tuple(rows),
    )


def _difference_rows(differences: Mapping[str, Difference]) -> list[tuple[str, ...]]:
    found = list(differences.values())
    digits = decimals([d.mean for d in found], [abs(d.mean) / 10 for d in found])
    return [
        (f"{found[0].arm} minus {found[0].other}", *(signed(d.mean, digits) for d in found)),
        ("its 95 % interval over seeds", *(interval_ends(d.seeds, digits) if d.seeds else "–" for d in found)),
        ("relative", *(f"{signed(100 * d.relative, 1)}\N{NO-BREAK SPACE}%" for d in found)),
        ("lower in seeds", *(f"{d.better} of {d.count}" for d in found)),
    ]


def on_last_frames(measured: Measured, decisive: Difference | None, *, untrained: Collection[str] = ()) -> str:
    """The headline's difference on the last third of the horizon, in a sentence; empty where nothing can be concluded."""
    if decisive is None or decisive.verdict == "small":
        return ""
    horizon = len(next(iter(measured[decisive.arm].values())).per_frame(HEADLINE_METRIC))
    frames = math.ceil(horizon / 3)
    part = _each(measured, functools.partial(_of_last_frames, frames=frames))
    found = difference(part, decisive.arm, decisive.other, untrained=untrained)
    if found is None or frames == horizon:
        return ""
    return (
        f"On the last {frames} of {horizon} predicted frames {HEADLINE_METRIC} of {found.arm}, compared with {found.other}, is"
        f" {relative_words(found)}."
    )


def _each(measured: Measured, change: Callable[[Scores], Scores]) -> Measured:
    return {arm: {seed: change(scores) for seed, scores in seeds.items()} for arm, seeds in measured.items()}


def _of_clips(scores: Scores, clips: Sequence[int]) -> Scores:
    """Scores of some clips alone, of which only the headline metric is known, as one number for the whole horizon."""
    errors = {i: scores.clip_mse[i] for i in clips}
    return Scores(Statistics(len(errors), {HEADLINE_METRIC: (sum(errors.values()),)}), errors)


def _of_last_frames(scores: Scores, frames: int) -> Scores:
    """Scores on the last frames alone; what belongs to a clip is still of all of them."""
    sums = {HEADLINE_METRIC: scores.statistics.sums[HEADLINE_METRIC][-frames:]}
    return dataclasses.replace(scores, statistics=Statistics(scores.count, sums))
