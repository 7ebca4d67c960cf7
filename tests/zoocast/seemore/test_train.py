"""Both stages as steps: where they start, what they export, and that a stopped one goes on to the same bits."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from zoocast.cluster.connect import connect
from zoocast.config import digest, dump, override
from zoocast.dag import Resources, StepContext
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, Interrupted, StepFailed
from zoocast.nn.predictor import Predictor, load_predictor
from zoocast.nn.sampling import ScheduledSampling
from zoocast.nn.tmu import TmuConfig
from zoocast.seemore.adapter import AdapterConfig
from zoocast.seemore.bidirectional import BidirectionalConfig
from zoocast.seemore.train import AdaptConfig, TrainBidirectionalConfig, adapt, adapt_in, train_bidirectional
from zoocast.tracking import curves
from zoocast.training import TrainingConfig
from zoocast.transfer import L2SP, Finetune, LayerDecay, Scratch, TrainTargetConfig, Transfer, train_target
from zoocast.zoo import Ranking

TRAINING = TrainingConfig(iterations=4, batch_size=4, validate_every=2, checkpoint_every=4, learning_rate=1e-3)
ADAPTER = AdapterConfig(initial_rate=1e-3, meta_learning_rate=1e-5, cycle=4, rate_iterations=2)
TMU = Transfer(distillation_weight=0.1, tmu=TmuConfig(layers="first"))


class StopsAt(StepContext):
    """A context in which the user asks to stop after some iterations."""

    def __init__(self, stop_at, **fields):
        super().__init__(**fields)
        self.left = stop_at

    def should_stop(self):
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def target(plain, bank):
    """The settings of an arm."""

    def target(method=Scratch(), training=TRAINING, **changes):  # noqa: B008
        fields = {"arm": "arm", "predictor": plain, "bank": bank, "observed": 3, "sources": ("near", "gru"), **changes}
        return TrainTargetConfig(method=method, training=training, **fields)

    return target


@pytest.fixture
def run(folder):
    """Runs a step as a pipeline does and returns its result; what it leaves is in `directory`."""

    def run(fn, directory, config, start=None, stop_at=None):
        inputs = {"data": folder / "data", **{f"sources/{name}": folder / name for name in ("near", "gru")}}
        results = {"rank": dump(Ranking(val_mse={}, fitting=("near",), best="near"))}
        if start is not None:
            inputs["start"] = start
            results["start"] = json.loads((start / "result.json").read_text())
        workers = getattr(config, "target", config).workers
        resources = Resources(0 if workers.num_workers > 1 else 1)
        context = StepContext.standalone(directory, config, inputs, results, resources)
        if stop_at is not None:
            context = StopsAt(stop_at, **{f.name: getattr(context, f.name) for f in dataclasses.fields(context) if f.init})
        result = fn(context)
        (directory / "result.json").write_text(json.dumps(dump(result)))
        return result

    return run


@pytest.fixture
def first(run, tmp_path, target):
    """Stage 1 of an arm, in two directions; returns its folder."""

    def first(method=Scratch(), name="first", **changes):  # noqa: B008
        run(train_bidirectional, tmp_path / name, TrainBidirectionalConfig(target=target(method, **changes)))
        return tmp_path / name

    return first


def weights(directory):
    return load_file(directory / "model" / "predictor.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------------------------------------------------- stage 1


def test_what_is_exported_is_the_forward_network_alone(first, folder, plain):
    """The paper's claim: same parameters, same FLOPs, same predictions as that network alone."""
    directory = first()
    exported = load_predictor(directory / "model")
    alone = Predictor(plain, exported.frames)
    assert {n: p.shape for n, p in exported.named_parameters()} == {n: p.shape for n, p in alone.named_parameters()}

    held = load_file(directory / "objective.safetensors")
    alone.load_state_dict({n: held[f"forward_objective.predictor.{n}"] for n in alone.state_dict()})
    assert held["reverse_objective.predictor.head.weight"].shape == alone.head.weight.shape
    assert not torch.equal(held["reverse_objective.predictor.head.weight"], alone.head.weight)
    seen = ClipStore.open(folder / "data").split("test").clips(range(4))[:, :3]
    assert torch.equal(exported.predict(seen, 3), alone.predict(seen, 3))
    counts = []
    for network in (exported, alone):
        with FlopCounterMode(display=False) as counter:
            network.predict(seen, 3)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 1e6


