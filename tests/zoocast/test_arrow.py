"""Tensors at rest: what is written is read, and what was damaged is never used."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoocast.arrow import (
    MANIFEST,
    SCHEMA_VERSION,
    Column,
    Dtype,
    Layout,
    Manifest,
    Shard,
    TensorSplit,
    Wording,
    check_files,
    read_manifest,
    write_manifest,
    write_shard,
)
from zoocast.errors import IntegrityError
from zoocast.store.sealed import seal

ROWS = 150  # files of 128 and 22 rows; the first has record batches of 64 and 64
SHAPE = (2, 3, 2, 2)
WORDING = Wording("bank", "build the bank again with --force bank.digits")


def make_layout(dtype: Dtype = "float16", shape: tuple[int, ...] = SHAPE) -> Layout:
    columns = [Column(name=name, dtype=dtype, shape=shape) for name in ("there", "back")]
    return Layout.of(columns, shard_bytes=64 * 2**20, max_shard_rows=128)


def write_tensors(folder: Path, layout: Layout, count: int = ROWS) -> dict[str, Tensor]:
    """A finished store of random numbers, and those numbers by column."""
    generator = torch.Generator().manual_seed(0)
    rows = {c.name: torch.randn(count, *c.shape, generator=generator).to(getattr(torch, c.dtype)) for c in layout.columns}
    folder.mkdir(exist_ok=True)
    shards = []
    for start in range(0, count, layout.shard_rows):
        stop = min(start + layout.shard_rows, count)
        cuts = range(start, stop, layout.batch_rows)
        batches = [{n: t[c : min(c + layout.batch_rows, stop)] for n, t in rows.items()} for c in cuts]
        shards.append(write_shard(folder, layout, "train", start, batches))
    write_manifest(folder, Manifest(layout=layout, recipe={"of": "noise"}, shards=tuple(shards)))
    return rows


def reader(folder: Path) -> TensorSplit:
    return TensorSplit(folder, read_manifest(folder, WORDING), "train", WORDING)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
def test_rows_come_back_bit_for_bit_in_any_order(tmp_path: Path, dtype: Dtype) -> None:
    rows = write_tensors(tmp_path, make_layout(dtype))
    indices = [149, 0, 63, 64, 127, 128, 0]
    for name in ("there", "back"):
        gathered = reader(tmp_path).gather(indices, name)
        assert gathered.dtype is getattr(torch, dtype)
        assert torch.equal(gathered, rows[name][indices])


def test_batches_and_files_hold_as_many_rows_as_their_bounds_allow() -> None:
    small = make_layout()
    assert small.row_bytes == 2 * 2 * 3 * 2 * 2 * 2  # 2 columns of 24 values of 2 bytes
    assert (small.batch_rows, small.shard_rows) == (64, 128)
    # A row of 2 columns x 2**20 values x 4 bytes = 8 MiB: batches of 16 MiB and files of 64 MiB.
    large = make_layout("float32", (16, 64, 32, 32))
    assert (large.batch_rows, large.shard_rows) == (2, 8)
    huge = make_layout("float32", (16, 64, 256, 256))
    assert (huge.batch_rows, huge.shard_rows) == (1, 1)
    unbounded = Layout.of(small.columns, shard_bytes=64 * 2**20)
    assert (unbounded.batch_rows, unbounded.shard_rows) == (64, 64 * 2**20 // 96 // 64 * 64)


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    manifest = read_manifest(tmp_path, WORDING)
    assert (manifest.layout, manifest.recipe, manifest.sizes) == (make_layout(), {"of": "noise"}, {"train": 150})
    assert [(s.file, s.start, s.rows) for s in manifest.shards] == [("train-00000.arrow", 0, 128), ("train-00001.arrow", 128, 22)]
    assert manifest.bytes == sum((tmp_path / s.file).stat().st_size for s in manifest.shards)
    assert len({manifest.digest, dataclasses.replace(manifest, recipe={"of": "clips"}).digest}) == 2


def test_an_index_beyond_the_split_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    for index in (-1, 150):
        with pytest.raises(IndexError, match="train has clips 0 to 149"):
            reader(tmp_path).gather([3, index], "there")
    assert reader(tmp_path).gather([], "there").shape == (0, *SHAPE)


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    file = tmp_path / "train-00000.arrow"
    whole, rng = file.read_bytes(), random.Random(0)
    # Anywhere, and in the last 100 bytes, which hold the footer.
    positions = [rng.randrange(len(whole)) for _ in range(40)] + [len(whole) - 1 - rng.randrange(100) for _ in range(10)]
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        used = reader(tmp_path)
        for _ in range(2):  # the second attempt does not find it trusted
            with pytest.raises(IntegrityError, match=r"train-00000\.arrow is damaged.*--force bank.digits"):
                used.gather([5], "back")
        assert used.gather([130], "there").shape == (1, *SHAPE)  # the other file is whole
    file.write_bytes(whole)
    assert reader(tmp_path).gather([5], "back").shape == (1, *SHAPE)


def test_every_flipped_bit_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    file = tmp_path / MANIFEST
    whole, rng = file.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"manifest\.json.*--force bank.digits"):
            read_manifest(tmp_path, WORDING)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_file_is_noticed(tmp_path: Path, left: int) -> None:
    write_tensors(tmp_path, make_layout())
    file = tmp_path / "train-00001.arrow"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(IntegrityError, match=r"train-00001\.arrow has \d+ bytes, but its manifest says"):
        reader(tmp_path).gather([149], "there")


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    (tmp_path / "train-00000.arrow").unlink()
    with pytest.raises(IntegrityError, match=r"train-00000\.arrow cannot be read \(No such file"):
        reader(tmp_path).gather([0], "there")
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="missing, so this is no finished bank"):
        read_manifest(tmp_path, WORDING)


def test_sizes_and_checksums_can_be_checked_at_once(tmp_path: Path) -> None:
    write_tensors(tmp_path, make_layout())
    manifest, file = read_manifest(tmp_path, WORDING), tmp_path / "train-00001.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    check_files(tmp_path, manifest, WORDING)
    with pytest.raises(IntegrityError, match=r"train-00001\.arrow is damaged"):
        check_files(tmp_path, manifest, WORDING, verify=True)
    file.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match=r"train-00001\.arrow has \d+ bytes, but its manifest says \d+; build"):
        check_files(tmp_path, manifest, WORDING)


@pytest.mark.parametrize("place", ["../x.arrow", "/etc/hostname", "source/../../x.arrow"])
def test_a_manifest_is_not_followed_out_of_its_folder(tmp_path: Path, place: str) -> None:
    # With a digest that fits, as only somebody who means it would write.
    shard = Shard(file=place, split="train", start=0, rows=1, bytes=1, sha256="0" * 64)
    write_manifest(tmp_path, Manifest(layout=make_layout(), recipe={}, shards=(shard,)))
    with pytest.raises(IntegrityError, match="names a file outside of itself"):
        read_manifest(tmp_path, WORDING)


@pytest.mark.parametrize(
    "record",
    [
        {"schema_version": 1, "splits": {}},  # clips of the first version
        {"manifest": {"schema_version": 1}, "sha256": "0" * 64},  # a bank of the first version
        seal({"schema_version": SCHEMA_VERSION + 1}),
    ],
)
def test_a_store_of_another_version_is_refused_in_words(tmp_path: Path, record: dict[str, object]) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(record))
    why = f"it is no JSON object with a digest|it has schema version .*, but this zoocast reads {SCHEMA_VERSION}"
    with pytest.raises(
        IntegrityError, match=rf"manifest.json cannot be used: ({why}); build the bank again with --force bank.digits"
    ):
        read_manifest(tmp_path, WORDING)


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    layout = make_layout()
    rows = {c.name: torch.zeros(64, *SHAPE, dtype=torch.float16) for c in layout.columns}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the 96 * 64 bytes of one batch fit, those of two do not
    try:
        with pytest.raises(OSError, match="File too large"):
            write_shard(tmp_path, layout, "train", 0, [rows, rows])
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
    rows = write_tensors(tmp_path, make_layout(shape=(1, 1, 512, 512)), 96)
    del rows
    used = reader(tmp_path)
    used.gather([0], "there")
    memory, descriptors = anonymous_memory(), len(os.listdir("/proc/self/fd"))
    for index in range(96):
        used.gather([index], "there")
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert anonymous_memory() - memory < 8 * 2**20
