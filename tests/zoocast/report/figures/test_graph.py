import graphlib
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from zoocast.report.figures import StepView, dag_drawing
from zoocast.report.figures.graph import _layers, _rows, reduce_edges, spread
from zoocast.report.figures.steps import step_color

STEPS = [
    StepView("data", (), "build-clips"),
    StepView("source.a", ("data",), "pretrain-source"),
    StepView("bank", ("data", "source.a"), "build-bank"),
    *(StepView(f"target.tmu.seed{k}", ("data", "bank"), "train-target", "tmu") for k in range(3)),
    StepView("evaluate.tmu", ("data", *(f"target.tmu.seed{k}" for k in range(3))), "evaluate"),
    StepView("evaluate.copy-last", ("data",), "evaluate"),
    StepView("report", ("evaluate.tmu", "evaluate.copy-last"), "report"),
]


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_steps_of_a_group_become_one_box_under_what_their_names_share() -> None:
    shown = texts(dag_drawing(STEPS))
    assert shown.count("target.tmu ×3") == 1
    assert {"data", "bank", "source.a", "evaluate.tmu", "evaluate.copy-last"} <= set(shown)
    assert shown.count("evaluate") == 2  # the kind, above each of them
    assert shown.count("report") == 1  # where the kind is the name


def test_a_group_of_one_keeps_its_name() -> None:
    assert "target.tmu.seed0" in texts(dag_drawing([StepView("target.tmu.seed0", group="tmu")]))


def test_groups_whose_names_begin_alike_stay_apart() -> None:
    steps = [StepView(f"train.{arm}-{k}", kind="train", group=arm) for arm in "ab" for k in range(2)]
    assert texts(dag_drawing(steps)).count("train ×2") == 2


def test_steps_without_a_group_stand_alone_and_unknown_kinds_are_grey() -> None:
    shown = dag_drawing([StepView(f"mine.{i}", kind="module:work") for i in range(2)])
    assert {"mine.0", "mine.1", "module:work"} == set(texts(shown))
    assert step_color("module:work") in shown


def test_edges_that_follow_from_others_are_dropped() -> None:
    parents = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c", "b"}}
    assert reduce_edges(parents) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}}


def test_steps_stand_as_far_right_as_their_consumers_allow() -> None:
    layers, edges = _layers({"a": set(), "b": {"a"}, "c": {"b"}, "late": set(), "end": {"c", "late"}})
    assert [[n for n in layer if "\0" not in n] for layer in layers] == [["a"], ["b"], ["c", "late"], ["end"]]
    assert set(edges) == {("a", "b"), ("b", "c"), ("c", "end"), ("late", "end")}


def test_long_edges_go_through_way_points_that_one_step_shares() -> None:
    # a reaches c and d over the layer of b
    layers, edges = _layers({"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "b"}})
    points = [n for layer in layers for n in layer if "\0" in n]
    assert len(points) == 1
    assert {(points[0], "c"), (points[0], "d"), ("a", points[0])} <= set(edges)


def test_boxes_of_a_layer_do_not_overlap() -> None:
    parents = reduce_edges({"root": set(), **{f"n{i}": {"root"} for i in range(6)}, "end": {f"n{i}" for i in range(6)}})
    layers, edges = _layers(parents)
    rows = _rows(layers, edges, set(parents))
    middle = sorted(rows[f"n{i}"] for i in range(6))
    assert min(b - a for a, b in pairwise(middle)) >= 1 - 1e-9
    assert rows["root"] == pytest.approx(sum(middle) / 6, abs=0.01)


def test_parallel_chains_do_not_cross() -> None:
    parents = {"a": set(), "b": set(), "c": set(), "y": {"b"}, "z": {"c"}, "x": {"a"}}
    layers, edges = _layers(parents)
    rows = _rows(layers, edges, set(parents))
    assert (rows["a"] < rows["b"] < rows["c"]) == (rows["x"] < rows["y"] < rows["z"])
    assert rows["a"] == pytest.approx(rows["x"])


def test_spread_moves_as_little_as_it_can() -> None:
    assert spread([0.0, 5.0], [1.0]) == [0.0, 5.0]  # far enough apart already
    # Both want 0 and must be 2 apart: -1 and 1 is nearest in squares (1 + 1 = 2; 0 and 2 would cost 4).
    assert spread([0.0, 0.0], [2.0]) == [-1.0, 1.0]
    assert spread([], []) == []


def test_inputs_that_are_not_shown_are_left_out() -> None:
    assert texts(dag_drawing([StepView("bank", ("elsewhere",))])) == ["bank"]


def test_the_same_steps_give_the_same_bytes() -> None:
    assert dag_drawing(STEPS) == dag_drawing(STEPS)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(graphlib.CycleError):
        dag_drawing([StepView("a", ("b",)), StepView("b", ("a",))])


def test_no_steps_are_an_empty_drawing() -> None:
    assert texts(dag_drawing([])) == []
