"""The clip store: every data set at rest, as a tensor store (`zoocast.arrow`) with one column `clip` and three splits.

A row of it is a clip, [time, channel, height, width], and its recipe says what a clip is and what made it. Where clips are of
several kinds, a column `kind` says which; reports ask for it, and what trains reads clips alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoocast import arrow
from zoocast.config import dump, load, setting
from zoocast.data.splits import SPLITS, Split
from zoocast.errors import DataError, InfrastructureError, IntegrityError
from zoocast.frames import FrameShape

__all__ = ["Channel", "ClipSplit", "ClipStore", "ClipsRecipe", "Dtype", "write_store"]

# Larger than a bank's files, which several actors share: clips are written by one process.
SHARD_BYTES = 256 * 2**20
CLIP = "clip"
KIND = "kind"
SEQUENCE = "sequence"
NUMBER = "<u4"  # of a recording, as four bytes of its column
REMEDY = "build the data again: delete that folder, or run with --force and the name of the data step"
WORDING = arrow.Wording("clip store", REMEDY)

Dtype = Literal["uint8", "float32"]
BRIGHTEST: Mapping[Dtype, int] = {"uint8": 255, "float32": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
    """What a channel's values of 0 to 1 stand for: ``offset + factor * value`` in `unit`."""

    name: str
    unit: str = ""
    offset: float = 0.0
    factor: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipsRecipe:
    """What the clips of a store are, and what made them.

    `generator` is JSON data: the name of the data set, its parameters, and the digest of the file that it was made from, if any.
    """

    shape: FrameShape
    length: int
    dtype: Dtype
    value_range: tuple[int, int]
    generator: Mapping[str, Any]
    kinds: tuple[str, ...] = setting((), "names of the kinds of clips, by the numbers in the column `kind`", added=True)
    channels: tuple[Channel, ...] = setting((), "what each channel stands for; none: nothing is known", added=True)


# -------------------------------------------------------------------------------------------------------------------- reading


