"""MRMS, rain over the United States: a folder of GRIB2 files, one for each two minutes, packed by gzip or not.

    MRMS_PrecipRate_00.00_20210601-120000.grib2.gz    mm/h on a grid of 0.01 degrees, 3500x7000, north first

-3 (and -1) mean that no radar looks there.
"""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import ClassVar

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.extra import require
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recordings import Recording
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.sets.timeline import film, moments
from zoocast.errors import DataError
from zoocast.store.files import human_bytes

__all__ = ["MrmsConfig"]

MOST_BYTES = 2**27
"""Of one unpacked message; a map of the whole United States has 1 to 50 MB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MrmsConfig(MeasuredClips):
    """Clips of MRMS, from runs without a gap; float32 in mm/h."""

    kind: ClassVar[str] = "mrms"

    length: int = setting(20, "frames in each clip", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """All files as one film. Every file is compared with the first one when it is read."""
        maps = moments(Path(self.path), (".grib2", ".grib2.gz", ".grb2", ".grb2.gz"))
        first = next(iter(maps.values()))
        _, height, width = _map(first).shape
        shape = frame_shape(1, height, width, 4, first)
        return (film("mrms", maps, _map, shape=shape, dtype=np.dtype(np.float32), channels=("rain",), unit="mm/h"),)


def _map(path: Path) -> np.ndarray:
    """float32 [1, latitude, longitude], north first, NaN where nothing was measured."""
    eccodes = require("eccodes", extra="grib", what=path)
    with reading(path, "GRIB2"):
        message = _message(path)
        # It says its own length, and ends in 7777: both are looked at before a library is.
        if message[:4] != b"GRIB" or int.from_bytes(message[8:16], "big") != len(message) or message[-4:] != b"7777":
            raise DataError(f"{path} is no single whole message of GRIB2; download it again")
        handle = eccodes.codes_new_from_message(message)
        try:
            width, height = (int(eccodes.codes_get(handle, key)) for key in ("Ni", "Nj"))
            frame_shape(1, height, width, 8, path)
            values = eccodes.codes_get_values(handle)
            if len(values) != height * width:
                raise DataError(f"{path} holds {len(values):,} values, but says {height}x{width}; download it again")
            upward, leftward = (eccodes.codes_get(handle, key) for key in ("jScansPositively", "iScansNegatively"))
        finally:
            eccodes.codes_release(handle)
    rain = values.reshape(height, width).astype(np.float32)[:: -1 if upward else 1, :: -1 if leftward else 1]
    return np.where(rain < 0, np.float32(np.nan), rain)[None]


def _message(path: Path) -> bytes:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        message = stream.read(MOST_BYTES + 1)
    if len(message) > MOST_BYTES:
        raise DataError(f"{path} unpacks to more than {human_bytes(MOST_BYTES)}, which no map has; it is damaged")
    return message