def test_the_best_weights_of_both_directions_are_of_one_moment(first):
    directory = first()
    (checkpoint,) = (directory / "checkpoints").glob("0*")
    state, held = load_file(checkpoint / "state.safetensors"), load_file(directory / "objective.safetensors")
    assert all(torch.equal(value, state[f"best.{name}"]) for name, value in held.items())
    assert all(torch.equal(value, held[f"forward_objective.predictor.{name}"]) for name, value in weights(directory).items())


def test_both_stages_log_every_term_and_stage_2_its_rates(first, run, target, tmp_path):
    directory = first(TMU)
    terms = {"loss", "mse", "distill", "reverse_mse", "reverse_distill", "feature", "frame"}
    assert {k for k in curves(directory / "journal.jsonl") if k.startswith("train/")} == {f"train/{t}" for t in terms}
    run(adapt, tmp_path / "second", AdaptConfig(target=target(TMU), adapter=ADAPTER), start=directory)
    logged = curves(tmp_path / "second" / "journal.jsonl")
    assert {k for k in logged if k.startswith("train/")} == {f"train/{t}" for t in (*terms, "chain")}
    levels = [f"{d}.{level}" for d in ("forward", "reverse") for level in ("cells.0", "cells.1", "head", "distillation")]
    kinds = ("rate", "rate_data_gradient", "rate_penalty_gradient")
    assert {k for k in logged if k.startswith("rate")} == {f"{kind}/{level}" for kind in kinds for level in levels}
    assert [step for step, _ in logged["rate/reverse.distillation"]] == [2, 4]
    # Two learning-rate calls of 1e-5 each, and then two weight calls.
    assert logged["rate/forward.cells.0"][0][1] == pytest.approx(1e-3, abs=2.1e-5)
    assert logged["rate/forward.cells.0"][0][1] == logged["rate/forward.cells.0"][1][1] != 1e-3


# -------------------------------------------------------------------------------------------------------------- starts of stage 2

STILL = dataclasses.replace(TRAINING, iterations=1, validate_every=1, learning_rate=1e-30)  # too little to change a float32


@pytest.mark.parametrize("method", [Scratch(), Finetune(source="near"), L2SP(), TMU], ids=lambda m: m.kind)
@pytest.mark.parametrize("adapter", [None, ADAPTER], ids=["adam", "lma"])
def test_stage_2_starts_from_both_directions_of_stage_1(first, run, target, tmp_path, method, adapter):
    directory = first(method)
    result = run(adapt, tmp_path / "second", AdaptConfig(target=target(method, STILL), adapter=adapter), start=directory)
    assert result.iterations == 1
    # One learning-rate call, or one step of nearly nothing: the weights are where they were.
    ours, theirs = (load_file(d / "objective.safetensors") for d in (tmp_path / "second", directory))
    assert same(ours, theirs)


@pytest.mark.parametrize("method", [Scratch(), TMU], ids=lambda m: m.kind)
def test_a_target_trained_in_one_direction_can_be_adapted(run, target, tmp_path, method):
    run(train_target, tmp_path / "start", target(method))
    still = AdaptConfig(target=target(method, STILL), bidirectional=None, adapter=ADAPTER)
    run(adapt, tmp_path / "still", still, start=tmp_path / "start")
    assert same(weights(tmp_path / "still"), weights(tmp_path / "start"))
    # Validated only at its end, when weights have moved.
    moving = dataclasses.replace(still, target=target(method, dataclasses.replace(TRAINING, validate_every=4)))
    run(adapt, tmp_path / "moving", moving, start=tmp_path / "start")
    assert not same(weights(tmp_path / "moving"), weights(tmp_path / "start"))
    levels = ["cells.0", "cells.1", "head"] + (["distillation"] if method is TMU else [])
    logged = curves(tmp_path / "moving" / "journal.jsonl")
    assert {k.removeprefix("rate/") for k in logged if k.startswith("rate/")} == set(levels)


