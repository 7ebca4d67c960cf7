"""The Transferable Memory Unit (Yao et al., ICML 2020): a recurrent cell that distils memories of any number of frozen sources.

The sources themselves are not here: training compares `aux["distilled"]` with their memories, and at inference nothing of them is
left but the distillers and gates that were learnt. Whatever the release does differently from what works is an option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.nn.cells import Cell, CellOutput, GatedCell, Shape, State

__all__ = ["TmuConfig", "TransferableMemoryUnit"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TmuConfig:
    """How distilled memories enter the target's own. `TmuConfig.release()` is what the paper's released code does."""

    layers: Literal["first", "all"] = setting("all", "which layers distil; release: first")
    combine: Literal["sum", "mean", "residual"] = setting(
        "mean",
        "how the M transferred memories C^m* join the candidate: sum = candidate + their sum, which grows up to (1 + M)-fold"
        " per step; mean = their mean; residual = candidate + sum_m a_m u_m (S^m - candidate), a_m one number per channel, 0 at"
        " the start (from which, with identity distillers, only the distillation loss moves it); release: sum",
    )
    output: Literal["candidate", "transferred"] = setting(
        "candidate", "which memory the layer's output is read from; release: candidate"
    )
    gate: Literal["sigmoid", "softmax", "none"] = setting(
        "sigmoid",
        "the transfer gate u_m: sigmoid = one for each source; softmax = the sources and the candidate compete; none = u_m is 1;"
        " release: sigmoid",
    )
    gate_norm: bool = setting(
        False, "one LayerNorm over the base's gates and the transfer gates together, in place of the base's own; release: true"
    )
    gate_bias: float = setting(
        0.0, "added to the initial bias of the transfer gates: negative starts with little transfer; release: 0"
    )
    normalise: bool = setting(
        False, "the distilled memory passes a LayerNorm per source (the source's own does not); release: true"
    )
    distiller_init: Literal["identity", "fitted", "random"] = setting(
        "identity",
        "identity starts with S^m = candidate, so that nothing is transferred before it is learnt; fitted starts with the linear"
        " map from the warm-started memory to C^m that is best over the training clips, for sources that do not share their first"
        " weights have channels of other meaning (with combine=residual nothing is transferred before it is learnt);"
        " release: random",
    )

    def __post_init__(self) -> None:
        if self.distiller_init == "fitted" and self.normalise:
            raise ConfigError("distiller_init", "fitted distillers pass no LayerNorm, but got normalise=true; set it to false")
        if self.gate == "none" and (self.gate_norm or self.gate_bias):
            field = "gate_norm" if self.gate_norm else "gate_bias"
            raise ConfigError(
                field, f"acts on transfer gates, but got gate=none; set {field}={'false' if self.gate_norm else 0} as well"
            )

    @classmethod
    def release(cls) -> TmuConfig:
        """The choices of the released code, with which its numbers are reproduced."""
        return cls(
            layers="first",
            combine="sum",
            output="candidate",
            gate="sigmoid",
            gate_norm=True,
            gate_bias=0.0,
            normalise=True,
            distiller_init="random",
        )


class TransferableMemoryUnit(Cell):
    """Lets a cell with gates and a memory C take over what it learnt to distil from M sources.

    With the base's candidate memory Chat_t (paper, section 3.2):

        S^m_t  = LN_m(D_m * Chat_t)                          distilled memory, aux["distilled"]: (B, M, n, h, w)
        u_m    = sigmoid(W_u * [X_t ; H_{t-1}] + b_u)        transfer gate, aux["gates"]: (B, M, n, h, w)
        C^m_t* = u_m o S^m_t + (1 - u_m) o Chat_t            transferred memory
        C_t    = combine(Chat_t, C^1_t*, .., C^M_t*)

    Args:
        base: the cell that is wrapped; its own parameters keep their names below `base`.
        size: (height, width) of the maps, which the LayerNorms are tied to.

    Raises:
        ConfigError: no sources.
    """

    def __init__(self, base: GatedCell, config: TmuConfig, num_sources: int, size: tuple[int, int]) -> None:
        super().__init__(base.in_channels, base.hidden_channels)
        if num_sources < 1:
            raise ConfigError("num_sources", f"a Transferable Memory Unit needs at least 1 source, but got {num_sources}")
        self.memories, self.carried, self.rising = base.memories, base.carried, base.rising
        self.base, self.config, self.num_sources = base, config, num_sources
        n, many = base.hidden_channels, num_sources * base.hidden_channels
        # All M distillers D_m in one 1x1 convolution, n output channels for each source, in their order.
        self.distillers = nn.Conv2d(n, many, 1, bias=False)
        if config.distiller_init != "random":  # fitted ones are fitted by who has the sources' memories
            with torch.no_grad():
                # Not by torch.eye, which imports all of torch._dynamo, for seconds, where a plan makes networks without numbers.
                self.distillers.weight.zero_().view(num_sources, n, n).diagonal(dim1=1, dim2=2).fill_(1.0)
        self.norm_distilled = _SourceNorm(num_sources, n, size) if config.normalise else nn.Identity()
        self.scale = nn.Parameter(torch.zeros(num_sources, n, 1, 1)) if config.combine == "residual" else None
        # The release makes all gates in one convolution. Apart, the base is a plain network's cell, which a warm start can fill.
        self.gate = _same_conv(base, many) if config.gate != "none" else None
        self.norm_gates = nn.LayerNorm([base.num_gates * n + many, *size]) if config.gate_norm and self.gate else nn.Identity()
        self._start_gates_at(config.gate_bias)

    def set_distiller(self, source: int, matrix: Tensor) -> None:
        """Let S^m of the source with this number be ``matrix`` (n, n) times the candidate, at every place."""
        n = self.hidden_channels
        with torch.no_grad():
            self.distillers.weight[source * n : (source + 1) * n].copy_(matrix[..., None, None])

    def _start_gates_at(self, bias: float) -> None:
        if self.gate is None:
            return
        # A LayerNorm would take away what is added before it, so the bias goes to its own, whose last channels are the u_m's.
        holder = self.norm_gates.bias[-self.gate.out_channels :] if isinstance(self.norm_gates, nn.LayerNorm) else self.gate.bias
        assert isinstance(holder, Tensor)
        with torch.no_grad():
            holder.add_(bias)

    def state_shapes(self, height: int, width: int) -> dict[str, Shape]:
        """See `Cell.state_shapes`: the base's."""
        return self.base.state_shapes(height, width)

    def _gates(self, x: Tensor, state: State) -> tuple[Sequence[Tensor], Tensor | None]:
        """The base's gates before their non-linearity, and the transfer gates u after it, (B, M, n, h, w)."""
        own = self.base.gates(x, state)
        if self.gate is None:
            return own.chunk(self.base.num_gates, dim=1), None
        # (B, M * n, h, w), from what the base's own gates see.
        transfer = self.gate(torch.cat([x, state["h"]], dim=1))
        if self.config.gate_norm:
            own, transfer = self.norm_gates(torch.cat([own, transfer], dim=1)).split([own.shape[1], transfer.shape[1]], dim=1)
        logits = transfer.unflatten(1, (self.num_sources, self.hidden_channels))
        if self.config.gate == "sigmoid":
            u = torch.sigmoid(logits)
        else:
            # The candidate competes with a logit fixed at 0, which loses nothing: a softmax sees differences only. `F.pad` counts
            # from the last dimension, so this puts a source of zeros in front of the M, whose share is then dropped.
            u = torch.softmax(F.pad(logits, (0, 0, 0, 0, 0, 0, 1, 0)), dim=1)[:, 1:]
        return own.chunk(self.base.num_gates, dim=1), u

    def _combine(self, candidate: Tensor, correction: Tensor) -> Tensor:
        """C_t from Chat_t (B, n, h, w) and C^m_t* - Chat_t (B, M, n, h, w)."""
        # C^m_t* = Chat_t + correction_m, so all three are Chat_t and a sum of corrections, 0 for an identity distiller.
        if self.config.combine == "mean":
            return candidate + correction.mean(dim=1)
        if self.scale is not None:
            return candidate + (self.scale * correction).sum(dim=1)
        # Chat_t is in each of the M + 1 terms: so much the release's memory may grow in each step.
        return (1 + self.num_sources) * candidate + correction.sum(dim=1)

    def forward(self, x: Tensor, state: State) -> CellOutput:
        gates, u = self._gates(x, state)
        memory, aux = self.base.write(gates, state)
        candidate = memory["c"]
        distilled = self.norm_distilled(self.distillers(candidate).unflatten(1, (self.num_sources, self.hidden_channels)))
        correction = distilled - candidate.unsqueeze(1)
        transferred = {**memory, "c": self._combine(candidate, correction if u is None else u * correction)}
        # In the release this step's output does not see what was transferred; the next one does, by the state.
        h = self.base.read(gates, transferred if self.config.output == "transferred" else memory)
        # Losses and pictures find gates whatever the options; an expanded 1 takes no memory.
        u = distilled.new_ones(()).expand_as(distilled) if u is None else u
        return CellOutput(h, {**transferred, "h": h}, {**aux, "distilled": distilled, "gates": u})


def _same_conv(base: GatedCell, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(base.in_channels + base.hidden_channels, out_channels, base.kernel_size, padding=base.kernel_size // 2)


class _SourceNorm(nn.Module):
    """A LayerNorm over (n, h, w) for each of M sources at once: (B, M, n, h, w) to the same."""

    def __init__(self, num_sources: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_sources, channels, *size))
        self.bias = nn.Parameter(torch.zeros(num_sources, channels, *size))

    def forward(self, distilled: Tensor) -> Tensor:
        # `nn.LayerNorm` has one weight for all M; so normalise without any, and then weigh each source's maps with its own.
        return torch.addcmul(self.bias, F.layer_norm(distilled, self.weight.shape[1:]), self.weight)
