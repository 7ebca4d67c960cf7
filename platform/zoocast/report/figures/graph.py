"""How the steps of a pipeline hang together: a layered drawing in SVG, without a graph library.

Layers come from the longest path to the end, the order within a layer from barycentres, positions from least squares.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from zoocast.report.figures.steps import StepView, grouped, step_color, title
from zoocast.report.figures.style import INK, MUTED, PAPER, styled, svg, text_width

_ROW, _BOX, _GAP, _PAD = 40.0, 27.0, 38.0, 9.0  # points: from row to row, a box's height, between layers, inside a box


def dag_drawing(steps: Sequence[StepView]) -> str:
    """The steps as boxes in layers from left to right, with an arrow for every input; the seeds of an arm are one box.

    Arrows that follow from others (data -> evaluation beside data -> target -> evaluation) are left out. A step stands as far to
    the right as its consumers allow. Raises `graphlib.CycleError` if the steps are no DAG.
    """
    members = {group[0].name: group for group in grouped(steps)}
    box_of = {step.name: name for name, group in members.items() for step in group}
    parents = {name: {box_of[i] for step in group for i in step.inputs if i in box_of} for name, group in members.items()}
    layers, edges = _layers(reduce_edges(parents))
    boxes = {name: _Box.of(group) for name, group in members.items()}
    rows = _rows(layers, edges, set(boxes))
    widths = [max((boxes[n].width for n in layer if n in boxes), default=0.0) for layer in layers]
    lefts = np.concatenate([[0.0], np.cumsum(np.array(widths) + _GAP)])
    place = {n: (float(lefts[i]), widths[i], rows[n]) for i, layer in enumerate(layers) for n in layer}
    with styled():
        return svg(_draw_graph(boxes, edges, place))


def reduce_edges(parents: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """The smallest graph with the same reachability: an input that another input already needs is dropped."""
    ancestors: dict[str, set[str]] = {}
    for node in graphlib.TopologicalSorter({k: set(v) for k, v in parents.items()}).static_order():
        direct = set(parents.get(node, ()))
        ancestors[node] = direct.union(*(ancestors[p] for p in direct))
    return {node: {p for p in direct if not any(p in ancestors[q] for q in direct)} for node, direct in parents.items()}


class _Box(NamedTuple):
    """What is written in a box, how wide it is in points, and its colour."""

    kind: str
    label: str
    stacked: bool
    width: float
    color: str

    @classmethod
    def of(cls, steps: Sequence[StepView]) -> _Box:
        kind, label = steps[0].kind, title(steps)
        above = "" if kind == label else kind  # a step called `report` of the kind `report` says so once
        width = max(text_width(label, 9, bold=True), text_width(above, 7.5)) + 2 * _PAD
        return cls(above, label, len(steps) > 1, max(width, 54.0), step_color(kind))


def _layers(parents: Mapping[str, set[str]]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Layers by the longest path to the end, and edges cut into pieces that span one layer each by way points."""
    children: dict[str, list[str]] = {n: [] for n in parents}
    for node, direct in parents.items():
        for p in sorted(direct):  # sets have no order, and the same steps are to give the same bytes
            children[p].append(node)
    order = list(graphlib.TopologicalSorter(parents).static_order())
    # Counted from the end, not the start: a step then stands just before its first consumer, and arrows are short.
    depth: dict[str, int] = {}
    for node in reversed(order):
        depth[node] = max((depth[c] + 1 for c in children[node]), default=0)
    deepest = max(depth.values(), default=0)
    layers: list[list[str]] = [[] for _ in range(deepest + 1)]
    for node in parents:
        layers[deepest - depth[node]].append(node)
    edges = []
    for node in parents:
        for child in children[node]:
            # An edge across several layers gets a place in each of them, so that it is led around the boxes there.
            chain = [node]
            for level in range(deepest - depth[node] + 1, deepest - depth[child]):
                chain.append(f"\0{node}\0{level}")  # all long edges of one step share their way points
                if chain[-1] not in layers[level]:
                    layers[level].append(chain[-1])
            chain.append(child)
            edges += [e for e in pairwise(chain) if e not in edges]  # those with common way points have pieces in common
    return layers, edges