class ClipStore:
    """A finished store, opened for reading with `ClipStore.open`."""

    def __init__(self, path: Path, manifest: arrow.Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.recipe = load(ClipsRecipe, manifest.recipe)

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> ClipStore:
        """Open the store in the folder `path`.

        The manifest and the presence and size of every file are checked at once; the bytes of a shard when it is first used, or,
        with `verify`, all of them now.

        Raises:
            IntegrityError: a file is missing, truncated, altered, or of another version of the format.
        """
        folder = Path(path).absolute()
        manifest = arrow.read_manifest(folder, WORDING)
        arrow.check_files(folder, manifest, WORDING, verify=verify)
        return cls(folder, manifest)

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the manifest, the checksums of all clips among it."""
        return self.manifest.digest

    @property
    def shape(self) -> FrameShape:
        """Shape of each frame."""
        return self.recipe.shape

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self.recipe.length

    def physical(self, frames: np.ndarray) -> np.ndarray:
        """Frames of 0 to 1, (..., C, H, W), float64 in the units of the recipe's channels, or as they are without any."""
        channels = self.recipe.channels or tuple(Channel(name=str(i)) for i in range(self.shape.channels))
        offset, factor = (np.array([getattr(c, of) for c in channels])[:, None, None] for of in ("offset", "factor"))
        return offset + factor * frames.astype(np.float64)

    def split(self, name: Split) -> ClipSplit:
        """The clips of "train", "validation" or "test"."""
        if name not in self.manifest.sizes:
            raise KeyError(f"no split {name!r}; there are {', '.join(SPLITS)}")
        return ClipSplit(self, name)


class ClipSplit:
    """The clips of one split, read from memory-mapped files. Travels to other processes as its path and digest."""

    def __init__(self, store: ClipStore, name: Split) -> None:
        self.store = store
        self.name = name
        self._rows = arrow.TensorSplit(store.path, store.manifest, name, WORDING)

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping cannot be sent. The digest tells the receiver whether it opened what was meant.
        return _reopen, (self.store.path, self.name, self.store.digest)

    @property
    def shape(self) -> FrameShape:
        """Shape of each frame."""
        return self.store.shape

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self.store.length

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of every clip, by name; empty if the store keeps none. For reports, never for training."""
        names = self.store.recipe.kinds
        return tuple(names[kind] for kind in self._rows.gather(range(len(self)), KIND).flatten().tolist()) if names else ()

    @functools.cached_property
    def sequences(self) -> tuple[int, ...]:
        """For every clip the number of the recording that it was cut from; empty if the store keeps none.

        Clips of one recording are not independent of each other: an interval over clips takes them together.
        """
        if SEQUENCE not in {column.name for column in self.store.manifest.layout.columns}:
            return ()
        return tuple(self._rows.gather(range(len(self)), SEQUENCE).numpy().view(NUMBER).flatten().tolist())

    def gather(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Copies of the clips at `indices`, in that order, as they are at rest: (B, T, C, H, W) uint8 or float32.

        Raises:
            IndexError: an index below 0 or beyond the split.
            IntegrityError: a shard that is used for the first time does not match its checksum.
        """
        return self._rows.gather(np.asarray(indices, np.int64).tolist(), CLIP)

    def clips(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """The clips at `indices` for a network: (B, T, C, H, W) float32 in [0, 1]. Raises as `gather` does."""
        gathered = self.gather(indices)
        return gathered.to(torch.float32).div_(255) if gathered.dtype is torch.uint8 else gathered


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
    kinds: Mapping[Split, Sequence[str]] | None = None,
    sequences: Mapping[Split, Iterable[int]] | None = None,
    channels: Sequence[Channel] = (),
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
        kinds: for each split the kind of each of its clips, by name, at most 256 different ones; None: nothing is kept of kinds.
        sequences: for each split the number of the recording that each of its clips was cut from, asked for after the clip; None:
            nothing is kept of recordings.
        channels: what each channel stands for; empty: nothing is kept of it.
        shard_bytes: bound of the clips' bytes in one file.

    Raises:
        DataError: an empty split, or a float outside [0, 1].
        InfrastructureError: the disk is full or cannot be written.
    """
    if set(splits) != set(SPLITS):
        raise ValueError(f"a store has the splits {', '.join(SPLITS)}, but got {', '.join(splits)}")
    columns = [arrow.Column(name=CLIP, dtype=dtype, shape=(length, shape.channels, shape.height, shape.width))]
    names = tuple(dict.fromkeys(kind for split in SPLITS for kind in kinds[split])) if kinds else ()
    numbers = {split: [names.index(kind) for kind in kinds[split]] for split in SPLITS} if kinds else {}
    if kinds:
        columns.append(arrow.Column(name=KIND, dtype="uint8", shape=(1,)))
    if sequences:
        columns.append(arrow.Column(name=SEQUENCE, dtype="uint8", shape=(4,)))
    layout = arrow.Layout.of(columns, shard_bytes=shard_bytes)
    recipe = ClipsRecipe(
        shape=shape,
        length=length,
        dtype=dtype,
        value_range=(0, BRIGHTEST[dtype]),
        generator=generator,
        kinds=names,
        channels=tuple(channels),
    )
    try:
        path.mkdir(parents=True, exist_ok=True)
        # The manifest goes first: a crash among the files then leaves a store that cannot be opened.
        for old in [path / arrow.MANIFEST, *(f for s in SPLITS for f in path.glob(f"{s}-*.arrow"))]:
            old.unlink(missing_ok=True)
        of = sequences or {}
        rows = {split: _rows(split, splits[split], columns[0], numbers.get(split), of.get(split)) for split in SPLITS}
        shards = tuple(shard for split in SPLITS for shard in _write_split(path, split, rows[split], layout))
        arrow.write_manifest(path, arrow.Manifest(layout=layout, recipe=dump(recipe, added=False), shards=shards))
    except OSError as error:
        raise InfrastructureError(
            f"cannot write clips to {path} ({error.strerror or error}); free space or choose another --root"
        ) from error
    return ClipStore.open(path)


def _rows(
    split: Split,
    clips: Iterable[np.ndarray],
    column: arrow.Column,
    kinds: Sequence[int] | None,
    sequences: Iterable[int] | None,
) -> Iterator[dict[str, np.ndarray]]:
    """Every clip, checked, and the numbers of its kind and recording, written where the layout has a column for them."""
    nothing = itertools.repeat(0)
    pairs = zip(clips, nothing, strict=False) if kinds is None else itertools.zip_longest(clips, kinds)
    for index, ((clip, kind), sequence) in enumerate(zip(pairs, nothing if sequences is None else sequences, strict=False)):
        if clip is None or kind is None:
            than = "fewer" if clip is None else "more"
            raise ValueError(f"{split} has {than} clips than the {len(kinds or ())} kinds that are given; each clip has one kind")
        yield {
            CLIP: _checked(clip, column, f"clip {index} of {split}"),
            KIND: np.array([kind], np.uint8),
            SEQUENCE: np.array([sequence], NUMBER).view(np.uint8),
        }


def _write_split(path: Path, name: Split, rows: Iterator[dict[str, np.ndarray]], layout: arrow.Layout) -> Iterator[arrow.Shard]:
    # How many clips there are is known only when they end, so a file is begun with the first clip that it is to hold.
    for start in itertools.count(step=layout.shard_rows):
        batches = _batches(itertools.islice(rows, layout.shard_rows), layout.batch_rows)
        if (first := next(batches, None)) is None:
            break
        yield arrow.write_shard(path, layout, name, start, itertools.chain([first], batches))
    if not start:
        raise DataError(f"the {name} split has no clip; every split needs at least 1")


def _batches(rows: Iterator[dict[str, np.ndarray]], size: int) -> Iterator[dict[str, Tensor]]:
    while chunk := list(itertools.islice(rows, size)):
        yield {name: torch.from_numpy(np.stack([row[name] for row in chunk])) for name in chunk[0]}


def _checked(clip: np.ndarray, column: arrow.Column, where: str) -> np.ndarray:
    if clip.shape != column.shape or clip.dtype != column.dtype:
        raise ValueError(f"{where} is {clip.dtype} {list(clip.shape)}, but the store holds {column.dtype} {list(column.shape)}")
    if column.dtype == "float32" and (missing := np.count_nonzero(~np.isfinite(clip))):
        raise DataError(f"{where} has {missing:,} missing values (NaN or infinite); fill them in, or leave the clip out")
    if column.dtype == "float32" and not (clip.min() >= 0 and clip.max() <= 1):
        raise DataError(f"{where} has values from {clip.min()} to {clip.max()}; float clips must lie between 0 and 1: scale them")
    return clip
