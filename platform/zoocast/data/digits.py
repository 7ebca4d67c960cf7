"""The data set that needs no download: scikit-learn's 1,797 real handwritten digits, moving and bouncing.

The 8x8 images (UCI, Alpaydin & Kaynak, 1998) are upsampled and shown by `zoocast.data.moving`. The three splits show different
images, always the same ones whatever the seed, so that a source pretrained here has seen no digit of any target's test split.
They may also turn, pulse, orbit and fall, each clip in its own way, and be simple shapes instead.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from zoocast.config import canonical, setting
from zoocast.data.motions import MOTIONS, Motion, deal, parse_motion
from zoocast.data.moving import MovingClips, moving_clip, upsample
from zoocast.data.shapes import shape_images
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
    motions: tuple[str, ...] = setting(
        ("move",), f"kinds of clips: {', '.join(MOTIONS)}, or several of them at once, as move+turn", added=True
    )
    shares: tuple[float, ...] = setting((), "share of each kind of clips, in any unit; empty: equal", added=True, above=0)
    subpixel: bool = setting(
        False, "places between pixels, interpolated, instead of the nearest pixel; where digits turn or pulse, always", added=True
    )
    glyphs: Literal["digits", "shapes"] = setting(
        "digits", "what is shown: digits, or rectangles, ellipses, crosses and triangles in images of digit_size", added=True
    )
    min_turn: float = setting(0.15, "slowest turn, radians per frame, either way", added=True, at_least=0, at_most=math.pi)
    max_turn: float = setting(0.35, "fastest turn, radians per frame, either way", added=True, at_least=0, at_most=math.pi)
    min_pulse: float = setting(0.25, "least growth and shrinkage, of the size", added=True, at_least=0, below=1)
    max_pulse: float = setting(0.35, "most growth and shrinkage, of the size", added=True, at_least=0, below=1)
    min_pulse_rate: float = setting(0.3, "slowest pulse, radians per frame", added=True, at_least=0, at_most=math.pi)
    max_pulse_rate: float = setting(0.6, "fastest pulse, radians per frame", added=True, at_least=0, at_most=math.pi)
    min_orbit: float = setting(2.0, "smallest radius of an orbit, pixels", added=True, at_least=0)
    max_orbit: float = setting(5.0, "largest radius of an orbit, pixels", added=True, at_least=0)
    min_orbit_rate: float = setting(0.2, "slowest orbit, radians per frame, either way", added=True, at_least=0, at_most=math.pi)
    max_orbit_rate: float = setting(0.5, "fastest orbit, radians per frame, either way", added=True, at_least=0, at_most=math.pi)
    gravity: float = setting(0.25, "pull downwards, pixels per frame^2", added=True, above=0, at_most=10)
    restitution: float = setting(0.85, "speed left after a bounce on the floor, of 1", added=True, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_digits(self.digit_size, self.digit_size)
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
        self._check_motions()

    def _check_motions(self) -> None:
        for name in ("turn", "pulse", "pulse_rate", "orbit", "orbit_rate"):
            low, high = self._range(name)
            if low > high:
                raise ConfigError(f"min_{name}", f"must be at most max_{name}, but got {low} and {high}")
        kinds = [parse_motion(kind) for kind in self.motions]
        if not kinds or len(set(kinds)) < len(kinds):
            raise ConfigError(
                "motions", f"must be one kind of clips or several different ones, but got {', '.join(self.motions)}"
            )
        if self.shares and len(self.shares) != len(kinds):
            raise ConfigError(
                "shares", f"must be as many as motions, {len(kinds)}, or none for equal ones, but got {len(self.shares)}"
            )
        for kind in self.motions:
            motion = self._motion(kind)
            way = self.max_speed if motion.moves else 0
            if (room := motion.room(self.digit_size, self.digit_size, self.frame_size)) < way:
                raise ConfigError(
                    "motions",
                    f"{kind} needs a frame_size of at least {math.ceil(self.frame_size - room + way)} for digits of"
                    f" {self.digit_size} pixels as fast and as large as they may become, but got {self.frame_size};"
                    " use a larger frame or smaller digits",
                )

    def _range(self, name: str) -> tuple[float, float]:
        return getattr(self, f"min_{name}"), getattr(self, f"max_{name}")

    def _motion(self, kind: str) -> Motion:
        ranges = {name: self._range(name) for name in ("speed", "turn", "pulse", "pulse_rate", "orbit", "orbit_rate")}
        return Motion(parts=parse_motion(kind), gravity=self.gravity, restitution=self.restitution, **ranges)

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
        kinds = {split: self._kinds(counts[split]) for split in SPLITS}
        return write_store(
            directory,
            {split: reported(self._clips(split, kinds[split]), split, counts, progress) for split in SPLITS},
            shape=self.frame_shape(),
            length=self.length,
            dtype="uint8",
            generator={"name": self.kind, "parameters": canonical(self)},
            kinds=kinds if len(self.motions) > 1 else None,
        )

    def _kinds(self, count: int) -> list[str]:
        """The kind of each of `count` clips."""
        return [self.motions[kind] for kind in deal(self.shares or (1,) * len(self.motions), count)]

    def _clips(self, split: Split, kinds: list[str]) -> Iterator[np.ndarray]:
        images = (digit_images if self.glyphs == "digits" else shape_images)(split, self.digit_size)
        motions = {kind: self._motion(kind) for kind in self.motions}
        for index, kind in enumerate(kinds):
            yield moving_clip(
                images,
                clip_generator(self.seed, split, index),
                num_images=self.digits_in(split),
                frame_size=self.frame_size,
                length=self.length,
                motion=motions[kind],
                subpixel=self.subpixel,
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
