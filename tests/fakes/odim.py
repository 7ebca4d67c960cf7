"""A radar composite in ODIM_H5 in small: an HDF5 file for each moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np


def write(folder: Path, times: Sequence[str], maps: np.ndarray, *, quantity: str = "DBZH", what: str = "dataset1/data1") -> None:
    """A file for each of the times, `20190601T000500`, with its map uint8 [height, width]: 255 is nodata, 0 undetect.

    Args:
        what: the group in which the attributes of the data stand.
    """
    for time, values in zip(times, maps, strict=True):
        with h5py.File(folder / f"T_PAAH21_C_EUOC_{time}.h5", "w") as file:
            day, clock = time.split("T")
            file.create_group("what").attrs.update(object=np.bytes_("COMP"), date=np.bytes_(day), time=np.bytes_(clock))
            file.create_group("where").attrs.update(xsize=values.shape[1], ysize=values.shape[0], xscale=2000.0, yscale=2000.0)
            file["dataset1/data1/data"] = values
            attributes = file.require_group(f"{what}/what").attrs
            attributes.update(quantity=np.bytes_(quantity), gain=[0.5], offset=-32.0, nodata=255.0, undetect=0.0)
