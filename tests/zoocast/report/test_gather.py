import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoocast.report.conftest import record_files
from zoocast.cli.views import read_table
from zoocast.dag import read_record
from zoocast.data import DigitsConfig
from zoocast.errors import ConfigError, IntegrityError
from zoocast.evaluation import Scores
from zoocast.metrics import METRICS, Statistics
from zoocast.report.compare import Comparison, compare
from zoocast.report.figures.steps import grouped
from zoocast.report.files import read_scores, save_kinds, save_scores
from zoocast.report.gather import gather, lineage, other_machines, trainings_of, write_report
from zoocast.report.page import compose
from zoocast.report.sections import SourceMatrix
from zoocast.report.study import read_curves
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
    data, (_, stored) = run.report(), read_scores(run.evaluations["tmu"])
    assert data.scores["openstl/ssim"]["tmu"] == tuple(stored[s].overall("openstl/ssim") for s in range(run.seeds))
    np.testing.assert_array_equal(data.horizons["strict/mse"]["tmu"][1], stored[1].per_frame("strict/mse"))


def test_curves_strips_and_gates_are_found(run: Any) -> None:
    data = run.report()
    trained = set(run.arms) - {"copy-last"}
    assert set(data.curves["val/mse"]) == set(data.curves["train/loss"]) == trained
    assert set(data.curves["val/mse"]["tmu"]) == set(range(run.seeds))
    assert set(data.strips) == set(run.arms)
    assert set(data.gates) == set(data.listening) == {"tmu"}


def test_kinds_of_clips_are_a_section_where_there_are_several(run: Any, tmp_path: Path) -> None:
    (view,) = run.report().sections
    assert view.columns == ("arm", "slow, 8 clips", "fast, 4 clips")
    folders = evaluations(run, copy(run, tmp_path))
    first = folders[run.arms[0]]
    for kinds, sections in ((["slow"] * run.num_clips, ()), ([], ())):
        save_kinds(first, kinds)
        record_files(tmp_path / "steps")
        assert gather(folders, title="t", config=run.config, observed=10).sections == sections
    save_kinds(first, ["slow", "fast"])
    record_files(tmp_path / "steps")
    with pytest.raises(IntegrityError, match="kinds of 2 clips and scores of 12; evaluate copy-last again"):
        gather(folders, title="t", config=run.config, observed=10)


def test_everything_that_the_inputs_rest_on_is_a_step(run: Any) -> None:
    names = [step.name for step in run.report().steps]
    # 3 data sets, 2 sources, 1 bank, 5 trained arms of 3 seeds, 6 evaluations, the report
    assert len(names) == len(set(names)) == 3 + 2 + 1 + 15 + 6 + 1
    assert names[-1] == "report"
    assert all(names.index(i) < names.index(s.name) for s in run.report().steps for i in s.inputs)


def test_settings_facts_environment_and_notes(run: Any) -> None:
    data = run.report(notes=["Mind the gap."])
    assert {"code", "date"} <= set(data.facts)
    assert ("target.learning_rate", 1e-3) in [(s.path, s.value) for s in data.settings]
    assert data.environment["torch"] == "2.13.0"
    assert data.environment["hosts"] == "laptop"
    assert data.notes == (
        "The best finetune, finetune.two-digits, was chosen among 2 by its error on the validation split.",
        "Mind the gap.",
    )


def sides(ours: tuple[str, ...], rival: tuple[str, ...]) -> Comparison:
    return Comparison(ours=ours, rival=rival, ours_words="ours", rival_words="theirs")


def test_the_validation_split_chooses_the_rival() -> None:
    # b is better on the test split, a on the validation split
    measured = {"a": {0: scores(4.0)}, "b": {0: scores(2.0)}, "tmu": {0: scores(3.0)}}
    found = compare(measured, {"a": 1.0, "b": 1.5, "tmu": 1.2}, sides(("tmu",), ("a", "b")))
    assert [(d.other, d.mean, d.chosen) for d in found] == [("a", -1.0, True), ("b", 1.0, False)]


