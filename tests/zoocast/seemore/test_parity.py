"""Both stages compute what SeeMore's released code computes: losses, gradients, rates and weights after each call."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from zoocast.seemore.adapter import AdapterConfig, MetaAdapter
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.training import Batch, PredictionObjective, TrainingConfig, Worker

GOLDENS = Path(__file__).parents[2] / "goldens"
FORWARD, GRADIENT = 1e-5, 1e-4


def bidirectional(golden, name):
    """Both directions of a released checkpoint, weighted as there."""
    decouple = golden.geometry["decouple_beta"]
    ahead, back = (PredictionObjective(golden.load(name, direction), decouple) for direction in ("forward", "reverse"))
    return BidirectionalObjective(ahead, back, BidirectionalConfig()).train()


def our_name(name):
    """rnn_rev.cell_list.0.conv_x.0.weight -> reverse_objective.predictor.cells.0.conv_x.weight."""
    name = name.replace("rnn_rev.", "reverse_objective.predictor.").replace("rnn.", "forward_objective.predictor.")
    name = name.replace("predictor.conv_last", "predictor.head").replace("cell_list", "cells")
    return re.sub(r"(conv_\w)\.0\.", r"\1.", name)


def relative(ours, theirs):
    """The largest difference relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", ["seemore_stage1", "seemore_stage1_rss"])
def test_the_first_stage_has_the_releases_losses_and_gradients(read_golden, name):
    golden = read_golden(name)
    objective = bidirectional(golden, name)
    batch = Batch(torch.arange(2), golden.clips, golden.feed, False)
    terms = objective(batch)
    parts = {
        "loss_forward": terms["mse"] + terms["decouple"],
        "loss_reverse": terms["reverse_mse"] + terms["reverse_decouple"],
        "loss_bidirectional": terms["feature"] + terms["frame"],
        "loss": sum(terms.values()),
    }
    assert {k: relative(v.detach(), golden.values[k]) < FORWARD for k, v in parts.items()} == dict.fromkeys(parts, True)
    assert relative(objective.predict(batch, {}).frames.detach(), golden.clip("next_frames")) < FORWARD

    parts["loss"].backward()
    ours = {n: p.grad for n, p in objective.named_parameters()}
    theirs = {our_name(k.removeprefix("grad:")): v for k, v in golden.values.items() if k.startswith("grad:")}
    assert ours.keys() == theirs.keys()
    assert {n: error for n in ours if (error := relative(ours[n], theirs[n])) >= GRADIENT} == {}


LEVELS = [f"{way}.{level}" for way in ("forward", "reverse") for level in (*(f"cells.{i}" for i in range(4)), "head", "adapter")]


def test_rates_are_clamped_where_the_release_clamps_them(read_golden):
    golden, released = read_golden("seemore_stage2"), np.load(GOLDENS / "seemore_clamp.npz")
    reached = {}
    for bound in ("release", 2.0):
        config = AdapterConfig(initial_rate=1.5e-4, meta_learning_rate=1e-5, upper_bound=bound, rate_iterations=9)
        adapter = MetaAdapter(config, bidirectional(golden, "seemore_stage2"), TrainingConfig(batch_size=2), Worker())
        for call in range(9):
            clips, feed = golden.clips[call % 6], golden.feed[call % 6]
            terms = adapter.update(Batch(torch.arange(2), clips, feed, False), call)
            if bound == "release":
                assert relative(sum(terms.values()), torch.tensor(released["loss"][call])) < FORWARD
                rates = adapter.rates.detach()[[adapter.levels.index(level) for level in LEVELS]]
                torch.testing.assert_close(rates, torch.from_numpy(released["task_lr"][call]), rtol=0, atol=2e-9)
        reached[bound] = adapter.rates.max().item()
    # Nine steps of Adam at 1e-5 from 1.5e-4, of which the first and the steady ones have its full length: 2.4e-4 without a clamp.
    assert reached == {"release": pytest.approx(2e-4, rel=1e-6), 2.0: pytest.approx(2.4e-4, rel=1e-2)}


def test_the_second_stage_has_the_releases_losses_rates_and_weights(read_golden):
    golden = read_golden("seemore_stage2")
    objective = bidirectional(golden, "seemore_stage2")
    # Two learning-rate calls, two weight calls, and again two learning-rate calls.
    assert golden.values["update_lr"].tolist() == [1, 1, 0, 0, 1, 1]
    config = AdapterConfig(
        initial_rate=golden.geometry["lr_alpha"], meta_learning_rate=golden.geometry["lr_beta"], cycle=4, rate_iterations=2
    )
    adapter = MetaAdapter(config, objective, TrainingConfig(batch_size=2), Worker())
    places = [adapter.levels.index(level) for level in LEVELS]
    for call in range(6):
        terms = adapter.update(Batch(torch.arange(2), golden.clips[call], golden.feed[call], False), call)
        assert relative(sum(terms.values()), golden.values["loss"][call]) < FORWARD
        rates = adapter.rates.detach()[places]
        torch.testing.assert_close(rates, golden.values["task_lr"][call], rtol=0, atol=1e-9)

    # Weights moved by up to 2e-4 (two calls at a rate of 1e-4); where a gradient is nearly zero Adam magnifies its rounding.
    theirs = {our_name(k.removeprefix("param:")): v for k, v in golden.values.items() if k.startswith("param:")}
    ours = {n: p.detach() for n, p in objective.named_parameters()}
    assert ours.keys() == theirs.keys()
    assert {n: error for n in ours if (error := (ours[n] - theirs[n]).abs().max().item()) >= 4e-7} == {}
