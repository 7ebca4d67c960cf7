"""The arms of a target: what each is trained by, where it starts, and what is left of sources and bank in what it exports."""

import dataclasses
import functools
import itertools
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from zoocast.bank.build import build_bank
from zoocast.bank.distill import DistillationLoss
from zoocast.bank.read import BankConfig, open_bank
from zoocast.bank.recipe import BankResult
from zoocast.cluster.connect import connect
from zoocast.config import digest, dump
from zoocast.dag import Resources, StepContext
from zoocast.data import DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, Interrupted
from zoocast.nn.cells import STLSTM, ConvGRU
from zoocast.nn.predictor import Prediction, Predictor, PredictorConfig, load_predictor, save_predictor
from zoocast.nn.sampling import free_run, teacher_forced
from zoocast.nn.tmu import TmuConfig
from zoocast.tracking import Journal, curves
from zoocast.training import Batch, PredictionObjective, Surroundings, TrainingConfig, WorkerConfig, fit
from zoocast.transfer import (
    L2SP,
    AnchoredObjective,
    Delta,
    Finetune,
    FrameDistillation,
    Scratch,
    Setup,
    TrainTargetConfig,
    Transfer,
    TransferObjective,
    train_target,
)
from zoocast.transfer.tmu import RELEVANCE
from zoocast.zoo import Ranking

OBSERVED = 3
PLAIN = PredictorConfig(hidden_channels=(4, 4))
DECOUPLED = dataclasses.replace(PLAIN, cell=STLSTM(decouple=True))
NETWORKS = {
    "near": PLAIN,
    "gru": PredictorConfig(cell=ConvGRU(kernel_size=3), hidden_channels=(6,), patch_size=2),  # other channels and maps
}
TRAINING = TrainingConfig(iterations=4, batch_size=4, validate_every=2, checkpoint_every=4)
TRANSFER = Transfer(distillation_weight=0.1, tmu=TmuConfig(layers="first"))
ONLINE = BankConfig(mode="online", policy="free_run", dtype="float32")


@pytest.fixture(autouse=True)
def _threads():
    """One, as the pipeline's steps have; more would make these small networks slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``data``, and the sources `near`, which has the target's network, and `gru`, with random weights."""
    root = tmp_path_factory.mktemp("transfer")
    data = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=12, validation=4, test=4)
    (root / "data").mkdir()
    data.build(root / "data", lambda _fraction, _message: None)
    for seed, (name, network) in enumerate(NETWORKS.items(), start=100):
        torch.manual_seed(seed)
        save_predictor(Predictor(network, data.frame_shape()), root / name / "model")
    return root


@pytest.fixture(scope="module")
def cluster():
    with connect("local", num_cpus=2) as summary:
        yield summary


def train(directory, folder, method, predictor=PLAIN, bank=ONLINE, best="near", training=TRAINING, stored=None, **workers):
    """Train an arm as the pipeline does; returns its result, and leaves it in `directory`."""
    config = TrainTargetConfig(
        arm="arm",
        method=method,
        predictor=predictor,
        training=training,
        bank=bank,
        observed=OBSERVED,
        sources=tuple(NETWORKS),
        workers=WorkerConfig(**workers),
    )
    banks = {f"banks/{name}": stored / name for name in NETWORKS} if stored else {}
    inputs = {"data": folder / "data"} | {f"sources/{name}": folder / name for name in NETWORKS} | banks
    results = {"rank": dump(Ranking(val_mse={}, fitting=(), best=best))} | {
        bank: dump(BankResult(digest="d", bytes=1)) for bank in banks
    }
    resources = Resources(0 if workers else 1)
    return train_target(StepContext.standalone(directory, config, inputs, results, resources))


def setup(folder, bank=None):
    """What a method makes an objective of, without a step around it; the bank keeps frames unless another is given."""
    return Setup(
        predictor=PLAIN,
        frames=ClipStore.open(folder / "data").shape,
        decouple_weight=0.1,
        observed=OBSERVED,
        clips=folder / "data",
        sources={name: folder / name for name in NETWORKS},
        names=tuple(NETWORKS),
        best="near",
        bank=bank or WITH_FRAMES,
    )


