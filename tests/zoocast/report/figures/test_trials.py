import math
import re
from xml.etree import ElementTree

import pytest

from zoocast.report.figures import (
    FieldView,
    TrialView,
    importance_bars,
    level_rates,
    order_of_levels,
    parallel_coordinates,
    search_history,
)
from zoocast.report.figures.style import text_width
from zoocast.report.figures.trials import BEST, FAILED, UNCHAINED, WORST

SVG = "{http://www.w3.org/2000/svg}"
RATE = FieldView("adapter.rate", 1e-5, 1e-3, log=True)
CHAIN = FieldView("adapter.chain", choices=("none", "upwards"))
RATIO = FieldView("adapter.ratio", 1.0, 4.0)
FIELDS = (RATE, CHAIN, RATIO)


def trial(number: int, error: float | None, state: str = "done", **params: object) -> TrialView:
    settings = {"adapter.rate": 1e-4, "adapter.chain": "none"} | {f"adapter.{k}": v for k, v in params.items()}
    return TrialView(number, state, error, 100, settings)  # type: ignore[arg-type]


TRIALS = (
    trial(0, 0.044, chain="upwards", ratio=2.0),
    trial(1, 0.041),
    trial(2, 0.045, "stopped"),
    trial(3, None, "failed"),
    trial(4, 0.043),
)


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def lines(svg: str, color: str) -> list[list[tuple[float, float]]]:
    """Corners of the paths that are stroked in `color` and not filled, without those in definitions of markers."""
    tree = ElementTree.fromstring(svg)
    for parent in list(tree.iter()):
        for definitions in parent.findall(f"{SVG}defs"):
            parent.remove(definitions)
    found = [
        p for p in tree.iter(f"{SVG}path") if f"stroke: {color}" in p.get("style", "") and "fill: none" in p.get("style", "")
    ]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", p.get("d", ""))] for p in found]


def test_a_value_lies_on_its_axis_where_its_scale_puts_it() -> None:
    # 1e-4 is the middle of 1e-5 to 1e-3 in logarithms; 1.75 a quarter of the way from 1 to 4; two choices share the axis.
    assert RATE.place(1e-4) == pytest.approx(0.5)
    assert RATIO.place(1.75) == pytest.approx(0.25)
    assert [CHAIN.place(c) for c in CHAIN.choices] == [0.25, 0.75]
    assert FieldView("x", 3, 3).place(3) == 0.5


def test_an_axis_names_decades_steps_or_choices() -> None:
    assert RATE.ticks() == [(pytest.approx(p), label) for p, label in ((0.0, "1e−05"), (0.5, "0.0001"), (1.0, "0.001"))]
    assert FieldView("e", 0.04, 0.04).ticks() == [(0.5, "0.04")]
    assert [label for _, label in FieldView("n", 1, 3).ticks()] == ["1", "2", "3"]
    assert [label for _, label in FieldView("x", 1.0, 2.0).ticks()] == ["1.0", "1.2", "1.4", "1.6", "1.8", "2.0"]
    assert [label for _, label in CHAIN.ticks()] == ["none", "upwards"]
    assert [label for _, label in FieldView("n", choices=(True, None, 10.0, 3)).ticks()] == ["true", "none", "10", "3"]
    assert [label for _, label in FieldView("e", 0.0402, 0.0406).ticks()] == ["0.0402", "0.0403", "0.0404", "0.0405", "0.0406"]


def test_the_history_marks_every_trial_by_how_it_ended() -> None:
    shown = texts(search_history(TRIALS, 1))
    assert {"lowest so far", "chosen", "whole budget", "stopped early", "failed"} <= set(shown)
    assert "failed" not in texts(search_history(TRIALS[:3], 1))


def test_the_lowest_so_far_falls_where_a_trial_is_better_and_reaches_the_last() -> None:
    (course, *_) = lines(search_history(TRIALS, 1), BEST)
    # Lowest 0.044, then 0.041 from trial 1 on: two heights, the later one lower (y grows downwards), and three corners between.
    heights = list(dict.fromkeys(y for _, y in course))
    assert len(heights) == 2
    assert heights[1] > heights[0]
    fall = next(x for x, y in course if y == heights[1])
    start, end = course[0][0], course[-1][0]
    assert (fall - start) / (end - start) == pytest.approx(1 / 4, abs=1e-4)


def test_a_failed_trial_is_a_cross_above_the_scale() -> None:
    svg = search_history(TRIALS, 1)
    tree = ElementTree.fromstring(svg)
    crosses = [u for u in tree.iter(f"{SVG}use") if FAILED in u.get("style", "")]
    marks = [u for u in tree.iter(f"{SVG}use") if WORST in u.get("style", "")]
    assert len(crosses) == 2  # the trial's, and the legend's
    assert min(float(c.get("y", "")) for c in crosses) < min(float(m.get("y", "")) for m in marks)


def test_an_error_far_above_most_is_written_at_the_edge() -> None:
    near = [trial(i, 0.04 + 0.0001 * i) for i in range(8)]
    shown = texts(search_history([*near, trial(8, 0.9)], 0))
    assert "0.9 →" in shown
    assert "0.5" not in shown  # the axis ends before
    # The others span 0.04 to 0.0407, and the axis 6 % more.
    assert "above 0.04074" in texts(parallel_coordinates([*near, trial(8, 0.9)], [RATE], 0))


