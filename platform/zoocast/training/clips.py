"""Clips as training sees them: the splits of a clip store, or an array in memory for a network trained in a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from zoocast.data.layout import Layout, clips_first, layouts, likely_time_axis
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


def clips_of(frames: np.ndarray | Tensor, layout: Layout = "auto") -> ClipsInMemory:
    """The clips in an array, to be trained on or evaluated.

    Args:
        frames: uint8, or floating point in [0, 1].
        layout: of its axes; auto: NTCHW, or NTHW of one channel, with a warning where the content says that time comes first.

    Raises:
        ValueError: another shape, channels that are last where `layout` does not say so, or values outside [0, 1].
    """
    held = torch.as_tensor(frames)
    known = layouts(held.ndim)
    if not known or not held.numel():
        raise ValueError(f"clips have the shape (N, T, C, H, W) or (N, T, H, W), but got {tuple(held.shape)}")
    if layout == "auto":
        _doubt(held)
        layout = "NTCHW" if held.ndim == 5 else "NTHW"
    if layout not in known:
        raise ValueError(f"an array of {held.ndim} axes is one of {', '.join(known)}, but layout is {layout!r}")
    if held.dtype is not torch.uint8:
        if not held.isfinite().all():
            raise ValueError("clips have missing values (NaN or infinite); fill them in, or leave those clips out")
        if not (held.min() >= 0 and held.max() <= 1):
            raise ValueError(
                f"clips are uint8 or hold values from 0 to 1, but got {held.dtype} from {held.min():g} to {held.max():g};"
                " scale them"
            )
    return ClipsInMemory(clips_first(held, layout))


def _doubt(frames: Tensor) -> None:
    """Refuse channels that are surely last, and warn of time that is probably first."""
    image_channels = (1, 3, 4)
    if frames.ndim == 5 and frames.shape[-1] in image_channels and frames.shape[2] not in image_channels:
        raise ValueError(f"{tuple(frames.shape)} looks like channels behind the pixels; say layout='NTHWC', or else 'NTCHW'")
    if likely_time_axis(frames.numpy(force=True)) == 0:
        time_first = "TNCHW" if frames.ndim == 5 else "TNHW"
        warnings.warn(
            f"neighbours along the first axis of {tuple(frames.shape)} are more alike than along the second, as if time came"
            f" first; say layout='{time_first}', or '{time_first[1::-1]}{time_first[2:]}' if it is right as it is",
            stacklevel=3,
        )
