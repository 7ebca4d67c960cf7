import dataclasses
from typing import ClassVar

import pytest
import torch

from zoocast.data.store import ClipStore
from zoocast.nn.cells import STLSTM, ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.nn.sampling import free_run
from zoocast.training import Batch, Objective, PredictionObjective


def make_batch(clips):
    indices = torch.arange(3)
    return Batch(indices, ClipStore.open(clips).split("train").clips(indices), free_run(3, 2, 6), False)


def test_a_loss_is_the_terms_of_a_prediction(clips):
    objective = PredictionObjective(
        Predictor(PredictorConfig(cell=STLSTM(decouple=True), hidden_channels=(4, 4)), ClipStore.open(clips).shape), 0.1
    )
    batch = make_batch(clips)
    prediction = objective.predict(batch, {1: ("h",)})
    assert prediction.memories[1, "h"].shape == (3, 5, 4, 4, 4)
    terms, apart = objective(batch), objective.terms(batch, prediction)
    assert terms == apart
    assert terms.keys() == {"mse", "decouple"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalised(ConvLSTM):
    """Its weights have a price."""

    kind: ClassVar[str] = "penalised"

    def losses(self, layers, adapter, aux):  # noqa: ARG002
        return {"size": torch.stack([layer.conv.weight.square().sum() for layer in layers]).sum()}


def test_a_loss_of_the_cells_themselves_is_taken_as_it_is(clips):
    predictor = Predictor(PredictorConfig(cell=Penalised(), hidden_channels=(4, 4)), ClipStore.open(clips).shape)
    terms = PredictionObjective(predictor, 0.1)(make_batch(clips))
    assert terms.keys() == {"mse", "size"}
    assert torch.equal(terms["size"], predictor.losses({})["size"])


def test_a_batch_flips_in_time_with_its_mask_kept(clips):
    batch = make_batch(clips)
    flipped = batch.flipped()
    assert flipped.reverse
    assert torch.equal(flipped.clips[:, 0], batch.clips[:, -1])
    assert flipped.feed is batch.feed
    assert torch.equal(flipped.flipped().clips, batch.clips)
    assert not flipped.flipped().reverse


def test_an_objective_without_a_network_and_a_loss_cannot_be_made():
    with pytest.raises(TypeError, match=r"abstract methods .*exported.*predict.*terms"):
        Objective()
