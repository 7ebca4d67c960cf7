"""The clip store, the one form of all data at rest: Arrow files, memory-mapped, under a manifest that is written last.

A store is a folder with `manifest.json` and, for each split, `SPLIT-00000.arrow`, `SPLIT-00001.arrow`, ... in the Arrow IPC file
format, uncompressed, with one column `clip` of tensors [time, channel, height, width]. Reading copies nothing but the clips that
are asked for, and memory does not grow with the size of the data: what is mapped belongs to the page cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoocast.data.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Dtype,
    Manifest,
    Shard,
    check_bytes,
    check_size,
    read_manifest,
    write_manifest,
)
from zoocast.data.splits import SPLITS, Split
from zoocast.errors import DataError, InfrastructureError, IntegrityError
from zoocast.frames import FrameShape

__all__ = ["ClipSplit", "ClipStore", "write_store"]

SHARD_BYTES = 256 * 2**20
BATCH_CLIPS = 64
BATCH_BYTES = 64 * 2**20
BRIGHTEST: Mapping[Dtype, int] = {"uint8": 255, "float32": 1}


# -------------------------------------------------------------------------------------------------------------------- reading


class ClipStore:
    """A finished store, opened for reading with `ClipStore.open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> ClipStore:
        """Open the store in the folder `path`.

        The manifest and the presence and size of every file are checked at once; the bytes of a shard when it is first used, or,
        with `verify`, all of them now.

        Raises:
            IntegrityError: a file is missing, truncated, altered, or of another version of the format.
        """
        folder = Path(path).absolute()
        store = cls(folder, read_manifest(folder))
        for shard in itertools.chain(*store.manifest.splits.values()):
            check_size(folder / shard.file, shard)
            if verify:
                check_bytes(folder / shard.file, shard)
        return store

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest, the checksums of all clips among it."""
        return self.manifest.digest

    @property
    def shape(self) -> FrameShape:
        """Shape of each frame."""
        return self.manifest.shape

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self.manifest.length

    def split(self, name: Split) -> ClipSplit:
        """The clips of "train", "validation" or "test"."""
        if name not in self.manifest.splits:
            raise KeyError(f"no split {name!r}; there are {', '.join(SPLITS)}")
        return ClipSplit(self, name)


class ClipSplit:
    """The clips of one split, read from memory-mapped files. Travels to other processes as its path and digest."""

    def __init__(self, store: ClipStore, name: Split) -> None:
        self.store = store
        self.name = name
        self._shards = store.manifest.splits[name]
        self._shard_clips = self._shards[0].clips
        self._size = store.manifest.sizes[name]
        self._clip = (store.length, store.shape.channels, store.shape.height, store.shape.width)
        self._dtype: torch.dtype = getattr(torch, store.manifest.dtype)
        self._views: list[list[np.ndarray] | None] = [None] * len(self._shards)

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.store.path, self.name, self.store.digest)

    @property
    def shape(self) -> FrameShape:
        """Shape of each frame."""
        return self.store.shape

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self.store.length

    def gather(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Copies of the clips at `indices`, in that order, as they are at rest: (B, T, C, H, W) uint8 or float32.

        Raises:
            IndexError: an index below 0 or beyond the split.
            IntegrityError: a shard that is used for the first time does not match its checksum.
        """
        wanted = np.asarray(indices, np.int64).tolist()
        if wanted and not 0 <= min(wanted) <= max(wanted) < self._size:
            raise IndexError(f"{self.name} has clips 0 to {self._size - 1}, but got {min(wanted)} to {max(wanted)}")
        # Flat rows, filled by numpy: torch's indexing, or numpy's of five axes, would cost up to half as much time as the copy.
        flat = torch.empty((len(wanted), math.prod(self._clip)), dtype=self._dtype)
        out = flat.numpy()
        for row, index in enumerate(wanted):
            shard, offset = divmod(index, self._shard_clips)
            batches = self._views[shard] or self._map(shard)
            batch, offset = divmod(offset, len(batches[0]))
            out[row] = batches[batch][offset]
        return flat.view(len(wanted), *self._clip)

    def clips(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """The clips at `indices` for a network: (B, T, C, H, W) float32 in [0, 1]. Raises as `gather` does."""
        gathered = self.gather(indices)
        return gathered.to(torch.float32).div_(255) if gathered.dtype is torch.uint8 else gathered

    def _map(self, number: int) -> list[np.ndarray]:
        """Views of the record batches of a shard, each [clips, T * C * H * W], that copy nothing."""
        shard = self._shards[number]
        file = self.store.path / shard.file
        check_bytes(file, shard)
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        tensors = (reader.get_batch(i).column("clip").to_numpy_ndarray() for i in range(reader.num_record_batches))
        batches = [tensor.reshape(len(tensor), -1) for tensor in tensors]
        self._views[number] = batches
        return batches


def _reopen(path: Path, name: Split, digest: str) -> ClipSplit:
    store = ClipStore.open(path)
    if store.digest != digest:
        raise IntegrityError(
            f"{path} was replaced while it was in use: its digest was {digest[:12]}, now {store.digest[:12]}; start again"
        )
    return store.split(name)


# -------------------------------------------------------------------------------------------------------------------- writing


def write_store(
    path: Path,
    splits: Mapping[Split, Iterable[np.ndarray]],
    *,
    shape: FrameShape,
    length: int,
    dtype: Dtype,
    generator: Mapping[str, Any],
    shard_bytes: int = SHARD_BYTES,
) -> ClipStore:
    """Write clips, as they come, into the folder `path`, and open the result. The same clips give the same bytes.

    Never more than one record batch is in memory. The manifest is written last, so an unfinished store cannot be opened.

    Args:
        path: a folder; made if missing. What an earlier attempt left there is replaced.
        splits: for each of train, validation and test its clips, arrays [length, channels, height, width] of `dtype`.
        shape: of each frame.
        length: frames in each clip.
        dtype: uint8 for 0 to 255, float32 for 0 to 1.
        generator: JSON data that say what made the clips: a name and its parameters.
        shard_bytes: bound of the clips' bytes in one file.

    Raises:
        DataError: an empty split, or a float outside [0, 1].
        InfrastructureError: the disk is full or cannot be written.
    """
    if set(splits) != set(SPLITS):
        raise ValueError(f"a store has the splits {', '.join(SPLITS)}, but got {', '.join(splits)}")
    layout = _Layout(shape=shape, length=length, dtype=dtype, shard_bytes=shard_bytes)
    try:
        path.mkdir(parents=True, exist_ok=True)
        for old in [path / MANIFEST, *(f for s in SPLITS for f in path.glob(f"{s}-*.arrow"))]:
            old.unlink(missing_ok=True)
        shards = {name: tuple(_write_split(path, name, splits[name], layout)) for name in SPLITS}
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            shape=shape,
            length=length,
            dtype=dtype,
            value_range=(0, BRIGHTEST[dtype]),
            sizes={name: sum(s.clips for s in shards[name]) for name in SPLITS},
            splits=shards,
            generator=generator,
        )
        write_manifest(path, manifest)
    except OSError as error:
        raise InfrastructureError(
            f"cannot write clips to {path} ({error.strerror or error}); free space or choose another --root"
        ) from error
    return ClipStore.open(path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
    shape: FrameShape
    length: int
    dtype: Dtype
    shard_bytes: int

    @property
    def clip(self) -> tuple[int, int, int, int]:
        return self.length, self.shape.channels, self.shape.height, self.shape.width

    @property
    def clip_bytes(self) -> int:
        return math.prod(self.clip) * np.dtype(self.dtype).itemsize

    @property
    def batch_clips(self) -> int:
        return max(1, min(BATCH_CLIPS, min(BATCH_BYTES, self.shard_bytes) // self.clip_bytes))

    @property
    def batches_per_shard(self) -> int:
        return max(1, self.shard_bytes // (self.batch_clips * self.clip_bytes))

    def checked(self, clip: np.ndarray, where: str) -> np.ndarray:
        if clip.shape != self.clip or clip.dtype != self.dtype:
            raise ValueError(f"{where} is {clip.dtype} {list(clip.shape)}, but the store holds {self.dtype} {list(self.clip)}")
        if self.dtype == "float32" and not (clip.min() >= 0 and clip.max() <= 1):
            raise DataError(f"{where} has values from {clip.min()} to {clip.max()}; float clips must lie between 0 and 1")
        return clip


def _write_split(path: Path, name: Split, clips: Iterable[np.ndarray], layout: _Layout) -> Iterator[Shard]:
    checked = (layout.checked(clip, f"clip {i} of {name}") for i, clip in enumerate(clips))
    batches = (np.stack(chunk) for chunk in _chunks(checked, layout.batch_clips))
    number = 0
    for number, first in enumerate(batches, start=1):
        file = path / f"{name}-{number - 1:05d}.arrow"
        rest = itertools.islice(batches, layout.batches_per_shard - 1)
        yield _write_shard(file, itertools.chain([first], rest))
    if not number:
        raise DataError(f"the {name} split has no clip; every split needs at least 1")


def _chunks(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _write_shard(file: Path, batches: Iterator[np.ndarray]) -> Shard:
    count = 0
    with file.open("wb") as raw:
        stream = _HashingStream(raw)
        first = _record_batch(next(batches))
        with pa.ipc.new_file(pa.PythonFile(stream, "w"), first.schema) as writer:
            for batch in itertools.chain([first], map(_record_batch, batches)):
                writer.write_batch(batch)
                count += batch.num_rows
        raw.flush()
        os.fsync(raw.fileno())
    return Shard(file=file.name, clips=count, bytes=stream.size, sha256=stream.sha256.hexdigest())


def _record_batch(clips: np.ndarray) -> pa.RecordBatch:
    return pa.record_batch([pa.FixedShapeTensorArray.from_numpy_ndarray(clips)], names=["clip"])


class _HashingStream:
    """A file that is hashed while it is written: the checksum is of what was meant, not of what the disk gave back."""

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
