"""What a family of cells may be: memories of any shape, other cells in other layers, a codec, losses, a first step of its own."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from torch import nn

from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import Cell, CellConfig, CellOutput, Codec
from zoocast.nn.predictor import Predictor, PredictorConfig, check_predictor
from zoocast.nn.sampling import free_run, teacher_forced

FRAMES = FrameShape(channels=1, height=16, width=8)


def make(family, **changes):
    torch.manual_seed(0)
    return Predictor(PredictorConfig(**{"cell": family, "hidden_channels": (4, 4), "patch_size": 2} | changes), FRAMES)


def clips(batch=2, length=4):
    return torch.rand(batch, length, 1, 16, 8, generator=torch.Generator().manual_seed(0))


class MotionCell(Cell):
    """Remembers the mean motion at half resolution, and knows motion as the difference to the input before."""

    memories = ("motion", "h")

    def __init__(self, in_channels, hidden_channels):
        super().__init__(in_channels, hidden_channels)
        self.conv = nn.Conv2d(in_channels + 2, hidden_channels, 1)

    def state_shapes(self, height, width):
        return {
            "motion": (2, height // 2, width // 2),
            "h": (self.hidden_channels, height, width),
            "x_before": (self.in_channels, height, width),
            "begun": (1, 1, 1),
        }

    def forward(self, x, state):
        # Before the second frame there is nothing to differ from, which a difference to zeros would hide.
        difference = (x - state["x_before"]) * state["begun"]
        pooled = nn.functional.avg_pool2d(difference.mean(dim=1, keepdim=True), 2)
        motion = 0.5 * state["motion"] + pooled
        h = torch.tanh(self.conv(torch.cat([x, nn.functional.interpolate(motion, scale_factor=2)], dim=1)))
        begun = torch.ones_like(state["begun"])
        return CellOutput(h, {"motion": motion, "h": h, "x_before": x, "begun": begun}, {"difference": difference})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion(CellConfig):
    kind: ClassVar[str] = "motion"

    def build(self, place):
        return MotionCell(place.in_channels, place.hidden_channels)


def test_memories_may_have_channels_and_sizes_of_their_own_and_a_state_may_hold_more():
    predictor = make(Motion())
    # Frames of 16x8 in patches of 2x2 make maps of 8x4.
    expected = {"motion": (2, 4, 2), "h": (4, 8, 4)}
    assert predictor.memory_shapes() == {(layer, name): shape for layer in (0, 1) for name, shape in expected.items()}
    out = predictor(clips(), teacher_forced(2, 4), {0: ("motion", "h")})
    assert {name: tuple(value.shape) for (_, name), value in out.memories.items()} == {
        name: (2, 3, *shape) for name, shape in expected.items()
    }
    with pytest.raises(ConfigError, match=r"there is no memory \(0, 'x_before'\); available: \(0, 'motion'\), \(0, 'h'\)"):
        predictor(clips(), teacher_forced(2, 4), {0: ("x_before",)})


def test_a_cell_may_do_something_else_in_its_first_step():
    differences = make(Motion())(clips(), teacher_forced(2, 4)).aux[0, "difference"]
    assert (differences[:, 0] == 0).all()
    assert (differences[:, 1] != 0).all()


class RelayCell(Cell):
    """Hands up how many layers a step has passed through: its own layer begins the count, others go on with it."""

    memories = ("h", "height")
    rising = ("height",)

    def __init__(self, place):
        super().__init__(place.in_channels, place.hidden_channels)
        self.place, self.conv = place, nn.Conv2d(place.in_channels, place.hidden_channels, 1)

    def forward(self, x, state):
        h = torch.tanh(self.conv(x))
        return CellOutput(h, {"h": h, "height": state["height"] + 1}, {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relay(CellConfig):
    """Other cells below the top than at the top."""

    kind: ClassVar[str] = "relay"

    def build(self, place):
        last = place.layer == place.num_layers - 1
        return MotionCell(place.in_channels, place.hidden_channels) if last else RelayCell(place)

    def check(self, patches, hidden_channels):
        if len(hidden_channels) < 2:
            raise ConfigError("hidden_channels", f"a relay needs two layers, but got {hidden_channels}")
        if patches[1] % 2:
            raise ConfigError("patch_size", f"a relay needs maps of even height, but got {patches[1]}")


def test_layers_may_have_other_cells():
    predictor = make(Relay(), hidden_channels=(4, 4, 4))
    assert [type(cell) for cell in predictor.layers] == [RelayCell, RelayCell, MotionCell]
    out = predictor(clips(), teacher_forced(2, 4), {0: ("height",), 1: ("height",), 2: ("motion",)})
    for layer in (0, 1):
        assert (out.memories[layer, "height"] == layer + 1).all()


def test_a_family_says_what_it_cannot_do_before_it_is_built():
    for channels, height, message in (
        ((4,), 16, r"hidden_channels: a relay needs two layers, but got \(4,\)"),
        ((4, 4), 6, "patch_size: a relay needs maps of even height, but got 3"),
    ):
        config = PredictorConfig(cell=Relay(), patch_size=2, hidden_channels=channels)
        with pytest.raises(ConfigError, match=message):
            check_predictor(config, FrameShape(channels=1, height=height, width=8))


class HalfCodec(nn.Module, Codec):
    """Halves the maps on the way in, and adds what was lost on the way out."""

    def __init__(self, channels, inner, hidden_channels):
        super().__init__()
        self.shrink = nn.Conv2d(channels, inner, 2, stride=2)
        self.grow = nn.ConvTranspose2d(hidden_channels, channels, 2, stride=2)

    def encode(self, frame):
        x = self.shrink(frame)
        return x, (frame,)

    def decode(self, h, skips):
        return self.grow(h) + skips[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded(Motion):
    kind: ClassVar[str] = "encoded"

    def stack_shape(self, patches):
        return 6, patches[1] // 2, patches[2] // 2

    def codec(self, patches, hidden_channels):
        return HalfCodec(patches[0], self.stack_shape(patches)[0], hidden_channels[-1])


def test_an_encoder_and_a_decoder_with_skips_may_stand_around_the_stack():
    predictor = make(Encoded())
    assert predictor.layers[0].in_channels == 6
    assert predictor.memory_shapes()[1, "h"] == (4, 4, 2)
    assert {name.partition(".")[0] for name, _ in predictor.named_parameters()} == {"cells", "head"}
    batch = clips()
    out = predictor(batch, free_run(2, 2, 4), {1: ("h",)})
    assert out.memories[1, "h"].shape == (2, 3, 4, 4, 2)
    out.frames.square().mean().backward()
    assert [name for name, p in predictor.named_parameters() if not p.grad.abs().max() > 0] == []
    with torch.no_grad():
        for parameter in predictor.head.grow.parameters():
            parameter.zero_()
        # What is left are the skips: each step's own input, true for two steps and then what was predicted.
        frames = predictor(batch, free_run(2, 2, 4)).frames
    torch.testing.assert_close(frames, torch.stack([batch[:, 0], batch[:, 1], batch[:, 1]], dim=1))
    assert predictor.predict(batch[:, :2], 2).shape == (2, 2, 1, 16, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalised(Motion):
    """A penalty on weights and a loss of what the cells give, with a module of its own."""

    kind: ClassVar[str] = "penalised"
    loss_aux: ClassVar[tuple[str, ...]] = ("difference",)

    def adapter(self, hidden_channels):  # noqa: ARG002
        return nn.Conv2d(4, 1, 1)

    def losses(self, layers, adapter, aux):
        weights = torch.stack([layer.conv.weight.square().sum() for layer in layers])
        return {"weights": weights.sum(), "calm": adapter(aux[0, "difference"].flatten(0, 1)).square().mean()}


def test_a_family_may_have_losses_of_its_own():
    predictor = make(Penalised())
    out = predictor(clips(), teacher_forced(2, 4), aux=predictor.loss_aux)
    losses = predictor.losses(out.aux)
    assert losses["weights"].item() == pytest.approx(sum(c.conv.weight.square().sum().item() for c in predictor.layers))
    losses["calm"].backward()
    assert predictor.adapter.weight.grad.abs().max() > 0
    assert make(Motion()).losses({}) == {}
