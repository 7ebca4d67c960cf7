import pytest
import torch

from zoocast.nn.cells import Cell, CellOutput, Codec
from zoocast.nn.stack import unroll


class Counter(Cell):
    """Adds 1 to a carried, to a rising and to a kept memory, keeps its input as h, and hands it on."""

    memories = ("c", "m", "d", "h")
    carried = ("m",)
    rising = ("d",)

    def __init__(self):
        super().__init__(1, 1)

    def forward(self, x, state):
        counted = {name: state[name] + 1 for name in ("c", "m", "d")}
        return CellOutput(x, {**counted, "h": x}, {"twice": 2 * x})


class Bystander(Cell):
    """Knows of no memory but its own count."""

    memories = ("n",)

    def __init__(self):
        super().__init__(1, 1)

    def forward(self, x, state):
        return CellOutput(x, {"n": state["n"] + 1}, {})


class Hundred(Codec):
    """Predicts the top layer's output + 100, and whatever `encode` found."""

    def encode(self, frame):
        return frame, ()

    def decode(self, h, skips):
        return h + 100 + sum(skips)


def run(frames, feed, *, layers=2, collect=None, aux=(), codec=None):
    cells = [Counter() for _ in range(layers)] if isinstance(layers, int) else layers
    return unroll(cells, codec or Hundred(), frames, feed, collect=collect or {}, aux=aux)


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


def test_a_rising_memory_goes_up_and_starts_anew_in_every_step():
    out = run(clip(1.0, 2.0, 3.0), torch.ones(1, 3), layers=3, collect={0: ("d",), 2: ("d",)})
    assert out.memories[0, "d"].flatten().tolist() == [1, 1, 1]
    assert out.memories[2, "d"].flatten().tolist() == [3, 3, 3]


def test_carried_and_rising_memories_pass_a_layer_that_knows_neither():
    cells = [Counter(), Bystander(), Counter()]
    out = run(clip(1.0, 2.0), torch.ones(1, 2), layers=cells, collect={0: ("m", "d"), 1: ("n",), 2: ("m", "d")})
    assert {key: value.flatten().tolist() for key, value in out.memories.items()} == {
        (0, "m"): [1, 3],
        (2, "m"): [2, 4],
        (0, "d"): [1, 1],
        (2, "d"): [2, 2],
        (1, "n"): [1, 2],
    }
    # At the bottom too: the layer above finds what the top left in the step before.
    out = run(clip(1.0, 2.0), torch.ones(1, 2), layers=[Bystander(), Counter()], collect={1: ("m", "d")})
    assert out.memories[1, "m"].flatten().tolist() == [1, 2]
    assert out.memories[1, "d"].flatten().tolist() == [1, 1]


def test_the_codec_stands_between_frames_and_cells_and_hands_skips_over_within_a_step():
    class Doubled(Hundred):
        def encode(self, frame):
            return 2 * frame, (frame,)

    out = run(clip(1.0, 2.0), torch.tensor([[1.0, 0.0]]), collect={0: ("h",)}, codec=Doubled())
    # Step 0 sees 2 * 1 and predicts 2 + 100 + 1; step 1 runs on that prediction: 206 + 100 + 103.
    assert out.memories[0, "h"].flatten().tolist() == [2, 206]
    assert out.outputs.flatten().tolist() == [103, 409]


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
