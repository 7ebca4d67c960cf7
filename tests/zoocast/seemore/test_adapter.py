"""The meta-adapter: its levels, its calendar, the gradient of its rates, and how they are held in order."""

import copy
import multiprocessing
import re

import pytest
import torch
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.nn.sampling import teacher_forced
from zoocast.seemore.adapter import AdapterConfig, MetaAdapter, level_of
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective
from zoocast.training import AdamUpdater, Batch, PredictionObjective, TrainingConfig, Worker

KINDS = ("convlstm", "convgru", "stlstm", "decoupled", "norm", "anchored", "tmu")
ONLY_RATES = {"cycle": 1000, "rate_iterations": 999}
ONLY_WEIGHTS = {"cycle": 1000, "rate_iterations": 0}


@pytest.fixture
def make(make_objective):
    """An objective of a kind, in one direction or two."""

    def make(kind, bidirectional=False):
        if bidirectional:
            return BidirectionalObjective(make_objective(kind), make_objective(kind), BidirectionalConfig())
        return make_objective(kind)

    return make


def adapt(objective, training=TrainingConfig(batch_size=4), **config):  # noqa: B008
    return MetaAdapter(AdapterConfig(**config), objective, training, Worker())


def weights(objective):
    return {name: p.detach().clone() for name, p in objective.named_parameters()}


# ----------------------------------------------------------------------------------------------------------------------- levels


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("predictor.cells.0.conv.weight", "cells.0"),
        ("predictor.cells.12.norm_x.bias", "cells.12"),
        ("predictor.cells.0.base.conv_last.weight", "cells.0"),
        ("predictor.cells.1.distillers.weight", "cells.1"),
        ("predictor.head.weight", "head"),
        ("predictor.adapter.weight", "adapter"),
        ("distillation.projections.1-0.bias", "distillation"),
        ("forward_objective.predictor.cells.3.conv.weight", "forward.cells.3"),
        ("reverse_objective.predictor.head.weight", "reverse.head"),
        ("reverse_objective.distillation.projections.0-0.weight", "reverse.distillation"),
    ],
)
def test_every_parameter_has_a_level(name, level):
    assert level_of(name) == level


def test_a_parameter_of_no_level_is_named():
    with pytest.raises(ValueError, match=r"parameter predictor.tail.weight belongs to no known level"):
        level_of("predictor.tail.weight")


def test_levels_of_both_directions_and_of_a_transfer_target(make):
    one = ("cells.0", "cells.1", "head", "distillation")
    assert adapt(make("tmu")).levels == one
    both = ("cells.0", "cells.1", "head", "adapter")
    assert adapt(make("decoupled", bidirectional=True)).levels == tuple(f"{d}.{n}" for d in ("forward", "reverse") for n in both)


# --------------------------------------------------------------------------------------------------------------------- calendar


@pytest.mark.parametrize(
    ("config", "calls"),
    [
        ({"cycle": 5, "rate_iterations": 2}, "RRWWWRRWWW"),
        ({"cycle": 5, "rate_iterations": 2, "first": "weights"}, "WWWRRWWWRR"),
        ({"cycle": 3, "rate_iterations": 0}, "WWW"),
    ],
)
def test_learning_rate_and_weight_calls_alternate_in_whole_cycles(config, calls):
    moves = AdapterConfig(**config).moves_rates
    assert "".join("R" if moves(i) else "W" for i in range(len(calls))) == calls


def test_a_call_moves_rates_or_weights_and_never_both(make, batch):
    objective = make("decoupled", bidirectional=True)
    adapter = adapt(objective, cycle=2, rate_iterations=1)
    for iteration in range(4):
        before, rates = weights(objective), adapter.rates.detach().clone()
        adapter.update(batch, iteration)
        same = [torch.equal(p, before[name]) for name, p in objective.named_parameters()]
        assert torch.equal(adapter.rates, rates) == (iteration % 2 == 1)
        assert all(same) if iteration % 2 == 0 else not any(same)


# ---------------------------------------------------------------------------------------------------------------- weight calls


