"""MeteoNet, radar of the north-west (NW) and south-east (SE) of France every 5 minutes (Meteo-France, 2016-2018).

    FOLDER/.../reflectivity_old_NW_2016_01.1.npz    steps of dBZ in int16, 255: nothing was measured
    FOLDER/.../reflectivity_new_NW_2018_03.1.npz    1/10 dBZ, -200: nothing was measured, -100: no echo
    FOLDER/.../rainfall_NW_2016_01.1.npz            1/100 mm in 5 minutes, -1: nothing was measured

Beside the maps each file has its dates as pickled objects. They are read without letting a pickle do anything: the names that it
may call stand for harmless values of ours, and any other name is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats import open_recordings
from zoocast.data.formats.trust import reading
from zoocast.data.recordings import Recording
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.sets.timeline import joined
from zoocast.errors import DataError

__all__ = ["MeteonetConfig", "pickled_dates"]

PRODUCTS: Mapping[str, Mapping[str, Any]] = {
    "reflectivity_old": {"missing": 255.0, "unit": "dBZ"},
    "reflectivity_new": {"missing": -200.0, "unit": "dBZ", "factor": 0.1},
    "rainfall": {"missing": -1.0, "unit": "mm", "factor": 0.01},
}
MOST_DATES_BYTES = 10_000_000
"""Of the dates of a file: a month of them has 9,000, of some 50 bytes each."""

MOST_STATE = 32
"""Bytes in which pickle keeps one date: 10."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeteonetConfig(MeasuredClips):
    """Clips of MeteoNet's radar, from runs of five minutes without a gap."""

    kind: ClassVar[str] = "meteonet"

    product: Literal["reflectivity_old", "reflectivity_new", "rainfall"] = setting("reflectivity_old", "which maps are read")
    zone: Literal["NW", "SE"] = setting("NW", "which part of France")
    length: int = setting(24, "frames in each clip", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """All months as one film, in the order of their dates."""
        name = re.compile(rf"{self.product}_{self.zone}_\d{{4}}_\d\d(\.\d)?\.npz")
        paths = [path for path in Path(self.path).rglob("*.npz") if name.fullmatch(path.name)]
        if not paths:
            raise DataError(f"{self.path} has no {self.product}_{self.zone}_YYYY_MM.N.npz; give the folder of the archive")
        parts = sorted((self._part(path) for path in paths), key=lambda part: part.times[0])
        return (joined(f"{self.product}-{self.zone}", parts),)

    def _part(self, path: Path) -> Recording:
        part = open_recordings(path, layout="THW", variable="data").recordings[0]
        times = pickled_dates(path)
        if len(times) != part.frames:
            raise DataError(f"{path} has {part.frames:,} maps, but {len(times):,} dates; download it again")
        return dataclasses.replace(part, times=times, channels=(self.product.partition("_")[0],), **PRODUCTS[self.product])


class _Stub:
    """Stands for numpy's arrays and types in a pickle: keeps what they would be filled with, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.state: Any = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dates(pickle.Unpickler):
    ALLOWED: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("datetime", "datetime"): datetime.datetime,
        ("datetime", "date"): datetime.date,
        ("numpy", "ndarray"): _Stub,
        ("numpy", "dtype"): _Stub,
        ("numpy.core.multiarray", "_reconstruct"): _Stub,
        ("numpy._core.multiarray", "_reconstruct"): _Stub,
        ("_codecs", "encode"): lambda text, _: text[:MOST_STATE].encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"its dates would call {module}.{name}, which no date needs")
        return self.ALLOWED[module, name]


def pickled_dates(path: Path) -> tuple[np.datetime64, ...]:
    """The dates of a file of MeteoNet: a pickled array of objects, read without running anything that it names.

    Raises:
        DataError: they hold anything but dates.
    """
    with reading(path, "a file of MeteoNet"), zipfile.ZipFile(path) as archive:
        if (size := archive.getinfo("dates.npy").file_size) > MOST_DATES_BYTES:
            raise DataError(f"{path}: its dates have {size:,} bytes; expected at most {MOST_DATES_BYTES:,}")
        stream = io.BytesIO(archive.read("dates.npy"))
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        array = _Dates(stream, encoding="latin1").load() if dtype.hasobject else None
        dates = array.state[-1] if isinstance(array, _Stub) and array.state else None
        if not isinstance(dates, list) or len(dates) != shape[0] or not all(isinstance(d, datetime.date) for d in dates):
            raise DataError(f"{path}: its dates are no list of dates; download it again")
        return tuple(np.datetime64(date, "s") for date in dates)
