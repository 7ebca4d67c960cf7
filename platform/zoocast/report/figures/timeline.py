"""When the steps of a pipeline ran, as a Gantt chart in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from zoocast.report.figures.steps import StepView, grouped, step_color, title
from zoocast.report.figures.style import MUTED, bare_rows, styled, svg
from zoocast.words import duration


def timeline(steps: Sequence[StepView]) -> str:
    """When each step ran, one row per step; the seeds of an arm share a row and are stacked where they overlap.

    Stretches in which nothing ran (results taken from an earlier run) are cut out of the time axis and marked. Steps without
    times are left out.
    """
    timed = sorted((s for s in steps if s.started is not None and s.finished is not None), key=lambda s: (s.started, s.name))
    groups = {members[0].name: members for members in grouped(timed)}
    clock = _Clock([_span(s) for s in timed])
    lanes = {name: _lanes(members) for name, members in groups.items()}
    heights = {name: 1.0 + 0.45 * (max(lane.values()) if lane else 0) for name, lane in lanes.items()}
    with styled():
        figure = Figure(figsize=(7.6, 0.85 + 0.215 * sum(heights.values())), layout="constrained")
        ax = figure.subplots()
        y, ticks = 0.0, []
        for name, members in groups.items():
            for step in members:
                _bar(ax, step, clock, y + 0.45 * lanes[name][step.name], 0.68 if heights[name] == 1 else 0.36)
            ticks.append(y + heights[name] / 2 - 0.5)
            last = max(_span(s)[1] for s in members)
            mean = sum(_span(s)[1] - _span(s)[0] for s in members) / len(members)
            text = duration(mean) if len(members) == 1 else f"{len(members)} × {duration(mean)}"
            ax.annotate(text, (clock(last), ticks[-1]), (4, 0), textcoords="offset points", va="center", color=MUTED, size=8)
            y += heights[name]
        ax.set_yticks(ticks, [title(members) for members in groups.values()])
        _time_axis(ax, clock, y)
        return svg(figure)


class _Clock:
    """Maps time to the axis: seconds since the start, with long idle stretches cut down to a narrow gap."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        sessions: list[list[float]] = []
        busy = sum(b - a for a, b in spans)
        # Up to a quarter of the work a pause takes little of the axis, and is shown as it was.
        longest_wait = max(30.0, 0.25 * busy)
        for start, stop in sorted(spans):
            if sessions and start - sessions[-1][1] <= longest_wait:
                sessions[-1][1] = max(sessions[-1][1], stop)
            else:
                sessions.append([start, stop])
        worked = sum(b - a for a, b in sessions)
        self.sessions = sessions
        self.gap = 0.12 * worked
        self.length = worked + self.gap * max(0, len(sessions) - 1)

    def __call__(self, time: float) -> float:
        before = 0.0
        for start, stop in self.sessions:
            if time <= stop:
                return before + max(0.0, time - start)
            before += stop - start + self.gap
        return before

    def cuts(self) -> list[tuple[float, float]]:
        """For each cut its place on the axis and the seconds left out."""
        return [(self(a[1]) + 0.9 * self.gap, b[0] - a[1]) for a, b in pairwise(self.sessions)]


_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 604800)


def _span(step: StepView) -> tuple[float, float]:
    start = step.started or 0.0
    return start, max(start, step.finished or start)


def _lanes(members: Sequence[StepView]) -> dict[str, int]:
    """The first free lane for each step, in the order of their start."""
    ends: list[float] = []
    out = {}
    for step in members:
        start, stop = _span(step)
        lane = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        ends[lane : lane + 1] = [stop]
        out[step.name] = lane
    return out


def _bar(ax: Axes, step: StepView, clock: _Clock, y: float, height: float) -> None:
    start, stop = _span(step)
    x = clock(start)
    width = max(clock(stop) - x, clock.length * 0.002)  # a step of milliseconds is a line and not nothing
    ax.barh(y, width, height, left=x, color=step_color(step.kind))


def _time_axis(ax: Axes, clock: _Clock, rows: float) -> None:
    ax.set_ylim(rows - 0.4, -0.6)  # from large to small: the first step is at the top
    ax.set_xlim(0, clock.length * 1.09 or 1.0)  # with room for the words behind the last bar
    bare_rows(ax)
    # matplotlib's own ticks are at tens and fifties, which are no round times.
    step = next((s for s in _TICKS if clock.length <= 8 * s), _TICKS[-1])
    ax.xaxis.set_major_locator(MultipleLocator(step))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock_time(value)))
    ax.set_xlabel("time since the first step began" + (", idle time cut out" if clock.cuts() else ""))
    for place, left_out in clock.cuts():
        ax.axvline(place, color=MUTED, linewidth=0.9, dashes=(2, 2))
        ax.annotate(f"{duration(left_out)} later", (place, -0.6), (3, 2), textcoords="offset points", color=MUTED, size=8)


def _clock_time(seconds: float) -> str:
    # Not `words.duration`, which changes from seconds to minutes: the labels of an axis have one form.
    if seconds < 1:
        return f"{seconds:.1g}"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