@pytest.mark.parametrize("clip", [None, 0.01])
def test_with_equal_rates_weights_move_as_with_adam(make, batch, clip):
    training = TrainingConfig(batch_size=4, learning_rate=1e-3, gradient_clip=clip)
    ours, theirs = make("norm"), make("norm")
    theirs.load_state_dict(ours.state_dict())
    adapter, adam = adapt(ours, training, **ONLY_WEIGHTS, initial_rate=1e-3), AdamUpdater(theirs, training, Worker())
    for iteration in range(3):
        assert sum(adapter.update(batch, iteration).values()) == pytest.approx(sum(adam.update(batch, iteration).values()))
    for name, expected in weights(theirs).items():
        # Three steps of 1e-3.
        torch.testing.assert_close(ours.get_parameter(name).detach(), expected, rtol=0, atol=3e-6)


def test_every_level_moves_by_its_own_rate(make, batch):
    objective = make("convlstm")
    adapter = adapt(objective, **ONLY_WEIGHTS)
    with torch.no_grad():
        adapter.raw.copy_(torch.tensor([1e-4, 0.0, 3e-4]))
    before = weights(objective)
    adapter.update(batch, 0)
    for name, p in objective.named_parameters():
        # Adam's first step has the size of its rate wherever the gradient is far above epsilon.
        expected = {"cells.0": 1e-4, "cells.1": 0.0, "head": 3e-4}[level_of(name)]
        assert (p - before[name]).abs().max().item() == pytest.approx(expected, rel=1e-2)


# --------------------------------------------------------------------------------------------------------- learning-rate calls


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "method"), [*((kind, "meta") for kind in KINDS), ("convlstm", "hypergradient")])
def test_the_gradient_of_the_rates_is_exact(make, batch, kind, method, bidirectional):
    """Against central differences of the loss after the trial step, or the last step, with directions computed by hand."""
    objective, initial, epsilon, tolerance = make(kind, bidirectional), 2**-7, 1e-7, 1e-4
    if kind == "tmu":  # distillation is always in float32
        epsilon, tolerance = 1e-3, 1e-2
    else:
        objective, batch = objective.double(), batch._replace(clips=batch.clips.double())
    parameters = weights(objective)
    loss = sum(objective(batch).values())
    gradients = torch.autograd.grad(loss, list(objective.parameters()), materialize_grads=True)
    # Of the first gradient g the corrected moments are g and g^2.
    directions = {name: g / (g.abs() + 1e-8) for name, g in zip(parameters, gradients, strict=True)}

    def loss_at(level, shift):
        trial = {n: p - (initial + shift * (level_of(n) == level)) * directions[n] for n, p in parameters.items()}
        with torch.no_grad():
            return sum(functional_call(objective, trial, (batch,)).values()).item()

    adapter = adapt(objective, **ONLY_RATES, initial_rate=initial, method=method)
    if method == "hypergradient":
        adapter.update(batch, 0)  # the last step, whose rates the next gradient judges
    reported = sum(v for name, v in adapter.update(batch, 0).items() if name != "chain").item()
    assert reported == pytest.approx(loss_at(None, 0.0), rel=1e-6)
    logged = adapter.metrics()
    numeric = {level: (loss_at(level, epsilon) - loss_at(level, -epsilon)) / (2 * epsilon) for level in adapter.levels}
    largest = max(map(abs, numeric.values()))
    assert largest > 1e-2
    for level, slope in numeric.items():
        assert logged[f"rate_data_gradient/{level}"] == pytest.approx(slope, abs=tolerance * largest), level


def test_the_trial_step_starts_from_running_means(make, batch):
    """The second direction by hand: m = 0.1 (0.9 g1 + g2) / (1 - 0.9^2), and so on for the squares."""
    objective, batch = make("convlstm").double(), batch._replace(clips=batch.clips.double())
    other = batch._replace(clips=batch.clips.flip(0).square())
    adapter = adapt(objective, **ONLY_RATES, meta_learning_rate=1e-12)
    adapter.update(batch, 0)
    terms = adapter.update(other, 1)
    names, parameters = zip(*objective.named_parameters(), strict=True)
    g1, g2 = (torch.autograd.grad(sum(objective(b).values()), parameters) for b in (batch, other))
    trial = {}
    for name, p, a, b in zip(names, parameters, g1, g2, strict=True):
        mean = (0.9 * 0.1 * a + 0.1 * b) / (1 - 0.9**2)
        square = (0.999 * 0.001 * a**2 + 0.001 * b**2) / (1 - 0.999**2)
        trial[name] = p - 1e-4 * mean / (square.sqrt() + 1e-8)
    expected = functional_call(objective, trial, (other,))
    assert terms["mse"].item() == pytest.approx(expected["mse"].item(), rel=1e-7)


