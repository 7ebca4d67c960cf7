"""TrajGRU (Shi et al., NeurIPS 2017): a ConvGRU whose memory moves along flows that the network learns, before it is read.

A convolution's neighbourhood is the same at every place. Here each place reads the memory through L links, whose far ends are
where L flow fields point to; the fields come from the input and the memory, so that they can follow what moves and turns.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.config import check_ranges, setting
from zoocast.nn.cells.base import Cell, CellConfig, CellOutput, Place, State, check_kernel_size

__all__ = ["TrajGRU", "TrajGRUCell", "warp"]


def warp(maps: Tensor, flows: Tensor) -> Tensor:
    """`maps` as seen through flows: at (y, x) what bilinear interpolation finds at (y + v, x + u), and zeros outside.

    A flow of zeros gives back the maps bit for bit, and whole pixels move them without blurring. `F.grid_sample` does neither: it
    takes coordinates from -1 to 1, whose ends `align_corners` puts on centres or on borders of pixels, and rounds on the way.

    Args:
        maps: (B, n, h, w).
        flows: (B, L, 2, h, w), u and then v, in pixels.

    Returns:
        (B, L, n, h, w).
    """
    height, width = maps.shape[-2:]
    # In bfloat16 the place 100.3 would be 100: places are at least float32 whatever precision the maps have.
    u, v = flows.to(torch.promote_types(flows.dtype, torch.float32)).unbind(2)
    y = torch.arange(height, device=maps.device)[:, None] + v
    x = torch.arange(width, device=maps.device) + u
    top, left = y.floor(), x.floor()
    # A floor has no gradient, so flows learn through these two weights alone. All of these are (B, L, h, w).
    below, right = (y - top).unsqueeze(2), (x - left).unsqueeze(2)
    # (B, L, n, h * w), a view: every link gathers from the same maps.
    pixels = maps.flatten(2).unsqueeze(1).expand(-1, flows.shape[1], -1, -1)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        # What is outside reads any pixel and counts for nothing. So does NaN, which makes the weights NaN and is not hidden.
        # The index is computed in float32, which holds whole numbers up to 2^24: maps of up to 4096 x 4096.
        index = rows.nan_to_num().clamp(0, height - 1) * width + columns.nan_to_num().clamp(0, width - 1)
        found = pixels.gather(3, index.long().flatten(2).unsqueeze(2).expand_as(pixels))
        return found.view(*found.shape[:3], height, width) * inside.unsqueeze(2)

    upper = (1 - right) * at(top, left) + right * at(top, left + 1)
    lower = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1)
    return ((1 - below) * upper + below * lower).to(maps.dtype)


class TrajGRUCell(Cell):
    """A memory H that is sampled along L flows:

        U, V = W_u * leaky(W_fx * X_t + W_fh * H_{t-1})
        H~_l = warp(H_{t-1}, U_l, V_l)
        Z    = sigmoid(W_zx * X_t + sum_l W_zh^l H~_l)
        R    = sigmoid(W_rx * X_t + sum_l W_rh^l H~_l)
        H'   = leaky(W_hx * X_t + R o sum_l W_hh^l H~_l)
        H_t  = (1 - Z) o H' + Z o H_{t-1}

    aux holds the flows, (B, L, 2, h, w) in pixels of the map.

    Args:
        num_links: L, the number of flows.
        flow_channels: of the hidden layer that the flows are computed from.
        flow_kernel_size: of the convolutions that they are computed by.
    """

    memories = ("h",)
    # Of the paper's leaky ReLU.
    slope = 0.2

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int,
        *,
        num_links: int,
        flow_channels: int,
        flow_kernel_size: int,
    ) -> None:
        super().__init__(in_channels, hidden_channels)
        n, k, padding = hidden_channels, flow_kernel_size, flow_kernel_size // 2
        self.num_links = num_links
        self.conv_x = nn.Conv2d(in_channels, 3 * n, kernel_size, padding=kernel_size // 2)
        self.conv_flow_x = nn.Conv2d(in_channels, flow_channels, k, padding=padding)
        self.conv_flow_h = nn.Conv2d(n, flow_channels, k, padding=padding)
        self.conv_flow = nn.Conv2d(flow_channels, 2 * num_links, k, padding=padding)
        # The sum over links of 1x1 convolutions is one over all links' maps together.
        self.conv_links = nn.Conv2d(num_links * n, 3 * n, 1)

    def flows(self, x: Tensor, h: Tensor) -> Tensor:
        """U and V for every link, (B, L, 2, h, w)."""
        hidden = F.leaky_relu(self.conv_flow_x(x) + self.conv_flow_h(h), self.slope)
        return self.conv_flow(hidden).unflatten(1, (self.num_links, 2))

    def forward(self, x: Tensor, state: State) -> CellOutput:
        h = state["h"]
        flows = self.flows(x, h)
        z_x, r_x, candidate_x = self.conv_x(x).chunk(3, dim=1)
        z_h, r_h, candidate_h = self.conv_links(warp(h, flows).flatten(1, 2)).chunk(3, dim=1)
        z, r = torch.sigmoid(z_x + z_h), torch.sigmoid(r_x + r_h)
        # R acts after the links' convolution, not before it as in ConvGRU; see H' above.
        candidate = F.leaky_relu(candidate_x + r * candidate_h, self.slope)
        h = (1 - z) * candidate + z * h
        return CellOutput(h, {"h": h}, {"flows": flows})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajGRU(CellConfig):
    """A stack of TrajGRU cells. Without a memory C there is nothing that transfer units could add to."""

    kind: ClassVar[str] = "trajgru"
    kernel_size: int = setting(3, "of the convolutions of the input; odd")
    num_links: int = setting(
        9, "flows along which the memory is looked at (paper, HKO-7: 13, 13, 9 by layer)", at_least=1, at_most=2**16
    )
    flow_channels: int = setting(32, "hidden channels from which the flows are computed (paper: 32)", at_least=1, at_most=2**16)
    flow_kernel_size: int = setting(5, "of the convolutions that compute the flows; odd (paper: 5)")

    def __post_init__(self) -> None:
        check_ranges(self)
        check_kernel_size("kernel_size", self.kernel_size)
        check_kernel_size("flow_kernel_size", self.flow_kernel_size)

    def build(self, place: Place) -> TrajGRUCell:
        """See `CellConfig.build`."""
        return TrajGRUCell(
            place.in_channels,
            place.hidden_channels,
            self.kernel_size,
            num_links=self.num_links,
            flow_channels=self.flow_channels,
            flow_kernel_size=self.flow_kernel_size,
        )
