"""A memory bank at rest: Arrow files of tensors, memory-mapped, under a manifest that is written last.

A bank is a folder with `manifest.json` and a file ``source-0/train-00000.arrow`` for each source, split and range of clips, in
the Arrow IPC file format, uncompressed, with one column per kept memory and direction. A row is a clip: (steps, channels,
height, width). Arrow notices hardly any flipped bit, so a file is checked against its SHA-256 before its bytes are first used
in a process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoocast.bank.config import BankConfig
from zoocast.config import digest, dump, load
from zoocast.data.splits import Split
from zoocast.errors import ConfigError, IntegrityError
from zoocast.store.files import inside, own_file, sha256_file, write_atomically

__all__ = [
    "MANIFEST",
    "REMEDY",
    "Column",
    "Manifest",
    "Recipe",
    "Shard",
    "SplitReader",
    "StoredSource",
    "StoredSplit",
    "column_name",
    "read_manifest",
    "write_manifest",
    "write_shard",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REMEDY = "build the bank again with --force bank"
SHARD_BYTES = 64 * 2**20
BATCH_BYTES = 16 * 2**20
BATCH_ROWS = 64

Dtype = Literal["float16", "bfloat16", "float32"]
# Arrow and numpy know no bfloat16: its bits travel as uint16, and the manifest says what they mean.
AT_REST: Mapping[Dtype, Any] = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One memory of a source's layer in one direction of time; `shape` is (steps, channels, height, width) of a clip."""

    layer: int
    memory: str
    reversed: bool
    shape: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        """Of the Arrow column."""
        return column_name(self.layer, self.memory, self.reversed)