@pytest.mark.parametrize(
    ("config", "penalty", "slopes"),
    [
        # Rates of 1 for cells.0, cells.1 and head: two pairs, each 10 (2 * 1 - 1).
        ({}, 20.0, (20.0, 10.0, -10.0)),
        ({"chain_members": "cells"}, 10.0, (20.0, -10.0, 0.0)),
        ({"chain_direction": "downwards"}, 20.0, (-10.0, 10.0, 20.0)),
        ({"chain_ratio": 3.0, "chain_weight": 1.0}, 4.0, (3.0, 2.0, -1.0)),
        ({"chain_ratio": 0.9}, 0.0, (0.0, 0.0, 0.0)),
        ({"chain_weight": 0.0}, 0.0, (0.0, 0.0, 0.0)),
    ],
)
def test_the_chain_holds_rates_in_order(make, batch, config, penalty, slopes):
    adapter = adapt(make("convlstm"), **ONLY_RATES, initial_rate=1.0, **config)
    terms = adapter.update(batch, 0)
    assert terms["chain"].item() == pytest.approx(penalty)
    logged = adapter.metrics()
    assert tuple(logged[f"rate_penalty_gradient/{level}"] for level in ("cells.0", "cells.1", "head")) == pytest.approx(slopes)


def test_each_direction_has_a_chain_of_its_own(make, batch):
    adapter = adapt(make("decoupled", bidirectional=True), **ONLY_RATES, initial_rate=1.0)
    # Twice the two pairs of one direction; the decoupling adapter is in no chain.
    assert adapter.update(batch, 0)["chain"].item() == pytest.approx(40.0)
    logged = adapter.metrics()
    assert logged["rate_penalty_gradient/reverse.cells.0"] == 20.0
    assert logged["rate_penalty_gradient/reverse.adapter"] == 0.0


def test_a_network_of_one_level_needs_no_chain(batch):
    frames = FrameShape(channels=1, height=16, width=16)
    objective = PredictionObjective(Predictor(PredictorConfig(hidden_channels=(4,)), frames), 0.0)
    adapter = adapt(objective, **ONLY_RATES, chain_members="cells")
    assert adapter.update(batch, 0)["chain"] == 0


@pytest.mark.parametrize("parametrisation", ["linear", "logarithmic"])
def test_rates_start_alike_and_stay_within_their_bounds(make, batch, parametrisation):
    config = {"initial_rate": 1e-3, "lower_bound": 0.5, "upper_bound": 1.5, "parametrisation": parametrisation}
    adapter = adapt(make("convlstm"), **ONLY_RATES, **config, meta_learning_rate=1e-5)
    start = adapter.rates.detach().clone()
    torch.testing.assert_close(start, torch.full((3,), 1e-3))
    adapter.update(batch, 0)
    # The first step of Adam is its learning rate, up or down, in both parametrisations: 1e-5.
    torch.testing.assert_close((adapter.rates - start).abs(), torch.full((3,), 1e-5), rtol=1e-2, atol=0)
    fast = adapt(make("convlstm"), **ONLY_RATES, **config, meta_learning_rate=1e-2)
    fast.update(batch, 0)
    reached = fast.rates.detach()
    assert all(min(abs(r - 5e-4), abs(r - 1.5e-3)) < 1e-9 for r in reached.tolist())


@pytest.mark.parametrize("parametrisation", ["linear", "logarithmic"])
def test_the_releases_upper_bound_is_a_rate_whatever_the_initial_one(make, batch, parametrisation):
    config = {"initial_rate": 5e-5, "upper_bound": "release", "parametrisation": parametrisation}
    adapter = adapt(make("convlstm"), **ONLY_RATES, **config, meta_learning_rate=1e-2)
    adapter.update(batch, 0)
    assert adapter.rates.max().item() == pytest.approx(2e-4)


