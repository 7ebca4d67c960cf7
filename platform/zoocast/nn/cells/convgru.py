"""ConvGRU (Ballas et al., ICLR 2016): one memory, its output, and two gates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoocast.config import setting
from zoocast.nn.cells.base import Cell, CellConfig, CellOutput, Place, State, check_kernel_size

__all__ = ["ConvGRU", "ConvGRUCell"]


class ConvGRUCell(Cell):
    """H_t = (1 - z) o H_{t-1} + z o tanh(W * [X_t ; r o H_{t-1}]), gates in the order z, r.

    Args:
        norm_size: (height, width) of the maps if gates and candidate shall pass a LayerNorm, which is tied to that size.
    """

    memories = ("h",)

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int, norm_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(in_channels, hidden_channels)
        joined, padding = in_channels + hidden_channels, kernel_size // 2
        # The candidate has a convolution of its own, for it sees H_{t-1} only after r, which comes out of the first one.
        self.conv = nn.Conv2d(joined, 2 * hidden_channels, kernel_size, padding=padding)
        self.conv_candidate = nn.Conv2d(joined, hidden_channels, kernel_size, padding=padding)
        self.norm = nn.LayerNorm([2 * hidden_channels, *norm_size]) if norm_size else nn.Identity()
        self.norm_candidate = nn.LayerNorm([hidden_channels, *norm_size]) if norm_size else nn.Identity()

    def forward(self, x: Tensor, state: State) -> CellOutput:
        h = state["h"]
        # z = 1 takes the candidate, as in the paper; in `torch.nn.GRU` and in TrajGRU it keeps the old memory.
        z, r = torch.sigmoid(self.norm(self.conv(torch.cat([x, h], dim=1)))).chunk(2, dim=1)
        candidate = torch.tanh(self.norm_candidate(self.conv_candidate(torch.cat([x, r * h], dim=1))))
        # (1 - z) o H_{t-1} + z o candidate, with one multiplication less.
        h = h + z * (candidate - h)
        return CellOutput(h, {"h": h}, {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvGRU(CellConfig):
    """A stack of ConvGRU cells. Without a memory C there is nothing that transfer units could add to."""

    kind: ClassVar[str] = "convgru"
    kernel_size: int = setting(3, "of the recurrent convolutions; odd")
    layer_norm: bool = setting(False, "LayerNorm after the recurrent convolutions; ties the network to its frame size")

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size)

    def build(self, place: Place) -> ConvGRUCell:
        """See `CellConfig.build`."""
        norm_size = place.norm_size(self.layer_norm)
        return ConvGRUCell(place.in_channels, place.hidden_channels, self.kernel_size, norm_size)