def _rows(layers: list[list[str]], edges: Sequence[tuple[str, str]], real: set[str]) -> dict[str, float]:
    """The height of every node in rows: few crossings by the barycentre rule, then straightened."""
    near: dict[str, list[str]] = {n: [] for layer in layers for n in layer}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    rows = {n: float(i) for layer in layers for i, n in enumerate(layer)}

    def settle(index: int, beside: Iterable[int], *, sort: bool) -> None:
        """Put the nodes of a layer level with the mean of their neighbours in the layers `beside`."""
        layer = layers[index]
        seen = {n for i in beside if 0 <= i < len(layers) for n in layers[i]}
        wish = {n: _mean([rows[m] for m in near[n] if m in seen], rows[n]) for n in layer}
        if sort:
            layer.sort(key=wish.__getitem__)
        gaps = [1.0 if a in real and b in real else 0.6 for a, b in pairwise(layer)]  # a line needs less room than a box
        rows.update(zip(layer, spread([wish[n] for n in layer], gaps), strict=True))

    forth = range(len(layers))
    # Each sweep orders a layer by the one before it, forwards and backwards in turn (Sugiyama et al., 1981).
    for _ in range(4):
        for index in forth:
            settle(index, (index - 1,), sort=True)
        for index in reversed(forth):
            settle(index, (index + 1,), sort=True)
    for sweep in (forth, reversed(forth), forth, reversed(forth)):  # the order is found; now between both neighbours
        for index in sweep:
            settle(index, (index - 1, index + 1), sort=False)
    return rows


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def spread(wish: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The positions nearest to `wish` (least squares) that keep their order and at least `gaps` between neighbours."""
    # Less the gaps before it, a position need only not be smaller than the one before: isotonic regression.
    offsets = np.concatenate([[0.0], np.cumsum(gaps)]) if len(wish) else np.zeros(0)
    blocks: list[list[float]] = []  # pool adjacent violators: [mean, count] of positions that must move together
    for target in np.asarray(wish, dtype=float) - offsets:
        blocks.append([float(target), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, count = blocks.pop()
            before = blocks[-1]
            blocks[-1] = [(before[0] * before[1] + value * count) / (before[1] + count), before[1] + count]
    flat = np.concatenate([np.full(int(count), value) for value, count in blocks]) if blocks else np.zeros(0)
    return [float(v) for v in flat + offsets]


def _draw_graph(
    boxes: Mapping[str, _Box], edges: Sequence[tuple[str, str]], place: Mapping[str, tuple[float, float, float]]
) -> Figure:
    right = max((x + w for x, w, _ in place.values()), default=1.0)
    top, bottom = min((r for *_, r in place.values()), default=0.0), max((r for *_, r in place.values()), default=0.0)
    size = (right + 8, (bottom - top + 1) * _ROW + 8)
    figure = Figure(figsize=(size[0] / 72, size[1] / 72))  # one unit of the axes is a point, in which text is measured
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(-4, right + 4)
    ax.set_ylim(size[1] - 4 - _ROW / 2, -4 - _ROW / 2)  # from large to small: row 0 is at the top
    for a, b in edges:
        _draw_edge(ax, a, b, boxes, place, top)
    for group, box in boxes.items():
        x, width, row = place[group]
        _draw_box(ax, box, x + (width - box.width) / 2, (row - top) * _ROW)
    return figure


def _draw_edge(
    ax: Axes, a: str, b: str, boxes: Mapping[str, _Box], place: Mapping[str, tuple[float, float, float]], top: float
) -> None:
    """Straight through a layer's width, where only the row's own box can be, and a bend between layers."""
    (left, width, row), (next_left, next_width, next_row) = place[a], place[b]
    begin = left + (width + boxes[a].width) / 2 if a in boxes else left
    end = next_left + (next_width - boxes[b].width) / 2 if b in boxes else next_left
    y0, y1, half = (row - top) * _ROW, (next_row - top) * _ROW, _GAP / 2
    points = [(begin, y0), (left + width, y0), (left + width + half, y0), (next_left - half, y1), (next_left, y1), (end, y1)]
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO]
    ax.add_patch(PathPatch(Path(points, codes), facecolor="none", edgecolor=MUTED, linewidth=0.9))
    if b in boxes:
        ax.plot([end - 4, end, end - 4], [y1 - 2.6, y1, y1 + 2.6], color=MUTED, linewidth=0.9, solid_joinstyle="miter")


def _draw_box(ax: Axes, box: _Box, x: float, y: float) -> None:
    bottom = y - _BOX / 2
    shape: dict[str, Any] = {"width": box.width, "height": _BOX, "boxstyle": "round,pad=0,rounding_size=4"}
    for shift in (5.0, 2.5, 0.0) if box.stacked else (0.0,):  # from the back to the front
        ax.add_patch(FancyBboxPatch((x + shift, bottom - shift), facecolor=PAPER, edgecolor=box.color, linewidth=1.1, **shape))
    # The tint lies on paper and not in its place, or the boxes behind, and edges, would show through.
    ax.add_patch(FancyBboxPatch((x, bottom), facecolor=box.color, alpha=0.12, linewidth=0, **shape))
    if box.kind:
        ax.text(x + _PAD, y - 6.5, box.kind, fontsize=7.5, color=MUTED, va="center")
    ax.text(x + _PAD, y + (4.5 if box.kind else 0), box.label, fontsize=9, fontweight="bold", va="center", color=INK)
