"""The steps of sources: pretrained by real Ray Train workers to the bits of a plain training, adopted as they are, and ranked."""

import dataclasses
import math
import os
import signal
import threading
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from zoocast.cluster.connect import connect
from zoocast.config import digest
from zoocast.dag import Resources, StepContext
from zoocast.data import DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import IntegrityError, OutOfMemory, StepFailed
from zoocast.experiment.sources import AdoptConfig, PretrainConfig, RankConfig, adopt, pretrain, rank_sources
from zoocast.frames import FrameShape
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig, read_description, save_predictor
from zoocast.tracking import curves, read_entries
from zoocast.tracking.entries import Model, Params
from zoocast.training import PredictionObjective, Surroundings, TrainingConfig, WorkerConfig, fit
from zoocast.zoo import SourceConfig, load_source

PREDICTOR = PredictorConfig(hidden_channels=(4, 4))
DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=12, validation=4, test=2)
TRAINING = TrainingConfig(iterations=12, batch_size=4, validate_every=6, checkpoint_every=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    DATA.build(folder, lambda _fraction, _message: None)
    return folder


@pytest.fixture(scope="module")
def cluster():
    with connect("local", num_cpus=2) as summary:
        yield summary


def context(folder, clips, training=TRAINING, **workers):
    config = PretrainConfig(
        name="one", data=DATA, predictor=PREDICTOR, training=training, observed=3, workers=WorkerConfig(**workers)
    )
    return StepContext.standalone(folder, config, {"data": clips}, resources=Resources(0))


def here(folder, clips, training=TRAINING):
    """The same training in this process, without Ray, on one thread as the workers have."""
    threads, store = torch.get_num_threads(), ClipStore.open(clips)
    torch.set_num_threads(1)
    try:
        return fit(
            lambda: PredictionObjective(Predictor(PREDICTOR, store.shape), training.decouple_weight),
            store.split("train"),
            store.split("validation"),
            observed=3,
            config=training,
            surroundings=Surroundings.of_step(context(folder, clips, training)),
        )
    finally:
        torch.set_num_threads(threads)


def weights(folder):
    return load_file(folder / "model" / "predictor.safetensors")


def difference(a, b):
    return max((weights(a)[k] - weights(b)[k]).abs().max().item() for k in weights(a))


@pytest.mark.usefixtures("cluster")
def test_one_worker_gives_the_bits_that_training_without_ray_gives(tmp_path, clips):
    result = pretrain(context(tmp_path / "ray", clips))
    plain = here(tmp_path / "plain", clips)
    assert difference(tmp_path / "ray", tmp_path / "plain") == 0
    assert (result.val_mse, result.threads, result.num_workers) == (plain.val_mse, 1, 1)
    assert not load_source(tmp_path / "ray").training


@pytest.mark.usefixtures("cluster")
def test_two_workers_see_the_same_clips(tmp_path, clips):
    result = pretrain(context(tmp_path / "two", clips, num_workers=2))
    here(tmp_path / "one", clips)
    assert result.num_workers == 2
    # Sums in another order, after 12 Adam steps of 1e-3: 1e-2 would be other clips.
    assert difference(tmp_path / "two", tmp_path / "one") < 1e-4


def workers_below():
    out = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                out.append(process.pid)
        except psutil.Error:
            continue
    return out


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, clips):
    training = dataclasses.replace(TRAINING, iterations=300, validate_every=50, checkpoint_every=20)
    killed = []

    def kill():
        deadline = time.monotonic() + 120
        while not list((tmp_path / "killed" / "checkpoints").glob("0*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in workers_below():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        result = pretrain(context(tmp_path / "killed", clips, training))
    finally:
        thread.join()
    assert killed
    assert not (tmp_path / "killed" / "ray").exists()
    here(tmp_path / "whole", clips, training)
    assert difference(tmp_path / "killed", tmp_path / "whole") == 0
    assert result.iterations == 300
    logged = curves(tmp_path / "killed" / "journal.jsonl")["val/mse"]
    assert logged == curves(tmp_path / "whole" / "journal.jsonl")["val/mse"]


@pytest.mark.usefixtures("cluster")
def test_what_a_worker_raises_arrives_as_it_was_and_is_not_retried(tmp_path, clips):
    training = dataclasses.replace(TRAINING, learning_rate=1e30)
    with pytest.raises(StepFailed, match="not finite at iteration 2"):
        pretrain(context(tmp_path, clips, training))


def saved(folder, config, frames, seed):
    torch.manual_seed(seed)
    save_predictor(Predictor(config, frames), folder / "model")
    return folder


@pytest.mark.usefixtures("cluster")
def test_a_failed_allocation_is_not_tried_again(tmp_path, clips):
    step = context(tmp_path, clips, max_failures=3)
    huge = dataclasses.replace(step.config, predictor=PredictorConfig(hidden_channels=(2**16,)))
    # Tried again until Ray Train gives up, it would be an `InfrastructureError` of workers that failed 4 times.
    with pytest.raises(
        OutOfMemory, match=r"asked for 576.1 GiB at once, where .*; lower training.batch_size, predictor.hidden"
    ) as met:
        pretrain(dataclasses.replace(step, config=huge))
    assert "alloc_cpu" in "".join(met.value.__notes__)  # the worker's own traceback


def test_sources_are_ranked_on_the_validation_clips(tmp_path, clips):
    frames, larger = FrameShape(channels=1, height=16, width=16), FrameShape(channels=1, height=32, width=32)
    wider = dataclasses.replace(PREDICTOR, hidden_channels=(6,))
    sources = {
        "a": saved(tmp_path / "a", PREDICTOR, frames, 1),
        "b": saved(tmp_path / "b", PREDICTOR, frames, 2),
        "wider": saved(tmp_path / "wider", wider, frames, 3),
        "larger": saved(tmp_path / "larger", PREDICTOR, larger, 4),
        "normed": saved(tmp_path / "normed", dataclasses.replace(PREDICTOR, cell=ConvLSTM(layer_norm=True)), larger, 5),
    }
    inputs = {"data": clips, **{f"sources/{name}": folder for name, folder in sources.items()}}
    step = StepContext.standalone(tmp_path / "rank", RankConfig(observed=3, target=PREDICTOR), inputs)
    result = rank_sources(step)
    validation = ClipStore.open(clips).split("validation").clips(range(4))
    for name in ("a", "b", "wider", "larger"):  # convolutions do not mind the size of a frame
        error = (load_source(sources[name]).predict(validation[:, :3], 3).clamp(0, 1) - validation[:, 3:]).square().mean()
        assert result.val_mse[name] == pytest.approx(error.item(), rel=1e-5)
    assert "normed" not in result.val_mse
    assert result.fitting == ("a", "b", "larger")
    assert result.best == min(("a", "b", "larger"), key=result.val_mse.__getitem__)


def test_a_source_whose_predictions_are_no_numbers_is_named_and_not_ranked_first(tmp_path, clips):
    broken = Predictor(PREDICTOR, FrameShape(channels=1, height=16, width=16))
    with torch.no_grad():
        # the bias of the head: every pixel is then -inf, which clipped is black
        list(broken.parameters())[-1].fill_(-math.inf)
    save_predictor(broken, tmp_path / "broken" / "model")
    inputs = {"data": clips, "sources/broken": tmp_path / "broken"}
    step = StepContext.standalone(tmp_path / "rank", RankConfig(observed=3, target=PREDICTOR), inputs)
    with pytest.raises(StepFailed, match=r"source broken predicts values that are not finite .* leave it out of sources"):
        rank_sources(step)


# ------------------------------------------------------------------------------------------------------- networks from elsewhere

FRAMES = FrameShape(channels=1, height=16, width=16)


def adoption(folder, model, name="mine"):
    config = AdoptConfig(name=name, digest=read_description(model).digest, model=str(model))
    return StepContext.standalone(folder, config)


def test_a_network_is_adopted_as_it_is(tmp_path):
    model = saved(tmp_path / "elsewhere", PREDICTOR, FRAMES, 1) / "model"
    source = SourceConfig(name="my.source", model=os.path.relpath(model))
    source.check()
    assert source.network() == (PREDICTOR, FRAMES)  # not those of its data and predictor settings
    result = adopt(adoption(tmp_path / "step", model, "my.source"))
    for file in ("predictor.json", "predictor.safetensors"):
        assert (tmp_path / "step" / "model" / file).read_bytes() == (model / file).read_bytes()
    assert not any(p.requires_grad for p in load_source(tmp_path / "step").parameters())
    assert result.digest == read_description(model).digest
    journal = tmp_path / "step" / "journal.jsonl"
    (logged,) = read_entries(journal, Model)
    assert (logged.name, logged.alias, logged.file) == ("source-my-source", "ready", "model")
    (params,) = read_entries(journal, Params)
    assert params.values == {"arm": "my.source", "method": "source", "cell": "convlstm", "hidden_channels": "4-4"}


def test_where_a_network_lies_and_what_it_is_called_are_no_part_of_its_identity():
    assert digest(AdoptConfig(name="a", digest="d")) == digest(AdoptConfig(name="b", digest="d"))
    assert digest(AdoptConfig(name="a", digest="d", model="x")) == digest(AdoptConfig(name="a", digest="d", model="y"))
    assert digest(AdoptConfig(name="a", digest="d")) != digest(AdoptConfig(name="a", digest="e"))
    assert digest(SourceConfig(name="a", model="x")) == digest(SourceConfig(name="a"))


def test_a_damaged_network_is_not_adopted(tmp_path):
    model = saved(tmp_path / "elsewhere", PREDICTOR, FRAMES, 1) / "model"
    step = adoption(tmp_path / "step", model)
    weights_file = model / "predictor.safetensors"
    data = bytearray(weights_file.read_bytes())
    data[-1] ^= 1
    weights_file.write_bytes(data)
    for refuse in (SourceConfig(model=str(model)).check, lambda: adopt(step)):
        with pytest.raises(IntegrityError, match=r"predictor.safetensors cannot be used: its checksum is not the one"):
            refuse()
    saved(tmp_path / "elsewhere", PREDICTOR, FRAMES, 2)
    with pytest.raises(IntegrityError, match="was replaced after this run was planned; run the pipeline again"):
        adopt(step)
