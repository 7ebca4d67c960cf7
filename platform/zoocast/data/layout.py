"""Which axis of an array of clips is which: the ways to read its shape, and what its content says of them.

A layout is named by its axes: N clips, T time, C channels, H height, W width. No header says which was meant, and of most arrays
two readings are possible: `[100, 20, 32, 32]` may be 100 clips of 20 frames or 20 clips of 100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from zoocast.frames import FrameShape

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", np.ndarray, Tensor)

__all__ = ["Layout", "clips_first", "layouts", "likely_time_axis", "sizes"]

Layout = Literal["auto", "NTHW", "TNHW", "NTCHW", "TNCHW", "NTHWC", "TNHWC"]

SITES = 8  # along each of the two axes: 64 places are enough to tell a clip's own next frame from another clip's
CLEARLY = 0.8  # a difference that is at most so much of the other
AGREEING = 0.75  # of the places; of 64 that differ by chance alone, 48 agree once in 20,000 times


def layouts(axes: int) -> tuple[Layout, ...]:
    """The layouts of an array with so many axes."""
    known: tuple[Layout, ...] = ("NTHW", "TNHW", "NTCHW", "TNCHW", "NTHWC", "TNHWC")
    return tuple(layout for layout in known if len(layout) == axes)


def sizes(shape: tuple[int, ...], layout: str) -> tuple[int, int, FrameShape]:
    """Clips, frames in each, and the shape of a frame, of an array of this shape."""
    axes = dict(zip(layout, shape, strict=True))
    return axes["N"], axes["T"], FrameShape(channels=axes.get("C", 1), height=axes["H"], width=axes["W"])


def clips_first(frames: Array, layout: str) -> Array:
    """`frames`, of numpy or torch, seen as [clips, time, channels, height, width]; nothing is copied."""
    if "C" not in layout:
        frames, layout = frames[..., None], layout + "C"
    order = tuple(layout.index(axis) for axis in "NTCHW")
    return frames.transpose(order) if isinstance(frames, np.ndarray) else frames.permute(order)


def likely_time_axis(frames: np.ndarray) -> int | None:
    """Which of the first two axes is time, by the content: the frames of a clip are more alike than frames of different clips.

    Looks at 64 frames and their neighbours along both axes. None where neither axis is clearly the one, as in noise, in clips of
    windows that slide by one frame, and in arrays too short to say.
    """
    first, second = (np.unique(np.linspace(0, n - 2, min(SITES, n - 1)).round().astype(int)) for n in frames.shape[:2])
    differences = []
    for i in first:
        for j in second:
            here = frames[i, j].astype(np.float64)
            pair = [np.abs(frames[there].astype(np.float64) - here) for there in ((i + 1, j), (i, j + 1))]
            differences.append([d[np.isfinite(d)].mean() if np.isfinite(d).any() else 0.0 for d in pair])
    if len(differences) < 4:
        return None
    along = np.array(differences)
    total = along.sum(axis=0)
    axis = int(total.argmin())
    clear = total[axis] < CLEARLY * total[1 - axis] and (along[:, axis] < along[:, 1 - axis]).mean() >= AGREEING
    return axis if clear else None
