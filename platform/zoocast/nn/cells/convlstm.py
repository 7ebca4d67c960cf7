"""ConvLSTM (Shi et al., NeurIPS 2015) without peepholes, as transferable-memory writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoocast.config import setting
from zoocast.nn.cells.base import CellConfig, GatedCell, Place, State, check_kernel_size

__all__ = ["ConvLSTM", "ConvLSTMCell"]


class ConvLSTMCell(GatedCell):
    """Gates in the order i, f, o, g, with bias.

    Args:
        norm_size: (height, width) of the maps if the gates shall pass a LayerNorm, which is tied to that size; None without.
    """

    # C first: it is the memory that a bank keeps unless another one is named.
    memories = ("c", "h")
    num_gates = 4

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, norm_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels, kernel_size)
        out_channels = self.num_gates * hidden_channels
        # One convolution over [X_t ; H_{t-1}] is the sum of one over each. Its channels lie as in the release (i, f, o, g), so
        # that released weights are loaded without being sorted.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvLSTM(CellConfig):
    """A stack of ConvLSTM cells."""

    kind: ClassVar[str] = "convlstm"
    takes_tmu: ClassVar[bool] = True
    kernel_size: int = setting(3, "of the recurrent convolutions; odd")
    layer_norm: bool = setting(False, "LayerNorm after the recurrent convolutions; ties the network to its frame size")

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size)

    def build(self, place: Place) -> ConvLSTMCell:
        """See `CellConfig.build`."""
        norm_size = place.norm_size(self.layer_norm)
        return ConvLSTMCell(place.in_channels, place.hidden_channels, self.kernel_size, norm_size)
