"""netCDF-3, the classic form, mapped by scipy; netCDF-4 is HDF5."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.axes import Stored
from zoocast.data.formats.base import Opened, stamp
from zoocast.data.formats.cf import described
from zoocast.data.formats.choice import open_chosen
from zoocast.data.formats.trust import reading
from zoocast.errors import DataError

__all__ = ["SIGNATURES", "open_netcdf"]

SIGNATURES = (b"CDF\x01", b"CDF\x02")


def open_netcdf(path: Path, layout: str, variable: str, *, name: str, group: str = "") -> Opened:
    """The recordings in one variable of a netCDF-3 file. Raises as `open_chosen`."""
    with reading(path, "netCDF-3"):
        found: dict[str, Stored | DataError] = {
            each: _stored(path, each)
            for each, found in _file(path, stamp(path)).variables.items()
            if found.data.dtype.kind in "fiu"
        }
    return open_chosen(path, found, variable, layout, name=name, group=group)


def _stored(path: Path, name: str) -> Stored:
    file = _file(path, stamp(path))
    data = file.variables[name]

    def axis(dim: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        found = file.variables.get(dim)
        return None if found is None or found.data.ndim != 1 else (np.array(found.data), found._attributes)

    return described(
        path,
        name,
        shape=data.data.shape,
        dtype=data.data.dtype,
        read=functools.partial(_part, path, stamp(path), name),
        files=(path,),
        dims=data.dimensions,
        chunk=(),
        attributes=data._attributes,
        axis=axis,
    )


def _part(path: Path, stamp: tuple[int, ...], name: str, part: tuple[slice, ...]) -> np.ndarray:
    with reading(path, "netCDF-3"):
        return np.array(_file(path, stamp).variables[name].data[part])  # a copy, which does not keep the file open


@functools.lru_cache(maxsize=8)
def _file(path: Path, stamp: tuple[int, ...]) -> Any:  # noqa: ARG001 -- a changed file is opened anew
    from scipy.io import netcdf_file

    return netcdf_file(path, "r", mmap=True)
