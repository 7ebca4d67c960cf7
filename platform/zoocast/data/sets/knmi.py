"""KNMI's radar of the Netherlands: a folder of HDF5 files, one for each five minutes, `RAD_NL25_RAC_5min_201906010005.h5`.

Amounts of rain are 1/100 mm in uint16, reflectivity steps of 0.5 dBZ in uint8; what the steps are is said by a formula in each
file. The highest value of the type means that nothing was measured there.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recordings import Recording
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.sets.timeline import alone, film, moments
from zoocast.errors import DataError

__all__ = ["KnmiConfig"]

FORMULA = re.compile(r"GEO=([-.\deE]+)\*PV(?:\+?([-.\deE]+))?$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnmiConfig(MeasuredClips):
    """Clips of KNMI's radar, from runs of five minutes without a gap."""

    kind: ClassVar[str] = "knmi"

    length: int = setting(18, "frames in each clip", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """All files as one film. Every file is compared with the first one when it is read."""
        maps = moments(Path(self.path), (".h5", ".hdf5", ".hdf"))
        first = next(iter(maps.values()))
        with opened(first) as file, reading(first, "KNMI's radar"):
            image = dataset(file, "image1/image_data")
            if image.ndim != 2 or image.dtype.kind != "u":
                raise DataError(f"{first}: image1/image_data is {image.dtype} {list(image.shape)}; expected an unsigned map")
            shape = frame_shape(1, image.shape[0], image.shape[1], image.dtype.itemsize, first)
            dtype, formula = image.dtype, _formula(file)
        rain = dtype == np.uint16
        return (
            film(
                "knmi",
                maps,
                functools.partial(_map, formula),
                shape=shape,
                dtype=dtype,
                missing=float(np.iinfo(dtype).max),
                channels=("rain" if rain else "reflectivity",),
                unit="mm" if rain else "dBZ",
                factor=formula[0],
                offset=formula[1],
            ),
        )


def _formula(file: Any) -> tuple[float, float]:
    """Factor and offset of `GEO=0.01*PV+0.0`."""
    text = str(alone(file["image1/calibration"].attrs["calibration_formulas"]))
    if (found := FORMULA.match(text.replace(" ", ""))) is None:
        raise DataError(f"{file.filename}: its calibration is {text[:60]!r}; expected GEO=factor*PV+offset")
    return float(found[1]), float(found[2] or 0)


def _map(formula: tuple[float, float], path: Path) -> np.ndarray:
    with opened(path) as file, reading(path, "KNMI's radar"):
        if _formula(file) != formula:
            raise DataError(
                f"{path}: its calibration is {_formula(file)}, but {formula} in the first file; sort them into folders"
            )
        found: np.ndarray = dataset(file, "image1/image_data")[()]
    return found[None]
