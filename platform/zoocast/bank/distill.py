"""The distillation between a target's distilled memories and the memories of sources that need not look like it. Training only.

A source may differ in cell, layers, channels, patch and kernel. Where channels differ, a 1x1 convolution takes the *distilled*
memory to the source's channels; were it on the source's side, both could shrink to zero and the loss with them. Where map sizes
differ, the source's memory, which has no gradient, is resized to the target's. Nothing of this is part of the exported target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.bank.read import MemoryBank
from zoocast.nn.predictor import Predictor

__all__ = ["DistillationLoss"]


class DistillationLoss(nn.Module):
    """Compares distilled memories S^m with source memories C^m: the distillation loss of Transferable Memory Units.

    Args:
        target: a network with transfer units for as many sources as the bank has.
        bank: says which memories they distil from, and their shapes.
        source_memories: ``raw`` compares with C^m as it is (the release, although S^m passes a LayerNorm there); ``standardised``
            first gives each C^m_t zero mean and unit variance over channels and space, as that LayerNorm does to S^m.
        reduction: ``mean`` of squared distances over everything, all sources and layers alike; ``release`` is the released code's
            sum_t sum_m mean (S^m_t - C^m_t)^2 / (B T) with B clips of T frames, so that a weight means less in larger batches.

    Raises:
        ValueError: the target has another number of sources than the bank.
    """

    def __init__(
        self,
        target: Predictor,
        bank: MemoryBank,
        *,
        source_memories: Literal["raw", "standardised"] = "raw",
        reduction: Literal["mean", "release"] = "mean",
    ) -> None:
        super().__init__()
        if target.config.num_sources != len(bank.names):
            raise ValueError(f"the target distils {target.config.num_sources} sources, but the bank has {len(bank.names)}")
        self.source_memories, self.reduction = source_memories, reduction
        self.size = target.map_size
        self.projections = nn.ModuleDict()
        for source, refs in enumerate(bank.refs):
            for layer, ref in refs.items():
                channels = target.layers[layer].hidden_channels
                if ref.shape[0] != channels:
                    # By name and not in a list, for like networks have none: "0-1" is that of source 0 and layer 1.
                    self.projections[_key(source, layer)] = nn.Conv2d(channels, ref.shape[0], 1)

    def distillation_loss(self, distilled: Mapping[int, Tensor], memories: Sequence[Mapping[int, Tensor]]) -> Tensor:
        """The loss between what the target distilled and what the sources remember, a scalar in float32.

        Args:
            distilled: for each layer with a transfer unit S, (B, T - 1, M, n, h, w).
            memories: for each source and layer C, (B, T - 1, n_m, h_m, w_m), from `MemoryBank.memories`.
        """
        device = next(iter(distilled.values())).device
        # Squared distances in half precision would lose what the bank kept.
        with torch.autocast(device.type, enabled=False):
            terms = [
                self._distance(distilled[layer][:, :, source], memory.to(device), _key(source, layer))
                for source, by_layer in enumerate(memories)
                for layer, memory in by_layer.items()
            ]
        loss = torch.stack(terms)
        if self.reduction == "mean":
            return loss.mean()
        # Terms are means over steps, where the release adds them up; it then divides by clips times frames, one more than steps.
        batch, steps = next(iter(distilled.values())).shape[:2]
        return loss.sum() * steps / (batch * (steps + 1))

    def _distance(self, distilled: Tensor, memory: Tensor, key: str) -> Tensor:
        """Mean squared distance over clips, steps, channels and space."""
        ours, theirs = distilled.flatten(0, 1).float(), memory.flatten(0, 1).float()
        if self.source_memories == "standardised":
            # Each clip and step by itself, as the unit's own LayerNorm does.
            theirs = F.layer_norm(theirs, theirs.shape[1:])
        if theirs.shape[2:] != self.size:
            theirs = _resize(theirs, self.size)
        if key in self.projections:
            ours = self.projections[key](ours)
        return F.mse_loss(ours, theirs)


def _key(source: int, layer: int) -> str:
    return f"{source}-{layer}"


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Means of areas where the maps shrink, bilinear interpolation where they grow."""
    # Bilinear interpolation looks at four pixels however far it shrinks, and would leave most of a large map out.
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.interpolate(maps, size, mode="area")
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
