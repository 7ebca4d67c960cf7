"""One layout for clips, and the patches that networks cut frames into.

Clips are (batch, time, channel, height, width), float in [0, 1] at a network's border. A patch of p x p pixels becomes
p*p*channels channels of one coarser pixel, in the order of the papers' releases: (row in patch * p + column in patch) * channels
+ channel.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoocast.config import check_ranges, setting
from zoocast.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameShape", "patchify", "unit_frames", "unpatchify"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameShape:
    """Channels, height and width of a frame, in pixels."""

    # What no frame exceeds; without a bound a description of a few bytes could ask for any amount of memory.
    channels: int = setting(1, "image channels", at_least=1, at_most=2**20)
    height: int = setting(32, "pixels", at_least=1, at_most=2**16)
    width: int = setting(32, "pixels", at_least=1, at_most=2**16)

    def __post_init__(self) -> None:
        check_ranges(self)

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"

    def patched(self, patch_size: int) -> FrameShape:
        """The shape after `patchify`. Raises `ConfigError` if the patch does not divide the frame."""
        if patch_size < 1 or self.height % patch_size or self.width % patch_size:
            fits = [p for p in range(1, min(self.height, self.width) + 1) if not self.height % p and not self.width % p]
            raise ConfigError(
                "patch_size",
                f"must divide the frame's height and width, but got {patch_size} for frames of {self.height}x{self.width} pixels;"
                f" use one of {', '.join(map(str, fits))}",
            )
        return FrameShape(
            channels=self.channels * patch_size**2, height=self.height // patch_size, width=self.width // patch_size
        )


def patchify(clips: Tensor, patch_size: int) -> Tensor:
    """(..., c, H, W) to (..., p*p*c, H/p, W/p)."""
    *lead, channels, height, width = clips.shape
    p = patch_size
    cut = clips.reshape(*lead, channels, height // p, p, width // p, p)
    n = len(lead)
    # From (c, row, row in patch, column, column in patch) to (row in patch, column in patch, c, row, column).
    order = (*range(n), n + 2, n + 4, n, n + 1, n + 3)
    return cut.permute(order).reshape(*lead, p * p * channels, height // p, width // p)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """The inverse of `patchify`: (..., p*p*c, h, w) to (..., c, h*p, w*p)."""
    *lead, channels, height, width = patches.shape
    p = patch_size
    c = channels // p**2
    cut = patches.reshape(*lead, p, p, c, height, width)
    n = len(lead)
    # From (row in patch, column in patch, c, row, column) to (c, row, row in patch, column, column in patch).
    order = (*range(n), n + 2, n + 3, n, n + 4, n + 1)
    return cut.permute(order).reshape(*lead, c, height * p, width * p)


def unit_frames(frames: NDArray[Any]) -> NDArray[np.float64]:
    """Frames for a picture, as float64 in [0, 1]: bytes divided by 255, or floats clipped.

    Raises:
        ValueError: a value is not finite; clipped, it would look like a black or a white pixel.
    """
    if frames.dtype == np.uint8:
        return frames / 255.0
    if not np.isfinite(frames).all():
        raise ValueError("the frames of a picture must be finite, but some values are not")
    return np.clip(frames.astype(np.float64), 0.0, 1.0)