def test_logarithmic_rates_never_reach_zero(make, batch):
    adapter = adapt(make("convlstm"), **ONLY_RATES, parametrisation="logarithmic", meta_learning_rate=1e-4)
    for iteration in range(3):
        adapter.update(batch, iteration)
    assert (adapter.rates > 0).all()
    assert (adapter.rates < 1e-4).any()


def test_a_trial_step_can_be_judged_by_clips_that_it_was_not_made_from(make, batch):
    dark = batch._replace(clips=torch.cat([batch.clips[:2], torch.zeros_like(batch.clips[2:])]))
    objective = make("convlstm")
    with torch.no_grad():
        first, second = (
            objective(batch._replace(clips=dark.clips[s], feed=dark.feed[s]))["mse"] for s in (slice(2), slice(2, 4))
        )
    assert abs(first - second) > 0.01
    terms = adapt(objective, **ONLY_RATES, meta_batch="held-out").update(dark, 0)
    # One step of 1e-4 changes little.
    assert terms["mse"].item() == pytest.approx(second.item(), abs=0.002)


def test_trial_steps_can_share_the_moments_of_weight_calls(make, batch):
    private, shared = (adapt(make("convlstm"), cycle=2, rate_iterations=1, moments=m) for m in ("private", "shared"))
    for adapter in (private, shared):
        for iteration in range(4):
            adapter.update(batch, iteration)
    assert (private.moments.count, private.trial_moments.count) == (2, 2)
    assert shared.moments.count == 4
    assert not any(name.startswith("trial_moments") for name in shared.state())


# ------------------------------------------------------------------------------------------------------- hypergradient descent


def test_hypergradient_descent_moves_weights_in_every_iteration_and_rates_from_the_second_on(make, batch):
    objective = make("convlstm")
    adapter = adapt(objective, method="hypergradient", cycle=2, rate_iterations=1, chain_weight=0.0)
    for iteration in range(3):
        before, rates = weights(objective), adapter.rates.detach().clone()
        adapter.update(batch, iteration)
        assert not any(torch.equal(p, before[name]) for name, p in objective.named_parameters())
        assert torch.equal(adapter.rates, rates) == (iteration == 0)


@pytest.mark.parametrize(("initial", "grows"), [(1e-4, True), (0.5, False)])
def test_hypergradient_descent_raises_a_rate_that_is_too_low_and_lowers_one_that_is_too_high(make, batch, initial, grows):
    config = {"initial_rate": initial, "meta_learning_rate": 0.01 * initial, "chain_weight": 0.0}
    adapter = adapt(make("convlstm"), method="hypergradient", **config)
    for iteration in range(2):
        adapter.update(batch, iteration)
    assert all((rate > initial) == grows for rate in adapter.rates.tolist())


# ------------------------------------------------------------------------------------------------------------------------ state


@pytest.mark.parametrize(
    "config", [{}, {"moments": "shared", "parametrisation": "logarithmic"}, {"method": "hypergradient", "chain_weight": 0.0}]
)
def test_a_meta_adapter_goes_on_from_its_state_to_the_same_bits(make, batch, config):
    config = {"cycle": 3, "rate_iterations": 2, **config}
    objective, resumed = make("decoupled", bidirectional=True), make("decoupled", bidirectional=True)
    adapter = adapt(objective, **config)
    for iteration in range(4):
        adapter.update(batch, iteration)
    resumed.load_state_dict(objective.state_dict())
    other = adapt(resumed, **config)
    other.load({name: value.clone() for name, value in adapter.state().items()})
    assert other.metrics() == adapter.metrics()
    for iteration in range(4, 9):
        assert adapter.update(batch, iteration) == other.update(batch, iteration)
    assert all(torch.equal(a, b) for a, b in zip(weights(objective).values(), weights(resumed).values(), strict=True))
    assert adapter.state().keys() == other.state().keys()
    assert all(torch.equal(value, other.state()[name]) for name, value in adapter.state().items())


def test_a_state_from_before_the_first_learning_rate_call_can_be_loaded(make, batch):
    adapter = adapt(make("convlstm"), cycle=2, rate_iterations=1, first="weights")
    adapter.update(batch, 0)
    other = adapt(make("convlstm"), cycle=2, rate_iterations=1, first="weights")
    other.load(adapter.state())
    assert other.moments.count == 1
    other.update(batch, 1)


