"""What a report reads off the records of the steps that it rests on."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.bank.config import BankConfig
from zoocast.bank.recipe import BankResult
from zoocast.config import dump
from zoocast.dag import read_record
from zoocast.data import DigitsConfig
from zoocast.experiment.searching import searched_step
from zoocast.experiment.stages import BuildBankConfig, BuildClipsConfig, BuiltClips, Evaluated
from zoocast.experiment.tuning import Chosen, ChosenConfig
from zoocast.frames import FrameShape
from zoocast.nn.predictor import PredictorConfig
from zoocast.report.data import Routes
from zoocast.report.made import command_of, made_tables
from zoocast.training import TrainingConfig
from zoocast.transfer import L2SP, TrainTargetConfig, train_target
from zoocast.zoo import Ranking


def test_clips_sources_banks_and_arms_are_told_from_their_records(steps: Any) -> None:
    digits = DigitsConfig(train=64, num_digits=1, motions=("move", "turn"))
    clips = BuiltClips(digest="c0ffee" * 8, shape=FrameShape(channels=1, height=32, width=32), length=20)
    steps.add("build-clips", "data.target", [], 1.0, config=BuildClipsConfig(data=digits), **dump(clips))
    steps.add("pretrain-source", "source.two", [], 1.0, val_mse=0.04)
    ranking = Ranking(val_mse={"one": 0.06, "two": 0.05, "wide": 0.04}, fitting=("one", "two"), best="two")
    steps.add("rank-sources", "rank", [], 1.0, config=FrameShape(), **dump(ranking))
    bank = BuildBankConfig(source="two", bank=BankConfig(dtype="float16"), observed=10, target_depth=2)
    result = BankResult(digest="d", bytes=3 * 2**20)
    steps.add("build-bank", "bank.two", {"source": "source.two"}, 1.0, config=bank, **dump(result))
    training = TrainingConfig(iterations=300, learning_rate=3e-4)
    trained = TrainTargetConfig(
        arm="l2-sp", method=L2SP(weight=0.02), predictor=PredictorConfig(), training=training, observed=10
    )
    folders = {
        seed: steps.add("train-target", f"t{seed}", [], 1.0, config=trained, val_mse=error)
        for seed, error in ((0, 0.1), (1, 0.2))
    }
    records = {record.name: record for path in steps.root.iterdir() for record in [read_record(path)]}
    tables = made_tables(records, {"l2-sp": {seed: read_record(path) for seed, path in folders.items()}}, {}, {})
    data, sources, banks, arms = tables
    assert data.rows[0][:6] == ("data.target", "Digits", "64", "64", "128", "20 of 1x32x32")
    assert {"num_digits=1", "motions=move,turn"} <= {*data.rows[0][6].split(", ")}
    assert [row[:4] for row in sources.rows] == [
        ("1", "wide", "0.04000", "no"),
        ("2", "two", "0.05000", "yes"),
        ("3", "one", "0.06000", "yes"),
    ]
    assert [row[4] for row in sources.rows] == ["", "yes", ""]
    assert banks.rows[0][:2] == ("bank.two", "source.two")
    assert "policy=free_run" in banks.rows[0][2]
    assert banks.rows[0][3] == "3.0 MiB"
    assert arms.rows == [("l2-sp", "train-target", "L2SP weight=0.02", "0, 1", "300", "0.0003", "0.15000")]


def test_a_tuned_arm_is_shown_with_what_was_chosen(steps: Any) -> None:
    chosen = Chosen(
        point="lr0.0009.w0.02",
        settings={"training.learning_rate": 9e-4, "method.weight": 0.02},
        val_mse=0.125,
        edges=("training.learning_rate",),
        trainings=6,
        train_seconds=90.0,
        diverged=("lr0.003.w0.02",),
    )
    steps.add("choose-point", "choose.l2-sp", [], 1.0, **dump(chosen))
    trained = TrainTargetConfig(
        arm="l2-sp", method=L2SP(weight=0.01), predictor=PredictorConfig(), training=TrainingConfig(), observed=10
    )
    config = ChosenConfig(step=searched_step(train_target, trained))
    folder = steps.add("train-chosen", "t", {"choose": "choose.l2-sp"}, 1.0, config=config, val_mse=0.1)
    records = {record.name: record for path in steps.root.iterdir() for record in [read_record(path)]}
    tuning, arms = made_tables(records, {"l2-sp": {0: read_record(folder)}}, {}, {})
    settings = "method.weight=0.02, training.learning_rate=0.0009"
    assert tuning.rows == [("l2-sp", "6", "1", "1:30", settings, "0.12500", "training.learning_rate")]
    assert arms.rows == [("l2-sp", "train-chosen", "L2SP weight=0.02", "0", "400", "0.0009", "0.10000")]


def test_what_an_arm_keeps_to_predict_with_and_whom_it_asks_is_told(steps: Any) -> None:
    evaluated = Evaluated(means={}, networks=2, parameters=23_424, multiply_adds=1_863_680)
    folders = {
        "before": steps.add("evaluate", "evaluate.before", [], 1.0, means={}),
        "routed": steps.add("evaluate", "evaluate.routed", [], 1.0, **dump(evaluated)),
    }
    routes = Routes(np.array([[0.1, 0.2], [0.1, 0.3], [0.4, 0.3]]), ("move", "turn"))
    costs, asked = made_tables({}, {}, {arm: read_record(path) for arm, path in folders.items()}, {"routed": routes})
    assert costs.rows == [("routed", "2", "23,424", "1,863,680")]
    assert asked.rows == [("routed", "all", "move", "2"), ("routed", "all", "turn", "1")]
    (asked,) = made_tables({}, {}, {}, {"routed": routes}, ("turning", "moving", "turning"))
    assert asked.rows == [
        ("routed", "moving", "move", "1"),
        ("routed", "turning", "move", "1"),
        ("routed", "turning", "turn", "1"),
    ]


def test_steps_that_are_not_understood_have_no_table(run: Any) -> None:
    assert run.report().made == ()  # its records have no configs


def test_the_command_is_read_from_the_record_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    path = tmp_path / "runs" / "r" / "run.json"
    path.write_text(json.dumps({"resume": "/my env/bin/python -m pipelines run zoo-to-target -S seeds=4 --root /x"}))
    assert command_of(tmp_path, "r") == "pipelines run zoo-to-target -S seeds=4 --root /x"
    path.write_text("{")
    assert command_of(tmp_path, "r") == ""
    assert command_of(tmp_path, "another") == ""
