"""A step as the figures about the pipeline see it: its name and kind, its colour, and the steps that it is drawn with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple


class StepView(NamedTuple):
    """A step as the figures see it.

    Attributes:
        kind: what sort of work it is, as its record says; it decides the colour.
        group: steps of equal kind and group (the seeds of an arm, say) are drawn as one; a step without a group stands alone.
        started, finished: seconds since the epoch; None where it did not run.
    """

    name: str
    inputs: tuple[str, ...] = ()
    kind: str = ""
    group: str = ""
    started: float | None = None
    finished: float | None = None


# Blue for what makes sources, green for the bank, orange for what trains on the target.
_COLORS = {
    "build-clips": "#8a929c",
    "pretrain-source": "#4477aa",
    "adopt-source": "#4477aa",
    "rank-sources": "#66a0c8",
    "build-bank": "#228833",
    "train-bidirectional": "#a8743f",
    "train-target": "#d0803c",
    "adapt": "#d0803c",
    "adapt-found": "#d0803c",
    "train-chosen": "#d0803c",
    "search": "#a08a00",
    "try-point": "#a08a00",
    "choose-point": "#a08a00",
    "evaluate": "#aa5599",
    "report": "#5b6470",
}
_NEUTRAL = "#777777"


def step_color(kind: str) -> str:
    """The colour of a kind of step; grey for kinds that are not known here."""
    return _COLORS.get(kind, _NEUTRAL)


def grouped(steps: Iterable[StepView]) -> list[list[StepView]]:
    """The steps that are drawn as one, in the order in which their first members come."""
    found: dict[tuple[str, ...], list[StepView]] = {}
    for step in steps:
        found.setdefault((step.kind, step.group) if step.group else ("", "", step.name), []).append(step)
    return list(found.values())


def title(members: Sequence[StepView]) -> str:
    """What steps that are drawn as one are called: the parts that their names begin with alike, and how many they are."""
    if len(members) == 1:
        return members[0].name
    # `target.tmu.seed0` and `target.tmu.seed1` are `target.tmu`: whole parts, never a half of a name.
    places = zip(*(step.name.split(".") for step in members), strict=False)
    shared = ".".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, places))
    return f"{shared or members[0].name} ×{len(members)}"
