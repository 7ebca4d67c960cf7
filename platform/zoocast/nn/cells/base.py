"""What a recurrent cell is: one step of one layer, and the configuration that builds a stack of its kind.

A cell is called as ``cell(x, state)`` and keeps nothing on itself: the state goes in and comes out as a dict of named tensors.
The loop over time is in `stack`. Everything that is peculiar to a family of cells (its memories and how they move, its norm, what
it cannot do, its losses, what stands between frames and stack) is in its `CellConfig`: nobody else asks for a cell's name.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from zoocast.errors import ConfigError

__all__ = [
    "Cell",
    "CellConfig",
    "CellOutput",
    "Codec",
    "GatedCell",
    "LinearHead",
    "Place",
    "Shape",
    "Skips",
    "State",
    "check_kernel_size",
]

State = dict[str, Tensor]
Shape = tuple[int, int, int]
"""(channels, height, width)."""
Skips = tuple[Tensor, ...]
"""What a frame's encoder hands to the decoder of the same step, past the stack."""


class CellOutput(NamedTuple):
    """What one step gives: the output for the layer above, the next state, and what only losses and pictures read."""

    h: Tensor
    state: State
    aux: dict[str, Tensor]


class Cell(nn.Module, abc.ABC):
    """Abstract: one step of a recurrent layer.

    Attributes:
        memories: the names in the state that others may read, and a target may distil from; the most informative one first.
        carried: names in the state that zig-zag: up through the layers within a step, and from the top to the next step's bottom.
        rising: names in the state that go up through the layers within a step and start anew at the bottom of the next one.

    All other tensors of the state stay in their layer. A layer that does not name a carried or rising tensor lets it pass.
    """

    memories: tuple[str, ...]
    carried: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels

    @abc.abstractmethod
    def forward(self, x: Tensor, state: State) -> CellOutput:
        """One step. x: (B, in_channels, h, w); the state: (B, *shape) for each of `state_shapes`, in and out."""

    def state_shapes(self, height: int, width: int) -> dict[str, Shape]:
        """(channels, height, width) of every tensor in the state for inputs of height x width.

        Override it for memories of other sizes, and for what is in the state but no memory: the input of the step before, or a
        mark of shape (1, 1, 1), 0 before the first frame and then set, by which a cell knows that a step is its first.
        """
        return dict.fromkeys(self.memories, (self.hidden_channels, height, width))

    def memory_shapes(self, height: int, width: int) -> dict[str, Shape]:
        """The part of `state_shapes` that others may read."""
        shapes = self.state_shapes(height, width)
        return {name: shapes[name] for name in self.memories}

    def zero_state(self, batch: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> State:
        """The state before the first frame."""
        shapes = self.state_shapes(height, width)
        return {name: torch.zeros(batch, *shape, device=device, dtype=dtype) for name, shape in shapes.items()}


class GatedCell(Cell):
    """Abstract: a cell that computes gates, writes its memory C by them, and reads its output from that memory.

    The three are apart so that a Transferable Memory Unit can step in between.
    """

    num_gates: int

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels)
        self.kernel_size = kernel_size

    @abc.abstractmethod
    def gates(self, x: Tensor, state: State) -> Tensor:
        """All gates before their non-linearity, (B, num_gates * n, h, w)."""

    @abc.abstractmethod
    def write(self, gates: Sequence[Tensor], state: State) -> tuple[State, dict[str, Tensor]]:
        """The new memories, among them "c", and aux."""

    @abc.abstractmethod
    def read(self, gates: Sequence[Tensor], memory: State) -> Tensor:
        """The output H_t, (B, n, h, w)."""

    def forward(self, x: Tensor, state: State) -> CellOutput:
        # num_gates tensors of (B, n, h, w). Each family applies its own sigmoid and tanh in `write` and `read`: what a LayerNorm
        # or a forget bias does to a gate comes before them.
        gates = self.gates(x, state).chunk(self.num_gates, dim=1)
        memory, aux = self.write(gates, state)
        h = self.read(gates, memory)
        # The output is state too: the next step's gates are computed from it.
        return CellOutput(h, {**memory, "h": h}, aux)


# ------------------------------------------------------------------------------------------------- between frames and the stack