def test_an_arm_whose_validation_error_is_no_number_is_not_chosen() -> None:
    measured = {"a": {0: scores(4.0)}, "b": {0: scores(2.0)}, "tmu": {0: scores(3.0)}}
    for value in (math.nan, -math.inf):
        (chosen,) = (d for d in compare(measured, {"a": value, "b": 1.5}, sides(("tmu",), ("a", "b"))) if d.chosen)
        assert chosen.other == "b"


def test_the_validation_split_chooses_among_our_arms() -> None:
    measured = {"first": {0: scores(1.0)}, "all": {0: scores(2.0)}, "a": {0: scores(3.0)}}
    found = compare(measured, {"first": 2.0, "all": 1.0, "a": 1.0}, sides(("first", "all"), ("a",)))
    assert {(d.arm, d.other, d.chosen) for d in found} == {("all", "first", False), ("all", "a", True)}


def arms_of(*differences: float) -> dict[str, dict[int, Scores]]:
    """An arm `tmu` that differs from an arm `a`, whose error is 10, by so much in each seed."""
    return {
        "a": {k: scores(10.0) for k in range(len(differences))},
        "tmu": {k: scores(10.0 + d) for k, d in enumerate(differences)},
    }


@pytest.mark.parametrize(
    ("differences", "iterations", "verdict", "reason"),
    [
        ((-1.0, -1.1, -0.9), 100, "won", ""),
        ((-1.0, -1.1), 100, "small", "at least 3 seeds that both arms have, and there are 2"),
        ((-1.0,), 100, "small", "at least 3 seeds that both arms have, and there are 1"),
        ((-1.0, -1.1, -0.9, -1.0), 10, "small", "at least 100 iterations, and tmu was trained for 10"),
        # half of the interval is 4.303 * 3 / sqrt(3) = 7.45, more than half of the error of 10; then 2.48, which is less
        ((-3.0, 0.0, 3.0), 100, "small", "half of an error could not be told from all of it"),
        ((-1.0, 0.0, 1.0), 100, "open", ""),
        # a difference so large that its interval does not reach zero, however wide it is
        ((27.0, 30.0, 33.0), 100, "lost", ""),
    ],
)
def test_a_comparison_of_few_seeds_few_iterations_or_a_very_wide_interval_is_too_small(
    differences: tuple[float, ...], iterations: int, verdict: str, reason: str
) -> None:
    (found,) = compare(arms_of(*differences), {}, sides(("tmu",), ("a",)), iterations={"tmu": iterations, "a": 1000})
    assert found.verdict == verdict
    assert (reason in found.too_small) if reason else not found.too_small


def test_a_report_of_short_trainings_says_that_it_is_too_small(steps: Any) -> None:
    arms = {}
    for arm in ("tmu", "a"):
        trained = [f"target.{arm}.seed{k}" for k in range(3)]
        for name in trained:
            steps.add("train-target", name, [], 1.0, val_mse=1.0, iterations=10)
        arms[arm] = steps.evaluation(arm, trained)
        found = Scores(Statistics(1, {"strict/mse": (0.1,), "strict/ssim": (0.5,)}), {0: 0.1})
        save_scores(arms[arm], "test", dict.fromkeys(range(3), found))
    record_files(steps.root)
    matrix = SourceMatrix(sources=("x",), arms={"tmu": ("x",), "a": ()}, reference="tmu")
    data = gather(arms, title="t", config=DigitsConfig(), observed=1, comparison=sides(("tmu",), ("a",)), sections=[matrix])
    assert data.headline_parts[0] == "Too small to compare ours with theirs."
    assert data.headline.endswith("Too small to tell which source helped.")
    assert "too small" in compose(data)


def test_a_report_says_what_its_seeds_do_not_repeat(run: Any, searched: Any) -> None:
    assert "what they share is the same for every seed: target.stage1.seed0." in " ".join(searched.report().notes)
    assert not any("Seeds repeat" in note for note in run.report().notes)  # its sources' records hold no training


