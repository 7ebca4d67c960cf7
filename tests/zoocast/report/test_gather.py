import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoocast.cli.views import read_result
from zoocast.errors import IntegrityError
from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report import Comparison, gather, read_scores, save_scores, write_report
from zoocast.report.gather import compare, lineage, read_curves
from zoocast.tracking.journal import Journal


def scores(*clip_mse: float) -> Scores:
    """Scores of clips of one predicted frame."""
    return Scores(Statistics(len(clip_mse), {"strict/mse": (sum(clip_mse),)}), dict(enumerate(clip_mse)))


def test_a_report_holds_every_arm_in_the_order_of_the_inputs(run: Any) -> None:
    data = run.report()
    assert data.arms == run.arms
    assert (data.split, data.num_clips, data.observed, data.horizon) == ("test", run.num_clips, run.observed, run.horizon)
    assert {arm: len(v) for arm, v in data.scores["strict/mse"].items()} == {
        a: 1 if a == "copy-last" else run.seeds for a in run.arms
    }


def test_scores_are_those_of_the_evaluation(run: Any) -> None:
    data, (_, stored) = run.report(), read_scores(next(p for p in run.inputs if p.name.startswith("evaluate.tmu-")))
    assert data.scores["openstl/ssim"]["tmu"] == tuple(stored[s].overall("openstl/ssim") for s in range(run.seeds))
    np.testing.assert_array_equal(data.horizons["strict/mse"]["tmu"][1], stored[1].per_frame("strict/mse"))


def test_curves_strips_and_gates_are_found(run: Any) -> None:
    data = run.report()
    trained = set(run.arms) - {"copy-last"}
    assert set(data.curves["val/mse"]) == set(data.curves["train/loss"]) == trained
    assert set(data.curves["val/mse"]["tmu"]) == set(range(run.seeds))
    assert set(data.strips) == set(run.arms)
    assert set(data.gates) == {"tmu"}


def test_everything_that_the_inputs_rest_on_is_a_step(run: Any) -> None:
    names = [step.name for step in run.report().steps]
    # 3 data sets, 2 sources, 1 bank, 5 trained arms of 3 seeds, 6 evaluations, the report
    assert len(names) == len(set(names)) == 3 + 2 + 1 + 15 + 6 + 1
    assert names[-1] == "report"
    assert all(names.index(i) < names.index(s.name) for s in run.report().steps for i in s.inputs)


def test_settings_facts_environment_and_notes(run: Any) -> None:
    data = run.report(facts={"preset": "laptop"}, notes=["Mind the gap."])
    assert data.facts["preset"] == "laptop"
    assert {"code", "date"} <= set(data.facts)
    assert ("target.learning_rate", 1e-3) in [(s.path, s.value) for s in data.settings]
    assert data.environment["torch"] == "2.13.0"
    assert data.environment["hosts"] == "laptop"
    assert data.notes == (
        "The best finetune, finetune.two-digits, was chosen among 2 by its error on the validation split.",
        "Mind the gap.",
    )


def test_the_validation_split_chooses_the_finetune() -> None:
    # finetune.b is better on the test split, finetune.a on the validation split
    measured = {"finetune.a": {0: scores(4.0)}, "finetune.b": {0: scores(2.0)}, "tmu": {0: scores(3.0)}}
    found = compare(measured, {"finetune.a": 1.0, "finetune.b": 1.5, "tmu": 1.2})
    assert [(d.other, d.mean, d.chosen) for d in found] == [("finetune.a", -1.0, True), ("finetune.b", 1.0, False)]


def test_the_validation_split_chooses_among_tmu_arms() -> None:
    measured = {"tmu.first": {0: scores(1.0)}, "tmu.all": {0: scores(2.0)}, "finetune.a": {0: scores(3.0)}}
    found = compare(measured, {"tmu.first": 2.0, "tmu.all": 1.0, "finetune.a": 1.0})
    assert {(d.arm, d.other) for d in found} == {("tmu.all", "tmu.first"), ("tmu.all", "finetune.a")}


def test_differences_are_paired_by_seed_and_by_clip() -> None:
    # Seeds: tmu means 1, 2, 3; finetune means 3, 5, 7 in the same seeds and one seed that tmu lacks.
    # Differences -2, -3, -4: mean -3, sd 1, half width 4.302653 / sqrt(3) = 2.484138.
    tmu = {0: scores(0.0, 2.0), 1: scores(1.0, 3.0), 2: scores(2.0, 4.0)}
    other = {0: scores(2.0, 4.0), 1: scores(4.0, 6.0), 2: scores(6.0, 8.0), 7: scores(100.0, 100.0)}
    (found,) = compare({"tmu": tmu, "finetune.a": other}, {"tmu": 1.0, "finetune.a": 1.0})
    assert (found.mean, found.count) == (pytest.approx(-3.0), 3)
    assert found.seeds == pytest.approx((-5.484138, -0.515862), abs=1e-6)
    assert found.relative == pytest.approx(-3 / 5)
    # Clips: averaged over the three seeds tmu has 1 and 3, the other 4 and 6: both differences are -3, without any spread.
    assert found.clips == pytest.approx((-3.0, -3.0))
    assert found.verdict == "won"


