"""The training loop in this process: what it learns, leaves, logs, and how it goes on after being stopped or killed."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoocast.dag import StepContext
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, IntegrityError, Interrupted, StepFailed
from zoocast.nn.predictor import Predictor, load_predictor
from zoocast.store.address import open_root
from zoocast.tracking import curves
from zoocast.training import PredictionObjective, Surroundings, TrainingConfig, WorkerConfig, fit

CONFIG = TrainingConfig(iterations=12, batch_size=4, validate_every=3, checkpoint_every=4, reverse_input=True)


def train(folder, clips, predictor_config, config=CONFIG, stop_at=None, on_validation=None):
    context = StepContext.standalone(folder, config)
    context.pull()
    store = ClipStore.open(clips)
    if stop_at is not None:
        context = StopsAt(stop_at, **{f.name: getattr(context, f.name) for f in dataclasses.fields(context) if f.init})

    def build():
        return PredictionObjective(Predictor(predictor_config, store.shape), config.decouple_weight)

    surroundings = Surroundings.of_step(context, on_validation)
    return fit(build, store.split("train"), store.split("validation"), observed=3, config=config, surroundings=surroundings)


class StopsAt(StepContext):
    """A context in which the user asks to stop after some iterations."""

    def __init__(self, stop_at, **fields):
        super().__init__(**fields)
        self.left = stop_at

    def should_stop(self):
        self.left -= 1
        return self.left <= 0


def weights(folder):
    return load_file(folder / "model" / "predictor.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_learns_and_keeps_the_weights_that_validate_best(tmp_path, clips, predictor_config):
    config = TrainingConfig(iterations=240, batch_size=4, validate_every=40, checkpoint_every=500, learning_rate=1e-2)
    result = train(tmp_path / "a", clips, predictor_config, config)
    logged = curves(tmp_path / "a" / "journal.jsonl")
    assert [step for step, _ in logged["train/loss"]] == [40, 80, 120, 160, 200, 240]
    best = min(value for _, value in logged["val/mse"])
    assert result.val_mse == best == dict(logged["val/mse"])[result.best_iteration]
    assert logged["train/mse"][-1][1] < 0.7 * logged["train/mse"][0][1]

    predictor = load_predictor(tmp_path / "a" / "model")
    validation = ClipStore.open(clips).split("validation").clips(range(4))
    error = (predictor.predict(validation[:, :3], 3).clamp(0, 1) - validation[:, 3:]).square().mean()
    assert error.item() == pytest.approx(best, rel=1e-5)


def test_a_stopped_run_goes_on_to_the_same_bits_and_logs_the_same(tmp_path, clips, predictor_config):
    config = dataclasses.replace(CONFIG, num_strips=5)  # the second one falls due at 5, and is drawn at 6
    train(tmp_path / "whole", clips, predictor_config, config)
    with pytest.raises(Interrupted, match="stopped at iteration 5 of 12"):
        train(tmp_path / "parts", clips, predictor_config, config, stop_at=5)
    with pytest.raises(Interrupted, match="stopped at iteration 11 of 12"):
        train(tmp_path / "parts", clips, predictor_config, config, stop_at=6)
    result = train(tmp_path / "parts", clips, predictor_config, config)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert result.iterations == 12
    whole, parts = (logged(tmp_path / name) for name in ("whole", "parts"))
    assert whole == parts
    assert [step for step, _ in whole[0]["train/loss"]] == [3, 6, 9, 12]
    assert len(whole[1]) == 4


def logged(folder):
    """Every curve to the last digit, and every picture."""
    return curves(folder / "journal.jsonl"), {file.name: file.read_bytes() for file in (folder / "images").iterdir()}


def test_what_a_kill_left_of_an_older_checkpoint_is_no_part_of_the_result(tmp_path, clips, predictor_config):
    train(tmp_path, clips, predictor_config)
    newest = tmp_path / "checkpoints" / "00000012"
    for half in ("00000004", "00000008"):
        shutil.copytree(newest, newest.with_name(half))
    (newest.with_name("00000004") / "state.json").unlink()
    (newest.with_name("00000008") / "state.safetensors").unlink()
    train(tmp_path, clips, predictor_config)  # nothing is left to be done, and nothing to be saved
    assert [path.name for path in newest.parent.iterdir()] == [newest.name]


def test_training_goes_on_on_another_machine_to_the_same_bits(tmp_path, store, clips, predictor_config, monkeypatch):
    def dies(iteration, _error):
        if iteration == 9:
            raise RuntimeError("the machine is gone, and what it had not handed over with it")

    def on(machine):
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        return open_root(f"{store}/training").folder / "steps" / "train-0123456789ab.partial"

    train(tmp_path / "whole", clips, predictor_config)
    with pytest.raises(RuntimeError):
        train(on("one"), clips, predictor_config, on_validation=dies)
    told = []
    train(on("two"), clips, predictor_config, on_validation=lambda iteration, _error: told.append(iteration))
    assert told == [9, 12]  # it went on from the checkpoint at 8
    assert same(weights(tmp_path / "whole"), weights(on("two")))
    assert logged(tmp_path / "whole") == logged(on("two"))


def test_a_training_that_goes_on_reports_from_which_iteration(tmp_path, clips, predictor_config):
    for stop_at in (5, 1):
        with pytest.raises(Interrupted):
            train(tmp_path, clips, predictor_config, stop_at=stop_at)
    assert json.loads((tmp_path / "progress.json").read_text())["message"] == "goes on from 5/12"


def _train_slowly(folder, clips, predictor_config):
    torch.set_num_threads(1)
    train(folder, clips, predictor_config, TrainingConfig(iterations=400, batch_size=4, validate_every=7, checkpoint_every=5))


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, clips, predictor_config):
    start = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    process = start.Process(target=_train_slowly, args=(tmp_path / "killed", clips, predictor_config))
    process.start()
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("0*")):
        assert process.is_alive(), "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "killed" / "model").exists()
    try:
        _train_slowly(tmp_path / "killed", clips, predictor_config)
        _train_slowly(tmp_path / "whole", clips, predictor_config)
    finally:
        torch.set_num_threads(threads)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_every_validation_is_reported_and_the_receiver_may_end_the_training(tmp_path, clips, predictor_config):
    told = []

    def stop_at_6(iteration, error):
        told.append((iteration, error))
        if iteration == 6:
            raise StopIteration

    with pytest.raises(StopIteration):
        train(tmp_path, clips, predictor_config, on_validation=stop_at_6)
    assert [iteration for iteration, _ in told] == [3, 6]
    # The newest checkpoint is that of iteration 4, so iteration 6 is told again, with the same error.
    again = []
    train(tmp_path, clips, predictor_config, on_validation=lambda *what: again.append(what))
    assert [iteration for iteration, _ in again] == [6, 9, 12]
    assert again[0] == told[1]
    assert told[:1] + again == curves(tmp_path / "journal.jsonl")["val/mse"]


def newest_checkpoint(folder) -> Path:
    return max((folder / "checkpoints").glob("0*"))


@pytest.mark.parametrize("damage", ["flip", "truncate", "record"])
def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path, clips, predictor_config, damage):
    with pytest.raises(Interrupted):
        train(tmp_path, clips, predictor_config, stop_at=5)
    found = newest_checkpoint(tmp_path)
    state = found / "state.safetensors"
    data = bytearray(state.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        state.write_bytes(data)
    elif damage == "truncate":
        state.write_bytes(data[: len(data) // 2])
    else:
        (found / "state.json").write_text("{")
    with pytest.raises(IntegrityError, match=rf"{found}.*delete "):
        train(tmp_path, clips, predictor_config)


def test_a_checkpoint_of_another_configuration_is_not_continued(tmp_path, clips, predictor_config):
    with pytest.raises(Interrupted):
        train(tmp_path, clips, predictor_config, stop_at=5)
    other = TrainingConfig(iterations=12, batch_size=4, learning_rate=0.5)
    with pytest.raises(IntegrityError, match="belongs to another configuration"):
        train(tmp_path, clips, predictor_config, other)


def test_a_diverged_training_fails_and_names_the_setting_to_lower(tmp_path, clips, predictor_config):
    config = TrainingConfig(iterations=40, batch_size=4, learning_rate=1e30, validate_every=10)
    with pytest.raises(StepFailed, match=r"not finite at iteration 2; lower training.learning_rate"):
        train(tmp_path, clips, predictor_config, config)


def test_one_seed_gives_the_same_weights_again_and_another_seed_others(tmp_path, clips, predictor_config):
    config = TrainingConfig(iterations=2, batch_size=4, seed=1)
    for name in ("a", "b"):
        train(tmp_path / name, clips, predictor_config, config)
    train(tmp_path / "c", clips, predictor_config, TrainingConfig(iterations=2, batch_size=4, seed=2))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iterations": 0}, "iterations: must be at least 1, but got 0"),
        ({"learning_rate": 0.0}, "learning_rate: must be above 0, but got 0.0"),
        ({"gradient_clip": -1.0}, "gradient_clip: must be greater than 0 or none"),
    ],
)
def test_training_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**fields)


def test_a_batch_must_be_shared_out_evenly_and_be_found_in_the_split():
    with pytest.raises(ConfigError, match="got 8 clips for 3 workers"):
        WorkerConfig(num_workers=3).check(TrainingConfig(batch_size=8), clips=8)
    with pytest.raises(ConfigError, match="must be at most the 7 clips of the training split, but got 8"):
        WorkerConfig().check(TrainingConfig(batch_size=8), clips=7)
