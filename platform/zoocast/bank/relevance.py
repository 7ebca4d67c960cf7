"""How relevant each source is for a clip: its weight in what the clip distils, from how well it predicts that clip.

Where sources know different things, a clip that distils from all of them alike learns as much from those that are wrong about it.
A bank's frames say which those are: no label is read, and the sources are not run once more.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zoocast.bank.read import MemoryBank
from zoocast.data.store import ClipSplit
from zoocast.nn.sampling import free_run

__all__ = ["Relevance", "relevance_of", "resize", "source_errors"]


@dataclasses.dataclass(frozen=True)
class Relevance:
    """How errors of M sources become weights that sum to M: a source of weight 1 counts as it does without relevance.

    choice: ``best`` gives all weight to the source with the lowest error, the first of several; ``soft`` is a softmax of
        -error / (temperature * lowest error), which asks how many times worse a source is, and not by how much.
    over: where errors are compared: ``clip`` by their mean over the frames that a free-running source predicts on its own (all
        frames under the other policies), ``step`` in each step, ``place`` in each step and place of the target's maps.
    temperature: of ``soft``; from small to large it goes from ``best`` to equal weights.
    """

    choice: Literal["best", "soft"]
    over: Literal["clip", "step", "place"] = "clip"
    temperature: float = 0.25

    def weights(self, bank: MemoryBank, frames: Tensor, clips: Tensor, size: tuple[int, int]) -> Tensor:
        """The sources' weights, float32: (B, M, T - 1, h, w) over places, else with 1 for h and w.

        Args:
            bank: that the frames are of.
            frames: (B, M, T - 1, C, H, W), see `Recalled`.
            clips: (B, T, C, H, W) in [0, 1], flipped as they were for the bank.
            size: (h, w) of the target's maps.
        """
        errors = source_errors(frames, clips)
        if self.over == "place":
            return self._shares(resize(errors.flatten(0, 1), size).view(*errors.shape[:3], *size))
        errors = errors.mean(dim=(3, 4), keepdim=True)
        if self.over == "step":
            return self._shares(errors)
        # Step t predicts frame t + 1, so the last observed frame's step makes the first frame that nobody has seen.
        own = errors[:, :, bank.observed - 1 :] if bank.config.policy == "free_run" else errors
        return self._shares(own.mean(dim=2, keepdim=True)).expand_as(errors)

    def _shares(self, errors: Tensor) -> Tensor:
        """From errors to weights, along the second axis, which is that of the sources."""
        sources = errors.shape[1]
        if self.choice == "best":
            return torch.zeros_like(errors).scatter_(1, errors.argmin(dim=1, keepdim=True), sources)
        lowest = errors.amin(dim=1, keepdim=True)
        # Where the best is without error, as in a corner that stays black, there is nothing to divide by.
        scale = (self.temperature * lowest).clamp_min(torch.finfo(errors.dtype).tiny)
        return sources * torch.softmax(-errors / scale, dim=1)


def source_errors(frames: Tensor, clips: Tensor) -> Tensor:
    """Squared errors of the sources' frames, means over channels, float32: (B, M, T - 1, H, W).

    Args:
        frames: (B, M, T - 1, C, H, W), clipped here to what a picture can hold.
        clips: (B, T, C, H, W) in [0, 1].
    """
    truth = clips[:, 1:].unsqueeze(1).to(frames.device).float()
    return (frames.float().clamp(0, 1) - truth).square().mean(dim=3)


def relevance_of(bank: MemoryBank, clips: ClipSplit, relevance: Relevance) -> Tensor:
    """The mean weight of each source for each clip of a split, (N, M); rows sum to M.

    Raises:
        What `MemoryBank.recall` does: the bank must hold the split, and frames.
    """
    rows = []
    for indices in torch.split(torch.arange(len(clips)), bank.config.batch_size):
        seen = clips.clips(indices)
        # Policy shared has no feed outside of a training.
        feed = free_run(len(seen), bank.observed, bank.length)
        frames = bank.recall(clips.name, indices, clips=seen, feed=feed, memories=False, frames=True).frames
        assert frames is not None
        rows.append(relevance.weights(bank, frames, seen, (clips.shape.height, clips.shape.width)).mean(dim=(2, 3, 4)))
    return torch.cat(rows).cpu()


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, n, h, w) to another size: means of areas where the maps shrink, bilinear interpolation where they grow."""
    # Bilinear interpolation looks at four pixels however far it shrinks, and would leave most of a large map out.
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.interpolate(maps, size, mode="area")
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
