"""What the numbers of frames mean to the user, and to a network, whose own values go from 0 to 1."""

from __future__ import annotations

import dataclasses

import numpy as np

from zoocast.data.store import ClipsRecipe
from zoocast.errors import DataError

__all__ = ["Units"]

BEYOND = 3.0
"""How many times their range values may lie beyond those that were trained on: extremes that training did not see, and not
another scale. Floats of 0 to 1 may by once, for predictions, which are not clipped, may be observed again."""

PLAIN = ((0.0, 1.0, ""), (0.0, 255.0, ""))
"""Offset, factor and unit of clips that are floats of 0 to 1, or bytes, as they were given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
    """The user's value is offset + factor x the network's, for each channel; bytes are 255 x, and floats as they are, without.

    Attributes:
        offset, factor: one for each channel, or none: bytes of 0 to 255 or floats of 0 to 1, whichever is given.
        unit: of the user's values, where it is known.
        channels: their names, where they are known.
    """

    offset: tuple[float, ...] = ()
    factor: tuple[float, ...] = ()
    unit: str = ""
    channels: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: ClipsRecipe) -> Units:
        """Of clips that were stored by this recipe."""
        channels = recipe.channels
        names = () if all(channel.name.isdecimal() for channel in channels) else tuple(channel.name for channel in channels)
        if all((channel.offset, channel.factor, channel.unit) in PLAIN for channel in channels):
            return cls(channels=names)
        return cls(
            offset=tuple(channel.offset for channel in channels),
            factor=tuple(channel.factor for channel in channels),
            unit=", ".join(dict.fromkeys(channel.unit for channel in channels if channel.unit)),
            channels=names,
        )

    def for_network(self, frames: np.ndarray) -> np.ndarray:
        """The user's (..., C, H, W) as float32 from 0 to 1, as the clips that were trained on.

        Raises:
            DataError: a value is missing, or plainly of another range.
        """
        if not self.factor and frames.dtype == np.uint8:
            self._check_bytes(frames)
            return frames.astype(np.float32) / np.float32(255)
        if not self.factor and frames.dtype.kind != "f":
            raise DataError(
                f"the network was trained on bytes of 0 to 255 or floats of 0 to 1, but got {frames.dtype}; scale them to 0 to 1"
            )
        values = frames.astype(np.float32)
        if self.factor:
            values = (values - self._each(self.offset)) / self._each(self.factor)
        if not np.isfinite(values).all():
            raise DataError("values are missing (NaN or infinite) among the observed frames; fill them in first")
        beyond = BEYOND if self.factor else 1
        if values.size and not (values.min() >= -beyond and values.max() <= 1 + beyond):
            found = f"{float(frames.min()):g} to {float(frames.max()):g}{self._suffix}"
            raise DataError(f"the network was trained on {self.in_words}, but got {found}; bring them to that range first")
        # As clips are stored: what lies beyond the range of the training clips is its end.
        return values.clip(0, 1)

    def of_network(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Predictions in the user's units; bytes where `dtype`, that of the observed frames, is bytes and no scale is known."""
        if self.factor:
            return np.asarray(self._each(self.offset) + self._each(self.factor) * values, np.float32)
        if dtype == np.uint8:
            return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        return np.asarray(values, np.float32)

    @property
    def in_words(self) -> str:
        """The values that the network was trained on, in words."""
        if not self.factor:
            return "floats of 0 to 1, or bytes of 0 to 255"
        low, high = min(self.offset), max(o + f for o, f in zip(self.offset, self.factor, strict=True))
        return f"values of {low:g} to {high:g}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _check_bytes(self, frames: np.ndarray) -> None:
        if frames.size and frames.max() == 1:
            raise DataError(f"the network was trained on {self.in_words}, but no byte is above 1; if 1 is white, give floats")

    @staticmethod
    def _each(numbers: tuple[float, ...]) -> np.ndarray:
        """One number for each channel of (..., C, H, W)."""
        return np.asarray(numbers, np.float32)[:, None, None]
