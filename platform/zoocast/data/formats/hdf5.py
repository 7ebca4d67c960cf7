"""HDF5, opened so that a file cannot lead elsewhere: no links to other files, no objects, no shapes beyond what is stored."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.axes import Stored
from zoocast.data.formats.base import Opened, stamp
from zoocast.data.formats.cf import described
from zoocast.data.formats.choice import open_chosen
from zoocast.data.formats.extra import require
from zoocast.data.formats.trust import MOST_CHUNK_BYTES, check_numbers, check_promise, reading
from zoocast.errors import DataError
from zoocast.store.files import human_bytes

__all__ = ["SIGNATURE", "dataset", "open_hdf5", "opened"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
CACHE_BYTES = 2**25  # of unpacked chunks, for each file that is open


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as `h5py.File`, to read. Take its datasets by `dataset`, which checks each.

    Raises:
        ConfigError: h5py is not installed.
        DataError: the file is missing, truncated or none of HDF5, links to other files, or turns out damaged while it is read.
    """
    h5py = require("h5py", extra="h5", what=path)
    with contextlib.ExitStack() as stack:
        with reading(path, "HDF5"):
            with path.open("rb") as stream:
                start = stream.read(len(SIGNATURE))
            if start != SIGNATURE:
                raise DataError(f"{path} is no HDF5 file, it begins with {start!r}; download it again")
            # Without a lock where the file system has none, as on many clusters.
            file = stack.enter_context(h5py.File(path, "r", locking="best-effort"))
            # The first name that the function gives ends the visit; links are looked at, not followed.
            far = file.visititems_links(lambda name, link: name if isinstance(link, h5py.ExternalLink) else None)
            if far is not None:
                raise DataError(f"{path}: {far} is a link to another file, which is not followed; copy it into one file")
        with reading(path, "HDF5", (OSError, RuntimeError)):  # what it raises for a damaged piece; not what is wrong in our code
            yield file


def dataset(file: Any, name: str, *, text: bool = False) -> Any:
    """The dataset of that name, as `h5py.Dataset`; nothing of it is read yet.

    Args:
        file: what `opened` gave, or a group of it.
        name: of the dataset, with the names of the groups that it lies in: "dataset1/data1/data".
        text: it holds strings, not numbers.

    Raises:
        DataError: there is none, it holds something else, lies in other files, or its shape or chunks are absurd.
    """
    h5py = require("h5py", extra="h5", what=file.file.filename)
    what = f"{file.file.filename}: {name}"
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = ", ".join(list(file)[:8]) or "nothing"
        raise DataError(f"{what} is {'a group' if found is not None else 'not there'}; expected a dataset, and found {there}")
    if found.is_virtual or found.external:
        raise DataError(f"{what} is made of parts in other files, which are not followed; copy it into one file (h5repack)")
    if text:
        if h5py.check_string_dtype(found.dtype) is None:
            raise DataError(f"{what} holds {found.dtype}; expected text")
        return found
    check_numbers(found.dtype, what)
    check_promise(found.shape, found.dtype, found.id.get_storage_size(), what)
    chunk = math.prod(found.chunks or ()) * found.dtype.itemsize
    if chunk > MOST_CHUNK_BYTES:
        raise DataError(
            f"{what} is packed in chunks of {human_bytes(chunk)}, which are unpacked whole; at most"
            f" {human_bytes(MOST_CHUNK_BYTES)} are: repack it (h5repack -l)"
        )
    return found


def open_hdf5(path: Path, layout: str, variable: str, *, name: str, group: str = "") -> Opened:
    """The recordings in one dataset of an HDF5 or netCDF-4 file, or in all of a group.

    Raises:
        ConfigError: as `open_stored`, or several datasets may be meant and `variable` does not say which.
        DataError: as `opened` and `dataset`.
    """
    with opened(path) as file, reading(path, "HDF5"):
        h5py, names = require("h5py", extra="h5", what=path), []
        file.visititems(lambda each, found: names.append(each) if isinstance(found, h5py.Dataset) else None)
        found: dict[str, Stored | DataError] = {}
        for each in names:
            try:
                found[each] = _stored(path, dataset(file, each))
            except DataError as error:
                found[each] = error
    return open_chosen(path, found, variable, layout, name=name, group=group)


def _stored(path: Path, data: Any) -> Stored:
    scales = [next(iter(data.dims[i].values()), None) for i in range(data.ndim)]
    dims = tuple(
        data.dims[i].label or (scale.name.rpartition("/")[2] if scale is not None else "") for i, scale in enumerate(scales)
    )
    by_name = {dim: scale for dim, scale in zip(dims, scales, strict=True) if scale is not None}

    def axis(dim: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        scale = by_name.get(dim)
        if scale is None or scale.ndim != 1:
            return None
        return dataset(data.file, scale.name)[()], dict(scale.attrs)

    wanted = ("_FillValue", "missing_value", "units", "scale_factor", "add_offset", "_Unsigned")
    return described(
        path,
        data.name.lstrip("/"),
        shape=data.shape,
        dtype=data.dtype,
        read=functools.partial(_part, path, stamp(path), data.name),
        files=(path,),
        dims=dims if any(dims) else (),
        chunk=data.chunks or (),
        attributes={key: data.attrs[key] for key in wanted if key in data.attrs},
        axis=axis if data.ndim >= 3 else lambda _: None,
    )


def _part(path: Path, stamp: tuple[int, ...], name: str, part: tuple[slice, ...]) -> np.ndarray:
    with reading(path, "HDF5", (OSError, RuntimeError, KeyError)):
        return np.asarray(_file(path, stamp)[name][part])


# Opening a file for every clip would cost more than reading it; it was checked when its recordings were listed.
@functools.lru_cache(maxsize=8)
def _file(path: Path, stamp: tuple[int, ...]) -> Any:  # noqa: ARG001 -- a changed file is opened anew
    return require("h5py", extra="h5", what=path).File(path, "r", locking="best-effort", rdcc_nbytes=CACHE_BYTES)