def test_the_forward_network_of_stage_1_can_go_on_alone(first, run, target, tmp_path):
    directory = first()
    config = AdaptConfig(target=target(training=STILL), bidirectional=None, adapter=None)
    run(adapt, tmp_path / "second", config, start=directory)
    assert same(weights(tmp_path / "second"), weights(directory))
    assert not (tmp_path / "second" / "objective.safetensors").exists()


def test_a_method_with_rates_of_its_own_has_no_adapter(target):
    layers = target(LayerDecay())
    with pytest.raises(ConfigError, match="must be none with the method llrd"):
        AdaptConfig(target=layers)
    AdaptConfig(target=layers, adapter=None)


def test_a_start_that_does_not_fit_is_refused(first, run, target, tmp_path, plain):
    run(train_target, tmp_path / "start", target())
    with pytest.raises(ConfigError, match="holds a predictor and nothing beside it; go on with the method and the directions"):
        run(adapt, tmp_path / "a", AdaptConfig(target=target()), start=tmp_path / "start")
    wider = AdaptConfig(target=target(predictor=dataclasses.replace(plain, hidden_channels=(5, 5))), bidirectional=None)
    with pytest.raises(ConfigError, match="holds another network"):
        run(adapt, tmp_path / "b", wider, start=tmp_path / "start")
    with pytest.raises(ConfigError, match=r"holds weights that do not fit \(distillation"):
        run(adapt, tmp_path / "c", AdaptConfig(target=target(TMU), bidirectional=None), start=first(TMU))


def test_the_reverse_network_needs_a_bank_of_flipped_clips(target, bank):
    one_way = dataclasses.replace(bank, reversed=False)
    with pytest.raises(ConfigError, match=r"target.bank.reversed: must be true, for the reverse network"):
        TrainBidirectionalConfig(target=target(TMU, bank=one_way))
    with pytest.raises(ConfigError, match=r"target.bank.reversed: must be true"):
        AdaptConfig(target=target(TMU, bank=one_way))
    AdaptConfig(target=target(TMU, bank=one_way), bidirectional=None)
    TrainBidirectionalConfig(target=target(bank=one_way))


# --------------------------------------------------------------------------------------------------------------------- curriculum


def test_the_curriculum_goes_on_or_starts_anew(run, target, tmp_path):
    """The probability of a true frame falls by 1/4 per iteration, so after stage 1's four it is 0."""

    def training(start, rate):
        return dataclasses.replace(TRAINING, sampling=ScheduledSampling(start=start, rate=rate))

    run(train_target, tmp_path / "start", target(training=training(1.0, 0.25)))
    arms = {
        "continue": ("continue", training(1.0, 0.25)),
        "restart": ("restart", training(1.0, 0.25)),
        "zero": ("restart", training(0.0, 0.0)),
    }
    for name, (curriculum, chosen) in arms.items():
        config = AdaptConfig(target=target(training=chosen), bidirectional=None, adapter=None, curriculum=curriculum)
        run(adapt, tmp_path / name, config, start=tmp_path / "start")
    assert same(weights(tmp_path / "continue"), weights(tmp_path / "zero"))
    assert not same(weights(tmp_path / "restart"), weights(tmp_path / "zero"))


# ------------------------------------------------------------------------------------------------------------------------ resume