def weights(directory):
    return load_file(directory / "model" / "predictor.safetensors")


def distance(a, b):
    """Euclidean distance of two exported networks."""
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    return torch.stack([(ours[k] - theirs[k]).square().sum() for k in ours]).sum().sqrt().item()


# ------------------------------------------------------------------------------------------------------------------- loss terms


@pytest.fixture(scope="module")
def batch(folder):
    indices = torch.arange(4)
    return Batch(indices, ClipStore.open(folder / "data").split("train").clips(indices), teacher_forced(4, 6), False)


def objectives(folder, predictor):
    """One of each kind, for one network."""
    torch.manual_seed(0)
    frames = ClipStore.open(folder / "data").shape
    yield PredictionObjective(Predictor(predictor, frames), 0.1), {"mse"}
    anchored = AnchoredObjective(Predictor(predictor, frames), 0.1, weight=0.1)
    with torch.no_grad():
        for parameter in anchored.parameters():
            parameter.add_(0.01)  # where it starts the anchor pulls nowhere
    yield anchored, {"mse", "anchor"}
    for layers in ("first", "all"):
        transfer = dataclasses.replace(TRANSFER, tmu=TmuConfig(layers=layers))
        target = Predictor(transfer.network(predictor, len(NETWORKS)), frames)
        bank = open_bank(
            dataclasses.replace(ONLINE, layers=layers),
            sources={name: folder / name / "model" for name in NETWORKS},
            banks={},
            clips=folder / "data",
            observed=OBSERVED,
            target=target.config,
        )
        yield (
            TransferObjective(target, 0.1, bank, DistillationLoss(target, bank), transfer.distillation_weight),
            {"mse", "distill"},
        )


@pytest.mark.parametrize(
    "network",
    [PLAIN, DECOUPLED, dataclasses.replace(DECOUPLED, cell=STLSTM(layer_norm=True, decouple=True))],
    ids=["convlstm", "stlstm", "norm"],
)
def test_every_term_of_the_loss_changes_the_gradient_of_the_predictor(folder, batch, network):
    for objective, expected in objectives(folder, network):
        terms = objective(batch)
        assert terms.keys() == expected | ({"decouple"} if network is not PLAIN else set())
        for name in terms:
            objective.zero_grad()
            objective(batch)[name].backward()
            slopes = [p.grad.abs().max() for p in objective.predictor.parameters() if p.grad is not None]
            assert max(slopes) > 1e-8, name
        objective.zero_grad()
        torch.stack(list(objective(batch).values())).sum().backward()
        # Workers that train together wait for ever for a gradient that nothing computes.
        assert all(p.grad is not None for p in objective.parameters())


def test_training_follows_the_sum_of_all_terms(folder, tmp_path):
    transfer = dataclasses.replace(TRANSFER, warm_start="none")
    train(tmp_path / "arm", folder, transfer, DECOUPLED)
    logged = curves(tmp_path / "arm" / "journal.jsonl")
    assert {k for k in logged if k.startswith("train/")} == {"train/loss", "train/mse", "train/decouple", "train/distill"}
    for i, (step, loss) in enumerate(logged["train/loss"]):
        assert step == 2 * (i + 1)
        assert loss == pytest.approx(sum(logged[f"train/{k}"][i][1] for k in ("mse", "decouple", "distill")), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "other"),
    [
        (TRANSFER, dataclasses.replace(TRANSFER, distillation_weight=10.0)),
        (L2SP(weight=0.0), L2SP(weight=100.0)),
        (Delta(weight=0.0), Delta(weight=100.0)),
        (Scratch(), Finetune(source="near")),
        (Finetune(source="near"), TRANSFER),
    ],
)
def test_settings_of_an_arm_reach_what_it_exports(folder, tmp_path, method, other):
    for name, chosen in (("a", method), ("again", method), ("b", other)):
        train(tmp_path / name, folder, chosen)
    assert distance(tmp_path / "a", tmp_path / "again") == 0
    ours, theirs = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert (ours["head.weight"] - theirs["head.weight"]).abs().max() > 1e-5