# ---------------------------------------------------------------------------------------------------------------------- workers


def _work(rank, world, folder, objective, batch, queue):
    torch.set_num_threads(1)
    objective = copy.deepcopy(objective)  # what is sent to a process lies in memory that all share
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    adapter = MetaAdapter(AdapterConfig(cycle=2, rate_iterations=1), objective, TrainingConfig(batch_size=4), Worker(rank, world))
    part = Batch(batch.indices[rank::world], batch.clips[rank::world], batch.feed[rank::world], False)
    for iteration in range(4):
        adapter.update(part, iteration)
    queue.put({"rates": adapter.rates.tolist(), "head": objective.exported.head.weight.tolist()})
    torch.distributed.destroy_process_group()


def test_two_workers_move_rates_and_weights_as_one(make, batch, tmp_path):
    objective = make("convlstm", bidirectional=True)
    start = multiprocessing.get_context("spawn")
    queue = start.Queue()
    workers = [start.Process(target=_work, args=(r, 2, tmp_path, objective, batch, queue)) for r in range(2)]
    for process in workers:
        process.start()
    logged = [queue.get(timeout=120) for _ in workers]
    for process in workers:
        process.join()
    assert logged[0] == logged[1]
    adapter = adapt(objective, cycle=2, rate_iterations=1)
    for iteration in range(4):
        adapter.update(batch, iteration)
    torch.testing.assert_close(torch.tensor(logged[0]["rates"]), adapter.rates.detach(), rtol=1e-5, atol=0)
    # Two weight calls of 1e-4; sums in another order.
    torch.testing.assert_close(torch.tensor(logged[0]["head"]), objective.exported.head.weight.detach(), rtol=0, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------- memory


def peak_bytes(work):
    """The largest amount of tensor memory that `work` held at once, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_a_learning_rate_call_takes_no_more_memory_than_a_weight_call(batch):
    frames = FrameShape(channels=1, height=32, width=32)
    network = PredictorConfig(cell=STLSTM(decouple=True), hidden_channels=(16, 16), patch_size=4)
    ahead, back = (PredictionObjective(Predictor(network, frames), 0.1) for _ in range(2))
    adapter = adapt(BidirectionalObjective(ahead, back, BidirectionalConfig()), cycle=2, rate_iterations=1)
    batch = Batch(torch.arange(4), torch.rand(4, 10, 1, 32, 32), teacher_forced(4, 10), False)
    for iteration in range(2):
        adapter.update(batch, iteration)
    # Weights and both pairs of moments are there before a call, five numbers for each weight.
    standing = 5 * sum(p.nbytes for p in adapter.parameters.values())
    rates, moved = (standing + peak_bytes(lambda i=i: adapter.update(batch, i)) for i in (2, 3))
    assert moved > standing + 10e6
    assert rates < 1.2 * moved


# --------------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial_rate": 0.0}, "initial_rate: must be above 0, but got 0.0"),
        ({"meta_learning_rate": -1.0}, "meta_learning_rate: must be above 0"),
        ({"lower_bound": 1.5}, "lower_bound: 0 <= lower_bound <= 1 <= upper_bound must hold"),
        ({"upper_bound": 0.5}, "upper_bound: 0 <= lower_bound <= 1 <= upper_bound must hold"),
        ({"upper_bound": "release", "lower_bound": -1.0}, "lower_bound: 0 <= lower_bound \\* initial_rate <= 0.0002 must hold"),
        ({"upper_bound": "release", "lower_bound": 0.5, "initial_rate": 1e-3}, "got 0.5 \\* 0.001"),
        ({"chain_weight": -1.0}, "chain_weight: must be at least 0, but got -1.0"),
        ({"cycle": 4, "rate_iterations": 4}, "rate_iterations: 0 <= rate_iterations < cycle must hold, .* got 4 and 4"),
    ],
)
def test_settings_of_the_meta_adapter_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        AdapterConfig(**fields)


def test_a_held_out_meta_batch_needs_two_clips_for_each_worker(make):
    with pytest.raises(ConfigError, match=re.escape("batch_size: meta_batch=held-out halves each worker's batch")):
        adapt(make("convlstm"), TrainingConfig(batch_size=1), meta_batch="held-out")
