"""The map of when transfer helps: verdicts on made-up scores whose truth is known, and the files that a report leaves."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from zoocast.errors import ConfigError
from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.figures.matrix import HARMED, HELPED
from zoocast.report.transfer_map import (
    CellResult,
    MapCell,
    TransferMap,
    gather_map,
    map_view,
    measure_cells,
    numbers_view,
    write_map,
)

ARMS, FINETUNED = ("scratch", "finetune.a", "finetune.b", "tmu"), ("finetune.a", "finetune.b")


def cell(relation: str, clips: int) -> MapCell:
    return MapCell(relation=relation, clips=clips, arms=ARMS, finetuned=FINETUNED)


CELLS = (cell("near", 16), cell("near", 64), cell("far", 16), cell("far", 64))
MAP = TransferMap(cells=CELLS)
# strict/mse by seed. finetune.b, the best one on validation, is 10, 11, 12 everywhere and so has a mean of 11.
TMU = {
    "near.16": (8.8, 9.9, 11.0),  # differences of -1.2, -1.1, -1: better
    "near.64": (11.0, 10.0, 12.0),  # of 1, -1, 0: neither
    "far.16": (11.0, 12.1, 13.2),  # of 1, 1.1, 1.2: worse
    "far.64": (9.0, 9.9),  # better, but of two seeds
}
SCRATCH = {"near.16": (20.0, 21.0, 22.0), "near.64": (20.0, 21.0, 22.0), "far.16": (5.0, 6.0, 7.1), "far.64": (20.0, 21.0, 22.0)}


def scores(*by_seed: float) -> dict[int, Scores]:
    """Scores of one clip of one frame."""
    return {seed: Scores(Statistics(1, {"strict/mse": (mse,)}), {0: mse}) for seed, mse in enumerate(by_seed)}


def measured() -> dict[str, dict[int, Scores]]:
    found = {}
    for place in CELLS:
        found[place.full("scratch")] = scores(*SCRATCH[place.name])
        # Lower on the test split than the one that validation chooses, and so a trap.
        found[place.full("finetune.a")] = scores(9.9, 10.9, 11.8)
        found[place.full("finetune.b")] = scores(10.0, 11.0, 12.0)
        found[place.full("tmu")] = scores(*TMU[place.name])
    return found


VALIDATION = {place.full(arm): error for place in CELLS for arm, error in zip(ARMS, (3.0, 2.0, 1.0, 0.5), strict=True)}


@pytest.fixture(scope="module")
def results() -> tuple[CellResult, ...]:
    return measure_cells(MAP, measured(), VALIDATION, {})


def test_a_cell_is_better_open_worse_or_too_small(results: tuple[CellResult, ...]) -> None:
    assert [(r.cell.name, r.rival, r.against_rival["tmu"].verdict) for r in results] == [
        ("near.16", "finetune.b", "won"),
        ("near.64", "finetune.b", "open"),
        ("far.16", "finetune.b", "lost"),
        ("far.64", "finetune.b", "small"),
    ]


def test_a_gain_is_a_part_of_the_rivals_error_with_its_interval(results: tuple[CellResult, ...]) -> None:
    gain, ends = results[0].gain("tmu")
    # 1.1 of 11; Fieller's ends are (12.7171 ± 5.4651) / 114.829, with 4.302653 as the quantile of Student's t.
    assert gain == pytest.approx(0.1)
    assert ends == pytest.approx((0.063154, 0.158341), abs=2e-6)


def test_of_equal_arms_the_gain_is_nothing() -> None:
    place = cell("near", 16)
    same = {place.full(arm): scores(10.0, 11.0, 12.0) for arm in ARMS}
    (found,) = measure_cells(TransferMap(cells=(place,)), same, VALIDATION, {})
    assert found.gain("tmu") == (0.0, (0.0, 0.0))


def test_negative_transfer_is_what_is_worse_than_from_scratch_and_not_by_chance(results: tuple[CellResult, ...]) -> None:
    assert [r.harmful for r in results] == [(), (), ("finetune.a", "finetune.b", "tmu"), ()]


def test_short_trainings_are_too_small_to_compare() -> None:
    found = measure_cells(MAP, measured(), VALIDATION, {"near.16.tmu": 10})
    assert [r.against_rival["tmu"].verdict for r in found] == ["small", "open", "lost", "small"]


def test_the_map_says_in_words_where_ours_is_better_and_where_it_is_worse(results: tuple[CellResult, ...]) -> None:
    view = map_view(MAP, results, "test")
    assert view.columns == ("relation", "16", "64")
    assert view.rows == (
        ("near", "better +10.0\N{NO-BREAK SPACE}%", "open 0.0\N{NO-BREAK SPACE}%"),
        ("far", "worse −10.0\N{NO-BREAK SPACE}%", "too small +10.0\N{NO-BREAK SPACE}%"),
    )
    assert view.headline == "TMU beats the best finetune in 1 of 4 cells: near with 16 clips."
    assert numbers_view(MAP, results, "test").headline == (
        "It loses in 1: far with 16 clips. In 1 the two cannot be told apart. Too small to compare: far with 64 clips."
    )
    assert view.sentences[0] == ("Negative transfer, an arm that is worse than training from scratch, in 1: far with 16 clips.")
    assert view.sentences[1].startswith("In far.16 these are finetune.a (by ")


def test_a_map_of_too_few_seeds_says_so_and_no_more() -> None:
    single = {arm: {0: seeds[0]} for arm, seeds in measured().items()}
    found = measure_cells(MAP, single, VALIDATION, {})
    assert map_view(MAP, found, "test").headline == "Too small to compare TMU with the best finetune."
    assert map_view(MAP, found, "test").sentences == ()
    assert numbers_view(MAP, found, "test").headline.startswith("A comparison asks for at least 3 seeds")


def test_every_arm_of_every_cell_has_its_numbers(results: tuple[CellResult, ...]) -> None:
    rows = {row[:2]: row[2:] for row in numbers_view(MAP, results, "test").rows}
    assert len(rows) == 16
    assert rows["near.16", "tmu"] == (
        "3", "9.9 ± 1.1", "0.5", "+10.0\N{NO-BREAK SPACE}%", "+6.3 to +15.8", "better", "better"
    )  # fmt: skip
    assert rows["near.16", "finetune.b"] == ("3", "11.0 ± 1.0", "1.0", "best finetune", "–", "–", "better")
    assert rows["near.16", "scratch"][-2:] == ("worse", "–")


def test_the_figures_are_coloured_and_worded(results: tuple[CellResult, ...]) -> None:
    matrix, gains = map_view(MAP, results, "test").figures
    for figure, wanted in (
        (matrix, {"near", "far", "16", "64", "+6.3 to +15.8", "harm: tmu and 2 more", "better +10.0\N{NO-BREAK SPACE}%"}),
        (gains, {"near", "far", "16", "64", "scratch", "tmu"}),
    ):
        assert isinstance(figure.image, str)
        shown = {"".join(e.itertext()) for e in ElementTree.fromstring(figure.image).iter("{http://www.w3.org/2000/svg}text")}
        assert wanted <= shown
    assert [str(matrix.image).count(color) for color in (HELPED, HARMED)] == [1, 1]
    assert "near, tmu: +10.0\N{NO-BREAK SPACE}% with 16, 0.0\N{NO-BREAK SPACE}% with 64." in gains.description


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransferMap(cells=()), "cells: a map needs at least one cell, but got none"),
        (lambda: TransferMap(cells=(CELLS[0], CELLS[0])), "cells: every cell needs a relation and a number of clips of its own"),
        (lambda: TransferMap(cells=CELLS, ours="soup"), "ours: must be arms of the report"),
        (lambda: MapCell(relation="a", clips=1, arms=ARMS, finetuned=()), "finetuned: must name an arm to compare with in a.1"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_finished_steps_become_a_page_a_table_and_a_result(run: Any, tmp_path: Path) -> None:
    arms = ("scratch", "finetune.two-digits", "finetune.one-digit", "l2-sp", "tmu")
    place = MapCell(relation="nested", clips=64, arms=arms, finetuned=arms[1:3])
    folders = {place.full(arm): run.evaluations[arm] for arm in arms}
    data, results = gather_map(folders, TransferMap(cells=(place,)), title="Map", config=run.config, observed=run.observed)
    write_map(data, results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"transfer-map.svg", "gain.svg"}
    assert 'id="map"' in page
    assert "Table 1." in page
    assert 'id="results"' not in page
    result = json.loads((tmp_path / "result.json").read_text())
    # The arm blurs less than the others, by a third: better whatever the seeds.
    assert result["rows"][0][0] == "nested"
    assert result["rows"][0][1].startswith("better +")
    assert result["best"] == [[0, 1]]
    assert result["headline"] == "TMU beats the best finetune in 1 of 1 cells: nested with 64 clips."
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [row["arm"] for row in rows] == [*arms]
    assert float(rows[-1]["mean"]) == pytest.approx(sum(float(rows[-1][f"seed {k}"]) for k in range(3)) / 3)
    assert "| nested | better" in (tmp_path / "table.md").read_text()
