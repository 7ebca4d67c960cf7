"""KNMI's radar in small: an HDF5 file for each five minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np


def write(folder: Path, times: Sequence[str], maps: np.ndarray, *, formula: str = "GEO = 0.01 * PV + 0.0") -> None:
    """A file for each of the times, `201906010005`, with its map [height, width], uint16 of rain or uint8 of reflectivity."""
    for time, values in zip(times, maps, strict=True):
        with h5py.File(folder / f"RAD_NL25_RAC_5min_{time}.h5", "w") as file:
            file["image1/image_data"] = values
            file.create_group("image1/calibration").attrs["calibration_formulas"] = np.array([formula.encode()])
            file.create_group("overview").attrs["product_datetime_start"] = np.bytes_("01-JUN-2019;00:00:00.000")
            height, width = values.shape
            where = file.create_group("geographic")
            where.attrs.update(geo_number_rows=height, geo_number_columns=width, geo_pixel_size_x=1.0, geo_pixel_size_y=-1.0)
