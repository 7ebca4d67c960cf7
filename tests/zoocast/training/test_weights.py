"""Where a training ended another can start: with every weight, or not at all."""

import dataclasses

import pytest
import torch
from torch import nn

from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, IntegrityError
from zoocast.nn.predictor import Predictor, save_predictor
from zoocast.training import MODEL_FOLDER, PredictionObjective, load_objective
from zoocast.training.weights import save_objective


@pytest.fixture
def make(clips, predictor_config):
    """Makes objectives with random weights: a predictor alone, or one with a projection beside it."""

    def make(projection=False, **changes):
        predictor = Predictor(dataclasses.replace(predictor_config, **changes), ClipStore.open(clips).shape)
        objective = PredictionObjective(predictor, 0.0)
        if projection:
            objective.projection = nn.Linear(2, 3)
        return objective

    return make


def leave(objective, directory):
    """What a finished training leaves."""
    save_predictor(objective.predictor, directory / MODEL_FOLDER)
    save_objective(objective, directory)


@pytest.mark.parametrize("projection", [False, True])
def test_every_weight_of_an_objective_is_loaded_as_it_was_saved(make, tmp_path, projection):
    left, taken = make(projection), make(projection)
    leave(left, tmp_path)
    assert (tmp_path / "objective.safetensors").exists() == projection
    load_objective(taken, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), taken.state_dict().values(), strict=True))


def test_a_predictor_alone_can_start_from_any_training(make, tmp_path):
    left, taken = make(projection=True), make()
    leave(left, tmp_path)
    load_objective(taken, tmp_path)
    assert torch.equal(left.predictor.head.weight, taken.predictor.head.weight)


def test_an_objective_with_weights_that_a_training_lacks_is_refused(make, tmp_path):
    leave(make(), tmp_path)
    with pytest.raises(ConfigError, match=r"holds a predictor and nothing beside it; go on with the method"):
        load_objective(make(projection=True), tmp_path)
    with pytest.raises(ConfigError, match="holds another network"):
        load_objective(make(hidden_channels=(4,)), tmp_path)


def test_an_objective_that_would_leave_weights_out_is_refused_and_they_are_named(make, tmp_path):
    left = make(projection=True)
    left.second = nn.Linear(2, 2)
    leave(left, tmp_path)
    with pytest.raises(ConfigError, match=r"holds weights that do not fit \(second.bias\)"):
        load_objective(make(projection=True), tmp_path)


@pytest.mark.parametrize("damage", ["flip", "lost", "record"])
def test_damaged_weights_are_refused(make, tmp_path, damage):
    objective = make(projection=True)
    leave(objective, tmp_path)
    path = tmp_path / "objective.safetensors"
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "lost":
        path.unlink()
    else:
        (tmp_path / "objective.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"objective\.(safetensors|json) cannot be used: .*--force"):
        load_objective(objective, tmp_path)
