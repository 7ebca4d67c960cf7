"""zarr of both formats, 2 and 3, in a folder or a zip. Only codecs that pack numbers are used: one that is known unpickles."""

from __future__ import annotations

import functools
import math
import warnings
import zipfile
from collections.abc import Iterable
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

__all__ = ["is_zarr", "open_zarr"]

METADATA = (".zarray", ".zgroup", ".zmetadata", "zarr.json")
CODECS = {
    *("bytes", "transpose", "sharding_indexed", "gzip", "zlib", "zstd", "blosc", "lz4", "bz2", "lzma", "crc32", "crc32c"),
    *(
        "adler32",
        "fletcher32",
        "jenkins_lookup3",
        "shuffle",
        "delta",
        "fixedscaleoffset",
        "quantize",
        "bitround",
        "astype",
        "packbits",
    ),
}


def is_zarr(path: Path) -> bool:
    """Whether the folder, or the zip, is a zarr store."""
    if path.is_dir():
        return any((path / name).is_file() for name in METADATA)
    with reading(path, "a zip"), zipfile.ZipFile(path) as archive:
        return any(name in METADATA for name in archive.namelist())


def open_zarr(path: Path, layout: str, variable: str, *, name: str, group: str = "") -> Opened:
    """The recordings in one array of a zarr store, or in all of a group.

    Raises:
        ConfigError: zarr is not installed; or as `open_chosen`.
        DataError: metadata that are damaged or absurd, or codecs that are not known to be harmless; or as `open_chosen`.
    """
    with reading(path, "zarr"):
        found: dict[str, Stored | DataError] = {}
        for each, array in _arrays(path, _stamp(path)).items():
            try:
                found[each] = _stored(path, each, array)
            except DataError as error:
                found[each] = error
    return open_chosen(path, found, variable, layout, name=name, group=group)


def _stamp(path: Path) -> tuple[int, ...]:
    return stamp(path) + tuple(n for name in METADATA if (path / name).is_file() for n in stamp(path / name))


@functools.lru_cache(maxsize=8)
def _arrays(path: Path, stamp: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG001 -- a changed store is opened anew
    zarr = require("zarr", extra="zarr", what=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the specification does not say yet
        store = zarr.storage.LocalStore(path, read_only=True) if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        opened = zarr.open(store, mode="r")
        if isinstance(opened, zarr.Array):
            return {path.stem: opened}
        return {name: member for name, member in sorted(opened.members(max_depth=None)) if isinstance(member, zarr.Array)}


def _stored(path: Path, name: str, array: Any) -> Stored:
    what = f"{path}: {name}"
    _check(array, what)
    metadata, attributes = array.metadata, dict(array.attrs)
    dims = getattr(metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS") or ()
    folder = path / array.path if path.is_dir() else path
    files = tuple(sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else (path,)
    beside, arrays = name.rpartition("/")[0], _arrays(path, _stamp(path))
    if metadata.zarr_format == 2 and metadata.fill_value:  # zero is what is written where nobody chose a value
        attributes.setdefault("_FillValue", metadata.fill_value)

    def axis(dim: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        found = arrays.get(f"{beside}/{dim}".lstrip("/"))
        if found is None or found.ndim != 1:
            return None
        _check(found, f"{path}: {dim}")
        return np.asarray(found[:]), dict(found.attrs)

    return described(
        path,
        name,
        shape=array.shape,
        dtype=np.dtype(array.dtype),
        read=functools.partial(_part, path, _stamp(path), name),
        files=files,
        dims=tuple(str(dim or "") for dim in dims),
        chunk=array.chunks,
        attributes=attributes,
        axis=axis if array.ndim >= 3 else lambda _: None,
    )


def _check(array: Any, what: str) -> None:
    """Raise `DataError` unless it is of plain numbers, packed by known codecs in chunks that fit, and as large as it says."""
    check_numbers(np.dtype(array.dtype), what)
    if unknown := sorted(set(_codecs(array.metadata)) - CODECS):
        raise DataError(f"{what} is packed by {', '.join(unknown)}; only codecs that pack numbers are used: write it with blosc")
    chunk = math.prod(array.chunks) * np.dtype(array.dtype).itemsize
    if chunk > MOST_CHUNK_BYTES:
        raise DataError(
            f"{what} is packed in chunks of {human_bytes(chunk)}, which are unpacked whole; at most"
            f" {human_bytes(MOST_CHUNK_BYTES)} are: write it in smaller ones"
        )
    check_promise(array.shape, np.dtype(array.dtype), array.nbytes_stored(), what)


def _codecs(metadata: Any) -> Iterable[str]:
    """The names of all that values go through, those within shards included."""
    if metadata.zarr_format == 2:
        yield from (codec.codec_id for codec in (*(metadata.filters or ()), metadata.compressor) if codec is not None)
        return
    pending = [codec.to_dict() for codec in metadata.codecs]
    while pending:
        codec = pending.pop()
        yield codec["name"].removeprefix("numcodecs.")
        inner = codec.get("configuration", {})
        pending += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]


def _part(path: Path, stamp: tuple[int, ...], name: str, part: tuple[slice, ...]) -> np.ndarray:
    with reading(path, "zarr"):
        return np.asarray(_arrays(path, stamp)[name][part])