def test_an_arm_without_seeds_is_compared_with_each_seed() -> None:
    measured = {"tmu": {0: scores(1.0), 1: scores(3.0)}, "copy-last": {0: scores(10.0)}}
    (found,) = compare(measured, {"tmu": 1.0, "copy-last": None})
    assert (found.mean, found.count) == (-8.0, 2)


COMPARISON = Comparison(ours="searched", rival="adam", ours_words="the searched meta-adapter", rival_words="plain Adam")


def test_a_contest_names_both_families() -> None:
    measured = {"adam": {0: scores(3.0)}, "searched.1": {0: scores(2.0)}, "searched.2": {0: scores(1.0)}, "tmu": {0: scores(0.0)}}
    found = compare(measured, {"adam": 3.0, "searched.1": 1.0, "searched.2": 2.0, "tmu": 0.0}, COMPARISON)
    assert [(d.arm, d.other, d.mean, d.chosen) for d in found] == [
        ("searched.1", "adam", -1.0, True),
        ("searched.1", "searched.2", 1.0, False),
        ("searched.1", "tmu", 2.0, False),
    ]


def test_a_report_finds_its_search_and_the_rates_of_the_chosen_arm_and_the_papers(searched: Any) -> None:
    data = searched.report(comparison=COMPARISON)
    assert data.search is not None
    assert len(data.search.trials) == 16
    assert list(data.rates) == ["searched.1, seed 0", "paper, seed 0"]
    assert data.rates["paper, seed 0"].initial == 1e-4
    assert data.headline.startswith("The searched meta-adapter beats plain Adam.")
    assert data.notes == (
        "Trained but not evaluated, and so not in the table: stage1.",
        "The searched meta-adapter arm, searched.1, was chosen among 2 by its error on the validation split.",
    )


def test_a_report_without_a_search_has_neither(run: Any) -> None:
    data = run.report()
    assert data.search is None
    assert data.rates == {}


def test_without_tmu_nothing_is_compared() -> None:
    assert compare({"finetune.a": {0: scores(1.0)}}, {"finetune.a": 1.0}) == ()


def test_curves_skip_torn_lines_and_keep_the_first_of_a_repeated_step(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.metrics({"val/mse": 3.0, "train/loss": 1.0}, step=10)
    journal.close()
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "metr')
    journal = Journal(tmp_path / "journal.jsonl")
    journal.metrics({"val/mse": float("nan")}, step=20)
    journal.metrics({"val/mse": 9.0}, step=10)
    journal.close()
    iterations, values = read_curves({0: tmp_path}, "val/mse")[0]
    np.testing.assert_array_equal(iterations, [10, 20])
    np.testing.assert_array_equal(values, [3.0, np.nan])


def test_a_seed_without_a_journal_has_no_curve(tmp_path: Path) -> None:
    assert read_curves({0: tmp_path}, "val/mse") == {}


def test_results_that_were_removed_are_not_missed(run: Any, tmp_path: Path) -> None:
    root = copy(run, tmp_path)
    for folder in root.glob("data.*"):
        shutil.rmtree(folder)
    found = lineage(root.glob("evaluate.*"))
    assert "source.two-digits" in found
    assert not [name for name in found if name.startswith("data.")]


def test_arms_evaluated_on_different_clips_are_refused(run: Any, tmp_path: Path) -> None:
    root = copy(run, tmp_path)
    folder = next(root.glob("evaluate.tmu-*"))
    split, stored = read_scores(folder)
    save_scores(folder, "validation", stored)
    assert split == "test"
    with pytest.raises(IntegrityError, match="same clips"):
        gather(sorted(root.glob("evaluate.*")), title="t", config=run.config, observed=10)


def test_unequal_numbers_of_seeds_are_told(run: Any, tmp_path: Path) -> None:
    root = copy(run, tmp_path)
    folder = next(root.glob("evaluate.scratch-*"))
    split, stored = read_scores(folder)
    save_scores(folder, split, {0: stored[0]})
    data = gather(sorted(root.glob("evaluate.*")), title="t", config=run.config, observed=10)
    assert any("scratch 1" in note and "tmu 3" in note for note in data.notes)


def test_no_evaluation_is_refused(run: Any) -> None:
    with pytest.raises(IntegrityError, match=r"evaluate\.ARM"):
        gather([], title="t", config=run.config, observed=10)


def test_a_written_report_is_what_the_command_reads(run: Any, tmp_path: Path) -> None:
    data = run.report()
    write_report(data, tmp_path)
    result = read_result(tmp_path)
    assert result["headline"] == data.headline
    assert [row[0] for row in result["rows"]] == list(run.arms)
    assert json.loads((tmp_path / "result.json").read_text())["notes"] == list(data.notes)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    files = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"dag.svg", "learning-curves.svg", "horizon.svg", "results.svg", "timeline.svg"} <= files
    assert {"gates-tmu.png", "prediction-clip-0.png", "prediction-clip-2.png"} <= files


def test_figures_of_a_search_are_files(searched: Any, tmp_path: Path) -> None:
    write_report(searched.report(comparison=COMPARISON), tmp_path)
    files = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"search-history.svg", "search-importance.svg", "search-parallel.svg"} <= files
    assert {"rates-searched.1--seed-0.svg", "rates-paper--seed-0.svg"} <= files


def copy(run: Any, to: Path) -> Path:
    return Path(shutil.copytree(run.inputs[0].parent, to / "steps"))
