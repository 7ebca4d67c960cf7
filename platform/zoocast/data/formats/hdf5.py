"""HDF5, opened so that a file cannot lead elsewhere: no links to other files, no objects, no shapes beyond what is stored."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoocast.data.formats.extra import require
from zoocast.data.formats.trust import MOST_CHUNK_BYTES, check_numbers, check_promise, reading
from zoocast.errors import DataError
from zoocast.store.files import human_bytes

__all__ = ["SIGNATURE", "dataset", "opened"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"


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