def test_l2_sp_measures_the_distance_to_where_the_weights_started(folder, batch):
    torch.manual_seed(0)
    predictor = Predictor(PLAIN, ClipStore.open(folder / "data").shape)
    objective = AnchoredObjective(predictor, 0.0, weight=0.1)
    assert objective(batch)["anchor"] == 0
    with torch.no_grad():
        predictor.head.weight.add_(0.5)
    # The head takes 4 channels to patches of 4 x 4 pixels: 64 weights, each moved by 0.5. 0.1 / 2 * 64 * 0.25 = 0.8.
    assert predictor.head.weight.numel() == 64
    assert objective(batch)["anchor"].item() == pytest.approx(0.8, rel=1e-6)


def test_the_anchors_of_l2_sp_follow_the_weights_to_their_device_once(folder, batch):
    objective = AnchoredObjective(Predictor(PLAIN, ClipStore.open(folder / "data").shape), 0.0, weight=0.1).to("meta")
    there = batch._replace(clips=batch.clips.to("meta"))
    prediction = Prediction(there.clips[:, 1:], {}, {})
    objective.terms(there, prediction)
    anchors = objective.anchors
    assert {a.device.type for a in anchors} == {"meta"}
    objective.terms(there, prediction)
    assert objective.anchors is anchors
    assert not any(
        "anchor" in name for name in objective.state_dict()
    )  # no checkpoint holds them, for the source gives them again


def test_l2_sp_holds_the_weights_near_the_best_source(folder, tmp_path):
    training = dataclasses.replace(TRAINING, iterations=30, validate_every=30, learning_rate=1e-2)
    for name, weight in (("loose", 0.0), ("tight", 100.0)):
        train(tmp_path / name, folder, L2SP(weight=weight), training=training)
    loose, tight = (distance(tmp_path / name, folder / "near") for name in ("loose", "tight"))
    assert tight < 0.3 * loose


def test_frames_are_distilled_from_the_source_that_predicts_the_clip_best(folder, batch):
    given = setup(folder)
    objective, all_alike = (FrameDistillation(weight=2.0, relevance=r).build(given) for r in ("best", "none"))
    alone = free_run(4, OBSERVED, 6)
    with torch.no_grad():
        theirs = [load_predictor(folder / name / "model")(batch.clips, alone).frames for name in NETWORKS]
        ours = objective.predict(batch, {}).frames
        # By source and clip, over the frames that the source makes of its own.
        errors = torch.stack(
            [(f.clamp(0, 1) - batch.clips[:, 1:])[:, OBSERVED - 1 :].square().flatten(1).mean(1) for f in theirs]
        )
        distances = torch.stack([(ours - f).square().flatten(1).mean(1) for f in theirs])
    best = distances.gather(0, errors.argmin(0, keepdim=True))
    assert objective(batch)["distill_frames"].item() == pytest.approx(2.0 * best.mean().item(), rel=1e-5)
    assert all_alike(batch)["distill_frames"].item() == pytest.approx(2.0 * distances.mean().item(), rel=1e-5)
    assert not torch.allclose(best.mean(), distances.mean(), rtol=1e-3)


def test_delta_measures_the_distance_to_the_memories_of_the_source(folder, batch):
    """Of those that the source has when it runs on its own: fed as it was, the target is the source and nothing apart."""
    objective = Delta(weight=2.0).build(setup(folder, ONLINE))
    alone = batch._replace(feed=free_run(4, OBSERVED, 6))
    assert objective(alone)["delta"] == 0
    source = load_predictor(folder / "near" / "model")
    kept, seen = (source(b.clips, b.feed, {0: ("c",), 1: ("c",)}).memories for b in (alone, batch))
    distances = [(kept[layer, "c"] - seen[layer, "c"]).square().mean() for layer in (0, 1)]
    assert objective(batch)["delta"].item() == pytest.approx(2.0 * sum(distances).item() / 2, rel=1e-5)
    # Collected beside what another objective asks for, once each.
    memories = objective.predict(batch, {1: ("c", "h")}).memories
    assert {key: value.shape[1] for key, value in memories.items()} == {(0, "c"): 5, (1, "c"): 5, (1, "h"): 5}


