"""A cell of your own: Elman's network with convolutions, the simplest recurrent cell that there is.

Copied to `platform/zoocast/nn/cells/elman.py` and named in `CellChoice` beside it, it is there for every pipeline: `-S
target.predictor.cell=elman -S target.predictor.cell.kernel_size=5`. Nothing else has to know of it.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoocast.config import setting
from zoocast.nn.cells import Cell, CellConfig, CellOutput, Place, State
from zoocast.nn.cells.base import check_kernel_size


class ElmanCell(Cell):
    """H_t = tanh(W * [X_t ; H_{t-1}])."""

    memories = ("h",)

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, hidden_channels)
        self.conv = nn.Conv2d(in_channels + hidden_channels, hidden_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, state: State) -> CellOutput:
        h = torch.tanh(self.conv(torch.cat([x, state["h"]], dim=1)))
        return CellOutput(h, {"h": h}, {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elman(CellConfig):
    """A stack of Elman cells. Without a memory C there is nothing that transfer units could add to."""

    kind: ClassVar[str] = "elman"
    kernel_size: int = setting(3, "of the recurrent convolution; odd")

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size)

    def build(self, place: Place) -> ElmanCell:
        """The cell of one layer."""
        return ElmanCell(place.in_channels, place.hidden_channels, self.kernel_size)