def test_importance_is_sorted_and_in_per_cent() -> None:
    shown = texts(importance_bars({"moments": 0.2, "rate": 0.7, "<b>": 0.1}))
    names = [t for t in shown if t in ("moments", "rate", "<b>")]
    assert names == ["rate", "moments", "<b>"]
    assert {"70 %", "20 %", "10 %"} <= set(shown)


def test_axes_are_named_without_what_their_names_share() -> None:
    shown = texts(parallel_coordinates(TRIALS, FIELDS, 1))
    assert {"rate", "chain", "ratio", "error", "upwards", "none", "failed"} <= set(shown)
    # A name breaks after underscores, and dots where the rest is not shared.
    assert {"a.", "x", "b.", "y_", "z"} <= set(texts(parallel_coordinates(TRIALS, [FieldView("a.x"), FieldView("b.y_z")], 1)))


def test_a_conditional_field_is_a_gap_and_the_chosen_trial_is_thick() -> None:
    svg = parallel_coordinates(TRIALS, (RATE, RATIO, CHAIN), 1)
    (failed, *_) = lines(svg, FAILED)
    assert len(failed) == 3  # rate, then a gap, chain and the end above the scale
    assert len({x for x, _ in failed}) == 3
    assert svg.count("stroke-width: 2.6") == 2  # the chosen trial, and the legend


def test_the_legend_of_a_narrow_figure_has_as_many_rows_as_it_needs() -> None:
    one = [FieldView("rate", 1e-5, 1e-3, True)]
    trials = [TrialView(0, "done", 0.04, 9, {"rate": 1e-4}), TrialView(1, "stopped", 0.05, 3, {"rate": 3e-4})]
    trials.append(TrialView(2, "failed", None, 3, {"rate": 9e-4}))
    svg = parallel_coordinates(trials, one, 0)
    width = float(re.findall(r'width="([\d.]+)pt"', svg)[0])
    ends = {}
    for text in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        if text.text in ("chosen", "whole budget", "stopped early", "failed"):
            ends[text.text] = float(text.attrib["x"]) + text_width(text.text, 9)
    assert len(ends) == 4
    assert max(ends.values()) < width


def test_lines_end_at_their_errors_and_are_coloured_by_them() -> None:
    svg = parallel_coordinates(TRIALS, [RATE], 1)
    (best, *_), (worst, *_), (failed, *_) = (lines(svg, color) for color in (BEST, WORST, FAILED))
    # All start at the same rate; the lowest error lies at the bottom, the highest at the top, failed ones above.
    assert best[0] == worst[0] == failed[0]
    assert best[1][1] > worst[1][1] > failed[1][1]


@pytest.mark.parametrize("draw", [lambda t: search_history(t, 0), lambda t: parallel_coordinates(t, FIELDS, 0)])
def test_a_study_of_one_trial_is_drawn_and_always_alike(draw) -> None:
    assert draw([trial(0, 0.04)]) == draw([trial(0, 0.04)])
    assert draw([trial(0, 0.0)])


def test_levels_are_ordered_from_the_bottom_to_the_head() -> None:
    levels = ["reverse.head", "forward.adapter", "forward.head", "forward.cells.10", "forward.cells.2", "reverse.cells.0"]
    assert order_of_levels(levels) == [
        "forward.cells.2",
        "forward.cells.10",
        "forward.head",
        "forward.adapter",
        "reverse.cells.0",
        "reverse.head",
    ]
    assert order_of_levels(["head", "bridge", "cells.0"]) == ["cells.0", "head", "bridge"]


def test_rates_have_a_panel_per_direction_and_a_line_for_the_initial_one() -> None:
    names = ("cells.0", "cells.1", "head", "adapter")
    curve = ([10, 20], [1e-4, 1.5e-4])
    rates = {f"{d}.{name}": curve for d in ("forward", "reverse") for name in names}
    shown = texts(level_rates(rates, 1e-4))
    assert [t for t in shown if t in ("forward", "reverse")] == ["forward", "reverse"]
    assert [t for t in shown if t in names] == list(names)  # once, in the legend of both
    assert {"initial rate", "learning rate (×10⁻⁴)"} <= set(shown)
    assert "initial rate" not in texts(level_rates(rates))
    svg = level_rates(rates, 1e-4)
    # The bottom cell, the head and what lies outside the chain: two panels and the legend each.
    assert [len(lines(svg, color)) for color in (WORST, BEST, UNCHAINED)] == [3, 3, 3]


def test_levels_that_move_alike_are_told_apart() -> None:
    svg = level_rates({level: ([1, 2], [1e-4, 2e-4]) for level in ("cells.0", "cells.1", "cells.2", "cells.3", "head")})
    # Above the bottom, which is whole, each of the four has gaps of its own.
    assert len(set(re.findall(r"stroke-dasharray: ([^;]+)", svg))) == 4


@pytest.mark.parametrize("values", [[0.0, 0.0], [math.nan, 1e-4], [2e-7, 3e-2]])
def test_rates_of_any_size_are_drawn(values: list[float]) -> None:
    assert "cells.0" in texts(level_rates({"cells.0": ([1, 2], values)}))
