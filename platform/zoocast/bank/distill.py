"""The distillation between a target's distilled memories and the memories of sources that need not look like it. Training only.

A source may differ in cell, layers, channels, patch and kernel. Where channels differ, a 1x1 convolution takes the *distilled*
memory to the source's channels; were it on the source's side, both could shrink to zero and the loss with them. Where map sizes
differ, the source's memory, which has no gradient, is resized to the target's. Nothing of this is part of the exported target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.bank.read import MemoryBank
from zoocast.bank.relevance import Relevance, resize
from zoocast.data.store import ClipSplit
from zoocast.nn.predictor import Predictor
from zoocast.nn.sampling import free_run, teacher_forced
from zoocast.nn.tmu import TransferableMemoryUnit

__all__ = ["DistillationLoss", "SourceMemories", "Window", "frame_loss"]

SourceMemories = Literal["raw", "standardised", "scaled"]
Window = Literal["all", "observed", "future"]

FIT_CLIPS = 32  # seen at once while distillers are fitted
RIDGE = 1e-3
SCALE_CLIPS = 32  # read at once for the deviations of memories, which are means over thousands of maps


class DistillationLoss(nn.Module):
    """Compares distilled memories S^m with source memories C^m: the distillation loss of Transferable Memory Units.

    Args:
        target: a network with transfer units for as many sources as the bank has.
        bank: says which memories they distil from, and their shapes.
        source_memories: ``raw`` compares with C^m as it is (the release, although S^m passes a LayerNorm there); ``standardised``
            first gives each C^m_t zero mean and unit variance over channels and space, as that LayerNorm does to S^m; ``scaled``
            divides it by one deviation for each source and layer, over the first clips of the bank, so that no source is heard
            more because its memory is larger.
        reduction: ``mean`` of squared distances over everything, all sources and layers alike; ``release`` is the released code's
            sum_t sum_m mean (S^m_t - C^m_t)^2 / (B T) with B clips of T frames, so that a weight means less in larger batches.
        relevance: how a clip weighs the sources; None weighs all alike.
        window: the steps that count: ``all``, ``observed`` (those whose input is an observed frame) or ``future`` (the others).

    Raises:
        ValueError: the target has another number of sources than the bank.
    """

    deviations: Tensor

    def __init__(
        self,
        target: Predictor,
        bank: MemoryBank,
        *,
        source_memories: SourceMemories = "raw",
        reduction: Literal["mean", "release"] = "mean",
        relevance: Relevance | None = None,
        window: Window = "all",
    ) -> None:
        super().__init__()
        if target.config.num_sources != len(bank.names):
            raise ValueError(f"the target distils {target.config.num_sources} sources, but the bank has {len(bank.names)}")
        self.source_memories, self.reduction, self.relevance = source_memories, reduction, relevance
        self.size, self.bank = target.map_size, bank
        self.steps = {"all": slice(None), "observed": slice(bank.observed), "future": slice(bank.observed, None)}[window]
        self.projections = nn.ModuleDict()
        for source, refs in enumerate(bank.refs):
            for layer, ref in refs.items():
                channels = target.layers[layer].hidden_channels
                if ref.shape[0] != channels:
                    # By name and not in a list, for like networks have none: "0-1" is that of source 0 and layer 1.
                    self.projections[_key(source, layer)] = nn.Conv2d(channels, ref.shape[0], 1)
        if source_memories == "scaled":
            # A buffer: what a training goes on from, or is continued by, has the scale that it began with.
            self.register_buffer("deviations", _deviations(bank))

    def weights(self, frames: Tensor | None, clips: Tensor) -> Tensor | None:
        """What each source counts, see `Relevance.weights`; None if all count alike.

        Args:
            frames: that the bank recalled of the clips.
            clips: (B, T, C, H, W) in [0, 1], as the target sees them.
        """
        if self.relevance is None or frames is None:
            return None
        return self.relevance.weights(self.bank, frames, clips, self.size)

    def distillation_loss(
        self,
        distilled: Mapping[int, Tensor],
        memories: Sequence[Mapping[int, Tensor]],
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss between what the target distilled and what the sources remember, a scalar in float32.

        Args:
            distilled: for each layer with a transfer unit S, (B, T - 1, M, n, h, w).
            memories: for each source and layer C, (B, T - 1, n_m, h_m, w_m), from `MemoryBank.recall`.
            weights: of the sources, from `weights`.
        """
        device = next(iter(distilled.values())).device
        # Squared distances in half precision would lose what the bank kept.
        with torch.autocast(device.type, enabled=False):
            terms = [
                self._distance(distilled[layer][:, :, source], memory.to(device), source, layer, weights)
                for source, by_layer in enumerate(memories)
                for layer, memory in by_layer.items()
            ]
        loss = torch.stack(terms)
        if self.reduction == "mean":
            return loss.mean()
        # Terms are means over steps, where the release adds them up; it then divides by clips times frames, one more than steps.
        batch, steps = next(iter(distilled.values())).shape[:2]
        return loss.sum() * len(range(steps)[self.steps]) / (batch * (steps + 1))

    def _distance(self, distilled: Tensor, memory: Tensor, source: int, layer: int, weights: Tensor | None) -> Tensor:
        """Mean squared distance over clips, steps, channels and space, each weighted."""
        ours, theirs = distilled[:, self.steps].flatten(0, 1).float(), self._compared(memory[:, self.steps], source, layer)
        if (key := _key(source, layer)) in self.projections:
            ours = self.projections[key](ours)
        if weights is None:
            return F.mse_loss(ours, theirs)
        weight = weights[:, source, self.steps].flatten(0, 1).unsqueeze(1).to(ours.device)
        return (weight * (ours - theirs).square()).mean()

    def _compared(self, memory: Tensor, source: int, layer: int) -> Tensor:
        """A source's memory as it is compared with, (B, steps, n_m, h_m, w_m) to (B * steps, n_m, h, w)."""
        theirs = memory.flatten(0, 1).float()
        if self.source_memories == "scaled":
            theirs = theirs / self.deviations[source, layer]
        elif self.source_memories == "standardised":
            # Each clip and step by itself, as the unit's own LayerNorm does.
            theirs = F.layer_norm(theirs, theirs.shape[1:])
        return theirs if theirs.shape[2:] == self.size else resize(theirs, self.size)

    @torch.no_grad()
    def fit(self, target: Predictor, clips: ClipSplit) -> None:
        """Start with the S^m that come nearest to C^m: least squares over all steps and places of the training clips.

        Sets the distillers of `target`, which must be identities, or where channels differ the projections behind them.

        Args:
            target: as it is warm-started.
            clips: the training split that the bank was made of.
        """
        sums: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for start in range(0, len(clips), FIT_CLIPS):
            indices = torch.arange(start, min(start + FIT_CLIPS, len(clips)))
            seen = clips.clips(indices)
            # As the sources were fed; policy shared has no feed outside of a training.
            forced = self.bank.config.policy == "teacher_forced"
            feed = teacher_forced(*seen.shape[:2]) if forced else free_run(len(seen), self.bank.observed, seen.shape[1])
            aux = target(seen.to(target.device), feed.to(target.device), aux=("distilled",)).aux
            for source, by_layer in enumerate(self.bank.memories("train", indices, feed=feed)):
                for layer, memory in by_layer.items():
                    ours = _rows(aux[layer, "distilled"][:, :, source].flatten(0, 1))
                    theirs = _rows(self._compared(memory.to(target.device), source, layer))
                    gram, cross = sums.get((source, layer), (0.0, 0.0))
                    sums[source, layer] = (gram + ours.T @ ours, cross + ours.T @ theirs)
        for (source, layer), (gram, cross) in sums.items():
            # A little of the mean variance on the diagonal: channels that never move have no inverse.
            ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            matrix = torch.linalg.solve(gram + ridge, cross).T.float()
            if (key := _key(source, layer)) in self.projections:
                projection = cast(nn.Conv2d, self.projections[key])
                projection.weight.copy_(matrix[..., None, None])
                cast(Tensor, projection.bias).zero_()
            else:
                cast(TransferableMemoryUnit, target.layers[layer]).set_distiller(source, matrix)


