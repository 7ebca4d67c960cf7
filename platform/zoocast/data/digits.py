"""The data set that needs no download: scikit-learn's 1,797 real handwritten digits, moving and bouncing.

The 8x8 images (UCI, Alpaydin & Kaynak, 1998) are upsampled and shown by `zoocast.data.moving`. The three splits show different
images, always the same ones whatever the seed, so that a source pretrained here has seen no digit of any target's test split.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoocast.config import canonical, setting
from zoocast.data.moving import check_geometry, moving_clip, upsample
from zoocast.data.splits import SPLITS, Progress, Split, check_sizes, clip_generator, pools, reported, shuffled
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoocast.data.store import ClipStore

__all__ = ["DigitsConfig", "digit_images"]

NATIVE_SIZE = 8
BRIGHTEST = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """Clips of moving handwritten digits."""

    kind: ClassVar[str] = "digits"

    num_digits: int = setting(2, "digits in each clip")
    frame_size: int = setting(32, "height and width of a frame, pixels")
    length: int = setting(20, "frames in each clip")
    digit_size: int = setting(14, "height and width of a digit, pixels; at least the 8 of the originals")
    min_speed: float = setting(1.0, "slowest digit, pixels per frame")
    max_speed: float = setting(2.0, "fastest digit, pixels per frame")
    train: int = setting(1000, "clips in the training split")
    validation: int = setting(64, "clips in the validation split")
    test: int = setting(128, "clips in the test split")
    seed: int = setting(0, "which digits, where they start and how they move")

    def __post_init__(self) -> None:
        check_sizes(self.counts(), self.length, self.seed)
        if self.digit_size < NATIVE_SIZE:
            raise ConfigError(
                "digit_size", f"must be at least {NATIVE_SIZE}, the size of the originals, but got {self.digit_size}"
            )
        check_geometry(self.num_digits, self.frame_size, self.digit_size, self.digit_size)
        if not 0 < self.min_speed <= self.max_speed:
            raise ConfigError("min_speed", f"0 < min_speed <= max_speed must hold, but got {self.min_speed} and {self.max_speed}")
        room = self.frame_size - self.digit_size
        if self.max_speed > room:
            raise ConfigError(
                "max_speed",
                f"must be at most {room}, the way of a digit of {self.digit_size} pixels from wall to wall of a frame of"
                f" {self.frame_size}, but got {self.max_speed}",
            )

    def counts(self) -> dict[Split, int]:
        """Clips per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def frame_shape(self) -> FrameShape:
        """One grey channel in a square frame."""
        return FrameShape(channels=1, height=self.frame_size, width=self.frame_size)

    def check(self) -> None:
        """Nothing can be missing: the images come with scikit-learn."""

    def source_digest(self) -> str:
        """Empty: what the clips are made from is no file of the user's."""
        return ""

    def estimated_bytes(self) -> int:
        """What `build` will write, up to file headers."""
        return sum(self.counts().values()) * self.length * self.frame_size**2

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """Write the clips into `directory` as uint8; the same settings give the same bytes."""
        from zoocast.data.store import write_store

        counts = self.counts()
        return write_store(
            directory,
            {split: reported(self._clips(split, counts[split]), split, counts, progress) for split in SPLITS},
            shape=self.frame_shape(),
            length=self.length,
            dtype="uint8",
            generator={"name": self.kind, "parameters": canonical(self)},
        )

    def _clips(self, split: Split, count: int) -> Iterator[np.ndarray]:
        images = digit_images(split, self.digit_size)
        for index in range(count):
            yield moving_clip(
                images,
                clip_generator(self.seed, split, index),
                num_images=self.num_digits,
                frame_size=self.frame_size,
                length=self.length,
                speed=(self.min_speed, self.max_speed),
            )


@functools.cache
def digit_images(split: Split, size: int) -> np.ndarray:
    """The digits of one split: uint8 [n, size, size], 1,257 for training, 180 for validation, 360 for the test."""
    from sklearn.datasets import load_digits

    images = shuffled(load_digits().images)
    pool = pools(len(images))[split]
    digits = np.rint(upsample(images[pool.start : pool.stop], size) * (255 / BRIGHTEST)).astype(np.uint8)
    digits.flags.writeable = False
    return digits