def test_a_report_says_that_its_arms_were_tuned_and_which_may_be_better_than_they_look(steps: Any) -> None:
    steps.add("build-clips", "data.target", [], 1.0)
    for arm, edges in (("tmu", []), ("a", ["training.learning_rate"])):
        steps.add("try-point", f"tune.{arm}", [], 1.0, val_mse=1.0)
        chosen = {"settings": {}, "val_mse": 1.0, "edges": edges, "trainings": 6, "train_seconds": 90.0, "diverged": []}
        steps.add("choose-point", f"choose.{arm}", {"lr1/1000": f"tune.{arm}"}, 1.0, **chosen)
        names = [f"target.{arm}.seed{k}" for k in range(2)]
        for name in names:
            steps.add("train-chosen", name, {"choose": f"choose.{arm}"}, 1.0, val_mse=1.0)
        folder = steps.evaluation(arm, names)
        found = Scores(Statistics(1, {"strict/mse": (0.1,), "strict/ssim": (0.5,)}), {0: 0.1})
        save_scores(folder, "test", dict.fromkeys(range(2), found))
    record_files(steps.root)
    arms = {arm: steps.root / f"evaluate.{arm}-{'0' * 12}" for arm in ("tmu", "a")}
    notes = gather(arms, title="t", config=DigitsConfig(), observed=1).notes
    assert notes == (
        "Tuned on the validation split, with seeds that are not the report's: tmu, a; learning rate, and weight where the method"
        " has one, by 6 trainings each, 3:00 in all.",
        "Chosen on the edge of the grid, beyond which a better value may lie: a (training.learning_rate).",
        "Seeds repeat the training of the arms alone; what they share is the same for every seed: choose.tmu, choose.a.",
    )


def test_names_of_arms_mean_nothing() -> None:
    measured = {"finetune.tmu": {0: scores(1.0)}, "tmu.finetune": {0: scores(2.0)}}
    (found,) = compare(measured, {}, sides(("tmu.finetune",), ("finetune.tmu",)))
    assert (found.arm, found.other, found.mean, found.chosen) == ("tmu.finetune", "finetune.tmu", 1.0, True)


