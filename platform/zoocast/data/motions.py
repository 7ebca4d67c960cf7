"""What the images of a clip do: lie still, move, turn, pulse, orbit, fall, or several of these at once; and mixtures of kinds.

Whatever they do, the squares of the images stay inside the frame, turned and grown as they are; of what interpolation spreads
beyond a square, half a pixel may be cut. All is elementwise float64, so that the same bytes come out on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from zoocast.errors import ConfigError

__all__ = ["MOTIONS", "Motion", "Track", "bounce", "deal", "fall", "parse_motion"]

MOTIONS = ("still", "move", "turn", "pulse", "orbit", "gravity")

UPPER = 0.6
"""Of the way down to the floor: what falls starts above it, so that it is seen falling."""

LOWEST = 0.05
"""Pixels; what would bounce lower lies still, for of bounces that only shrink there are infinitely many."""

Range = tuple[float, float]


def parse_motion(kind: str) -> frozenset[str]:
    """The motions that `kind` joins by ``+``: ``move+turn``.

    Raises:
        ConfigError: an unknown motion, one that is named twice, or one that cannot be with the others.
    """
    parts = kind.split("+")
    if unknown := [part for part in parts if part not in MOTIONS]:
        raise ConfigError("motions", f"must be of {', '.join(MOTIONS)}, several at once joined by +, but got {unknown[0]!r}")
    if len(set(parts)) < len(parts):
        raise ConfigError("motions", f"names a motion twice in {kind!r}; once is enough")
    if "still" in parts and len(parts) > 1:
        raise ConfigError("motions", f"still is no motion to join to others, but got {kind!r}; leave it out there")
    if {"move", "gravity"} <= set(parts):
        raise ConfigError("motions", f"gravity moves already, but got {kind!r}; leave out move there")
    return frozenset(parts)


def deal(shares: Sequence[float], count: int) -> list[int]:
    """For each of `count` clips the number of its kind. However few are taken from the front, shares are as exact as can be.

    Of k kinds, none is ever more than 1 - 1 / (2k - 2) clips away from its share, and equal shares take turns (Tijdeman, 1980,
    "The chairman assignment problem", https://doi.org/10.1016/0012-365X(80)90269-1).

    Args:
        shares: of each kind, in any unit, more than 0.
        count: clips to deal out.
    """
    # Exact fractions: which kind is next often hangs on a tie.
    total = sum(map(Fraction, shares))
    parts = [Fraction(share) / total for share in shares]
    slack = Fraction(1, max(1, 2 * len(parts) - 2))
    dealt, given = [], [0] * len(parts)
    for clip in range(1, count + 1):
        waiting = [kind for kind, part in enumerate(parts) if part * clip - given[kind] >= slack]
        # Of those that have waited long enough the one that can wait least longer.
        kind = min(waiting, key=lambda kind: (given[kind] + 1 - slack) / parts[kind])
        given[kind] += 1
        dealt.append(kind)
    return dealt


class Track(NamedTuple):
    """Where each image of a clip is at each frame."""

    places: np.ndarray  # [length, n, 2], row and column of the top left corner of the image, unturned and in its own size
    angles: np.ndarray  # [length, n], radians about its centre
    scales: np.ndarray  # [length, n]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """One kind of clip: what its images do, and the ranges from which is drawn how each of them does it."""

    parts: frozenset[str] = frozenset({"move"})
    speed: Range = (0.0, 0.0)  # pixels per frame
    turn: Range = (0.0, 0.0)  # radians per frame, either way
    pulse: Range = (0.0, 0.0)  # most that is added to the size and taken from it, as a fraction of it
    pulse_rate: Range = (0.0, 0.0)  # radians per frame
    orbit: Range = (0.0, 0.0)  # radius, pixels
    orbit_rate: Range = (0.0, 0.0)  # radians per frame, either way
    gravity: float = 0.0  # pixels per frame^2, downwards
    restitution: float = 1.0  # speed after a bounce on the floor, as a fraction of that before

    @property
    def moves(self) -> bool:
        """Whether images go from place to place, and bounce at the walls."""
        return not self.parts.isdisjoint({"move", "gravity"})

    @property
    def interpolates(self) -> bool:
        """Whether what is seen of an image is not its pixels as they are."""
        return not self.parts.isdisjoint({"turn", "pulse"})

    def room(self, height: int, width: int, frame_size: int) -> float:
        """Pixels that an image of height x width can surely go in a square frame from wall to wall; below 0: it does not fit."""
        side = np.array([height, width])
        margin = self._margin(side, np.array([self.pulse[1]]), np.array([self.orbit[1]]))
        return float((frame_size - side - 2 * margin).min())

    def track(self, rng: np.random.Generator, *, num_images: int, height: int, width: int, frame_size: int, length: int) -> Track:
        """The way of `num_images` images of height x width through a clip of `length` square frames."""
        # The order of these draws is part of what a seed means: another order gives other clips for the same identity. All are
        # made whatever the motion, so that clips of the same number differ in what their images do, and in nothing else.
        heading = rng.uniform(0, 2 * np.pi, num_images)
        # Rows first, as all places here: sine is down, cosine to the right.
        velocity = rng.uniform(*self.speed, num_images)[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        start = rng.uniform(0, 1, (num_images, 2))
        turn = rng.uniform(*self.turn, num_images) * rng.choice((-1, 1), num_images)
        pulse, pulse_rate = rng.uniform(*self.pulse, num_images), rng.uniform(*self.pulse_rate, num_images)
        orbit, orbit_rate = rng.uniform(*self.orbit, num_images), rng.uniform(*self.orbit_rate, num_images)
        orbit_rate *= rng.choice((-1, 1), num_images)
        pulse_phase, orbit_phase = rng.uniform(0, 2 * np.pi, (2, num_images))

        side, time = np.array([height, width]), np.arange(length)[:, None]
        margin = self._margin(side, pulse, orbit)
        room = frame_size - side - 2 * margin
        places = self._go(start * room, velocity, length, room) + margin
        if "orbit" in self.parts:
            phase = orbit_phase + orbit_rate * time
            places = places + orbit[:, None] * np.stack([np.sin(phase), np.cos(phase)], axis=-1)
        return Track(
            places,
            angles=turn * time * ("turn" in self.parts),
            scales=1 + pulse * np.sin(pulse_phase + pulse_rate * time) * ("pulse" in self.parts),
        )

    def _margin(self, side: np.ndarray, pulse: np.ndarray, orbit: np.ndarray) -> np.ndarray:
        """[n, 2]: how much farther than its own square an image reaches to each side; exactly 0 if it does neither of these."""
        reach = np.full(2, np.hypot(*side)) if "turn" in self.parts else side
        if "pulse" in self.parts:
            reach = reach * (1 + pulse[:, None])
        return (reach - side) / 2 + orbit[:, None] * ("orbit" in self.parts)

    def _go(self, start: np.ndarray, velocity: np.ndarray, length: int, room: np.ndarray) -> np.ndarray:
        """[length, n, 2]: the places of what starts at `start`, [n, 2], between 0 and `room`, [n, 2]."""
        if not self.moves:
            return np.broadcast_to(start, (length, *start.shape))
        places = bounce(start, velocity, length, room)
        if "gravity" in self.parts:
            rows = start[:, 0] * UPPER
            # Nothing is thrown so hard that it would reach the ceiling.
            most = np.sqrt(2 * self.gravity * rows)
            thrown = np.clip(velocity[:, 0], -most, most)
            for image, (row, speed, floor) in enumerate(zip(rows.tolist(), thrown.tolist(), room[:, 0].tolist(), strict=True)):
                places[:, image, 0] = fall(row, speed, length, floor, self.gravity, self.restitution)
        return places


def bounce(start: np.ndarray, velocity: np.ndarray, length: int, room: np.ndarray) -> np.ndarray:
    """Positions of a point that is reflected at 0 and at `room`.

    Args:
        start: [...] position at time 0, pixels.
        velocity: [...] pixels per frame.
        length: number of frames.
        room: [...] the farthest position, pixels, more than 0.

    Returns:
        float64 [length, ...]. Unfolded at the walls, the path is a straight line.
    """
    # The way there and back has length 2 * room: along it the distance from the far wall falls to 0 and rises again.
    line = start + velocity * np.arange(length).reshape(-1, *[1] * start.ndim)
    return room - np.abs(np.mod(line, 2 * room) - room)


def fall(start: float, velocity: float, length: int, room: float, gravity: float, restitution: float) -> list[float]:
    """Rows of a point that falls and bounces on the floor, at each frame: parabolas, exact between frames too.

    Args:
        start: row at time 0, pixels from the top.
        velocity: downwards, pixels per frame.
        length: number of frames.
        room: row of the floor.
        gravity: pixels per frame^2, more than 0.
        restitution: speed after a bounce as a fraction of that before, 0 to 1.
    """
    # The parabola that it is on: its height above the floor and its speed upwards, at the time when it began.
    height, speed, begun = room - start, -velocity, 0.0
    rows = []
    for time in range(length):
        while height or speed:
            impact = math.sqrt(speed**2 + 2 * gravity * height)
            lands = begun + (speed + impact) / gravity
            if lands > time:
                break
            begun, height, speed = lands, 0.0, restitution * impact
            if speed**2 < 2 * gravity * LOWEST:
                speed = 0.0
        passed = time - begun
        rows.append(room - max(height + speed * passed - gravity / 2 * passed**2, 0.0))
    return rows
