import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from zoocast.config import dump, load
from zoocast.errors import ConfigError
from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.data import table_markdown
from zoocast.report.figures.matrix import HARMED, HELPED
from zoocast.report.gather import write_report
from zoocast.report.page import compose
from zoocast.report.sections import Illustration, SourceMatrix

MATRIX = SourceMatrix(
    sources=("one", "two", "far"),
    arms={"all": ("one", "two", "far"), "no-one": ("two", "far"), "no-two": ("one", "far"), "no-far": ("one", "two")},
    reference="all",
)


def scores(*by_seed: float) -> dict[int, Scores]:
    """Scores of one clip of one frame."""
    return {seed: Scores(Statistics(1, {"strict/mse": (mse,)}), {0: mse}) for seed, mse in enumerate(by_seed)}


# Paired differences to `all`: without one 1, 1.1, 1.2 (it helped), without two 1, -1, 0, without far -1, -1.1, -1.2 (it harmed).
MEASURED = {
    "all": scores(5.0, 6.0, 7.0),
    "no-one": scores(6.0, 7.1, 8.2),
    "no-two": scores(6.0, 5.0, 7.0),
    "no-far": scores(4.0, 4.9, 5.8),
    "another": scores(1.0, 1.0, 1.0),
}


def test_each_source_helped_harmed_or_cannot_be_told() -> None:
    view = MATRIX.show(MEASURED, "test", {})
    # The half width is 4.302653 * 0.1 / sqrt(3) = 0.248414.
    assert view.sentences == (
        "Without one strict/mse changes by +1.10 over 3 seeds, with an interval of +0.85 to +1.35: one helped.",
        "Without two strict/mse changes by 0.000 over 3 seeds, with an interval of −2.484 to +2.484, which contains zero,"
        " so whether two helped cannot be told.",
        "Without far strict/mse changes by −1.10 over 3 seeds, with an interval of −1.35 to −0.85: far harmed, a negative"
        " transfer.",
    )
    assert view.headline == "Negative transfer: the target is better off without far. The target is worse off without one."


def test_the_table_has_a_row_per_source_and_a_column_per_arm() -> None:
    view = MATRIX.show(MEASURED, "test", {})
    assert view.columns == ("source", "all", "no-one", "no-two", "no-far")
    assert view.rows[:3] == (("one", "●", "–", "●", "●"), ("two", "●", "●", "–", "●"), ("far", "●", "●", "●", "–"))
    rows = {row[0]: row[1:] for row in view.rows[3:]}
    assert rows["strict/mse"] == ("6.00", "7.10", "6.00", "4.90")
    assert rows["minus all"] == ("–", "+1.10", "0.00", "−1.10")
    assert rows["seeds"] == ("–", "3", "3", "3")
    assert rows["what was left out"] == ("–", "helped", "open", "harmed")
    assert view.rows[6][2] == "+0.85 to +1.35"
    assert {len(row) for row in view.rows} == {5}


def test_the_picture_has_a_column_per_arm_and_says_by_colour_what_helped() -> None:
    (figure,) = MATRIX.show(MEASURED, "test", {}).figures
    assert isinstance(figure.image, str)
    shown = {"".join(e.itertext()) for e in ElementTree.fromstring(figure.image).iter("{http://www.w3.org/2000/svg}text")}
    assert {"one", "two", "far", "all", "no-one", "no-two", "no-far"} <= shown
    assert HELPED in figure.image
    assert HARMED in figure.image
    assert "no-far uses one and two." in figure.description


def test_one_seed_is_too_few_to_tell() -> None:
    view = MATRIX.show({arm: {0: seeds[0]} for arm, seeds in MEASURED.items()}, "test", {})
    assert view.headline == "Too small to tell which source helped."
    assert view.sentences[0].startswith("Too small to tell whether one helped. A comparison asks for at least 3 seeds")
    assert view.rows[-1][1:] == ("–", "too small", "too small", "too small")


def test_short_trainings_are_too_small_to_tell_whatever_their_interval() -> None:
    view = MATRIX.show(MEASURED, "test", {"all": 1000, "no-one": 10})
    assert view.rows[-1][1:] == ("–", "too small", "open", "harmed")
    assert "no-one was trained for 10" in view.sentences[0]


def test_intervals_that_all_contain_zero_tell_nothing() -> None:
    view = MATRIX.show({arm: MEASURED["no-two"] if arm == "no-two" else MEASURED["all"] for arm in MATRIX.arms}, "test", {})
    assert view.headline == "Of no source can it be told whether it helped or harmed."


def test_several_sources_that_were_left_out_together_are_named_together() -> None:
    matrix = SourceMatrix(sources=("a", "b"), arms={"both": ("a", "b"), "none": ()}, reference="both")
    view = matrix.show({"both": MEASURED["all"], "none": MEASURED["no-one"]}, "test", {})
    assert view.headline == "The target is worse off without a and b."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "al"}, "reference: must be one of the arms all, part, but got al"),
        ({"arms": {"all": ("a", "b")}}, "arms: must hold an arm besides the reference all, but got none"),
        ({"sources": ("a",)}, "arms: must use the sources a, but all uses b"),
        (
            {"arms": {"all": ("a", "b"), "part": ("b", "a")}},
            "arms: must hold one arm with all sources, the reference all, but part uses b and a",
        ),
        ({"reference": "part"}, "arms: must hold one arm with all sources, the reference part, but all uses a and b"),
    ],
)
def test_a_matrix_that_cannot_be_read_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"sources": ("a", "b"), "arms": {"all": ("a", "b"), "part": ("a",)}, "reference": "all"}
    with pytest.raises(ConfigError) as caught:
        SourceMatrix(**{**given, **changes})
    assert str(caught.value) == message


def test_a_matrix_is_a_config() -> None:
    assert load(SourceMatrix, json.loads(json.dumps(dump(MATRIX)))) == MATRIX


def test_a_section_is_on_the_page_in_markdown_and_in_the_terminal(run: Any, tmp_path: Path) -> None:
    matrix = SourceMatrix(
        sources=("x|y", "<b>"), arms={"tmu": ("x|y", "<b>"), "scratch": ("x|y",), "l2-sp": ("<b>",)}, reference="tmu"
    )
    data = run.report(sections=[matrix])
    assert data.headline.endswith("The target is worse off without <b> or x|y.")
    page = compose(data)
    assert '<h2 id="source-matrix">Sources</h2>' in page
    assert page.index('id="table-2"') < page.index('id="table-3"')
    assert "<b> helped" not in page
    assert "&lt;b&gt; helped" in page
    numbers = [int(n) for n in re.findall(r"<b>Figure (\d+)\.</b>", page)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "| x\\|y | ● | ● | – |" in table_markdown(data)
    write_report(data, tmp_path)
    assert (tmp_path / "figures" / "source-matrix.svg").exists()
    assert any("helped" in note for note in json.loads((tmp_path / "result.json").read_text())["notes"])


def test_figures_have_file_names_that_any_system_takes() -> None:
    assert Illustration("rates-a/b, seed 0", "rates", "<svg/>", "", "").file == "rates-a-b--seed-0.svg"
    assert Illustration("clip", "predictions", b"", "", "").file == "clip.png"