@pytest.mark.parametrize(
    ("ours", "rival", "message"),
    [
        (("tmu",), ("b",), "rival: must be arms of the report (a, tmu), but got b"),
        (("tmu", "tmv"), ("a",), "ours: must be arms of the report (a, tmu), but got tmv"),
    ],
)
def test_a_comparison_with_an_arm_that_is_not_there_is_refused(ours: Any, rival: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compare({"a": {0: scores(1.0)}, "tmu": {0: scores(1.0)}}, {}, sides(ours, rival))
    assert str(caught.value) == message


def test_several_arms_of_which_none_was_trained_are_refused() -> None:
    measured = {arm: {0: scores(1.0)} for arm in "abc"}
    with pytest.raises(ConfigError, match="rival: must be one arm, or trained ones to choose from"):
        compare(measured, {"a": 1.0}, sides(("a",), ("b", "c")), untrained=("b", "c"))


def test_a_report_refuses_arms_that_are_not_there(run: Any) -> None:
    with pytest.raises(ConfigError, match=r"ours: must be arms of the report \(copy-last, .*but got tmv"):
        run.report(comparison=sides(("tmv",), ("scratch",)))
    with pytest.raises(ConfigError, match=r"arms: must be arms of the report .*but got tmv"):
        run.report(sections=[SourceMatrix(sources=("a",), arms={"tmu": ("a",), "tmv": ()}, reference="tmu")])


def test_differences_are_paired_by_seed_and_by_clip() -> None:
    # Seeds: tmu means 1, 2, 3; finetune means 3, 5, 7 in the same seeds and one seed that tmu lacks.
    # Differences -2, -3, -4: mean -3, sd 1, half width 4.302653 / sqrt(3) = 2.484138.
    tmu = {0: scores(0.0, 2.0), 1: scores(1.0, 3.0), 2: scores(2.0, 4.0)}
    other = {0: scores(2.0, 4.0), 1: scores(4.0, 6.0), 2: scores(6.0, 8.0), 7: scores(100.0, 100.0)}
    (found,) = compare({"tmu": tmu, "a": other}, {}, sides(("tmu",), ("a",)))
    assert (found.mean, found.count) == (pytest.approx(-3.0), 3)
    assert found.seeds == pytest.approx((-5.484138, -0.515862), abs=1e-6)
    assert found.relative == pytest.approx(-3 / 5)
    # Clips: averaged over the three seeds tmu has 1 and 3, the other 4 and 6: both differences are -3, without any spread.
    assert found.clips == pytest.approx((-3.0, -3.0))
    assert found.verdict == "won"


def test_an_arm_without_seeds_is_compared_with_each_seed() -> None:
    measured = {"tmu": {0: scores(1.0), 1: scores(3.0)}, "copy-last": {0: scores(10.0)}}
    (found,) = compare(measured, {"tmu": 1.0}, sides(("tmu",), ("copy-last",)), untrained=["copy-last"])
    assert (found.mean, found.count) == (-8.0, 2)


def test_an_arm_with_one_seed_is_compared_with_that_seed_alone() -> None:
    measured = {"tmu": {0: scores(1.0), 1: scores(3.0)}, "a": {0: scores(10.0)}}
    (found,) = compare(measured, {}, sides(("tmu",), ("a",)))
    assert (found.mean, found.count, found.seeds) == (-9.0, 1, None)


def test_a_report_finds_its_search_and_the_rates_of_the_chosen_arm_and_the_papers(searched: Any) -> None:
    data = searched.report()
    assert data.search is not None
    assert len(data.search.trials) == 16
    assert list(data.rates) == ["searched.1, seed 0", "paper, seed 0"]
    assert data.rates["paper, seed 0"].initial == 1e-4
    assert data.headline.startswith("The searched meta-adapter beats plain Adam.")
    assert data.notes[0] == "The searched meta-adapter arm, searched.1, was chosen among 2 by its error on the validation split."


def test_a_report_without_a_search_has_neither(run: Any) -> None:
    data = run.report()
    assert data.search is None
    assert data.rates == {}


def test_steps_of_one_arm_and_those_before_them_seed_by_seed_are_drawn_as_one(run: Any, steps: Any) -> None:
    steps.add("build-clips", "data.target", [], 1.0)
    for seed in range(2):
        steps.add("train-target", f"first.{seed}", ["data.target"], 1.0)
    arms = {}
    every = Scores(Statistics(1, dict.fromkeys(METRICS, (0.1,))), {0: 0.1})
    for arm in ("plain", "adapted"):
        trained = [f"second.{arm}.{seed}" for seed in range(2)]
        for seed, name in enumerate(trained):
            steps.add("adapt", name, ["data.target", f"first.{seed}"], 1.0, val_mse=1.0)
        arms[arm] = steps.evaluation(arm, trained)
        save_scores(arms[arm], "test", dict.fromkeys(range(2), every))
    record_files(steps.root)
    drawn = grouped(gather(arms, title="t", config=run.config, observed=1).steps)
    assert [[step.name for step in members] for members in drawn if len(members) > 1] == [
        ["first.0", "first.1"],
        ["second.plain.0", "second.plain.1"],
        ["second.adapted.0", "second.adapted.1"],
    ]


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
    iterations, values = read_curves(tmp_path)["val/mse"]
    np.testing.assert_array_equal(iterations, [10, 20])
    np.testing.assert_array_equal(values, [3.0, np.nan])


def test_a_step_without_a_journal_has_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}


def test_results_that_were_removed_are_not_missed(run: Any, tmp_path: Path) -> None:
    root = copy(run, tmp_path)
    for folder in root.glob("data.*"):
        shutil.rmtree(folder)
    found = lineage(root.glob("evaluate.*"))
    assert "source.two-digits" in found
    assert not [name for name in found if name.startswith("data.")]


