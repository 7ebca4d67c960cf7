"""A bank at rest: what is written is read, and what was damaged is never used."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoocast.bank.config import BankConfig
from zoocast.bank.shards import (
    MANIFEST,
    SCHEMA_VERSION,
    Column,
    Manifest,
    Recipe,
    Shard,
    SplitReader,
    StoredSource,
    StoredSplit,
    read_manifest,
    write_manifest,
    write_shard,
)
from zoocast.errors import IntegrityError

CLIPS = 150  # files of 128 and 22 rows; the first has record batches of 64 and 64
SHAPE = (2, 3, 2, 2)
COLUMNS = tuple(Column(layer=1, memory="c", reversed=r, shape=SHAPE) for r in (False, True))


def make_recipe(dtype: str = "float16", shape: tuple[int, int, int, int] = SHAPE, clips: int = CLIPS) -> Recipe:
    columns = tuple(Column(layer=c.layer, memory=c.memory, reversed=c.reversed, shape=shape) for c in COLUMNS)
    return Recipe(
        config=BankConfig(dtype=dtype, reversed=True),  # type: ignore[arg-type]
        observed=1,
        clips_digest="0" * 64,
        sources=(StoredSource(name="digits", digest="1" * 64, columns=columns),),
        splits=(StoredSplit(name="train", clips=clips),),
    )


def write_bank(directory: Path, recipe: Recipe) -> dict[str, Tensor]:
    """A finished bank of random numbers, and those numbers by column."""
    generator = torch.Generator().manual_seed(0)
    (split,), (source,) = recipe.splits, recipe.sources
    shape = source.columns[0].shape
    dtype = getattr(torch, recipe.config.dtype)
    rows = {c.name: torch.randn(split.clips, *shape, generator=generator).to(dtype) for c in source.columns}
    directory.mkdir(exist_ok=True)
    shards = []
    for start in range(0, split.clips, recipe.shard_rows(0)):
        stop = min(start + recipe.shard_rows(0), split.clips)
        cuts = range(start, stop, recipe.batch_rows(0))
        batches = [{n: t[c : min(c + recipe.batch_rows(0), stop)] for n, t in rows.items()} for c in cuts]
        file = f"train-{start}.arrow"
        size, sha256 = write_shard(directory / file, source.columns, batches)
        shards.append(Shard(file=file, source=0, split="train", start=start, rows=stop - start, bytes=size, sha256=sha256))
    write_manifest(directory, Manifest(schema_version=SCHEMA_VERSION, recipe=recipe, shards=tuple(shards)))
    return rows


def reader(directory: Path) -> SplitReader:
    return SplitReader(directory, read_manifest(directory), 0, "train")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_rows_come_back_bit_for_bit_in_any_order(tmp_path: Path, dtype: str) -> None:
    rows = write_bank(tmp_path, make_recipe(dtype))
    indices = [149, 0, 63, 64, 127, 128, 0]
    for name in ("1.c.forward", "1.c.reversed"):
        gathered = reader(tmp_path).gather(indices, name)
        assert gathered.dtype is getattr(torch, dtype)
        assert torch.equal(gathered, rows[name][indices])


def test_how_a_bank_is_cut() -> None:
    small = make_recipe()
    assert small.row_bytes(0) == 2 * 2 * 3 * 2 * 2 * 2  # 2 columns of 24 values of 2 bytes
    assert (small.batch_rows(0), small.shard_rows(0)) == (64, 128)
    assert small.payload_bytes == 150 * 96
    # A row of 2 columns x 2**20 values x 4 bytes = 8 MiB: batches of 16 MiB and files of 64 MiB.
    large = make_recipe("float32", (16, 64, 32, 32))
    assert (large.batch_rows(0), large.shard_rows(0)) == (2, 8)
    huge = make_recipe("float32", (16, 64, 256, 256))
    assert (huge.batch_rows(0), huge.shard_rows(0)) == (1, 1)


def test_an_index_beyond_the_split(tmp_path: Path) -> None:
    write_bank(tmp_path, make_recipe())
    for index in (-1, 150):
        with pytest.raises(IndexError, match="0 to 149 of train"):
            reader(tmp_path).gather([3, index], "1.c.forward")
    assert reader(tmp_path).gather([], "1.c.forward").shape == (0, *SHAPE)


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    write_bank(tmp_path, make_recipe())
    file = tmp_path / "train-0.arrow"
    whole, rng = file.read_bytes(), random.Random(0)
    # Anywhere, and in the last 100 bytes, which hold the footer.
    positions = [rng.randrange(len(whole)) for _ in range(40)] + [len(whole) - 1 - rng.randrange(100) for _ in range(10)]
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        used = reader(tmp_path)
        for _ in range(2):  # the second attempt does not find it trusted
            with pytest.raises(IntegrityError, match=r"train-0\.arrow is damaged.*--force bank"):
                used.gather([5], "1.c.reversed")
        assert used.gather([130], "1.c.forward").shape == (1, *SHAPE)  # the other file is whole
    file.write_bytes(whole)
    assert reader(tmp_path).gather([5], "1.c.reversed").shape == (1, *SHAPE)


def test_every_flipped_bit_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    write_bank(tmp_path, make_recipe())
    file = tmp_path / MANIFEST
    whole, rng = file.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"manifest\.json.*--force bank"):
            read_manifest(tmp_path)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_file(tmp_path: Path, left: int) -> None:
    write_bank(tmp_path, make_recipe())
    file = tmp_path / "train-128.arrow"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(IntegrityError, match=r"train-128\.arrow has \d+ bytes, but its manifest says"):
        reader(tmp_path).gather([149], "1.c.forward")


def test_missing_files(tmp_path: Path) -> None:
    write_bank(tmp_path, make_recipe())
    (tmp_path / "train-0.arrow").unlink()
    with pytest.raises(IntegrityError, match=r"train-0\.arrow cannot be read \(No such file"):
        reader(tmp_path).gather([0], "1.c.forward")
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="missing, so this is no finished bank"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("place", ["../x.arrow", "/etc/hostname", "source-0/../../x.arrow"])
def test_a_manifest_is_not_followed_out_of_its_folder(tmp_path: Path, place: str) -> None:
    # With a digest that fits, as only somebody who means it would write.
    shard = Shard(file=place, source=0, split="train", start=0, rows=1, bytes=1, sha256="0" * 64)
    write_manifest(tmp_path, Manifest(schema_version=SCHEMA_VERSION, recipe=make_recipe(), shards=(shard,)))
    with pytest.raises(IntegrityError, match="names a file outside of itself"):
        read_manifest(tmp_path)


def test_a_bank_of_another_version(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(schema_version=SCHEMA_VERSION + 1, recipe=make_recipe(), shards=()))
    with pytest.raises(IntegrityError, match=f"schema version {SCHEMA_VERSION + 1}, but this zoocast reads {SCHEMA_VERSION}"):
        read_manifest(tmp_path)


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    rows = {c.name: torch.zeros(64, *SHAPE, dtype=torch.float16) for c in COLUMNS}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the 96 * 64 bytes of one batch fit, those of two do not
    try:
        with pytest.raises(OSError, match="File too large"):
            write_shard(tmp_path / "x.arrow", COLUMNS, [rows, rows])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def anonymous_memory() -> int:
    """Bytes that this process holds for itself, without what it maps from files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon in /proc/self/status")


def test_reading_keeps_neither_memory_nor_descriptors(tmp_path: Path) -> None:
    # 96 rows of 2 columns x 256 KiB x 2 bytes: 96 MiB in two files.
    rows = write_bank(tmp_path, make_recipe(shape=(1, 1, 512, 512), clips=96))
    del rows
    used = reader(tmp_path)
    used.gather([0], "1.c.forward")
    memory, descriptors = anonymous_memory(), len(os.listdir("/proc/self/fd"))
    for index in range(96):
        used.gather([index], "1.c.forward")
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert anonymous_memory() - memory < 8 * 2**20
