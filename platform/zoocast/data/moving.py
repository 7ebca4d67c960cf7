"""Images that move and bounce in a square frame: the picture maker behind `digits` and `moving-mnist`, and what both set.

Each image starts somewhere, flies straight at constant speed, is reflected by the walls, and covers what is darker than itself
(the pixelwise maximum), as in Moving MNIST (Srivastava et al., 2015, https://arxiv.org/abs/1502.04681).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoocast.config import check_ranges, setting
from zoocast.data.splits import LARGEST_SEED, Split
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

__all__ = ["MovingClips", "bounce", "check_geometry", "moving_clip", "upsample"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingClips:
    """What the data sets of moving digits have in common: how many clips there are, and how large they are."""

    num_digits: int = setting(2, "digits in each clip", at_least=1)
    frame_size: int = setting(32, "height and width of a frame, pixels", at_least=1)
    length: int = setting(20, "frames in each clip, some to see and at least one to predict", at_least=2)
    train: int = setting(1000, "clips in the training split", at_least=1)
    validation: int = setting(64, "clips in the validation split", at_least=1)
    test: int = setting(128, "clips in the test split", at_least=1)
    seed: int = setting(0, "which digits, where they start and how they move", at_least=0, at_most=LARGEST_SEED)

    def __post_init__(self) -> None:
        check_ranges(self)

    def counts(self) -> dict[Split, int]:
        """Clips per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def frame_shape(self) -> FrameShape:
        """One grey channel in a square frame."""
        return FrameShape(channels=1, height=self.frame_size, width=self.frame_size)


def upsample(images: np.ndarray, size: int) -> np.ndarray:
    """[n, h, w] to float64 [n, size, size], bilinear, both grids covering the same square.

    Elementwise arithmetic only, so that the same bytes come out on every machine.
    """
    out = images.astype(np.float64)
    # One axis after the other. Pixel i covers [i, i + 1] and its centre is at i + 0.5, in the old grid as in the new one; beyond
    # the outermost centres there is nothing to interpolate between, so the border pixel goes on.
    for axis in (1, 2):
        length = out.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(np.intp)
        weight = (at - low).reshape(-1, *[1] * (2 - axis))
        out = out.take(low, axis) * (1 - weight) + out.take(np.minimum(low + 1, length - 1), axis) * weight
    return out


def bounce(start: np.ndarray, velocity: np.ndarray, length: int, room: np.ndarray) -> np.ndarray:
    """Positions of a point that is reflected at 0 and at `room`.

    Args:
        start: [...] position at time 0, pixels.
        velocity: [...] pixels per frame.
        length: number of frames.
        room: [...] the farthest position, pixels, more than 0.

    Returns:
        int64 [length, ...], the nearest pixel at each frame. Unfolded at the walls, the path is a straight line.
    """
    # The way there and back has length 2 * room: along it the distance from the far wall falls to 0 and rises again.
    line = start + velocity * np.arange(length).reshape(-1, *[1] * start.ndim)
    return np.rint(room - np.abs(np.mod(line, 2 * room) - room)).astype(np.int64)


def moving_clip(
    images: np.ndarray, rng: np.random.Generator, *, num_images: int, frame_size: int, length: int, speed: tuple[float, float]
) -> np.ndarray:
    """One clip of `num_images` images that move in a square frame, each drawn from all of `images`.

    Args:
        images: uint8 [n, h, w] to choose from.
        rng: where choice, place, direction and speed come from.
        num_images: how many images the clip shows.
        frame_size: height and width of the frame, pixels.
        length: number of frames.
        speed: the range from which each image's speed is drawn, pixels per frame.

    Returns:
        uint8 [length, 1, frame_size, frame_size].
    """
    # The order of these draws is part of what a seed means: another order gives other clips for the same identity.
    _, height, width = images.shape
    chosen = images[rng.integers(0, len(images), num_images)]
    room = np.array([frame_size - height, frame_size - width])
    angle = rng.uniform(0, 2 * np.pi, num_images)
    # Rows first, as all places here: sine is down, cosine to the right.
    velocity = rng.uniform(*speed, num_images)[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    places = bounce(rng.uniform(0, 1, (num_images, 2)) * room, velocity, length, room)
    clip = np.zeros((length, 1, frame_size, frame_size), np.uint8)
    for frame, tops_and_lefts in zip(clip[:, 0], places.tolist(), strict=True):
        for image, (top, left) in zip(chosen, tops_and_lefts, strict=True):
            # A view into the clip: the maximum is written where it belongs.
            window = frame[top : top + height, left : left + width]
            np.maximum(window, image, out=window)
    return clip


def check_geometry(num_digits: int, frame_size: int, height: int, width: int) -> None:
    """Raise `ConfigError` unless digits of height x width pixels can move in the frame and their areas fit side by side."""
    if max(height, width) >= frame_size:
        raise ConfigError(
            "frame_size",
            f"must be larger than a digit, so that it can move, but got {frame_size} for digits of {height}x{width} pixels;"
            f" use at least {max(height, width) + 1}",
        )
    most = frame_size**2 // (height * width)
    if not 1 <= num_digits <= most:
        raise ConfigError(
            "num_digits",
            f"must be between 1 and {most}, as many digits of {height}x{width} pixels as have the area of a frame of"
            f" {frame_size}x{frame_size}, but got {num_digits}",
        )