def test_arms_evaluated_on_different_clips_are_refused(run: Any, tmp_path: Path) -> None:
    folders = evaluations(run, copy(run, tmp_path))
    split, stored = read_scores(folders["tmu"])
    save_scores(folders["tmu"], "validation", stored)
    record_files(tmp_path / "steps")
    assert split == "test"
    with pytest.raises(IntegrityError, match="same clips"):
        gather(folders, title="t", config=run.config, observed=10)


def test_scores_of_which_one_digit_was_altered_are_refused(run: Any, tmp_path: Path) -> None:
    folders = evaluations(run, copy(run, tmp_path))
    scores = folders["tmu"] / "scores.json"
    text = scores.read_text()
    digit = re.search(r"(?<=0\.\d)\d", text)
    assert digit is not None
    scores.write_text(text[: digit.start()] + str((int(digit[0]) + 1) % 10) + text[digit.end() :])
    with pytest.raises(IntegrityError, match=r"scores\.json was altered: .*: run again with --force evaluate\.tmu, or remove"):
        gather(folders, title="t", config=run.config, observed=10)


def test_unequal_numbers_of_seeds_are_noted(run: Any, tmp_path: Path) -> None:
    folders = evaluations(run, copy(run, tmp_path))
    split, stored = read_scores(folders["scratch"])
    save_scores(folders["scratch"], split, {0: stored[0]})
    record_files(tmp_path / "steps")
    data = gather(folders, title="t", config=run.config, observed=10)
    assert any("scratch 1" in note and "tmu 3" in note for note in data.notes)


def test_no_evaluation_is_refused(run: Any) -> None:
    with pytest.raises(IntegrityError, match="at least one arm"):
        gather({}, title="t", config=run.config, observed=10)


def test_trainings_of_unlike_machines_are_named(run: Any) -> None:
    assert other_machines(read_record(p) for p in run.evaluations.values()) == []
    training = next(iter(trainings_of(run.evaluations["tmu"]).values()))
    one = dataclasses.replace(read_record(training), machine={"processor": "A", "instructions": "avx2", "threads": "1"})
    other = dataclasses.replace(one, machine={**one.machine, "threads": "2"})
    assert other_machines([one, one]) == []
    (sentence,) = other_machines([one, other])
    assert sentence.startswith("Trainings ran on 2 kinds of machine (A, 1 thread; A, 2 threads), which give other last bits")


def test_a_written_report_is_what_the_command_reads(run: Any, tmp_path: Path) -> None:
    data = run.report()
    write_report(data, tmp_path)
    result = read_table(tmp_path)
    assert result["headline"] == data.headline
    assert [row[0] for row in result["rows"]] == list(run.arms)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["notes"] == [*data.notes, *data.sections[0].sentences]
    assert [(d["other"], d["both"], d["verdict"]) for d in written["differences"]] == [
        (d.other, list(d.both or ()), d.verdict) for d in data.differences
    ]
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    files = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"dag.svg", "learning-curves.svg", "horizon.svg", "results.svg", "timeline.svg"} <= files
    assert {"gates-tmu.png", "listening-tmu.png", "prediction-clip-0.png", "prediction-clip-2.png"} <= files


def test_figures_of_a_search_are_files(searched: Any, tmp_path: Path) -> None:
    write_report(searched.report(), tmp_path)
    files = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"search-history.svg", "search-importance.svg", "search-parallel.svg"} <= files
    assert {"rates-searched.1--seed-0.svg", "rates-paper--seed-0.svg"} <= files


def copy(run: Any, to: Path) -> Path:
    return Path(shutil.copytree(run.evaluations["tmu"].parent, to / "steps"))


def evaluations(run: Any, steps: Path) -> dict[str, Path]:
    return {arm: steps / path.name for arm, path in run.evaluations.items()}
