"""Continued clips: which source goes on from which clip, what a window holds, and which steps read them."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.zoo_to_target import CONTINUED, PRESETS, steps
from zoocast.config import override
from zoocast.dag import StepContext
from zoocast.data.store import ClipStore, write_store
from zoocast.errors import ConfigError, StepFailed
from zoocast.experiment import ContinuationConfig
from zoocast.experiment.continuing import ContinueClipsConfig, continue_clips
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor

FRAMES = FrameShape(channels=1, height=8, width=8)
NETWORK = PredictorConfig(hidden_channels=(4,), patch_size=4)
OBSERVED, LENGTH = 3, 6


@pytest.fixture
def networks(tmp_path):
    """Two sources with random weights, in folders as steps leave them."""
    made = {}
    for seed, name in enumerate(("ann", "bob")):
        torch.manual_seed(seed)
        made[name] = Predictor(NETWORK, FRAMES)
        with torch.no_grad():
            made[name].head.weight.mul_(20)  # else a network that is not trained predicts black
        save_predictor(made[name], tmp_path / name / "model")
    return made


def to_bytes(frames):
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture
def clips(tmp_path, networks):
    """Two training clips: the first goes as Bob predicts, the second as Ann does; others are noise."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (LENGTH, 1, 8, 8)).astype(np.uint8) for _ in range(4)]
    train = []
    for name, clip in zip(("bob", "ann"), noise, strict=False):
        seen = torch.from_numpy(clip[:OBSERVED])
        future = networks[name].predict(seen[None].float() / 255, LENGTH - OBSERVED)[0]
        train.append(torch.cat([seen, to_bytes(future)]).numpy())
    splits = {"train": train, "validation": noise[2:3], "test": noise[3:]}
    kinds = {"train": ("turn", "move"), "validation": ("move",), "test": ("turn",)}
    return write_store(
        tmp_path / "data", splits, shape=FRAMES, length=LENGTH, dtype="uint8", generator={"name": "made up"}, kinds=kinds
    )


def go_on(tmp_path, **continuation):
    config = ContinueClipsConfig(continuation=ContinuationConfig(**continuation), observed=OBSERVED)
    inputs = {"data": tmp_path / "data", **{f"sources/{name}": tmp_path / name for name in ("ann", "bob")}}
    return continue_clips(StepContext.standalone(tmp_path / "step", config, inputs))


def test_windows_begin_with_true_frames_and_end_with_those_of_the_source_that_knows_the_clip(tmp_path, networks, clips):
    result = go_on(tmp_path, frames=5, every=2)
    assert result.continued == {"bob": 1, "ann": 1}
    store = ClipStore.open(tmp_path / "step")
    made, own = store.split("train").gather(range(6)), clips.split("train").gather(range(2))
    assert (result.train, result.digest, len(store.split("train"))) == (6, store.digest, 6)
    assert torch.equal(made[:2], own)
    for clip, name in enumerate(("bob", "ann")):
        future = to_bytes(networks[name].predict(own[clip : clip + 1].float() / 255, 4)[0])
        for window, offset in enumerate((2, 4)):
            found = made[2 + 2 * clip + window]
            assert torch.equal(found[: LENGTH - offset], own[clip, offset:])
            assert torch.equal(found[LENGTH - offset :], future[:offset])
    assert store.split("train").kinds == ("turn", "move", "turn", "turn", "move", "move")
    for split in ("validation", "test"):
        assert torch.equal(store.split(split).gather([0]), clips.split(split).gather([0]))
        assert store.split(split).kinds == clips.split(split).kinds


@pytest.mark.usefixtures("clips")
def test_a_source_that_diverges_is_named(tmp_path, networks):
    with torch.no_grad():
        networks["ann"].head.weight.fill_(float("nan"))
    save_predictor(networks["ann"], tmp_path / "ann" / "model")
    with pytest.raises(StepFailed, match="source ann predicts values that are not finite"):
        go_on(tmp_path, frames=2)


def test_windows_that_have_no_room_are_refused():
    assert list(ContinuationConfig(frames=8).offsets) == [2, 4, 6, 8]
    assert not ContinuationConfig().offsets
    with pytest.raises(ConfigError, match="frames: must be at least every=3, or no window has room, but got 2"):
        ContinuationConfig(frames=2, every=3)
    with pytest.raises(ConfigError, match="every: must be at least 1"):
        ContinuationConfig(frames=2, every=0)
    with pytest.raises(ConfigError, match=r"continuation\.frames: must be above 0 for the arm continued"):
        dataclasses.replace(PRESETS["smoke"](), arms=("continued",))


def test_only_the_arms_that_ask_for_them_train_on_continued_clips_and_all_are_judged_on_the_same():
    made = {s.name: s for s in steps(override(PRESETS["smoke"](), {"continuation.frames": 2, "arms": "all"}))}
    for arm in (*CONTINUED, "l2-sp", "freeze"):
        trained = made[f"target.{arm}.seed0"]
        assert (trained.inputs["data"].name == "data.target.continued") == (arm in CONTINUED)
        assert made[f"evaluate.{arm}"].inputs["data"] is made["data.target"]
        assert trained.inputs["rank"].key == made["rank"].key
    assert made["bank.digits-1.continued"].inputs["data"].name == "data.target.continued"
