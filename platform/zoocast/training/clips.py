"""Clips as training sees them: the splits of a clip store, or an array in memory for a network trained in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from zoocast.frames import FrameShape

__all__ = ["Clips", "ClipsInMemory", "clips_of"]


class Clips(Protocol):
    """A split that can be trained on; those of `zoocast.data.store` are such, and what `clips_of` gives."""

    def __len__(self) -> int: ...

    @property
    def length(self) -> int:
        """Frames in each clip."""
        ...

    def clips(self, indices: Sequence[int] | Tensor) -> Tensor:
        """(B, T, C, H, W) float32 in [0, 1]."""
        ...


class ClipsInMemory:
    """The clips of an array; see `clips_of`."""

    def __init__(self, frames: Tensor) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def shape(self) -> FrameShape:
        """Shape of each frame."""
        _, _, channels, height, width = self._frames.shape
        return FrameShape(channels=channels, height=height, width=width)

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self._frames.shape[1]

    def clips(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Clips.clips`."""
        chosen = self._frames[torch.as_tensor(indices)]
        # Bytes stay bytes until they are asked for: a quarter of the memory.
        return chosen.float() / 255 if chosen.dtype is torch.uint8 else chosen.float()


def clips_of(frames: np.ndarray | Tensor) -> ClipsInMemory:
    """The clips in an array, to be trained on or evaluated.

    Args:
        frames: (N, T, C, H, W), or (N, T, H, W) of one channel; uint8, or floating point in [0, 1].

    Raises:
        ValueError: another shape, or values outside [0, 1].
    """
    held = torch.as_tensor(frames)
    if held.ndim == 4:
        held = held.unsqueeze(2)  # (N, T, H, W) to (N, T, 1, H, W)
    if held.ndim != 5 or not held.numel():
        raise ValueError(f"clips have the shape (N, T, C, H, W) or (N, T, H, W), but got {tuple(held.shape)}")
    # Asked in this way round NaN is refused as well, for no comparison with it is true.
    if held.dtype is not torch.uint8 and not (held.min() >= 0 and held.max() <= 1):
        raise ValueError(
            f"clips are uint8 or hold values from 0 to 1, but got {held.dtype} from {held.min():g} to {held.max():g}; scale them"
        )
    return ClipsInMemory(held)