def column_name(layer: int, memory: str, reverse: bool) -> str:
    """Of the Arrow column that holds one memory of a source's layer in one direction of time."""
    return f"{layer}.{memory}.{'reversed' if reverse else 'forward'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSource:
    """A source: its name, the SHA-256 of its configuration and weights, and what is kept of it."""

    name: str
    digest: str
    columns: tuple[Column, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """A split of the target's clips and how many they are."""

    name: Split
    clips: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a bank's numbers depend on, and with it the exact size and cut of its files."""

    config: BankConfig
    observed: int
    clips_digest: str
    sources: tuple[StoredSource, ...]
    splits: tuple[StoredSplit, ...]

    def row_bytes(self, source: int) -> int:
        """Bytes of everything that is kept of one clip's memories in one source."""
        itemsize = np.dtype(AT_REST[self.config.dtype]).itemsize
        return sum(math.prod(c.shape) for c in self.sources[source].columns) * itemsize

    def batch_rows(self, source: int) -> int:
        """Clips in one record batch."""
        return max(1, min(BATCH_ROWS, BATCH_BYTES // self.row_bytes(source)))

    def shard_rows(self, source: int) -> int:
        """Clips in one file: whole record batches, together at most SHARD_BYTES and at most two full ones."""
        batch = self.batch_rows(source)
        return batch * max(1, min(2 * BATCH_ROWS // batch, SHARD_BYTES // (batch * self.row_bytes(source))))

    @property
    def payload_bytes(self) -> int:
        """Bytes of all memories together; each file adds a few KiB to them."""
        return sum(s.clips for s in self.splits) * sum(map(self.row_bytes, range(len(self.sources))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One finished file with the memories of one source for the clips `start` to `start + rows - 1` of a split."""

    file: str
    source: int
    split: Split
    start: int
    rows: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished bank holds."""

    schema_version: int
    recipe: Recipe
    shards: tuple[Shard, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the recipe and all checksums: equal digests mean equal memories."""
        return digest(self)

    @property
    def bytes(self) -> int:
        """Of all files but the manifest itself."""
        return sum(s.bytes for s in self.shards)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Make the bank in `directory` whole."""
    record = {"sha256": manifest.digest, "manifest": dump(manifest)}
    write_atomically(directory / MANIFEST, json.dumps(record, indent=1) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the bank in `directory`.

    Raises:
        IntegrityError: it is missing, altered, or of another version of the format.
    """
    path = directory / MANIFEST
    try:
        record = json.loads(own_file(path).read_bytes())
        version = record["manifest"]["schema_version"]
        if version != SCHEMA_VERSION:
            raise IntegrityError(f"{path} has schema version {version!r}, but this zoocast reads {SCHEMA_VERSION}; {REMEDY}")
        manifest = load(Manifest, record["manifest"])
        if manifest.digest != record["sha256"]:
            raise IntegrityError(f"{path} was changed: it does not match its own checksum; {REMEDY}")
        for shard in manifest.shards:
            inside(directory, shard.file)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing, so this is no finished bank; {REMEDY}") from None
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise IntegrityError(f"{path} cannot be read ({error}); {REMEDY}") from None
    return manifest


# -------------------------------------------------------------------------------------------------------------------- writing


def write_shard(path: Path, columns: Sequence[Column], batches: Iterable[Mapping[str, Tensor]]) -> tuple[int, str]:
    """Write record batches as they come into `path`, which appears when it is whole. Gives its size and SHA-256.

    Args:
        path: of the file.
        columns: in the order in which they are stored.
        batches: for each record batch the rows of every column, (rows, *shape), in the bank's dtype on the CPU.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with pa.OSFile(str(partial), "wb") as sink:
            writer = None
            for batch in batches:
                record = pa.record_batch({c.name: _array(batch[c.name]) for c in columns})
                writer = writer or pa.ipc.new_file(sink, record.schema)
                writer.write_batch(record)
            if writer is not None:
                writer.close()
        size, sha256 = partial.stat().st_size, sha256_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return size, sha256


def _array(rows: Tensor) -> pa.Array:
    bits = rows.view(torch.uint16) if rows.dtype is torch.bfloat16 else rows
    return pa.FixedShapeTensorArray.from_numpy_ndarray(bits.numpy())


# -------------------------------------------------------------------------------------------------------------------- reading


class SplitReader:
    """The memories of one source for the clips of one split, gathered from memory-mapped files."""

    def __init__(self, directory: Path, manifest: Manifest, source: int, split: Split) -> None:
        recipe = manifest.recipe
        self.directory, self.dtype, self.split = directory, recipe.config.dtype, split
        self.clips = next(s.clips for s in recipe.splits if s.name == split)
        self.batch_rows = recipe.batch_rows(source)
        # All files but the last hold the same number of full record batches, so a clip's batch follows from its index alone.
        self._batches_per_shard = recipe.shard_rows(source) // self.batch_rows
        self._shards = sorted((s for s in manifest.shards if s.source == source and s.split == split), key=lambda s: s.start)
        num_batches = -(-self.clips // self.batch_rows)
        self._shapes = {c.name: c.shape for c in recipe.sources[source].columns}
        self._views: dict[str, list[np.ndarray | None]] = {name: [None] * num_batches for name in self._shapes}

    def gather(self, indices: Sequence[int], column: str) -> Tensor:
        """Copies of one column's rows in the order of `indices`: (B, steps, channels, height, width) in the bank's dtype.

        Raises:
            IndexError: an index below 0 or beyond the split.
            IntegrityError: a file that is used for the first time does not match its checksum.
        """
        if indices and not 0 <= min(indices) <= max(indices) < self.clips:
            raise IndexError(
                f"the bank has clips 0 to {self.clips - 1} of {self.split}, but got {min(indices)} to {max(indices)}"
            )
        views, rows = self._views[column], self.batch_rows
        # numpy asks the kernel for huge pages, without which page faults take several times as long as the copy.
        out = np.empty((len(indices), *self._shapes[column]), AT_REST[self.dtype])
        for row, index in enumerate(indices):
            view = views[index // rows]
            if view is None:
                view = self._open(index // rows, column)
            out[row] = view[index % rows]
        gathered = torch.from_numpy(out)
        return gathered.view(torch.bfloat16) if self.dtype == "bfloat16" else gathered

    def _open(self, batch: int, column: str) -> np.ndarray:
        """Check and map the file with this record batch. Gives the batch's view, (rows, *shape); nothing is copied."""
        shard = batch // self._batches_per_shard
        reader = pa.ipc.open_file(_map(self.directory / self._shards[shard].file, self._shards[shard]))
        for i in range(reader.num_record_batches):
            record = reader.get_batch(i)
            for name, views in self._views.items():
                views[shard * self._batches_per_shard + i] = record.column(name).to_numpy_ndarray()
        view = self._views[column][batch]
        assert view is not None
        return view


def _map(path: Path, shard: Shard) -> pa.Buffer:
    """The file as it lies in the page cache, after its bytes were checked. Holds no file descriptor."""
    try:
        size = own_file(path).stat().st_size
        if size != shard.bytes:
            raise IntegrityError(f"bank file {path} has {size} bytes, but its manifest says {shard.bytes}; {REMEDY}")
        with pa.memory_map(str(path)) as file:
            mapped = file.read_buffer()
    except OSError as error:
        raise IntegrityError(f"bank file {path} cannot be read ({error.strerror or error}); {REMEDY}") from None
    found = hashlib.sha256(mapped).hexdigest()
    if found != shard.sha256:
        raise IntegrityError(
            f"bank file {path} is damaged: its SHA-256 is {found[:12]}..., but its manifest says {shard.sha256[:12]}...; {REMEDY}"
        )
    return mapped