@pytest.mark.parametrize("changes", [{}, {"moments": "shared", "parametrisation": "logarithmic", "meta_batch": "held-out"}])
def test_a_stopped_stage_2_goes_on_to_the_same_bits(first, run, target, tmp_path, changes):
    """Stopped among learning-rate calls and among weight calls, with two updates in each iteration."""
    directory = first()
    training = dataclasses.replace(TRAINING, iterations=10, validate_every=2, checkpoint_every=3, reverse_input=True)
    config = AdaptConfig(target=target(training=training), adapter=dataclasses.replace(ADAPTER, **changes))
    run(adapt, tmp_path / "whole", config, start=directory)
    for stop_at, done in ((1, 1), (2, 3), (4, 7)):
        with pytest.raises(Interrupted, match=f"stopped at iteration {done} of 10"):
            run(adapt, tmp_path / "parts", config, start=directory, stop_at=stop_at)
    run(adapt, tmp_path / "parts", config, start=directory)
    last = [load_file(tmp_path / name / "checkpoints" / "00000010" / "state.safetensors") for name in ("whole", "parts")]
    assert same(*last)
    assert {"updater.raw", "updater.meta.exp_avg", "updater.moments.count", "random.torch"} <= last[0].keys()
    whole, parts = (curves(tmp_path / name / "journal.jsonl") for name in ("whole", "parts"))
    for name in ("val/mse", "rate/forward.head", "rate_data_gradient/reverse.cells.0"):
        assert whole[name] == parts[name]
        assert len(whole[name]) == 5


def test_without_a_stage_1_it_is_a_training_from_scratch(run, target, tmp_path):
    run(train_target, tmp_path / "scratch", target())
    run(adapt, tmp_path / "alone", AdaptConfig(target=target(), bidirectional=None, adapter=None))
    assert same(weights(tmp_path / "alone"), weights(tmp_path / "scratch"))


# --------------------------------------------------------------------------------------------------------- searches and workers


def test_a_search_can_train_stage_2_in_its_own_process(first, folder, target, tmp_path):
    directory = first()
    config = AdaptConfig(target=target(), adapter=ADAPTER)
    inputs = {"data": folder / "data", "start": directory}
    results = {"start": json.loads((directory / "result.json").read_text())}
    context = StepContext.standalone(tmp_path / "trial", config, inputs, results)
    told = []
    result = adapt_in(context, config, on_validation=lambda *what: told.append(what))
    assert [iteration for iteration, _ in told] == [2, 4]
    assert result.val_mse == min(error for _, error in told)


def test_a_diverged_trial_fails(first, run, target, tmp_path):
    adapter = dataclasses.replace(ADAPTER, initial_rate=1e30)
    with pytest.raises(StepFailed, match=r"not finite at iteration 1; lower adapter.initial_rate \(now 1e\+30\)"):
        run(adapt, tmp_path / "second", AdaptConfig(target=target(), adapter=adapter), start=first())


def test_two_workers_adapt_the_same_target(first, run, target, tmp_path):
    directory = first()
    config = AdaptConfig(target=target(), adapter=ADAPTER)
    run(adapt, tmp_path / "one", config, start=directory)
    two = override(config, {"target.workers.num_workers": 2})
    assert digest(two) == digest(config)
    with connect("local", num_cpus=2):
        result = run(adapt, tmp_path / "two", two, start=directory)
    assert result.num_workers == 2
    # Sums in another order, after two weight calls of 1e-3.
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((ours[k] - theirs[k]).abs().max() for k in ours) < 1e-4


# ---------------------------------------------------------------------------------------------------------------------- settings


def test_settings_of_both_stages_are_overridden_by_their_dotted_names(target):
    config = override(AdaptConfig(target=target()), {"adapter.cycle": "40", "adapter.rate_iterations": "10"})
    assert (config.adapter.cycle, config.adapter.rate_iterations) == (40, 10)
    assert override(config, {"adapter": "none"}).adapter is None
    assert override(config, {"bidirectional.teacher": "reverse"}).bidirectional == BidirectionalConfig(teacher="reverse")