# ------------------------------------------------------------------------------------------------------------------------ starts

STILL = dataclasses.replace(TRAINING, iterations=1, validate_every=1, learning_rate=1e-30)  # too little to change a float32


@pytest.mark.parametrize("method", [Finetune(source="near"), L2SP(), Delta(), TRANSFER], ids=lambda method: method.kind)
def test_an_arm_begins_as_the_source_that_it_starts_from(folder, tmp_path, method):
    """A TMU arm too: with identity distillers and their mean, nothing is transferred before it is learnt."""
    assert (TRANSFER.tmu.combine, TRANSFER.tmu.distiller_init) == ("mean", "identity")
    train(tmp_path, folder, method, training=STILL)
    target, source = load_predictor(tmp_path / "model"), load_predictor(folder / "near" / "model")
    assert (target.config.tmu is not None) == isinstance(method, Transfer)
    seen = ClipStore.open(folder / "data").split("test").clips(range(4))[:, :OBSERVED]
    torch.testing.assert_close(target.predict(seen, 3), source.predict(seen, 3), rtol=0, atol=0)


@pytest.mark.parametrize("method", [Scratch(), dataclasses.replace(TRANSFER, warm_start="none")], ids=lambda method: method.kind)
def test_an_arm_without_a_source_begins_at_random(folder, tmp_path, method):
    train(tmp_path, folder, method, training=STILL, best=None)
    target, source = load_predictor(tmp_path / "model"), load_predictor(folder / "near" / "model")
    assert not torch.allclose(target.head.weight, source.head.weight, atol=1e-2)


def test_a_source_with_another_network_gives_no_weights(folder, tmp_path):
    with pytest.raises(ConfigError, match="patch_size: target and source must agree, but got 4 and 2"):
        train(tmp_path / "a", folder, Finetune(source="gru"))
    wider = dataclasses.replace(PLAIN, hidden_channels=(5, 5))
    with pytest.raises(ConfigError, match=r"cannot start the target from this source, for they differ in cells.0.conv.bias"):
        train(tmp_path / "b", folder, Finetune(source="near"), wider)
    for method in (L2SP(), TRANSFER):
        with pytest.raises(ConfigError, match=r"target.predictor: no source has the target's architecture"):
            train(tmp_path / method.kind, folder, method, wider, best=None)


# ---------------------------------------------------------------------------------------------------------------------- the bank


@pytest.fixture(scope="module")
def stored(folder, cluster, tmp_path_factory):  # noqa: ARG001
    """Folders of steps with stored banks, by precision and source."""
    root = tmp_path_factory.mktemp("banks")
    for dtype in ("float32", "float16"):
        for name in NETWORKS:
            build_bank(
                dataclasses.replace(ONLINE, mode="stored", dtype=dtype),
                name=name,
                source=folder / name / "model",
                clips=folder / "data",
                observed=OBSERVED,
                target_depth=len(PLAIN.hidden_channels),
                directory=root / dtype / name / "bank",
                num_actors=1,
            )
    return root


# Float32 at rest: the bank was built in batches of another size. Float16: memories are rounded by 2^-11 at most, and so is the
# gradient of the distillation loss, a part of the whole; a weight whose gradient is nearly zero may go astray by more.
@pytest.mark.parametrize(("dtype", "relative"), [("float32", 1e-4), ("float16", 1e-2)])
def test_a_stored_bank_and_an_online_one_train_the_same_target(folder, stored, tmp_path, dtype, relative):
    training = dataclasses.replace(TRAINING, iterations=20, validate_every=20)
    transfer = dataclasses.replace(TRANSFER, distillation_weight=10.0)
    at_rest = dataclasses.replace(ONLINE, mode="stored", dtype=dtype)
    train(tmp_path / "online", folder, transfer, training=training)
    train(tmp_path / "stored", folder, transfer, bank=at_rest, stored=stored / dtype, training=training)
    train(tmp_path / "start", folder, transfer, training=STILL)
    moved = distance(tmp_path / "online", tmp_path / "start")
    assert distance(tmp_path / "online", tmp_path / "stored") < relative * moved
    logged = {name: curves(tmp_path / name / "journal.jsonl")["train/distill"][-1][1] for name in ("online", "stored")}
    assert logged["stored"] == pytest.approx(logged["online"], rel=relative)


