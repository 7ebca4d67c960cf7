"""A step as the figures about the pipeline see it: its name and kind, its colour, and the group of seeds it belongs to."""

from __future__ import annotations

import re
from typing import NamedTuple


class StepView(NamedTuple):
    """A step as the figures see it. `started` and `finished` are seconds since the epoch; None where it did not run."""

    name: str
    inputs: tuple[str, ...] = ()
    started: float | None = None
    finished: float | None = None
    state: str = "done"

    @property
    def kind(self) -> str:
        """The first part of the name, ``target`` for ``target.tmu.seed0``."""
        return self.name.split(".")[0]


_COLORS = {
    "data": "#8a929c",
    "source": "#4477aa",
    "bank": "#228833",
    "stage1": "#a8743f",
    "target": "#d0803c",
    "search": "#a08a00",
    "evaluate": "#aa5599",
    "report": "#5b6470",
}


def step_color(kind: str) -> str:
    """The colour of a kind of step."""
    return _COLORS.get(kind, "#777777")


def group_of(name: str) -> str:
    """The name that the seeds of one arm share: ``target.tmu`` for ``target.tmu.seed0``."""
    return re.sub(r"\.seed\d+$", "", name)


def title(group: str, count: int) -> str:
    """What a group of steps is called: its name and how many it holds."""
    return group if count == 1 else f"{group} ×{count}"


def duration(seconds: float) -> str:
    """Seconds in words: ``850 ms``, ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