class Codec(abc.ABC):
    """Abstract: what stands between frames, already cut into patches, and the stack of cells."""

    @abc.abstractmethod
    def encode(self, frame: Tensor) -> tuple[Tensor, Skips]:
        """The bottom layer's input of a frame (B, C, h, w), and what `decode` gets of this step beside the top layer's output."""

    @abc.abstractmethod
    def decode(self, h: Tensor, skips: Skips) -> Tensor:
        """The predicted frame (B, C, h, w) from the top layer's output and what `encode` left for it."""


# It is the convolution and does not hold one, so that its weight is called head.weight. No bias, as in the releases.
class LinearHead(nn.Conv2d, Codec):
    """Frames go in as they are, and come out of a 1x1 convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def encode(self, frame: Tensor) -> tuple[Tensor, Skips]:
        """See `Codec.encode`."""
        return frame, ()

    def decode(self, h: Tensor, skips: Skips) -> Tensor:  # noqa: ARG002
        """See `Codec.decode`."""
        return self(h)


# --------------------------------------------------------------------------------------------------------------- configuration


class Place(NamedTuple):
    """Where in a stack a cell is built."""

    layer: int
    num_layers: int
    in_channels: int
    hidden_channels: int
    size: tuple[int, int]
    """(height, width) of the maps that the stack sees."""
    gates_are_normed: bool = False
    """What is around the cell normalises its gates, so that a LayerNorm of its own over them would be one too many."""

    def norm_size(self, layer_norm: bool) -> tuple[int, int] | None:
        """The size for the LayerNorms of a cell whose configuration says `layer_norm`; None if it is to have none."""
        # A LayerNorm over (channels, height, width) has a weight for every pixel, and so fits maps of one size only.
        return self.size if layer_norm and not self.gates_are_normed else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellConfig(abc.ABC):
    """Abstract: a family of cells, with all that a predictor needs to know about it. Only `kind` and `build` must be given."""

    kind: ClassVar[str]
    """Its name, as in ``-S target.predictor.cell=stlstm``."""
    takes_tmu: ClassVar[bool] = False
    """Whether Transferable Memory Units can be put in; then `build` gives a `GatedCell`."""
    loss_aux: ClassVar[tuple[str, ...]] = ()
    """The names in aux that `losses` reads."""

    @abc.abstractmethod
    def build(self, place: Place) -> Cell:
        """The cell at this place."""

    def check(self, patches: Shape, hidden_channels: tuple[int, ...]) -> None:  # noqa: B027, most can be stacked in any way
        """Raise `ConfigError`, by the field's path in `PredictorConfig`, for a stack that this family cannot make."""

    def stack_shape(self, patches: Shape) -> Shape:
        """What the bottom layer sees of frames that are cut into `patches`: the shape that the codec encodes them to."""
        return patches

    def codec(self, patches: Shape, hidden_channels: tuple[int, ...]) -> Codec:
        """What stands between frames and stack, an `nn.Module` too; its weights are called ``head.*``."""
        return LinearHead(hidden_channels[-1], patches[0])

    def adapter(self, hidden_channels: tuple[int, ...]) -> nn.Module | None:  # noqa: ARG002
        """What only `losses` needs, one for the whole stack; its weights are called ``adapter.*``."""
        return None

    def losses(
        self,
        layers: Sequence[Cell],  # noqa: ARG002
        adapter: nn.Module | None,  # noqa: ARG002
        aux: Mapping[tuple[int, str], Tensor],  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Terms that join the error of the frames, scalars by name: of aux (B, steps, ...), or penalties on the layers' weights.

        Training weighs "decouple"; a term of any other name is taken as it is.
        """
        return {}


MAX_KERNEL_SIZE = 255


def check_kernel_size(field: str, value: int) -> None:
    """Raise `ConfigError` unless a convolution of this size can keep the size of its maps."""
    # kernel_size // 2 pixels of padding on either side make up for what an odd kernel takes, but for an even one add a pixel.
    if not 1 <= value <= MAX_KERNEL_SIZE or value % 2 == 0:
        raise ConfigError(field, f"must be odd, so that maps keep their size, and at most {MAX_KERNEL_SIZE}, but got {value}")
