"""A sharded store of tensors, the one form of clips and banks at rest: Arrow files under a manifest that is written last.

A store is a folder with `manifest.json` and, for each split, ``SPLIT-00000.arrow``, ``SPLIT-00001.arrow``, ... in the Arrow IPC
file format, uncompressed, with a column for each tensor. A row is all that is kept of one clip. Files are memory-mapped: reading
copies nothing but the rows that are asked for, and memory does not grow with the data, for what is mapped is the page cache's.
Arrow notices hardly any flipped bit, so a file is checked against its SHA-256 before its bytes are first used in a process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoocast.config import digest, dump, load
from zoocast.errors import IntegrityError
from zoocast.store.files import inside, own_file, temporary_name
from zoocast.store.recorded import check_file
from zoocast.store.sealed import read_sealed, write_sealed

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Column",
    "Dtype",
    "Layout",
    "Manifest",
    "Shard",
    "TensorSplit",
    "Wording",
    "check_files",
    "read_manifest",
    "shard_name",
    "write_manifest",
    "write_shard",
]

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
# In batches of 64 rows random rows were gathered about as fast as memory is copied; 16 MiB bound what a writer holds, for one
# row of a large source's memories takes megabytes.
BATCH_ROWS = 64
BATCH_BYTES = 16 * 2**20

Dtype = Literal["uint8", "float16", "bfloat16", "float32"]
# Arrow and numpy know no bfloat16: its bits travel as uint16, and the manifest says what they mean.
AT_REST: Mapping[Dtype, Any] = {"uint8": np.uint8, "float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}


class Wording(NamedTuple):
    """What errors call a store, and what they tell people to do about a broken one."""

    noun: str
    remedy: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One tensor of every row: its name, its type, and its shape in a row."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of one row."""
        return math.prod(self.shape) * np.dtype(AT_REST[self.dtype]).itemsize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns, and how rows are cut into record batches and these into files.

    All files of a split but the last hold `shard_rows` rows, and all record batches but the very last `batch_rows`, so where a
    row lies follows from its number alone.
    """

    columns: tuple[Column, ...]
    batch_rows: int
    shard_rows: int

    @classmethod
    def of(cls, columns: Sequence[Column], *, shard_bytes: int, max_shard_rows: int | None = None) -> Layout:
        """Batches of at most 64 rows or 16 MiB in files of at most `shard_bytes` and `max_shard_rows`; at least one row."""
        row = sum(c.bytes for c in columns)
        batch = max(1, min(BATCH_ROWS, min(BATCH_BYTES, shard_bytes) // row))
        batches = shard_bytes // (batch * row)
        if max_shard_rows is not None:
            batches = min(batches, max_shard_rows // batch)
        return cls(columns=tuple(columns), batch_rows=batch, shard_rows=batch * max(1, batches))

    @property
    def row_bytes(self) -> int:
        """Of all columns together."""
        return sum(c.bytes for c in self.columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One finished file with the rows `start` to `start + rows - 1` of a split."""

    file: str
    split: str
    start: int
    rows: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished store holds. `recipe` is the canonical form of all that its user knows of how the numbers came about."""

    layout: Layout
    recipe: Any
    shards: tuple[Shard, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the recipe, the layout and all checksums: equal digests mean equal data."""
        return digest(self)

    @property
    def bytes(self) -> int:
        """Of all files but the manifest itself."""
        return sum(s.bytes for s in self.shards)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Rows by split."""
        sizes: dict[str, int] = {}
        for shard in self.shards:
            sizes[shard.split] = sizes.get(shard.split, 0) + shard.rows
        return sizes


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the store in `folder` whole, in one step that a crash cannot cut in half."""
    write_sealed(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "manifest": dump(manifest)})


