from pathlib import Path
from typing import Any

from tests.zoocast.report.conftest import record_files
from zoocast.evaluation import Scores
from zoocast.metrics import Statistics
from zoocast.report.files import save_scores
from zoocast.report.grid import compare_runs


def finished(steps: Any, run: str, validation: tuple[float, ...], test: tuple[float, ...]) -> Path:
    """The folder of a report on the arms copy-last and tmu, whose trainings had these errors."""
    trained = [f"{run}.seed{seed}" for seed in range(len(validation))]
    for name, error in zip(trained, validation, strict=True):
        steps.add("train-target", name, [], 1.0, val_mse=error)
    for arm, seeds, errors in (("copy-last", [], (0.5,)), ("tmu", trained, test)):
        scores = {i: Scores(Statistics(1, {"strict/mse": (e,)}), {0: e}) for i, e in enumerate(errors)}
        save_scores(steps.evaluation(f"{run}.{arm}", seeds), "test", scores)
    arms = {f"arms/{arm}": f"evaluate.{run}.{arm}" for arm in ("copy-last", "tmu")}
    return steps.add("report", f"report.{run}", arms, 1.0)


def test_runs_stand_beside_each_other_and_validation_says_which_settings_are_best(steps: Any) -> None:
    reports = {
        "rate=1": finished(steps, "one", (0.1, 0.3), (0.4, 0.4)),  # the lower error on the validation split
        "rate=2": finished(steps, "two", (0.3, 0.3), (0.1, 0.1)),  # the lower one on the test split, which chooses nothing
    }
    record_files(steps.root)
    result = compare_runs(reports)
    assert result["columns"] == ["arm", "settings", "seeds", "validation strict/mse", "test strict/mse"]
    # the standard deviation of 0.1 and 0.3 is 0.1414, the others are 0: two digits of it
    assert result["rows"] == [
        ["copy-last", "rate=1", "–", "–", "0.50"],
        ["copy-last", "rate=2", "–", "–", "0.50"],
        ["tmu", "rate=1", "2", "0.20 ± 0.14", "0.40 ± 0.00"],
        ["tmu", "rate=2", "2", "0.30 ± 0.00", "0.10 ± 0.00"],
    ]
    assert result["notes"] == ["tmu validates best with rate=1: 0.20."]
    assert result["headline"].startswith("2 runs")
