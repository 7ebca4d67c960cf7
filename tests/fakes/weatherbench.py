"""WeatherBench in small: a netCDF file for each year, and zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

UNITS = "hours since 1900-01-01"


def write(folder: Path, years: Sequence[int], *, variable: str = "2m_temperature", short: str = "t2m", hours: int = 48) -> None:
    """The first hours of each year on 4x8 points, south first as in the archive: latitude + hour of the file, in K."""
    import h5netcdf

    (folder / variable).mkdir(parents=True)
    latitude = np.array([-67.5, -22.5, 22.5, 67.5])
    for year in years:
        begin = int((np.datetime64(f"{year}-01-01T00", "h") - np.datetime64("1900-01-01T00", "h")).astype(int))
        with h5netcdf.File(folder / variable / f"{variable}_{year}_5.625deg.nc", "w") as file:
            file.dimensions = {"time": hours, "lat": 4, "lon": 8}
            file.create_variable("time", ("time",), data=begin + np.arange(hours)).attrs["units"] = UNITS
            file.create_variable("lat", ("lat",), data=latitude)
            file.create_variable("lon", ("lon",), data=np.arange(8) * 45.0)
            values = np.broadcast_to(latitude[None, :, None] + np.arange(hours)[:, None, None], (hours, 4, 8))
            file.create_variable(short, ("time", "lat", "lon"), data=values.astype(np.float32)).attrs["units"] = "K"


def write_zarr(path: Path, first: str, *, steps: int, version: int = 2) -> None:
    """6-hourly maps on 8x4 points, longitude first as in WeatherBench 2's small files, south first: latitude + step, in K."""
    import zarr

    latitude, names = np.array([-67.5, -22.5, 22.5, 67.5]), ("time", "longitude", "latitude")
    begin = int((np.datetime64(first, "h") - np.datetime64("1900-01-01T00", "h")).astype(int))
    values = np.broadcast_to(latitude + np.arange(steps)[:, None, None], (steps, 8, 4)).astype(np.float32)
    group = zarr.open_group(path, mode="w", zarr_format=version)
    arrays = {
        "time": (begin + 6 * np.arange(steps), names[:1], UNITS),
        "longitude": (np.arange(8) * 45.0, names[1:2], "degrees_east"),
        "latitude": (latitude, names[2:], "degrees_north"),
        "2m_temperature": (values, names, "K"),
    }
    for name, (data, dims, units) in arrays.items():
        attributes = {"units": units} | ({"_ARRAY_DIMENSIONS": list(dims)} if version == 2 else {})
        array = group.create_array(name, data=data, dimension_names=dims if version == 3 else None)
        array.attrs.update(attributes)
    if version == 2:
        zarr.consolidate_metadata(path)
