import subprocess
import sys
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure

from zoocast.report.figures import LineStyle, line_styles
from zoocast.report.figures.style import number, png, scale_axis, styled, svg, text_width

ARMS = ("copy-last", "scratch", "finetune.a", "finetune.b", "l2-sp", "tmu")
FAMILIES = {"finetune.a": "finetune", "finetune.b": "finetune"}
ADAPTED = ("copy-last", "stage1", "adam", "adam.found-rate", "paper", "searched.1", "searched.2")
ADAPTED_FAMILIES = {"adam.found-rate": "adam", "searched.1": "searched", "searched.2": "searched"}
OURS = ("tmu", "searched")


def linear(color: str) -> np.ndarray:
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0: what a colour looks like without one kind of cone.
COLOR_BLIND = {
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def styles_of(arms: Sequence[str], families: Mapping[str, str]) -> dict[str, LineStyle]:
    return line_styles(arms, families=families, ours=[a for a in arms if a.split(".")[0] in OURS], untrained=["copy-last"])


def test_styles_come_in_the_order_of_the_arms() -> None:
    assert tuple(line_styles(ARMS, families={"finetune.b": "tmu"})) == ARMS


@pytest.mark.parametrize(("arms", "families"), [(ARMS, FAMILIES), (ADAPTED, ADAPTED_FAMILIES)])
def test_our_arms_are_drawn_thickest_and_in_one_colour_whatever_they_are_called(
    arms: tuple[str, ...], families: dict[str, str]
) -> None:
    styles = styles_of(arms, families)
    thick = [arm for arm in arms if styles[arm].width > 2]
    assert thick == [arm for arm in arms if arm.split(".")[0] in OURS]
    assert styles[thick[0]].color == "#d55e00"


def test_baselines_without_weights_are_dashed_grey() -> None:
    style = styles_of(ARMS, FAMILIES)["copy-last"]
    assert style.dashes
    assert np.ptp(to_rgb(style.color)) < 0.1


@pytest.mark.parametrize("kind", COLOR_BLIND)
@pytest.mark.parametrize(("arms", "families"), [(ARMS, FAMILIES), (ADAPTED, ADAPTED_FAMILIES)])
def test_arms_differ_for_every_kind_of_colour_vision(kind: str, arms: tuple[str, ...], families: dict[str, str]) -> None:
    seen = [COLOR_BLIND[kind] @ linear(style.color) for style in styles_of(arms, families).values()]
    gaps = [np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(gaps) > 0.04  # of the range 0 to 1 of linear light; where colours come close, markers and dashes differ, see below


def test_members_of_a_family_have_shades_of_one_hue() -> None:
    names = [f"finetune.{i}" for i in range(4)]
    hues = [rgb_to_hsv(to_rgb(style.color))[0] for style in line_styles(names, families=dict.fromkeys(names, "f")).values()]
    assert max(hues) - min(hues) < 0.01


def test_arms_of_one_family_differ_without_colour() -> None:
    names = [f"finetune.{i}" for i in range(8)]
    many = line_styles(names, families=dict.fromkeys(names, "finetune")).values()
    assert len({(style.marker, style.dashes) for style in many}) == 8


def test_every_family_has_a_colour_or_dashes_of_its_own() -> None:
    assert len({style.color for style in line_styles([f"mine-{i}" for i in range(8)]).values()}) == 8
    many = line_styles([*ARMS, *(f"mine-{i}" for i in range(6))], families=FAMILIES, ours=["tmu"], untrained=["copy-last"])
    assert len({(style.color, style.dashes) for style in many.values()}) == len(many)


def test_number_has_three_digits_and_no_exponent_in_everyday_sizes() -> None:
    assert [number(v) for v in (0, 0.012345, -1.5, 1234.0, 123456.0)] == ["0", "0.0123", "−1.5", "1234", "123456"]
    assert number(2e-7) == "2e−07"


def test_text_width_grows_with_the_text() -> None:
    assert 0 == text_width(" ", 9) < text_width("tmu", 9) < text_width("tmu", 9, bold=True) < text_width("finetune", 9)


def test_wide_positive_values_get_a_logarithmic_axis_with_plain_labels() -> None:
    with styled():
        axes = Figure().subplots()
        scale_axis(axes, np.array([1.0, 100.0, np.nan]))
        assert axes.get_yscale() == "log"
        assert axes.yaxis.get_major_formatter()(20.0) == "20"


@pytest.mark.parametrize("values", [[1.0, 3.0], [-1.0, 100.0], [np.nan], []])
def test_narrow_negative_or_missing_values_get_a_linear_axis(values: list[float]) -> None:
    axes = Figure().subplots()
    scale_axis(axes, np.array(values))
    assert axes.get_yscale() == "linear"


def test_labels_of_a_narrow_linear_axis_are_told_apart_and_have_no_offset() -> None:
    with styled():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], [0.04012, 0.04021])
        scale_axis(axes, np.array([0.04012, 0.04021]))
        figure.draw_without_rendering()
        labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 3
    assert all(label.startswith("0.04") for label in labels)


def test_settings_of_the_user_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    with styled():
        figure = Figure()
        figure.subplots().plot([1, 2])
    svg(figure)
    png(figure)
    assert dict(matplotlib.rcParams) == before


def test_figures_load_neither_pyplot_nor_torch() -> None:
    heavy = ("matplotlib.pyplot", "torch", "ray", "mlflow")
    code = f"import sys, zoocast.report.figures; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"
