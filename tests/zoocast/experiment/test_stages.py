"""The steps that pipelines share, on real clips and networks: what they leave is what the library itself computes."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
import torch

from zoocast.config import dump
from zoocast.dag import StepContext
from zoocast.data import DigitsConfig
from zoocast.data.store import Channel, ClipStore, write_store
from zoocast.evaluation import copy_last, evaluate
from zoocast.experiment.stages import BuildClipsConfig, EvaluateConfig, build_clips, evaluate_arm
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.nn.tmu import TmuConfig
from zoocast.report.files import read_gates, read_kinds, read_listening, read_scores, read_strips
from zoocast.tracking import curves
from zoocast.transfer.tmu import RELEVANCE

OBSERVED, HORIZON = 2, 4
DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=2, validation=2, test=7)
PLAIN = PredictorConfig(hidden_channels=(4, 4))
TMU = dataclasses.replace(PLAIN, tmu=TmuConfig(layers="first"), num_sources=2)


@pytest.fixture(autouse=True)
def _threads():
    """One, as the pipeline's steps have; more would make these small networks slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    context = StepContext.standalone(tmp_path_factory.mktemp("stages") / "data", BuildClipsConfig(data=DATA), name="data.target")
    context.directory.joinpath("result.json").write_text(json.dumps(dump(build_clips(context))))
    return context.directory


def trained(folder, config, seeds):
    """What trainings with these seeds leave, and the networks themselves."""
    networks = {}
    for seed in seeds:
        torch.manual_seed(seed)
        networks[str(seed)] = Predictor(config, DATA.frame_shape()).eval()
        save_predictor(networks[str(seed)], folder / str(seed) / "model")
    return {seed: folder / seed for seed in networks}, networks


def run(folder, clips, arm, inputs, num_strips=3, batch_size=4):
    config = EvaluateConfig(arm=arm, observed=OBSERVED, num_strips=num_strips, sources=("one", "two"), batch_size=batch_size)
    context = StepContext.standalone(
        folder, config, {"data": clips, **{f"seeds/{seed}": folder for seed, folder in inputs.items()}}
    )
    return evaluate_arm(context).means


def directly(clips, predict):
    split = ClipStore.open(clips).split("test")
    return evaluate(predict, split, observed=OBSERVED, horizon=HORIZON, batch_size=4)


def test_clips_are_built_and_logged_as_a_dataset(clips):
    store = ClipStore.open(clips)
    result = json.loads((clips / "result.json").read_text())
    assert result == {
        "__type__": "BuiltClips",
        "digest": store.digest,
        "shape": {"__type__": "FrameShape", "channels": 1, "height": 16, "width": 16},
        "length": 6,
    }
    assert [len(store.split(name)) for name in ("train", "validation", "test")] == [2, 2, 7]


def test_a_split_that_is_predicted_without_error_is_a_result_without_an_infinite_number(tmp_path):
    still = [np.full((6, 1, 8, 8), level, np.uint8) for level in (10, 200)]  # which copying the last frame predicts
    splits = dict.fromkeys(("train", "validation", "test"), still)
    write_store(tmp_path / "data", splits, shape=FrameShape(channels=1, height=8, width=8), length=6, dtype="uint8", generator={})
    means = run(tmp_path / "step", tmp_path / "data", "copy-last", {})
    assert means["strict/mse"] == 0
    assert "strict/psnr" not in means
    _, scores = read_scores(tmp_path / "step")
    assert scores[0].overall("strict/psnr") == math.inf


def test_the_baseline_has_one_score_and_no_gates(tmp_path, clips):
    means = run(tmp_path, clips, "copy-last", {})
    expected = directly(clips, copy_last(HORIZON))
    assert means == expected.means()
    assert read_scores(tmp_path) == ("test", {0: expected})
    assert read_gates(tmp_path) is None
    assert read_kinds(tmp_path) == ()
    assert read_listening(tmp_path) is None
    strips = read_strips(tmp_path)
    assert strips.clips == (0, 3, 6)  # spread over seven
    assert (strips.prediction == strips.observed[:, -1:]).all()


def test_the_kinds_of_the_test_clips_are_left_beside_their_scores(tmp_path):
    data = dataclasses.replace(DATA, motions=("move", "still"))
    data.build(tmp_path / "data", lambda *_: None)
    run(tmp_path / "arm", tmp_path / "data", "copy-last", {})
    assert read_kinds(tmp_path / "arm") == ("move", "still") * 3 + ("move",)


def test_whom_the_training_clips_listened_to_is_left_with_the_first_clip_of_each_kind_and_source(tmp_path):
    data = dataclasses.replace(DATA, train=5, motions=("move", "still"))
    store = data.build(tmp_path / "data", lambda *_: None)
    inputs, _ = trained(tmp_path / "trained", PLAIN, (0, 1))
    weights = np.float32([[2, 0], [0, 2], [0, 2], [0, 2], [2, 0]])
    continued = np.concatenate([weights, weights[:2]])  # windows beyond the clips' ends stand behind the clips
    np.savez(inputs["0"] / RELEVANCE, relevance=continued, sources=np.array(["one", "two"]))
    run(tmp_path / "arm", tmp_path / "data", "tmu", inputs)
    found = read_listening(tmp_path / "arm")
    assert (found.sources, found.kinds) == (("one", "two"), ("move", "still", "move", "still", "move"))
    assert (found.weights == weights).all()
    # The pairs are move and one, move and two, still and two.
    assert list(found.examples) == [0, 2, 1]
    assert (found.examples[2] == store.split("train").gather([2])[0].numpy()).all()


