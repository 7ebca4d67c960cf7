"""MRMS in small: a message of GRIB2 for each two minutes."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write(folder: Path, times: Sequence[str], maps: np.ndarray, *, packed: bool = True) -> None:
    """A file for each of the times, `20210601-120000`, with its map [latitude, longitude] in mm/h, north first, -3 missing."""
    import eccodes

    height, width = maps.shape[1:]
    for time, values in zip(times, maps, strict=True):
        message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
        grid = {
            "Ni": width,
            "Nj": height,
            "latitudeOfFirstGridPointInDegrees": 54.995,
            "longitudeOfFirstGridPointInDegrees": 230.005,
            "latitudeOfLastGridPointInDegrees": 54.995 - 0.01 * (height - 1),
            "longitudeOfLastGridPointInDegrees": 230.005 + 0.01 * (width - 1),
            "iDirectionIncrementInDegrees": 0.01,
            "jDirectionIncrementInDegrees": 0.01,
            "jScansPositively": 0,
            "discipline": 209,
        }
        for key, value in grid.items():
            eccodes.codes_set(message, key, value)
        eccodes.codes_set_values(message, values.astype(np.float64).ravel())
        data = eccodes.codes_get_message(message)
        eccodes.codes_release(message)
        name = f"MRMS_PrecipRate_00.00_{time}.grib2"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
