"""Images that move in a square frame: the picture maker behind `digits` and `moving-mnist`, and what both set.

Each image starts somewhere, flies straight at constant speed, is reflected by the walls, and covers what is darker than itself
(the pixelwise maximum), as in Moving MNIST (Srivastava et al., 2015, https://arxiv.org/abs/1502.04681). What else it may do is in
`zoocast.data.motions`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zoocast.config import check_ranges, setting
from zoocast.data.motions import Motion
from zoocast.data.splits import LARGEST_SEED, Split
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

__all__ = ["MovingClips", "check_geometry", "interpolated", "moving_clip", "upsample"]


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
    test_digits: int = setting(
        0, "digits in each clip of the test, where clips are generated; 0: as many as in the others", added=True, at_least=0
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    def digits_in(self, split: Split) -> int:
        """Digits in each clip of `split`."""
        return self.test_digits if split == "test" and self.test_digits else self.num_digits

    def counts(self) -> dict[Split, int]:
        """Clips per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def frame_shape(self) -> FrameShape:
        """One grey channel in a square frame."""
        return FrameShape(channels=1, height=self.frame_size, width=self.frame_size)

    def check_digits(self, height: int, width: int) -> None:
        """Raise `ConfigError` unless the digits of every clip fit; see `check_geometry`."""
        check_geometry(self.num_digits, self.frame_size, height, width)
        check_geometry(self.digits_in("test"), self.frame_size, height, width, "test_digits")


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


def interpolated(image: np.ndarray, corners: np.ndarray, angles: np.ndarray, scales: np.ndarray, frame_size: int) -> np.ndarray:
    """An image in a square frame at any place, turned and scaled: bilinear between its pixels, and 0 around them.

    Args:
        image: [h, w].
        corners: [t, 2], row and column of its top left corner, were it neither turned nor scaled about its centre.
        angles: [t] radians.
        scales: [t].
        frame_size: height and width of the frame, pixels.

    Returns:
        float64 [t, frame_size, frame_size].
    """
    size = np.array(image.shape)
    # From the image's centre to the centre of every pixel of the frame, turned back and scaled back into the image.
    down, right = ((np.arange(frame_size) + 0.5 - at[:, None]) / scales[:, None] for at in (corners + size / 2).T)
    down, right = down[:, :, None], right[:, None, :]
    cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    at = (cosine * down - sine * right, sine * down + cosine * right)
    # One pixel of 0 around the image stands for all that lies beyond it.
    padded = np.pad(image.astype(np.float64), 1)
    rows, columns = (np.clip(a + (n + 1) / 2, 0, n + 1) for a, n in zip(at, size, strict=True))
    top, left = (np.minimum(np.floor(a), n).astype(np.intp) for a, n in zip((rows, columns), size, strict=True))
    lower, righter = rows - top, columns - left
    upper = padded[top, left] * (1 - righter) + padded[top, left + 1] * righter
    return upper * (1 - lower) + (padded[top + 1, left] * (1 - righter) + padded[top + 1, left + 1] * righter) * lower


def moving_clip(
    images: np.ndarray,
    rng: np.random.Generator,
    *,
    num_images: int,
    frame_size: int,
    length: int,
    motion: Motion,
    subpixel: bool = False,
) -> np.ndarray:
    """One clip of `num_images` images that move in a square frame, each drawn from all of `images`.

    Args:
        images: uint8 [n, h, w] to choose from.
        rng: where choice, place, direction and speed come from.
        num_images: how many images the clip shows.
        frame_size: height and width of the frame, pixels.
        length: number of frames.
        motion: what the images do.
        subpixel: places between pixels by interpolation, instead of the nearest pixel; what turns or pulses always has them.

    Returns:
        uint8 [length, 1, frame_size, frame_size].
    """
    _, height, width = images.shape
    chosen = images[rng.integers(0, len(images), num_images)]
    track = motion.track(rng, num_images=num_images, height=height, width=width, frame_size=frame_size, length=length)
    clip = np.zeros((length, 1, frame_size, frame_size), np.uint8)
    if subpixel or motion.interpolates:
        for image, corners, angles, scales in zip(chosen, *(np.moveaxis(values, 1, 0) for values in track), strict=True):
            seen = np.rint(interpolated(image, corners, angles, scales, frame_size)).astype(np.uint8)
            np.maximum(clip[:, 0], seen, out=clip[:, 0])
        return clip
    for frame, corners in zip(clip[:, 0], np.rint(track.places).astype(np.int64).tolist(), strict=True):
        for image, (top, left) in zip(chosen, corners, strict=True):
            # A view into the clip: the maximum is written where it belongs.
            window = frame[top : top + height, left : left + width]
            np.maximum(window, image, out=window)
    return clip


def check_geometry(num_digits: int, frame_size: int, height: int, width: int, field: str = "num_digits") -> None:
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
            field,
            f"must be between 1 and {most}, as many digits of {height}x{width} pixels as have the area of a frame of"
            f" {frame_size}x{frame_size}, but got {num_digits}",
        )
