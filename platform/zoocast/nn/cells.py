"""One-step recurrent cells: what happens to a state when one more frame comes in.

A cell is called as ``cell(x, state)`` and keeps nothing on itself: the state goes in and comes out as a dict of named tensors,
each (batch, channels, height, width). `memories` names those that others may look at. The loop over time is in `stack`.
ConvLSTM and ST-LSTM are split into gates, write and read, so that a Transferable Memory Unit can step in between.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Cell", "CellOutput", "ConvGRUCell", "ConvLSTMCell", "STLSTMCell", "State"]

State = dict[str, Tensor]


class CellOutput(NamedTuple):
    """What one step gives: the output for the layer above, the next state, and what only losses and pictures look at."""

    h: Tensor
    state: State
    aux: dict[str, Tensor]


class Cell(nn.Module, abc.ABC):
    """Abstract: one step of a recurrent layer with `hidden_channels` channels in every memory.

    Attributes:
        memories: the names in the state that others may look at.
        carried: those of them that go from layer to layer within a step, instead of from step to step within a layer.
    """

    memories: tuple[str, ...]
    carried: tuple[str, ...]

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.kernel_size = kernel_size

    @abc.abstractmethod
    def forward(self, x: Tensor, state: State) -> CellOutput:
        """One step. x: (B, in_channels, h, w); every tensor of the state: (B, hidden_channels, h, w)."""

    def memory_shapes(self, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """(channels, height, width) of each exposed memory for inputs of height x width."""
        return dict.fromkeys(self.memories, (self.hidden_channels, height, width))

    def zero_state(self, batch: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> State:
        """The state before the first frame."""
        shapes = self.memory_shapes(height, width)
        return {name: torch.zeros(batch, *shape, device=device, dtype=dtype) for name, shape in shapes.items()}


class ConvLSTMCell(Cell):
    """ConvLSTM (Shi et al. 2015) without peepholes, as transferable-memory writes it: gates in the order i, f, o, g, with bias.

    Args:
        norm_size: (height, width) of the maps if the gates shall pass a LayerNorm, which is tied to that size; None without.
    """

    memories = ("c", "h")
    carried = ()
    num_gates = 4

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, norm_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        out_channels = self.num_gates * hidden_channels
        self.conv = nn.Conv2d(in_channels + hidden_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.LayerNorm([out_channels, *norm_size]) if norm_size else nn.Identity()

    def gates(self, x: Tensor, state: State) -> Tensor:
        """The gates i, f, o, g before their non-linearity, (B, 4n, h, w)."""
        return self.norm(self.conv(torch.cat([x, state["h"]], dim=1)))

    def write(self, gates: Sequence[Tensor], state: State) -> tuple[State, dict[str, Tensor]]:
        """The new memory C_t = f o C_{t-1} + i o g, and no aux."""
        i, f, _, g = gates
        return {"c": torch.sigmoid(f) * state["c"] + torch.sigmoid(i) * torch.tanh(g)}, {}

    def read(self, gates: Sequence[Tensor], memory: State) -> Tensor:
        """The output H_t = o o tanh(C_t)."""
        return torch.sigmoid(gates[2]) * torch.tanh(memory["c"])

    def forward(self, x: Tensor, state: State) -> CellOutput:
        gates = self.gates(x, state).chunk(self.num_gates, dim=1)
        memory, aux = self.write(gates, state)
        h = self.read(gates, memory)
        return CellOutput(h, {**memory, "h": h}, aux)


class ConvGRUCell(Cell):
    """ConvGRU (Ballas et al. 2016): H_t = (1 - z) o H_{t-1} + z o tanh(W * [X_t ; r o H_{t-1}]), gates in the order z, r."""

    memories = ("h",)
    carried = ()

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, norm_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        joined, padding = in_channels + hidden_channels, kernel_size // 2
        self.conv = nn.Conv2d(joined, 2 * hidden_channels, kernel_size, padding=padding)
        self.conv_candidate = nn.Conv2d(joined, hidden_channels, kernel_size, padding=padding)
        self.norm = nn.LayerNorm([2 * hidden_channels, *norm_size]) if norm_size else nn.Identity()
        self.norm_candidate = nn.LayerNorm([hidden_channels, *norm_size]) if norm_size else nn.Identity()

    def forward(self, x: Tensor, state: State) -> CellOutput:
        h = state["h"]
        z, r = torch.sigmoid(self.norm(self.conv(torch.cat([x, h], dim=1)))).chunk(2, dim=1)
        candidate = torch.tanh(self.norm_candidate(self.conv_candidate(torch.cat([x, r * h], dim=1))))
        h = h + z * (candidate - h)
        return CellOutput(h, {"h": h}, {})


class STLSTMCell(Cell):
    """PredRNN's ST-LSTM (Wang et al. 2017, 2022): a memory C along time and a memory M that zig-zags through the layers.

    With ``decouple=True`` (PredRNN-V2) aux holds what this step adds to both memories: delta_c = i o g, delta_m = i' o g'.
    """

    memories = ("c", "m", "h")
    carried = ("m",)
    num_gates = 7
    forget_bias = 1.0

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        norm_size: tuple[int, int] | None = None,
        *,
        decouple: bool = False,
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        n, padding = hidden_channels, kernel_size // 2
        self.decouple = decouple
        self.conv_x = nn.Conv2d(in_channels, 7 * n, kernel_size, padding=padding, bias=False)
        self.conv_h = nn.Conv2d(n, 4 * n, kernel_size, padding=padding, bias=False)
        self.conv_m = nn.Conv2d(n, 3 * n, kernel_size, padding=padding, bias=False)
        self.conv_o = nn.Conv2d(2 * n, n, kernel_size, padding=padding, bias=False)
        self.conv_last = nn.Conv2d(2 * n, n, 1, bias=False)
        self.norm_x = nn.LayerNorm([7 * n, *norm_size]) if norm_size else nn.Identity()
        self.norm_h = nn.LayerNorm([4 * n, *norm_size]) if norm_size else nn.Identity()
        self.norm_m = nn.LayerNorm([3 * n, *norm_size]) if norm_size else nn.Identity()
        self.norm_o = nn.LayerNorm([n, *norm_size]) if norm_size else nn.Identity()

    def gates(self, x: Tensor, state: State) -> Tensor:
        """The gates i, f, g, i', f', g', o before their non-linearity, (B, 7n, h, w).

        The new memory's share in o is added in `read`.
        """
        n = self.hidden_channels
        ifg, o = self.norm_h(self.conv_h(state["h"])).split([3 * n, n], dim=1)
        ifg_prime = self.norm_m(self.conv_m(state["m"]))
        return self.norm_x(self.conv_x(x)) + torch.cat([ifg, ifg_prime, o], dim=1)

    def write(self, gates: Sequence[Tensor], state: State) -> tuple[State, dict[str, Tensor]]:
        """The new memories C_t and M_t, and what was added to them if they are to be decoupled."""
        i, f, g, i_prime, f_prime, g_prime, _ = gates
        delta_c = torch.sigmoid(i) * torch.tanh(g)
        delta_m = torch.sigmoid(i_prime) * torch.tanh(g_prime)
        c = torch.sigmoid(f + self.forget_bias) * state["c"] + delta_c
        m = torch.sigmoid(f_prime + self.forget_bias) * state["m"] + delta_m
        return {"c": c, "m": m}, {"delta_c": delta_c, "delta_m": delta_m} if self.decouple else {}

    def read(self, gates: Sequence[Tensor], memory: State) -> Tensor:
        """The output H_t = sigmoid(o + W_o * [C_t ; M_t]) o tanh(W_1x1 * [C_t ; M_t])."""
        both = torch.cat([memory["c"], memory["m"]], dim=1)
        return torch.sigmoid(gates[6] + self.norm_o(self.conv_o(both))) * torch.tanh(self.conv_last(both))

    def forward(self, x: Tensor, state: State) -> CellOutput:
        gates = self.gates(x, state).chunk(self.num_gates, dim=1)
        memory, aux = self.write(gates, state)
        h = self.read(gates, memory)
        return CellOutput(h, {**memory, "h": h}, aux)
