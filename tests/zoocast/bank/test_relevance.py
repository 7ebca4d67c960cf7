"""The weights of sources: who gets them for which clip, step and place, and that they come from what the bank holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.zoocast.bank.conftest import OBSERVED, Zoo
from zoocast.bank.read import BankConfig, MemoryBank
from zoocast.bank.relevance import Relevance, relevance_of, source_errors

CONFIG = BankConfig(layers="all", mode="online", frames=True)
SIZE = (4, 4)


def case(zoo: Zoo, policy: str = "free_run") -> tuple[MemoryBank, Tensor, Tensor]:
    """A bank, two black clips, and black frames by its three sources, (2, 3, 5, 1, 16, 16), which a test then spoils."""
    return zoo.open(dataclasses.replace(CONFIG, policy=policy)), torch.zeros(2, 3, 5, 1, 16, 16), torch.zeros(2, 6, 1, 16, 16)


def test_a_clip_listens_to_the_source_that_predicts_what_nobody_has_seen_best(zoo: Zoo) -> None:
    bank, frames, clips = case(zoo)
    frames += torch.tensor([[0.3, 0.2, 0.4], [0.5, 0.6, 0.1]]).view(2, 3, 1, 1, 1, 1)
    # Good at observed frames only, which steps 0 and 1 predict: step 2 makes the first that a free-running source has not seen.
    frames[0, 0, : OBSERVED - 1] = 0
    weights = Relevance("best").weights(bank, frames, clips, SIZE)
    assert weights.shape == (2, 3, 5, 1, 1)
    assert weights[:, :, 0, 0, 0].tolist() == weights[:, :, 4, 0, 0].tolist() == [[0, 3, 0], [0, 0, 3]]
    # A source that always saw true frames is judged by all that it predicted: 0.09 * 3 / 5 is more than 0.04, 0.09 / 5 is not.
    forced, *_ = case(zoo, "teacher_forced")
    assert Relevance("best").weights(forced, frames, clips, SIZE)[0, :, 0, 0, 0].tolist() == [0, 3, 0]
    frames[0, 0, 1:] = 0
    assert Relevance("best").weights(forced, frames, clips, SIZE)[0, :, 0, 0, 0].tolist() == [3, 0, 0]


def test_soft_weights_are_a_softmax_of_errors_relative_to_the_lowest(zoo: Zoo) -> None:
    bank, frames, clips = case(zoo)
    frames += torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1, 1, 1)
    weights = Relevance("soft", temperature=2.0).weights(bank, frames, clips, SIZE)
    # Squared errors are 1, 4 and 9 times the lowest.
    expected = 3 * torch.softmax(torch.tensor([-0.5, -2.0, -4.5]), dim=0)
    torch.testing.assert_close(weights[0, :, 0, 0, 0], expected)
    torch.testing.assert_close(Relevance("soft", temperature=1e9).weights(bank, frames, clips, SIZE), torch.ones(2, 3, 5, 1, 1))


def test_each_step_and_each_place_may_listen_to_another_source(zoo: Zoo) -> None:
    bank, frames, clips = case(zoo)
    frames += 0.5
    frames[:, 1, 3] = 0.25
    # Source 2 knows the first 4x4 pixels, which are the first place of a map of 4x4.
    frames[:, 2, :, :, :4, :4] = 0
    steps = Relevance("best", over="step").weights(bank, frames, clips, SIZE)
    assert steps[0, :, 3].flatten().tolist() == [0, 3, 0]
    places = Relevance("best", over="place").weights(bank, frames, clips, SIZE)
    assert places.shape == (2, 3, 5, 4, 4)
    assert places[0, :, 3, 0, 0].tolist() == [0, 0, 3]
    assert places[0, :, 3, 0, 1].tolist() == [0, 3, 0]


@pytest.mark.parametrize("choice", ["best", "soft"])
@pytest.mark.parametrize("over", ["clip", "step", "place"])
def test_weights_sum_to_the_number_of_sources_also_where_nobody_errs(zoo: Zoo, choice: str, over: str) -> None:
    bank, frames, clips = case(zoo)
    frames[1] = torch.rand(3, 5, 1, 16, 16)
    weights = Relevance(choice, over).weights(bank, frames, clips, SIZE)  # type: ignore[arg-type]
    torch.testing.assert_close(weights.sum(dim=1), torch.full_like(weights[:, 0], 3.0))


def test_errors_are_of_the_frame_that_a_step_predicts_as_a_picture_shows_it(zoo: Zoo) -> None:
    _, frames, _ = case(zoo)
    clips = torch.linspace(0, 1, 6).view(1, 6, 1, 1, 1).expand(2, 6, 1, 16, 16)
    frames[:] = clips[:, None, 1:] + 5.0 * (torch.arange(5) == 4).view(1, 1, 5, 1, 1, 1)  # far beyond white where white is true
    assert source_errors(frames, clips).abs().max() < 1e-12


def test_a_splits_relevance_is_what_training_batches_have(zoo: Zoo) -> None:
    bank, clips = zoo.open(CONFIG), zoo.store.split("train")
    relevance = Relevance("soft", over="step")
    table = relevance_of(bank, clips, relevance)
    assert table.shape == (150, 3)
    indices = torch.tensor([149, 3, 16])
    recalled = bank.recall("train", indices, frames=True)
    assert recalled.frames is not None
    expected = relevance.weights(bank, recalled.frames, clips.clips(indices), SIZE).mean(dim=(2, 3, 4))
    torch.testing.assert_close(table[indices], expected, rtol=1e-4, atol=1e-5)
