"""A network trained as in a notebook: arrays, an objective, `fit`; no step, no journal, no Ray."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch

from zoocast.nn.predictor import Predictor, PredictorConfig, load_predictor
from zoocast.training import PredictionObjective, Surroundings, TrainingConfig, clips_of, fit

NETWORK = PredictorConfig(hidden_channels=(4,), patch_size=4)
CONFIG = TrainingConfig(iterations=30, batch_size=4, validate_every=10, learning_rate=1e-2)


@pytest.fixture
def frames():
    """Bright squares that move to the right by one pixel per frame: (12, 6, 1, 16, 16) uint8."""
    out = np.zeros((12, 6, 1, 16, 16), np.uint8)
    for clip, moment in np.ndindex(12, 6):
        out[clip, moment, 0, 2 + clip % 4 : 8 + clip % 4, moment : moment + 6] = 255
    return out


def make(shape):
    torch.manual_seed(0)
    return PredictionObjective(Predictor(NETWORK, shape))


def test_a_network_is_trained_in_memory_and_predicts(frames, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, validation = clips_of(frames[:8]), clips_of(frames[8:])
    objective = make(train.shape)
    seen, truth = validation.clips(range(4))[:, :3], validation.clips(range(4))[:, 3:]

    def error():
        return (objective.predictor.predict(seen, 3).clamp(0, 1) - truth).square().mean().item()

    before = error()
    trained = fit(objective, train, validation, observed=3, config=CONFIG)
    assert (trained.iterations, trained.num_workers) == (30, 1)
    assert trained.best_iteration in (10, 20, 30)
    assert error() == pytest.approx(trained.val_mse, rel=1e-5)  # the best weights are in the objective
    assert trained.val_mse < 0.8 * before
    assert list(tmp_path.iterdir()) == []


def test_a_training_with_a_folder_goes_on_from_its_checkpoint(frames, tmp_path):
    train, validation = clips_of(frames[:8]), clips_of(frames[8:])
    whole = make(train.shape)
    fit(whole, train, validation, observed=3, config=CONFIG)

    class Enough(Exception):
        pass

    def stop(iteration, _error):
        if iteration == 20:
            raise Enough

    config = dataclasses.replace(CONFIG, checkpoint_every=7)
    surroundings = Surroundings(directory=tmp_path, on_validation=stop)
    with pytest.raises(Enough):
        fit(make(train.shape), train, validation, observed=3, config=config, surroundings=surroundings)
    said = []
    resumed = make(train.shape)
    surroundings = Surroundings(directory=tmp_path, progress=lambda _share, message: said.append(message))
    fit(resumed, train, validation, observed=3, config=config, surroundings=surroundings)
    assert said[0] == "goes on from 14/30"
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    exported = load_predictor(tmp_path / "model")
    assert torch.equal(exported.head.weight, whole.predictor.head.weight)
    assert json.loads((tmp_path / "model" / "predictor.json").read_text())


def test_a_training_tells_the_lowest_validation_error_so_far(frames):
    train, validation = clips_of(frames[:8]), clips_of(frames[8:])
    errors, said = [], []

    def slowly(_iteration, error):
        errors.append(error)
        time.sleep(0.3)  # it speaks at most four times a second

    surroundings = Surroundings(on_validation=slowly, progress=lambda _share, message: said.append(message))
    fit(make(train.shape), train, validation, observed=3, config=CONFIG, surroundings=surroundings)
    told = [f"val {min(errors[: i + 1]):.4g}, {10 * (i + 1)}/30" for i in range(3)]
    assert [message for message in said if message in told] == told


def test_arrays_of_bytes_of_floats_and_without_channels_are_the_same_clips(frames):
    bytes_, floats, grey = clips_of(frames), clips_of(torch.from_numpy(frames / np.float32(255))), clips_of(frames[:, :, 0])
    assert (len(bytes_), bytes_.length, str(bytes_.shape)) == (12, 6, "1x16x16")
    for clips in (bytes_, floats, grey):
        got = clips.clips([3, 1])
        assert got.dtype is torch.float32
        assert torch.equal(got, torch.from_numpy(frames[[3, 1]] / np.float32(255)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 6, 6), np.uint8), r"clips have the shape \(N, T, C, H, W\) or \(N, T, H, W\), but got \(4, 6, 6\)"),
        (np.full((2, 3, 8, 8), 200.0), "clips are uint8 or hold values from 0 to 1, but got torch.float64 from 200 to 200"),
        (np.full((2, 3, 8, 8), np.nan), r"clips have missing values \(NaN or infinite\)"),
        (np.zeros((2, 3, 8, 8, 1)), r"\(2, 3, 8, 8, 1\) looks like channels behind the pixels; say layout='NTHWC'"),
    ],
)
def test_arrays_that_are_no_clips_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        clips_of(array)


def test_arrays_in_other_layouts_are_told_or_warned_of():
    # Every clip is a picture of its own that grows brighter by a level with every frame.
    frames = (
        np.random.default_rng(0).integers(0, 200, (12, 1, 1, 8, 8), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    )
    same = clips_of(frames).clips([3, 1])
    time_first = frames.swapaxes(0, 1)
    assert torch.equal(clips_of(time_first, layout="TNCHW").clips([3, 1]), same)
    assert torch.equal(clips_of(np.moveaxis(frames, 2, -1), layout="NTHWC").clips([3, 1]), same)
    with pytest.warns(UserWarning, match=r"as if time came first; say layout='TNCHW', or 'NTCHW' if it is right"):
        clips_of(time_first)
    with pytest.raises(ValueError, match="an array of 5 axes is one of NTCHW, TNCHW, NTHWC, TNHWC, but layout is 'NTHW'"):
        clips_of(frames, layout="NTHW")


def test_without_an_objective_or_a_folder_nothing_is_trained(frames):
    train = clips_of(frames)
    with pytest.raises(ValueError, match="give fit an objective, or a folder"):
        fit(lambda: make(train.shape), train, train, observed=3, config=CONFIG)
