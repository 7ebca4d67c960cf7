from xml.etree import ElementTree

import pytest

from zoocast.report.figures import StepView, timeline
from zoocast.report.figures.timeline import _Clock, _lanes


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_seeds_share_a_row_and_other_steps_have_their_own() -> None:
    steps = [StepView(f"target.tmu.seed{k}", group="tmu", started=100.0 + 10 * k, finished=120.0 + 10 * k) for k in range(3)]
    shown = texts(timeline([StepView("data", started=90.0, finished=92.0), *steps, StepView("report")]))
    assert {"data", "target.tmu ×3", "3 × 20 s", "2.0 s"} <= set(shown)
    assert "report" not in shown  # it did not run


def test_overlapping_seeds_are_stacked_and_lanes_are_used_again() -> None:
    spans = {"a": (0.0, 10.0), "b": (5.0, 15.0), "c": (10.0, 20.0)}
    steps = [StepView(n, started=a, finished=b) for n, (a, b) in spans.items()]
    assert _lanes(steps) == {"a": 0, "b": 1, "c": 0}


def test_idle_time_is_cut_out() -> None:
    # 100 s of work, then nothing for 2 h 00 min, then 100 s: the axis holds 200 s and a gap of 12 % of them.
    clock = _Clock([(0.0, 100.0), (7300.0, 7400.0)])
    assert clock.length == pytest.approx(224.0)
    assert [clock(t) for t in (0.0, 50.0, 100.0, 7300.0, 7400.0)] == pytest.approx([0.0, 50.0, 100.0, 124.0, 224.0])
    shown = texts(timeline([StepView("a", started=0.0, finished=100.0), StepView("b", started=7300.0, finished=7400.0)]))
    assert "2:00:00 later" in shown
    assert any("idle time cut out" in t for t in shown)


def test_short_waits_are_not_cut_out_of_the_time_axis() -> None:
    assert not _Clock([(0.0, 100.0), (110.0, 200.0)]).cuts()


@pytest.mark.parametrize("steps", [[], [StepView("a", started=5.0, finished=5.0)]])
def test_nothing_to_show_is_still_a_figure(steps: list[StepView]) -> None:
    ElementTree.fromstring(timeline(steps))