def read_manifest(folder: Path, wording: Wording) -> Manifest:
    """The manifest of the store in `folder`.

    Raises:
        IntegrityError: it is missing, altered, names files elsewhere, or is of another version of the format.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise IntegrityError(f"{path} is missing, so this is no finished {wording.noun}; {wording.remedy}")

    def parse(record: dict[str, Any]) -> Manifest:
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {record['schema_version']!r}, but this zoocast reads {SCHEMA_VERSION}")
        manifest = load(Manifest, record["manifest"])
        for shard in manifest.shards:
            inside(folder, shard.file)
        _check_counts(manifest)
        return manifest

    return read_sealed(check_file(path), parse, remedy=wording.remedy)


def _check_counts(manifest: Manifest) -> None:
    """Raise `ValueError` for numbers that no writer writes, before memory is taken for as many rows as they promise."""
    layout = manifest.layout
    if layout.batch_rows < 1 or layout.shard_rows < 1 or layout.shard_rows % layout.batch_rows or layout.row_bytes < 1:
        raise ValueError(f"its files have {layout.shard_rows} rows of {layout.row_bytes} bytes in batches of {layout.batch_rows}")
    ends: dict[str, int] = {}
    for shard in sorted(manifest.shards, key=lambda s: s.start):
        # Nothing is compressed, so a file is at least as large as its rows; its length is compared before it is read.
        if shard.start != ends.get(shard.split, 0) or not 1 <= shard.rows <= layout.shard_rows:
            raise ValueError(f"{shard.file} has {shard.rows} rows from row {shard.start} on, which is not its place")
        if shard.rows * layout.row_bytes > shard.bytes:
            raise ValueError(f"{shard.file} has {shard.bytes} bytes, too few for {shard.rows} rows of {layout.row_bytes}")
        ends[shard.split] = shard.start + shard.rows


# -------------------------------------------------------------------------------------------------------------------- writing


def shard_name(layout: Layout, split: str, start: int) -> str:
    """The file with the rows of a split from `start` on."""
    return f"{split}-{start // layout.shard_rows:05d}.arrow"


def write_shard(folder: Path, layout: Layout, split: str, start: int, batches: Iterable[Mapping[str, Tensor]]) -> Shard:
    """Write record batches as they come into a file, which appears in `folder` when it is whole.

    Never more than one record batch is in memory, and equal rows give equal bytes.

    Args:
        folder: of the store; it exists.
        layout: of the store; the caller cuts rows as it says.
        split: of which the file holds a part.
        start: the number of its first row in the split.
        batches: at least one; for each the rows of every column, (rows, *shape), in its type on the CPU.

    Raises:
        OSError: the disk is full or cannot be written; nothing is left behind.
    """
    path = folder / shard_name(layout, split, start)
    # A name of its own: an actor that is taken for dead may still write the same file. `is_temporary` knows such names, so that
    # what a kill leaves is no file of the step.
    partial = temporary_name(path)
    try:
        with partial.open("xb") as raw:
            stream, writer, rows = _HashingStream(raw), None, 0
            for batch in batches:
                # Copies nothing: the arrays are the caller's tensors, which may be filled anew once the batch is written.
                record = pa.record_batch({c.name: _array(batch[c.name]) for c in layout.columns})
                writer = writer or pa.ipc.new_file(pa.PythonFile(stream, "w"), record.schema)
                writer.write_batch(record)
                rows += record.num_rows
            if writer is None:
                raise ValueError(f"{path} would have no rows")
            writer.close()
            # The manifest is flushed to the disk as well; after a power cut it must not outlive what it vouches for.
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return Shard(file=path.name, split=split, start=start, rows=rows, bytes=stream.size, sha256=stream.sha256.hexdigest())


def _array(rows: Tensor) -> pa.Array:
    bits = rows.view(torch.uint16) if rows.dtype is torch.bfloat16 else rows
    # Rows whose axes lie otherwise in memory would be kept so, as a permutation, which is not how they are read.
    return pa.FixedShapeTensorArray.from_numpy_ndarray(bits.contiguous().numpy())


class _HashingStream:
    """A file that is hashed while it is written: the checksum is of what was meant, not of what the disk gave back."""

    # Arrow asks a Python file for `closed`, `flush`, `tell` and `close`. Closing only marks: `raw` is still to be flushed.
    closed = False

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.raw.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.raw.flush()

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        self.closed = True


# -------------------------------------------------------------------------------------------------------------------- reading


class TensorSplit:
    """The rows of one split of the store in `folder`, gathered from memory-mapped files. Holds no file descriptors."""

    def __init__(self, folder: Path, manifest: Manifest, split: str, wording: Wording) -> None:
        self.folder, self.name, self.wording = folder, split, wording
        self._size, self._layout = manifest.sizes[split], manifest.layout
        self._columns = {c.name: c for c in manifest.layout.columns}
        self._shards = sorted((s for s in manifest.shards if s.split == split), key=lambda s: s.start)
        # One view per record batch and column, made when a row of its file is first asked for: opening a store maps nothing.
        num_batches = -(-self._size // self._layout.batch_rows)
        self._views: dict[str, list[np.ndarray | None]] = {name: [None] * num_batches for name in self._columns}

    def __len__(self) -> int:
        return self._size

    def gather(self, indices: Sequence[int], column: str) -> Tensor:
        """Copies of one column's rows in the order of `indices`: (B, *shape) in the column's type.

        Raises:
            IndexError: an index below 0 or beyond the split.
            IntegrityError: a file that is used for the first time does not match its checksum.
        """
        if indices and not 0 <= min(indices) <= max(indices) < self._size:
            raise IndexError(f"{self.name} has clips 0 to {self._size - 1}, but got {min(indices)} to {max(indices)}")
        views, rows, kept = self._views[column], self._layout.batch_rows, self._columns[column]
        # Flat rows, filled by numpy: torch's indexing, or numpy's of five axes, would cost up to half as much time as the copy.
        # numpy also asks the kernel for huge pages, without which page faults take several times as long as the copy.
        out = np.empty((len(indices), math.prod(kept.shape)), AT_REST[kept.dtype])
        for row, index in enumerate(indices):
            batch, offset = divmod(index, rows)
            view = views[batch]
            if view is None:
                view = self._map(batch, column)
            out[row] = view[offset]
        gathered = torch.from_numpy(out).view(len(indices), *kept.shape)
        return gathered.view(torch.bfloat16) if kept.dtype == "bfloat16" else gathered

    def _map(self, batch: int, column: str) -> np.ndarray:
        """Check and map the file with this record batch. Gives the batch's view, (rows, numbers in a row); nothing is copied."""
        batches_per_shard = self._layout.shard_rows // self._layout.batch_rows
        number = batch // batches_per_shard
        shard = self._shards[number]
        # Its arrays point into the mapping and keep it alive; the file itself is closed.
        reader = pa.ipc.open_file(_checked(self.folder / shard.file, shard, self.wording))
        for i in range(reader.num_record_batches):
            record = reader.get_batch(i)
            for name, views in self._views.items():
                tensor = record.column(name).to_numpy_ndarray()
                views[number * batches_per_shard + i] = tensor.reshape(len(tensor), -1)
        view = self._views[column][batch]
        assert view is not None
        return view


