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
from zoocast.data.moving import MovingClips, check_geometry, moving_clip, upsample
from zoocast.data.splits import SPLITS, Progress, Split, clip_generator, pools, reported, shuffled
from zoocast.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoocast.data.store import ClipStore

__all__ = ["DigitsConfig", "digit_images"]

NATIVE_SIZE = 8  # pixels, of scikit-learn's images
BRIGHTEST = 16  # their largest grey value


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsConfig(MovingClips):
    """Clips of moving handwritten digits."""

    kind: ClassVar[str] = "digits"

    digit_size: int = setting(14, "height and width of a digit, pixels; at least the 8 of the originals", at_least=NATIVE_SIZE)
    min_speed: float = setting(1.0, "slowest digit, pixels per frame")
    max_speed: float = setting(2.0, "fastest digit, pixels per frame")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_geometry(self.num_digits, self.frame_size, self.digit_size, self.digit_size)
        if not 0 < self.min_speed <= self.max_speed:
            raise ConfigError("min_speed", f"0 < min_speed <= max_speed must hold, but got {self.min_speed} and {self.max_speed}")
        # A faster digit would cross the frame within one step: which wall it bounced off could not be seen.
        room = self.frame_size - self.digit_size
        if self.max_speed > room:
            raise ConfigError(
                "max_speed",
                f"must be at most {room}, the way of a digit of {self.digit_size} pixels from wall to wall of a frame of"
                f" {self.frame_size}, but got {self.max_speed}",
            )

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
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

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
    digits.flags.writeable = False  # cached: whoever wrote into it would change every later clip
    return digits
