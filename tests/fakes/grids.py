"""A reanalysis in small, as netCDF-3, netCDF-4, plain HDF5 and zarr 2 and 3: every sixth hour, one of them missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HOURS = np.array([0, 6, 12, 18, 30, 36, 42], "i4")  # since 2020-01-01; the one at 24 is missing
LATITUDES = np.linspace(-80, 80, 9, dtype="f4")  # from south to north
LONGITUDES = np.linspace(0, 330, 12, dtype="f4")
TIME = {"units": "hours since 2020-01-01 00:00:00", "calendar": "standard"}
DIMS = ("time", "latitude", "longitude")


def temperature() -> np.ndarray:
    """[time, latitude, longitude] float32 in K, each value another one."""
    return (273 + np.arange(7 * 9 * 12, dtype="f4") / 10).reshape(7, 9, 12)


Variables = dict[str, tuple[Sequence[str], np.ndarray, dict[str, Any]]]


def variables(dims: Sequence[str] = DIMS, **attributes: Any) -> Variables:
    """t2m in this order of axes with its coordinates: for each its dimensions, values and attributes."""
    t2m = temperature().transpose([DIMS.index(dim) for dim in dims])
    return {
        "time": (("time",), HOURS, TIME),
        "latitude": (("latitude",), LATITUDES, {"units": "degrees_north"}),
        "longitude": (("longitude",), LONGITUDES, {"units": "degrees_east"}),
        "t2m": (dims, t2m, {"units": "K", **attributes}),
    }


def write_netcdf3(path: Path, content: Variables) -> None:
    """By scipy."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for dims, values, _ in content.values():
            for dim, size in zip(dims, values.shape, strict=True):
                if dim not in file.dimensions:
                    file.createDimension(dim, size)
        for name, (dims, values, attributes) in content.items():
            variable = file.createVariable(name, values.dtype, dims)
            variable[:] = values
            for key, value in attributes.items():
                setattr(variable, key, value)


def write_netcdf4(path: Path, content: Variables, **packed: Any) -> None:
    """By h5netcdf, chunked by three times."""
    import h5netcdf

    with h5netcdf.File(path, "w") as file:
        for dims, values, _ in content.values():
            for dim, size in zip(dims, values.shape, strict=True):
                if dim not in file.dimensions:
                    file.dimensions[dim] = size
        for name, (dims, values, attributes) in content.items():
            chunks = tuple(3 if dim == "time" else size for dim, size in zip(dims, values.shape, strict=True))
            fill = attributes.get("_FillValue")
            variable = file.create_variable(name, dims, values.dtype, fillvalue=fill, chunks=chunks, compression="gzip", **packed)
            variable[...] = values
            for key, value in attributes.items():
                if key != "_FillValue":
                    variable.attrs[key] = value


def write_zarr(path: Path, content: Variables, version: int) -> None:
    """A folder, or a zip where the path ends so; dimensions are named as xarray names them in each version."""
    import zarr

    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else zarr.storage.LocalStore(path)
    group = zarr.open_group(store, mode="w", zarr_format=version)
    for name, (dims, values, attributes) in content.items():
        named: dict[str, Any] = {"dimension_names": dims, "attributes": attributes}
        if version == 2:
            named = {"attributes": attributes | {"_ARRAY_DIMENSIONS": list(dims)}}
        chunks = tuple(3 if dim == "time" else size for dim, size in zip(dims, values.shape, strict=True))
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, **named)
        array[...] = values
    store.close()
