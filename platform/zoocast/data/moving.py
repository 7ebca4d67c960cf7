"""Images that move and bounce in a square frame: the picture maker behind `digits` and `moving-mnist`.

Each image starts somewhere, flies straight at constant speed, is reflected by the walls, and covers what is darker than itself
(the pixelwise maximum), as in Moving MNIST (Srivastava et al., 2015, https://arxiv.org/abs/1502.04681).
"""

from __future__ import annotations

import numpy as np

from zoocast.errors import ConfigError

__all__ = ["bounce", "check_geometry", "moving_clip", "upsample"]


def upsample(images: np.ndarray, size: int) -> np.ndarray:
    """[n, h, w] to float64 [n, size, size], bilinear, both grids covering the same square.

    Elementwise arithmetic only, so that the same bytes come out on every machine.
    """
    out = images.astype(np.float64)
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
    _, height, width = images.shape
    chosen = images[rng.integers(0, len(images), num_images)]
    room = np.array([frame_size - height, frame_size - width])
    angle = rng.uniform(0, 2 * np.pi, num_images)
    velocity = rng.uniform(*speed, num_images)[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    places = bounce(rng.uniform(0, 1, (num_images, 2)) * room, velocity, length, room)
    clip = np.zeros((length, 1, frame_size, frame_size), np.uint8)
    for frame, tops_and_lefts in zip(clip[:, 0], places.tolist(), strict=True):
        for image, (top, left) in zip(chosen, tops_and_lefts, strict=True):
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
