import pytest
import torch

from zoocast.nn.cells import Cell, CellOutput
from zoocast.nn.stack import unroll


class Counter(Cell):
    """Adds 1 to a carried and to a kept memory, keeps its input as h, and hands it on."""

    memories = ("c", "m", "h")
    carried = ("m",)

    def __init__(self):
        super().__init__(1, 1, 1)

    def forward(self, x, state):
        return CellOutput(x, {"c": state["c"] + 1, "m": state["m"] + 1, "h": x}, {"twice": 2 * x})


def run(frames, feed, *, layers=2, collect=None, aux=()):
    cells = [Counter() for _ in range(layers)]
    return unroll(cells, lambda h: h + 100, frames, feed, collect=collect or {}, aux=aux)


def clip(*values):
    """One sequence of one-pixel frames."""
    return torch.tensor(values).reshape(1, -1, 1, 1, 1)


def test_a_carried_memory_zigzags_and_others_stay_in_their_layer():
    out = run(clip(1.0, 2.0, 3.0), torch.ones(1, 3), layers=3, collect={0: ("c", "m"), 2: ("m",)})
    # m is incremented by every layer of every step: layer l of step t sees the increment number 3 t + l + 1.
    assert out.memories[0, "m"].flatten().tolist() == [1, 4, 7]
    assert out.memories[2, "m"].flatten().tolist() == [3, 6, 9]
    # c is incremented once per step.
    assert out.memories[0, "c"].flatten().tolist() == [1, 2, 3]


def test_nothing_is_kept_that_was_not_asked_for():
    out = run(clip(1.0, 2.0), torch.ones(1, 2), collect={1: ("c",)})
    assert set(out.memories) == {(1, "c")}
    assert out.memories[1, "c"].shape == (1, 2, 1, 1, 1)
    assert out.aux == {}
    assert set(run(clip(1.0, 2.0), torch.ones(1, 2), aux=None).aux) == {(0, "twice"), (1, "twice")}
    assert set(run(clip(1.0, 2.0), torch.ones(1, 2), aux=("twice",)).aux) == {(0, "twice"), (1, "twice")}


def test_the_feed_chooses_between_frame_and_prediction_for_each_sequence():
    frames = torch.cat([clip(1.0, 2.0, 3.0), clip(10.0, 20.0, 30.0)])
    feed = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    inputs = run(frames, feed, collect={0: ("h",)}).memories[0, "h"].flatten(1)
    # A prediction is the input + 100: the first sequence predicts its second frame as 101, the second its third frame as 120.
    assert inputs.tolist() == [[1, 101, 3], [10, 20, 120]]


def test_steps_beyond_the_frames_run_on_predictions():
    out = run(clip(1.0, 2.0), torch.tensor([[1.0, 1.0, 0.0, 0.0]]), collect={0: ("h",)})
    assert out.memories[0, "h"].flatten().tolist() == [1, 2, 102, 202]
    assert out.outputs.flatten().tolist() == [101, 102, 202, 302]


def test_the_first_step_must_be_true():
    with pytest.raises(ValueError, match=r"feed\[:, 0\] must be 1"):
        run(clip(1.0, 2.0), torch.zeros(1, 2))
