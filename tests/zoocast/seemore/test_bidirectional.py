"""Two directions of any kind of objective: what is compared with what, who learns from it, and what is left of it."""

import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.seemore.bidirectional import BidirectionalConfig, BidirectionalObjective

KINDS = ("convlstm", "convgru", "stlstm", "decoupled", "norm", "anchored", "tmu")
OWN = {"decoupled": {"decouple"}, "norm": {"decouple"}, "anchored": {"anchor"}, "tmu": {"distill"}}


@pytest.fixture
def make(make_objective):
    def make(kind, **config):
        return BidirectionalObjective(make_objective(kind), make_objective(kind), BidirectionalConfig(**config))

    return make


def gradients(objective, loss):
    """The gradient of a loss by the parameters of the forward and of the reverse objective, as one vector each."""
    ahead, back = (list(o.parameters()) for o in (objective.forward_objective, objective.reverse_objective))
    found = torch.autograd.grad(loss, ahead + back, retain_graph=True, materialize_grads=True)
    return tuple(torch.cat([g.flatten() for g in part]) for part in (found[: len(ahead)], found[len(ahead) :]))


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_have_all_their_terms_and_learn_from_each_other(make, batch, kind):
    objective = make(kind)
    terms = objective(batch)
    own = {"mse"} | OWN.get(kind, set())
    assert terms.keys() == own | {f"reverse_{name}" for name in own} | {"feature", "frame"}
    for name, term in terms.items():
        ahead, back = gradients(objective, term)
        if name in ("feature", "frame"):
            assert ahead.abs().max() > 1e-8 < back.abs().max()
        elif "anchor" not in name:  # where it starts an anchor pulls nowhere
            moved, still = (back, ahead) if name.startswith("reverse_") else (ahead, back)
            assert moved.abs().max() > 1e-8
            assert still.abs().max() == 0


def test_each_direction_has_the_loss_that_it_has_alone(make, batch):
    objective = make("tmu")
    terms = objective(batch)
    alone = objective.forward_objective(batch)
    reverse = objective.reverse_objective(batch._replace(clips=batch.clips.flip(1), reverse=True))
    for name, term in alone.items():
        assert term == terms[name]
        assert reverse[name] == terms[f"reverse_{name}"]


def test_the_reverse_network_distils_from_time_flipped_clips(make, batch):
    objective = make("tmu")
    reverse, flipped = objective.reverse_objective, batch.flipped()
    bank = reverse.bank
    back = reverse.predict(flipped, {})
    distilled = {layer: value for (layer, name), value in back.aux.items() if name == "distilled"}
    expected = 0.1 * reverse.distillation.distillation_loss(distilled, bank.memories("train", batch.indices, reverse=True))
    terms = objective(batch)
    assert terms["reverse_distill"].item() == pytest.approx(expected.item(), rel=1e-5)
    other = 0.1 * reverse.distillation.distillation_loss(distilled, bank.memories("train", batch.indices))
    assert abs(other.item() / expected.item() - 1) > 1e-4


def test_the_reverse_network_weighs_the_sources_by_the_frames_of_flipped_clips(make, batch):
    objective = make("listening tmu")
    reverse, flipped = objective.reverse_objective, batch.flipped()
    recalled = reverse.bank.recall("train", batch.indices, reverse=True, frames=True)
    back = reverse.predict(flipped, {})
    distilled = {layer: value for (layer, name), value in back.aux.items() if name == "distilled"}
    weights = reverse.distillation.weights(recalled.frames, flipped.clips)
    expected = 0.1 * reverse.distillation.distillation_loss(distilled, recalled.memories, weights)
    assert objective(batch)["reverse_distill"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_features_and_frames_are_compared_where_both_networks_predict_the_same_frame(make, batch):
    objective = make("convlstm", feature_weight=3.0, frame_weight=5.0)
    ahead = objective.forward_objective.predict(batch, {1: ("h",)})
    back = objective.reverse_objective.predict(batch.flipped(), {1: ("h",)})
    # Of 6 frames: the forward network's step t predicts frame t + 1, the reverse one's step s frame 6 - 1 - (s + 1) = 4 - s.
    pairs = [(frame - 1, 4 - frame) for frame in (1, 2, 3, 4)]
    expected = {
        "feature": 3 * sum((ahead.memories[1, "h"][:, t] - back.memories[1, "h"][:, s]).square().mean() for t, s in pairs) / 4,
        "frame": 5 * sum((ahead.frames[:, t] - back.frames[:, s]).square().mean() for t, s in pairs) / 4,
    }
    terms = objective(batch)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("teacher", ["forward", "reverse"])
def test_a_teacher_is_not_moved_by_its_pupil(make, batch, teacher):
    objective = make("convlstm", teacher=teacher)
    terms = objective(batch)
    ahead, back = gradients(objective, terms["feature"] + terms["frame"])
    taught, still = (back, ahead) if teacher == "forward" else (ahead, back)
    assert still.abs().max() == 0
    assert taught.abs().max() > 1e-8


def test_the_forward_network_alone_is_the_predictor_and_no_weight_is_held_twice(make):
    objective = make("convgru")
    assert objective.exported is objective.forward_objective.predictor
    assert len(objective.state_dict()) == 2 * len(objective.exported.state_dict()) == len(list(objective.parameters()))


def test_memories_of_a_bidirectional_objective_are_collected_as_of_any_other(make, batch):
    objective = make("convlstm")
    prediction = objective.predict(batch, {0: ("c",)})
    assert prediction.memories.keys() == {(0, "c"), (1, "h")}
    assert objective.terms(batch, prediction) == objective(batch)


def test_negative_weights_of_distances_are_refused():
    with pytest.raises(ConfigError, match=r"frame_weight: must be at least 0, but got -1.0"):
        BidirectionalConfig(frame_weight=-1.0)
