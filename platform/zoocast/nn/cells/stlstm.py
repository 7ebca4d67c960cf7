"""PredRNN's ST-LSTM (Wang et al., NeurIPS 2017), and PredRNN-V2's decoupling of its two memories (Wang et al., TPAMI 2022)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.nn.cells.base import Cell, CellConfig, GatedCell, Place, Shape, State, check_kernel_size

__all__ = ["STLSTM", "STLSTMCell"]


class STLSTMCell(GatedCell):
    """A memory C along time and a memory M that zig-zags through the layers.

    With ``decouple=True`` aux holds what this step adds to both memories: delta_c = i o g, delta_m = i' o g'.

    Args:
        norm_size: (height, width) of the maps if all convolutions shall pass a LayerNorm, which is tied to that size.
    """

    memories = ("c", "m", "h")
    # M goes up through the layers and from the top one to the bottom of the next step; C and H stay in their layer.
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
        # X feeds all seven gates, H those of C and the output gate, M those of M. No bias anywhere, as in PredRNN's release.
        self.conv_x = nn.Conv2d(in_channels, 7 * n, kernel_size, padding=padding, bias=False)
        self.conv_h = nn.Conv2d(n, 4 * n, kernel_size, padding=padding, bias=False)
        self.conv_m = nn.Conv2d(n, 3 * n, kernel_size, padding=padding, bias=False)
        self.conv_o = nn.Conv2d(2 * n, n, kernel_size, padding=padding, bias=False)
        # From the 2n channels of C and M together to the n of the output, as W_1x1 in `read`.
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
        # C's gates see X and H, M's gates see X and M, the output gate sees X and H here and both memories in `read`.
        ifg, o = self.norm_h(self.conv_h(state["h"])).split([3 * n, n], dim=1)
        ifg_prime = self.norm_m(self.conv_m(state["m"]))
        return self.norm_x(self.conv_x(x)) + torch.cat([ifg, ifg_prime, o], dim=1)

    def write(self, gates: Sequence[Tensor], state: State) -> tuple[State, dict[str, Tensor]]:
        """The new memories C_t and M_t, and what was added to them if they are to be decoupled."""
        i, f, g, i_prime, f_prime, g_prime, _ = gates
        delta_c = torch.sigmoid(i) * torch.tanh(g)
        delta_m = torch.sigmoid(i_prime) * torch.tanh(g_prime)
        # The forget bias makes a new network remember: sigmoid(1) = 0.73 of a memory is kept where sigmoid(0) keeps half.
        c = torch.sigmoid(f + self.forget_bias) * state["c"] + delta_c
        m = torch.sigmoid(f_prime + self.forget_bias) * state["m"] + delta_m
        return {"c": c, "m": m}, {"delta_c": delta_c, "delta_m": delta_m} if self.decouple else {}

    def read(self, gates: Sequence[Tensor], memory: State) -> Tensor:
        """The output H_t = sigmoid(o + W_o * [C_t ; M_t]) o tanh(W_1x1 * [C_t ; M_t])."""
        both = torch.cat([memory["c"], memory["m"]], dim=1)
        return torch.sigmoid(gates[6] + self.norm_o(self.conv_o(both))) * torch.tanh(self.conv_last(both))


@dataclasses.dataclass(frozen=True, kw_only=True)
class STLSTM(CellConfig):
    """A stack of ST-LSTM cells, which is PredRNN; with `decouple` PredRNN-V2."""

    kind: ClassVar[str] = "stlstm"
    also: ClassVar[tuple[str, ...]] = ("predrnn",)
    takes_tmu: ClassVar[bool] = True
    loss_aux: ClassVar[tuple[str, ...]] = ("delta_c", "delta_m")
    kernel_size: int = setting(3, "of the recurrent convolutions; odd")
    layer_norm: bool = setting(False, "LayerNorm after the recurrent convolutions; ties the network to its frame size")
    decouple: bool = setting(False, "PredRNN-V2's memory decoupling: a loss that keeps both memories' increments apart")

    def __post_init__(self) -> None:
        check_kernel_size("kernel_size", self.kernel_size)

    def check(self, patches: Shape, hidden_channels: tuple[int, ...]) -> None:  # noqa: ARG002
        """See `CellConfig.check`."""
        if len(set(hidden_channels)) > 1:
            raise ConfigError(
                "hidden_channels",
                f"all layers of an stlstm share one memory and need equally many channels, but got {hidden_channels}",
            )

    def build(self, place: Place) -> STLSTMCell:
        """See `CellConfig.build`."""
        norm_size = place.norm_size(self.layer_norm)
        return STLSTMCell(place.in_channels, place.hidden_channels, self.kernel_size, norm_size, decouple=self.decouple)

    def adapter(self, hidden_channels: tuple[int, ...]) -> nn.Module | None:
        """The 1x1 convolution A of the decoupling loss."""
        # `check` has made sure that all layers have as many, so one A serves them all.
        n = hidden_channels[-1]
        return nn.Conv2d(n, n, 1, bias=False) if self.decouple else None

    def losses(
        self, layers: Sequence[Cell], adapter: nn.Module | None, aux: Mapping[tuple[int, str], Tensor]
    ) -> dict[str, Tensor]:
        """decouple: the mean |cos(A * delta_c, A * delta_m)| over clips, steps, layers and channels; one A for all layers."""
        if adapter is None:
            return {}
        # aux is (B, steps, n, h, w); clips and steps are one batch for the 1x1 convolution.
        losses = []
        for layer in range(len(layers)):
            # An increment of one channel is a vector over the map's pixels.
            delta_c, delta_m = (adapter(aux[layer, name].flatten(0, 1)).flatten(2) for name in self.loss_aux)
            # Apart means at right angles: increments that point in opposite directions are as bound to each other as equal ones.
            losses.append(F.cosine_similarity(delta_c, delta_m, dim=2).abs().mean())
        return {"decouple": torch.stack(losses).mean()}
