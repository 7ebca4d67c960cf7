"""Simple shapes, for clips that show no digits: rectangles, ellipses, crosses and triangles of random size and angle."""

from __future__ import annotations

import functools

import numpy as np

from zoocast.data.splits import Split, pools

__all__ = ["shape_images"]

COUNT = 1800  # of all splits together, about as many as there are digits
SMALLEST, LARGEST = 0.4, 0.7  # half the height or width, of half the image's: at any angle the corners are in it
FINE = 8  # points per pixel and axis; the share that lies in the shape is the brightness, in levels enough that no two are alike


@functools.cache
def shape_images(split: Split, size: int) -> np.ndarray:
    """The shapes of one split: uint8 [n, size, size], 1,260 for training, 180 for validation, 360 for the test."""
    # Always the same ones, as digits are: a target may not be tested on a shape that a source has seen.
    rng = np.random.Generator(np.random.Philox(0))
    forms, halves, angles = rng.integers(0, 4, COUNT), rng.uniform(SMALLEST, LARGEST, (COUNT, 2)), rng.uniform(0, np.pi, COUNT)
    shapes = np.stack([_shape(forms[i], halves[i], angles[i], size) for i in pools(COUNT)[split]])
    shapes.flags.writeable = False  # cached: whoever wrote into it would change every later clip
    return shapes


def _shape(form: int, halves: np.ndarray, angle: float, size: int) -> np.ndarray:
    """uint8 [size, size]; `halves` are half its width and height, were it upright, where half the image is 1."""
    a, b = halves
    points = (np.arange(size * FINE) + 0.5) / (size * FINE) * 2 - 1
    v, u = points[:, None], points[None, :]
    u, v = abs(np.cos(angle) * u + np.sin(angle) * v), np.cos(angle) * v - np.sin(angle) * u
    match form:
        case 0:  # rectangle
            inside = (u < a) & (abs(v) < b)
        case 1:  # ellipse
            inside = (u / a) ** 2 + (v / b) ** 2 < 1
        case 2:  # cross, with arms a third as wide as the other is long
            inside = (u < a) & (abs(v) < b / 3) | (u < a / 3) & (abs(v) < b)
        case _:  # triangle
            inside = (abs(v) < b) & (u < a * (b - v) / (2 * b))
    return np.rint(inside.reshape(size, FINE, size, FINE).mean((1, 3)) * 255).astype(np.uint8)
