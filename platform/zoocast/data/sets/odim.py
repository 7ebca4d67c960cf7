"""Radar composites in ODIM_H5, the form of OPERA and DWD: a folder of HDF5 files, one for each moment.

The quantity is gain * value + offset. Where a radar looks but sees nothing (`undetect`) there is no rain, or no echo; where none
looks (`nodata`), nothing was measured.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recordings import Recording
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.sets.timeline import alone, film, moments
from zoocast.errors import ConfigError, DataError

__all__ = ["OdimConfig"]

UNITS = {"DBZH": "dBZ", "TH": "dBZ", "ACRR": "mm", "RATE": "mm/h"}
GROUPS = ("dataset1/data1", "dataset1", "")
"""Where an attribute may stand, the nearest first: what holds for all data of a file is often said once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OdimConfig(MeasuredClips):
    """Clips of ODIM_H5 composites, from runs without a gap. Values are kept in the unit of their quantity, as float32."""

    kind: ClassVar[str] = "odim"

    quantity: str = setting("", "what is measured, DBZH, ACRR or RATE; empty: what the files hold")
    no_echo: float = setting(-32.5, "dBZ where nothing is seen; amounts and rates of rain are 0 there")
    fill_value: float = setting(-32.5, "for missing=fill, in dBZ; 0 for amounts and rates of rain")
    length: int = setting(18, "frames in each clip", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """All files as one film. Every file is compared with the first one when it is read."""
        maps = moments(Path(self.path), (".h5", ".hdf5", ".hdf", ".hd5"))
        first = next(iter(maps.values()))
        with opened(first) as file, reading(first, "ODIM_H5"):
            quantity, data = _attribute(file, "what", "quantity"), _data(file)
        if quantity not in UNITS or self.quantity not in ("", quantity):
            raise ConfigError("quantity", f"{first} holds {quantity}, where {self.quantity or ', '.join(UNITS)} is expected")
        unit = UNITS[quantity]
        if unit != "dBZ" and self.missing == "fill" and self.fill_value < 0:
            raise ConfigError("fill_value", f"is {self.fill_value:g}, but {quantity} is in {unit}; set fill_value=0")
        read = functools.partial(_map, quantity, self.no_echo if unit == "dBZ" else 0.0)
        shape = frame_shape(1, *data, 4, first)
        return (film("odim", maps, read, shape=shape, dtype=np.dtype(np.float32), channels=(quantity,), unit=unit),)


def _attribute(file: Any, group: str, name: str) -> Any:
    for parent in GROUPS:
        found = file.get(f"{parent}/{group}")
        if found is not None and name in found.attrs:
            return alone(found.attrs[name])
    raise DataError(f"{file.filename} says no {group}/{name}; it is no composite in ODIM_H5")


def _data(file: Any) -> tuple[int, int]:
    """Height and width of the map, compared with what the file says of them."""
    data = dataset(file, "dataset1/data1/data")
    said = int(_attribute(file, "where", "ysize")), int(_attribute(file, "where", "xsize"))
    if data.shape != said:
        raise DataError(f"{file.filename} holds a map of {list(data.shape)}, but says {list(said)}; download it again")
    return said


def _map(quantity: str, no_echo: float, path: Path) -> np.ndarray:
    with opened(path) as file, reading(path, "ODIM_H5"):
        if (found := _attribute(file, "what", "quantity")) != quantity:
            raise DataError(f"{path} holds {found}, but the first file {quantity}; sort them into folders")
        _data(file)
        values = dataset(file, "dataset1/data1/data")[()]
        gain, offset, nodata, undetect = (
            float(_attribute(file, "what", name)) for name in ("gain", "offset", "nodata", "undetect")
        )
    physical = (gain * values + offset).astype(np.float32)
    physical[values == undetect] = no_echo
    physical[values == nodata] = np.nan
    return physical[None]