def test_every_seed_is_scored_and_means_are_over_seeds(tmp_path, clips):
    # As text, 10 would come before 2.
    inputs, networks = trained(tmp_path / "trained", PLAIN, (0, 2, 10))
    means = run(tmp_path / "arm", clips, "scratch", inputs)
    expected = {
        int(name): directly(clips, functools.partial(network.predict, horizon=HORIZON)) for name, network in networks.items()
    }
    split, scores = read_scores(tmp_path / "arm")
    assert split == "test"
    assert list(scores) == [0, 2, 10]
    assert scores == expected
    for name in ("strict/mse", "openstl/ssim"):
        assert means[name] == pytest.approx(sum(s.overall(name) for s in expected.values()) / 3, rel=1e-12)
        assert curves(tmp_path / "arm" / "journal.jsonl")[f"test/{name}"] == [(0, means[name])]
    assert read_gates(tmp_path / "arm") is None


def test_prediction_strips_show_the_first_seed(tmp_path, clips):
    inputs, networks = trained(tmp_path / "trained", PLAIN, (0, 1))
    run(tmp_path / "arm", clips, "scratch", inputs, num_strips=20)
    strips = read_strips(tmp_path / "arm")
    assert strips.clips == tuple(range(7))  # no more than there are
    seen = ClipStore.open(clips).split("test").clips(range(7))
    predicted = networks["0"].predict(seen[:, :OBSERVED], HORIZON).clamp(0, 1).numpy()
    assert np.abs(strips.prediction / 255 - predicted).max() <= 0.5 / 255 + 1e-6
    assert np.abs(strips.truth / 255 - seen[:, OBSERVED:].numpy()).max() < 1e-6


def test_an_arm_with_transfer_units_leaves_the_gates_of_its_first_strip(tmp_path, clips):
    inputs, networks = trained(tmp_path / "trained", TMU, (0,))
    run(tmp_path / "arm", clips, "tmu", inputs)
    gates = read_gates(tmp_path / "arm")
    assert gates.sources == ("one", "two")
    assert gates.values.shape == (2, 5, 4, 4)  # sources, steps, and maps of 16 / 4 pixels
    # Steps 0 and 1 see true frames, the others the network's own predictions.
    feed = torch.tensor([[1.0, 1, 0, 0, 0]])
    with torch.no_grad():
        expected = networks["0"](ClipStore.open(clips).split("test").clips([0]), feed).aux[0, "gates"]
    for source in range(2):
        for step in range(5):
            means = expected[0, step, source].mean(0).numpy()
            assert np.abs(gates.values[source, step] - means).max() < 1e-5


def test_longer_test_clips_than_those_that_were_trained_on_are_predicted_to_their_end(tmp_path, clips):
    inputs, networks = trained(tmp_path / "trained", TMU, (0,))
    build = BuildClipsConfig(data=dataclasses.replace(DATA, length=11, test=3))
    longer = StepContext.standalone(tmp_path / "longer", build)
    build_clips(longer)
    config = EvaluateConfig(arm="tmu", observed=3, horizon=8, num_strips=2, sources=("one", "two"))
    folders = {"data": clips, "test": longer.directory, "seeds/0": inputs["0"]}
    evaluate_arm(StepContext.standalone(tmp_path / "arm", config, folders))
    test = ClipStore.open(longer.directory).split("test")
    predict = functools.partial(networks["0"].predict, horizon=8)
    assert read_scores(tmp_path / "arm")[1][0] == evaluate(predict, test, observed=3, horizon=8, batch_size=32)
    assert read_strips(tmp_path / "arm").truth.shape == (2, 8, 1, 16, 16)
    assert read_gates(tmp_path / "arm").values.shape[1] == 10


def test_longer_test_clips_of_another_scale_are_judged_in_that_of_the_training(tmp_path, clips):
    frames = ClipStore.open(clips).split("test").clips(range(7)).numpy()
    for name, scale in (("data", 1.0), ("test", 2.0)):
        splits = {split: iter(frames / np.float32(scale)) for split in ("train", "validation", "test")}
        channels = [Channel(name="rain", unit="mm", offset=-1.0, factor=20 * scale)]
        write_store(tmp_path / name, splits, shape=DATA.frame_shape(), length=6, dtype="float32", generator={}, channels=channels)
    config = EvaluateConfig(arm="copy-last", observed=OBSERVED, num_strips=1)
    inputs = {"data": tmp_path / "data", "test": tmp_path / "test"}
    evaluate_arm(StepContext.standalone(tmp_path / "arm", config, inputs))
    scores = read_scores(tmp_path / "arm")[1][0]
    assert scores.overall("strict/mse") == pytest.approx(directly(clips, copy_last(HORIZON)).overall("strict/mse"), rel=1e-5)
