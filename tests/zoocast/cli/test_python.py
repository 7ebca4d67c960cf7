import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import zoocast
from zoocast.cli.runs import RunRecord
from zoocast.errors import ConfigError
from zoocast.evaluation import copy_last, evaluate
from zoocast.report.files import save_scores
from zoocast.training import clips_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with a finished run, which evaluated an arm of two seeds, and one that failed before it."""
    root = tmp_path_factory.mktemp("root")
    clips = clips_of(np.random.default_rng(0).random((4, 5, 1, 12, 12), np.float32))
    folder = root / "steps" / "evaluate.tmu.all-0123456789ab"
    folder.mkdir(parents=True)
    one = evaluate(copy_last(2), clips, observed=3, horizon=2, batch_size=4)
    other = evaluate(lambda seen: torch.zeros(len(seen), 2, 1, 12, 12), clips, observed=3, horizon=2, batch_size=4)
    save_scores(folder, "test", {0: one, 1: other})
    record = RunRecord(
        *("study-0123abcd", "study", "smoke", ["seeds=2"], None, [], "", "", 5.0),
        finished=65.0,
        exit_code=0,
        result={"headline": "TMU wins."},
    )
    record.attempts[-1]["ended"] = 65.0
    record.steps = [{"name": "evaluate.tmu.all", "directory": str(folder), "state": "done"}]
    record.write(root)
    failed = RunRecord("study-4567abcd", "study", "smoke", [], None, [], "", "", 1.0, finished=2.0, exit_code=1, message="no")
    failed.write(root)
    return root, one, other


def test_runs_are_rows_the_latest_first(root):
    table = zoocast.runs(root[0])
    assert table.index.tolist() == ["study-0123abcd", "study-4567abcd"]
    assert table.state.tolist() == ["done", "failed"]
    latest = table.loc["study-0123abcd"]
    assert (latest.seconds, latest.settings, latest.headline) == (60.0, "seeds=2", "TMU wins.")
    assert latest.started == pandas.Timestamp.fromtimestamp(5.0)
    assert table.loc["study-4567abcd"].message == "no"


def test_scores_have_a_row_for_each_arm_seed_metric_and_frame(root):
    folder, one, other = root
    table = zoocast.scores("study", folder)
    assert set(table.arm) == {"tmu.all"}
    assert (set(table.split), set(table.clips)) == ({"test"}, {4})
    assert len(table) == 2 * len(one.names) * 2
    mse = table[table.metric == "strict/mse"].set_index(["seed", "frame"]).value
    assert mse.to_dict() == {
        (seed, frame): value
        for seed, found in ((0, one), (1, other))
        for frame, value in enumerate(found.per_frame("strict/mse"), 1)
    }


def test_a_run_that_evaluated_nothing_has_no_scores(root):
    with pytest.raises(ConfigError, match="study-4567abcd has evaluated nothing yet"):
        zoocast.scores("study-4567abcd", root[0])


def test_a_run_from_python_is_that_of_the_command(finished_root, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    root = tmp_path / "root"
    shutil.copytree(finished_root, root)
    record = zoocast.run("toys.counting", {"count": 3}, root=root)
    assert zoocast.runs(root).index.tolist() == [record.run]
    assert {step["state"] for step in record.steps} == {"cached"}  # all that the command has done
    assert record.result["headline"] == "cube is larger"
    assert record.report_path(root).read_text() == "<title>counting</title>"


def test_a_setting_that_does_not_exist_is_refused_as_by_the_command():
    with pytest.raises(ConfigError, match="seed"):
        zoocast.run("zoo-to-target", {"seedz": 1}, preset="smoke")
