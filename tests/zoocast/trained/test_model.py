"""Trained networks as their users see them: found by name, in the units of their data, with a card."""

import json

import numpy as np
import pytest
import torch

import zoocast
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, DataError
from zoocast.nn.predictor import load_predictor, save_predictor


@pytest.fixture(scope="module")
def model(root):
    return zoocast.load("@last:tmu", root=root)


@pytest.fixture(scope="module")
def clips(root):
    """Test clips as bytes, (3, 6, 1, 16, 16)."""
    return ClipStore.open(next((root / "steps").glob("data.target-*"))).split("test").gather(range(3)).numpy()


def test_a_network_is_found_by_run_and_arm_by_step_and_by_folder(root, model):
    folder = next((root / "steps").glob("target.tmu.seed0-*"))
    for name in ("study:tmu", "study-0123abcd:tmu.seed0", "@last:target.tmu.seed0", folder.name, "target.tmu.seed0", folder):
        assert zoocast.load(name, root=root).card.model["digest"] == model.card.model["digest"]
    second = zoocast.load("@last:tmu.seed1", root=root)
    assert second.name == "target.tmu.seed1"
    assert second.card.model["digest"] != model.card.model["digest"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@last:tmo", r"study-0123abcd has no arm 'tmo'; did you mean tmu\? it trained tmu$"),
        ("target.tmv", r"there is no step, folder or model 'target.tmv' under"),
        ("other:tmu", r"there is no run 'other' under"),
    ],
)
def test_a_name_of_nothing_is_refused_with_those_that_there_are(root, name, message):
    with pytest.raises(ConfigError, match=message):
        zoocast.load(name, root=root)


def test_a_folder_without_a_network_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no network, neither predictor.json nor model/predictor.json"):
        zoocast.load(tmp_path)


def test_predictions_are_those_of_the_network_whatever_the_batch(model, clips):
    expected = model.predictor.predict(torch.from_numpy(clips[:, :3]).float() / 255, 7)
    assert (model.observed, str(model.frames)) == (3, "1x16x16")
    assert model.predict(clips[:, :3] / np.float32(255), 7) == pytest.approx(expected.numpy(), abs=1e-6)
    assert model.predict(clips[:, :3] / 255, 7, batch_size=2) == pytest.approx(expected.numpy(), abs=1e-5)


def test_bytes_are_predicted_as_bytes_and_one_clip_as_one(model, clips):
    predicted = model.predict(clips[0, :3], 2)
    assert (predicted.dtype, predicted.shape) == (np.uint8, (2, 1, 16, 16))
    network = model.predictor.predict(torch.from_numpy(clips[:1, :3]).float() / 255, 2)[0].clamp(0, 1)
    assert np.abs(predicted - network.numpy() * 255).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 1, 16, 20), np.uint8), r"trained on frames of 1x16x16, channels first, but got 1x16x20; crop, resize"),
        (np.zeros((3, 16, 16, 1), np.uint8), r"but got 16x16x1; move the channels before the rows"),
        (np.zeros((3, 16, 16), np.uint8), r"\(T, C, H, W\) or \(B, T, C, H, W\), but got \[3, 16, 16\]"),
        (np.full((3, 1, 16, 16), 200.0), r"trained on floats of 0 to 1, or bytes of 0 to 255, but got 200 to 200; bring them"),
        (np.full((3, 1, 16, 16), 700, np.uint16), r"but got uint16; scale them to 0 to 1"),
        (np.ones((3, 1, 16, 16), np.uint8), r"no byte is above 1; if 1 is white, give floats"),
        (np.full((3, 1, 16, 16), np.nan), r"values are missing"),
        (np.zeros((0, 1, 16, 16), np.uint8), r"at least 1 frame must be observed"),
    ],
)
def test_other_frames_than_it_was_trained_on_are_refused_in_words(model, frames, message):
    with pytest.raises(DataError, match=message):
        model.predict(frames, 2)


def test_the_card_says_what_it_was_trained_on_how_good_it_is_and_where_it_comes_from(root, model):
    card = model.card
    assert card.data["splits"] == {"train": 8, "validation": 2, "test": 3}
    (evaluation,) = card.evaluations
    assert (evaluation["clips"], evaluation["observed"], evaluation["horizon"]) == (3, 3, 3)
    scores = json.loads((root / "steps" / evaluation["step"] / "scores.json").read_text())["seeds"]["0"]
    assert evaluation["metrics"]["strict/mse"] == pytest.approx(np.mean(list(scores["clip_mse"].values())))
    assert [step["kind"] for step in card.lineage] == ["build-clips"]
    assert json.loads(json.dumps(card.to_json()))["licence"].startswith("not stated")
    text = card.markdown()
    for line in ("# target.tmu.seed0", "## Data", "- kind: digits", "| strict/mse |", "- data.target: build-clips", "## Licence"):
        assert line in text


def test_an_imported_network_has_a_card_that_says_what_is_not_known(root, tmp_path):
    save_predictor(load_predictor(next((root / "steps").glob("target.tmu.seed0-*/model"))), tmp_path / "kth")
    imported = zoocast.load(tmp_path / "kth")
    assert (imported.name, imported.observed) == ("kth", None)
    assert imported.card.markdown().count("Not known here.") == 5