@pytest.mark.usefixtures("cluster")
def test_two_workers_train_the_same_target(folder, stored, tmp_path):
    at_rest = dataclasses.replace(ONLINE, mode="stored", dtype="float16")
    train(tmp_path / "one", folder, TRANSFER, bank=at_rest, stored=stored / "float16")
    result = train(tmp_path / "two", folder, TRANSFER, bank=at_rest, stored=stored / "float16", num_workers=2)
    assert (result.num_workers, result.threads) == (2, 1)
    # Sums in another order, after 4 Adam steps of 1e-3; other clips would move every weight by up to 4e-3.
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((ours[k] - theirs[k]).abs().max() for k in ours) < 1e-4


def test_the_exported_target_needs_neither_sources_nor_bank(folder, stored, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(folder, place)
    shutil.copytree(stored / "float16", place / "bank-step")
    at_rest = dataclasses.replace(ONLINE, mode="stored", dtype="float16")
    train(tmp_path / "arm", place, TRANSFER, bank=at_rest, stored=place / "bank-step")
    held = load_file(next((tmp_path / "arm" / "checkpoints").glob("*/state.safetensors")))
    assert any("projections" in name for name in held)  # they are trained, and a run that goes on needs them
    shutil.move(tmp_path / "arm" / "model", tmp_path / "exported")
    for used in (place, tmp_path / "arm"):
        shutil.rmtree(used)

    assert sorted(p.name for p in (tmp_path / "exported").iterdir()) == ["predictor.json", "predictor.safetensors"]
    target = load_predictor(tmp_path / "exported")
    assert target.predict(torch.rand(2, OBSERVED, 1, 16, 16), 5).shape == (2, 5, 1, 16, 16)
    plain, own = set(Predictor(PLAIN, target.frames).state_dict()), {"distillers.weight", "gate.weight", "gate.bias"}
    expected = {name.replace("cells.0.", "cells.0.base.") for name in plain} | {f"cells.0.{name}" for name in own}
    assert set(load_file(tmp_path / "exported" / "predictor.safetensors")) == expected


def test_without_weight_on_distillation_the_bank_is_not_read(folder, tmp_path):
    at_rest = dataclasses.replace(ONLINE, mode="stored")
    transfer = dataclasses.replace(TRANSFER, distillation_weight=0.0)
    train(tmp_path / "arm", folder, transfer, bank=at_rest, stored=tmp_path / "nowhere")
    logged = curves(tmp_path / "arm" / "journal.jsonl")
    assert {k for k in logged if k.startswith("train/")} == {"train/loss", "train/mse"}
    assert load_predictor(tmp_path / "arm" / "model").config.num_sources == 2


def test_distillation_without_its_stored_bank_is_refused(folder, tmp_path):
    at_rest = dataclasses.replace(ONLINE, mode="stored")
    with pytest.raises(ConfigError, match="mode: a stored bank is read from a directory"):
        train(tmp_path, folder, TRANSFER, bank=at_rest)


# --------------------------------------------------------------------------------------------------------------------- relevance

LISTENS = dataclasses.replace(
    TRANSFER, relevance="soft", relevance_over="place", source_memories="scaled", anneal="cosine", frame_weight=0.3
)
WITH_FRAMES = dataclasses.replace(ONLINE, frames=True)


def test_weights_of_distillation_fall_over_the_training(folder, batch):
    def distilled(progress, **changes):
        torch.manual_seed(0)
        method = dataclasses.replace(LISTENS, warm_start="none", **changes)
        terms = method.build(setup(folder))(batch._replace(progress=progress))
        return torch.stack([terms["distill"], terms["distill_frames"]])

    for anneal, left in {"none": 1.0, "linear": 0.75, "cosine": (1 + math.cos(math.pi / 4)) / 2}.items():
        torch.testing.assert_close(distilled(0.25, anneal=anneal), left * distilled(0.0, anneal="none"))


def test_a_training_that_was_stopped_goes_on_to_the_same_bits_and_says_whom_its_clips_listen_to(folder, tmp_path):
    def attempt(name, stop_after=100):
        (tmp_path / name).mkdir(exist_ok=True)
        asked = itertools.count(1)
        surroundings = Surroundings(
            directory=tmp_path / name,
            journal=Journal(tmp_path / name / "journal.jsonl"),
            should_stop=lambda: next(asked) == stop_after,
        )
        clips = ClipStore.open(folder / "data")
        build, train, validation = (
            functools.partial(LISTENS.build, setup(folder)),
            clips.split("train"),
            clips.split("validation"),
        )
        fit(build, train, validation, observed=OBSERVED, config=TRAINING, surroundings=surroundings)

    attempt("whole")
    with pytest.raises(Interrupted, match="iteration 3 of 4"):
        attempt("stopped", stop_after=3)
    attempt("stopped")
    assert distance(tmp_path / "whole", tmp_path / "stopped") == 0
    logged = [curves(tmp_path / name / "journal.jsonl") for name in ("whole", "stopped")]
    assert logged[0]["train/distill_frames"] == logged[1]["train/distill_frames"]
    with np.load(tmp_path / "stopped" / RELEVANCE) as left:
        assert left["sources"].tolist() == list(NETWORKS)
        assert left["relevance"].shape == (12, 2)
        assert left["relevance"].sum(axis=1) == pytest.approx(2.0, rel=1e-5)


def test_a_method_says_when_it_reads_predicted_frames(folder, tmp_path):
    assert "frames" not in TRANSFER.needs
    for reads in (LISTENS, dataclasses.replace(TRANSFER, relevance="best"), dataclasses.replace(TRANSFER, frame_weight=0.1)):
        assert "frames" in reads.needs
    assert LISTENS.without_loss() == dataclasses.replace(TRANSFER, distillation_weight=0.0)
    assert not LISTENS.without_loss().needs & {"banks", "frames"}
    with pytest.raises(ConfigError, match=r"bank\.frames: must be true, for the method tmu reads predicted frames; got false"):
        train(tmp_path, folder, LISTENS)


def test_without_its_loss_fitted_units_begin_as_with_it_and_still_learn(folder, batch):
    fitted = dataclasses.replace(TRANSFER, tmu=TmuConfig(distiller_init="fitted", combine="residual", layers="first"))
    made = []
    for method in (fitted, fitted.without_loss()):
        torch.manual_seed(0)
        made.append(method.build(setup(folder)))
    whole, control = made
    assert all(torch.equal(a, b) for a, b in zip(whole.exported.parameters(), control.exported.parameters(), strict=True))
    terms = control(batch)
    assert set(terms) == {"mse"}
    # With identity distillers nothing would ever move: S^m is the candidate, and no share of nothing is better than another.
    terms["mse"].backward()
    assert control.exported.cells[0].scale.grad.abs().max() > 0


# ---------------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L2SP(weight=-1.0), "weight: must be at least 0, but got -1.0"),
        (lambda: Transfer(distillation_weight=-0.1), "distillation_weight: must be at least 0, but got -0.1"),
    ],
)
def test_settings_of_methods_that_cannot_work_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_what_an_arm_is_called_and_where_it_is_trained_is_no_part_of_its_identity():
    arm = TrainTargetConfig(arm="scratch", method=Scratch(), predictor=PLAIN, training=TRAINING, observed=OBSERVED)
    assert digest(arm) == digest(dataclasses.replace(arm, workers=WorkerConfig(num_workers=4, gpus_per_worker=1)))
    assert digest(arm) == digest(dataclasses.replace(arm, arm="another name"))
    assert digest(arm) != digest(dataclasses.replace(arm, observed=4))