def _rows(maps: Tensor) -> Tensor:
    """(N, n, h, w) to float64 (N * h * w, n): sums over that many places lose digits in single precision."""
    return maps.movedim(1, -1).flatten(0, -2).double()


def frame_loss(predicted: Tensor, frames: Tensor, weights: Tensor | None = None, steps: slice = slice(None)) -> Tensor:
    """The mean squared distance of the target's frames to those of every source, each weighted, a scalar in float32.

    Args:
        predicted: (B, T - 1, C, H, W).
        frames: (B, M, T - 1, C, H, W), from `MemoryBank.recall`.
        weights: of the sources, from `Relevance.weights`; None counts all alike.
        steps: that count.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        theirs = frames[:, :, steps].to(predicted.device).float()
        squares = (predicted[:, steps].unsqueeze(1).float() - theirs).square()
        if weights is None:
            return squares.mean()
        shares = weights[:, :, steps].to(predicted.device)
        # What is said of a place of the map holds for its pixels, and what is said of a whole step for all.
        shares = resize(shares.flatten(0, 1), (frames.shape[-2], frames.shape[-1])).view(*shares.shape[:3], 1, *frames.shape[-2:])
        return (shares * squares).mean()


def _deviations(bank: MemoryBank) -> Tensor:
    """The deviation of each source's memory (rows) for each layer of the target (columns), over the first training clips."""
    indices = torch.arange(min(SCALE_CLIPS, bank.counts["train"]))
    # Policy shared has no feed outside of a training.
    memories = bank.memories("train", indices, feed=free_run(len(indices), bank.observed, bank.length))
    deviations = torch.ones(len(memories), 1 + max(layer for by_layer in memories for layer in by_layer))
    for source, by_layer in enumerate(memories):
        for layer, memory in by_layer.items():
            # A memory that never moves is left as it is.
            deviations[source, layer] = memory.float().std() or 1.0
    return deviations


def _key(source: int, layer: int) -> str:
    return f"{source}-{layer}"