def check_files(folder: Path, manifest: Manifest, wording: Wording, *, verify: bool = False) -> None:
    """Raise `IntegrityError` if a file of the store is missing or truncated, or, with `verify`, does not match its checksum."""
    for shard in manifest.shards:
        if verify:
            _checked(folder / shard.file, shard, wording)
        else:
            _check_size(folder / shard.file, shard, wording)


def _check_size(path: Path, shard: Shard, wording: Wording) -> os.stat_result:
    try:
        status = own_file(path).stat()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror or error}); {wording.remedy}") from None
    if status.st_size != shard.bytes:
        raise IntegrityError(f"{path} has {status.st_size} bytes, but its manifest says {shard.bytes}; {wording.remedy}")
    return status


_verified: set[tuple[str, int, int, str]] = set()
"""Files that this process has read once and found whole, by path, inode, time of change and checksum."""


def _checked(path: Path, shard: Shard, wording: Wording) -> pa.Buffer:
    """The file as it lies in the page cache, after its bytes were checked, once per process. Holds no file descriptor."""
    status = _check_size(path, shard, wording)
    try:
        with pa.memory_map(str(path)) as file:
            mapped = file.read_buffer()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror or error}); {wording.remedy}") from None
    # A file that was replaced has another inode or time, and is read again.
    key = (str(path), status.st_ino, status.st_mtime_ns, shard.sha256)
    if key not in _verified:
        found = hashlib.sha256(mapped).hexdigest()
        if found != shard.sha256:
            raise IntegrityError(
                f"{path} is damaged: its SHA-256 is {found[:12]}..., but its manifest says {shard.sha256[:12]}...;"
                f" {wording.remedy}"
            )
        _verified.add(key)
    return mapped
