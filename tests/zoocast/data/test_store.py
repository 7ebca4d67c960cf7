import dataclasses
import json
import multiprocessing
import pickle
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from zoocast.arrow import MANIFEST, write_manifest
from zoocast.data.splits import SPLITS
from zoocast.data.store import ClipStore, write_store
from zoocast.errors import DataError, InfrastructureError, IntegrityError
from zoocast.frames import FrameShape

SHAPE = FrameShape(channels=2, height=3, width=5)
CLIP = (4, 2, 3, 5)
COUNTS = {"train": 300, "validation": 7, "test": 64}


def made(split, dtype="uint8"):
    rng = np.random.default_rng(SPLITS.index(split))
    clips = rng.integers(0, 256, (COUNTS[split], *CLIP), np.uint8)
    return clips if dtype == "uint8" else (clips / np.float32(255))


def write(path, dtype="uint8", **changed):
    splits = {split: iter(made(split, dtype)) for split in SPLITS}
    # 120 bytes per uint8 clip and 64 clips per record batch: shards of 20,000 bytes hold 2 batches, so train has 3 shards.
    arguments = {"shape": SHAPE, "length": 4, "dtype": dtype, "generator": {"name": "made"}, "shard_bytes": 20_000}
    return write_store(path, **({"splits": splits} | arguments | changed))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_was_written_is_read(tmp_path, dtype):
    store = write(tmp_path, dtype)
    assert (store.shape, store.length) == (SHAPE, 4)
    for split in SPLITS:
        clips = store.split(split)
        assert len(clips) == COUNTS[split]
        assert (clips.name, clips.shape, clips.length) == (split, SHAPE, 4)
        everything = clips.gather(range(len(clips)))
        assert everything.dtype is getattr(torch, dtype)
        np.testing.assert_array_equal(everything.numpy(), made(split, dtype))


def test_clips_whose_channels_lie_last_in_memory_are_kept_as_others(tmp_path):
    laid_out = {split: iter(np.moveaxis(np.moveaxis(made(split), 2, -1).copy(), -1, 2)) for split in SPLITS}
    store = write(tmp_path / "a", splits=laid_out)
    assert store.digest == write(tmp_path / "b").digest
    np.testing.assert_array_equal(store.split("test").gather(range(64)).numpy(), made("test"))


def test_clips_come_in_the_order_asked_for_across_shards_and_batches(tmp_path):
    split = write(tmp_path).split("train")
    # Shards of 128 clips in batches of 64: first and last of each, twice the same, backwards.
    wanted = [299, 256, 255, 192, 191, 128, 127, 64, 63, 0, 0]
    for indices in (wanted, torch.tensor(wanted), np.array(wanted)):
        np.testing.assert_array_equal(split.gather(indices).numpy(), made("train")[wanted])
    assert split.gather([]).shape == (0, *CLIP)


def test_clips_for_networks_lie_between_0_and_1(tmp_path):
    bytes_, floats = write(tmp_path / "a"), write(tmp_path / "b", "float32")
    clips = bytes_.split("train").clips([3, 200])
    assert clips.dtype is torch.float32
    np.testing.assert_array_equal(clips.numpy(), made("train")[[3, 200]] / np.float32(255))
    assert clips.equal(floats.split("train").clips([3, 200]))


@pytest.mark.parametrize("index", [-1, 300])
def test_an_index_outside_the_split_is_refused(tmp_path, index):
    with pytest.raises(IndexError, match="train has clips 0 to 299"):
        write(tmp_path).split("train").gather([0, index])


def test_gathered_clips_are_copies(tmp_path):
    split = write(tmp_path).split("test")
    split.gather([0]).zero_()
    np.testing.assert_array_equal(split.gather([0]).numpy(), made("test")[:1])


def test_the_manifest_says_what_is_there(tmp_path):
    manifest = write(tmp_path).manifest
    assert manifest.sizes == COUNTS
    recipe = ClipStore.open(tmp_path).recipe
    assert (recipe.dtype, recipe.value_range, recipe.generator) == ("uint8", (0, 255), {"name": "made"})
    train = [s for s in manifest.shards if s.split == "train"]
    assert [s.rows for s in train] == [128, 128, 44]
    assert [s.file for s in train] == ["train-00000.arrow", "train-00001.arrow", "train-00002.arrow"]
    assert all((tmp_path / s.file).stat().st_size == s.bytes for s in manifest.shards)


def test_the_digest_follows_clips_and_generator(tmp_path):
    base = write(tmp_path / "a").digest
    assert write(tmp_path / "b").digest == base
    assert write(tmp_path / "c", generator={"name": "other"}).digest != base
    splits = {split: made(split) for split in SPLITS}
    splits["test"][63, 3, 1, 2, 4] ^= 1
    assert write(tmp_path / "d", splits=splits).digest != base


def test_writing_again_replaces_what_an_earlier_attempt_left(tmp_path):
    write(tmp_path)
    again = write(tmp_path, splits={split: made(split)[:5] for split in SPLITS})
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "manifest.json",
        "test-00000.arrow",
        "train-00000.arrow",
        "validation-00000.arrow",
    ]
    assert len(again.split("train")) == 5


def _first_clip(split):
    return split.gather([0]).numpy()


def test_a_split_travels_to_another_process(tmp_path):
    split = write(tmp_path).split("train")
    split.gather([0])
    assert len(pickle.dumps(split)) < 500
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_first_clip, (split,)), made("train")[:1])


def test_a_split_does_not_arrive_when_its_store_was_replaced(tmp_path):
    packed = pickle.dumps(write(tmp_path).split("train"))
    write(tmp_path, generator={"name": "other"})
    with pytest.raises(IntegrityError, match="was replaced"):
        pickle.loads(packed)


def test_the_kind_of_a_clip_is_kept_beside_it_and_clips_are_read_without(tmp_path):
    # More than one shard: 300 clips of train in batches of 64.
    kinds = {split: [("slow", "fast", "falling")[i % 3] for i in range(count)] for split, count in COUNTS.items()}
    plain, kept = write(tmp_path / "a"), write(tmp_path / "b", kinds=kinds)
    assert kept.recipe.kinds == ("slow", "fast", "falling")
    assert plain.recipe.kinds == plain.split("train").kinds == ()
    for split, count in COUNTS.items():
        clips = kept.split(split)
        assert clips.kinds == tuple(kinds[split])
        # What trains sees clips and nothing else.
        assert clips.gather(range(count)).equal(plain.split(split).gather(range(count)))
        assert clips.clips(range(count)).equal(plain.split(split).clips(range(count)))
    assert pickle.loads(pickle.dumps(kept.split("test"))).kinds == tuple(kinds["test"])


def test_a_store_without_kinds_has_no_trace_of_them(tmp_path):
    # So that it is byte for byte what it was before there were any, and has the same digest.
    manifest = write(tmp_path).manifest
    assert [column.name for column in manifest.layout.columns] == ["clip"]
    assert set(manifest.recipe) == {"__type__", "shape", "length", "dtype", "value_range", "generator"}


@pytest.mark.parametrize(("change", "than"), [(lambda k: k[1:], "more"), (lambda k: [*k, "slow"], "fewer")])
def test_kinds_that_are_not_as_many_as_clips_are_a_mistake_of_the_data_set(tmp_path, change, than):
    kinds = {split: ["slow"] * count for split, count in COUNTS.items()}
    with pytest.raises(ValueError, match=f"validation has {than} clips than the . kinds that are given; each clip has one kind"):
        write(tmp_path, kinds=kinds | {"validation": change(kinds["validation"])})


# ------------------------------------------------------------------------------------------------------------------- damage


def test_flipped_bits_in_clips_are_found_before_the_first_use(tmp_path):
    write(tmp_path)
    file = tmp_path / "train-00001.arrow"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    store = ClipStore.open(tmp_path)
    store.split("train").gather([0, 127])
    with pytest.raises(IntegrityError, match=r"train-00001\.arrow is damaged.*--force"):
        store.split("train").gather([128])
    with pytest.raises(IntegrityError, match=r"train-00001\.arrow is damaged"):
        ClipStore.open(tmp_path, verify=True)


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path):
    write(tmp_path)
    file = tmp_path / MANIFEST
    data = file.read_bytes()
    content = json.loads(data)
    for place in np.random.default_rng(0).integers(0, 8 * len(data), 300).tolist():
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            same = json.loads(flipped) == content
        except ValueError:
            same = False
        if not same:
            with pytest.raises(IntegrityError, match=MANIFEST):
                ClipStore.open(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), "No such file"),
        (lambda f: f.write_bytes(f.read_bytes()[:-1]), "bytes, but its manifest says"),
        (lambda f: f.write_bytes(b""), "has 0 bytes"),
    ],
)
def test_missing_and_truncated_files_are_found_on_opening(tmp_path, damage, message):
    write(tmp_path)
    damage(tmp_path / "validation-00000.arrow")
    with pytest.raises(IntegrityError, match=rf"validation-00000\.arrow.*{message}.*--force"):
        ClipStore.open(tmp_path)


@pytest.mark.parametrize("place", ["../x.arrow", "/etc/hostname", "a/../../x.arrow"])
def test_a_manifest_is_not_followed_out_of_its_folder(tmp_path, place):
    manifest = write(tmp_path / "store").manifest
    moved = dataclasses.replace(manifest.shards[-1], file=place)
    # With a digest that fits, as only somebody who means it would write.
    write_manifest(tmp_path / "store", dataclasses.replace(manifest, shards=(*manifest.shards[:-1], moved)))
    with pytest.raises(IntegrityError, match="names a file outside of itself"):
        ClipStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    ("shard", "layout", "message"),
    [
        ({"rows": 10**15}, {"shard_rows": 10**15, "batch_rows": 1}, "too few for 1000000000000000 rows of 120"),
        ({"rows": 10**9}, {}, "has 1000000000 rows from row 0 on, which is not its place"),
        ({"start": 7}, {}, "has 64 rows from row 7 on"),
        ({}, {"batch_rows": 0}, "in batches of 0"),
    ],
)
def test_a_manifest_that_promises_what_its_files_cannot_hold_is_refused(tmp_path, shard, layout, message):
    manifest = write(tmp_path).manifest
    *others, last = manifest.shards
    changed = dataclasses.replace(manifest.layout, **layout)
    write_manifest(tmp_path, dataclasses.replace(manifest, layout=changed, shards=(*others, dataclasses.replace(last, **shard))))
    with pytest.raises(IntegrityError, match=message):
        ClipStore.open(tmp_path)


def test_a_folder_without_a_manifest_is_no_store(tmp_path):
    write(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match=r"manifest\.json is missing.*--force"):
        ClipStore.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"schema_version": 2}', '{"schema_version": 3}'])
def test_a_manifest_of_nonsense_or_of_the_future_is_refused(tmp_path, text):
    write(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(IntegrityError, match=rf"{MANIFEST} cannot be used: .*--force"):
        ClipStore.open(tmp_path)


# ------------------------------------------------------------------------------------------------------------------- writing


def test_an_interrupted_build_leaves_nothing_that_opens(tmp_path):
    def breaks():
        yield from made("test")[:3]
        raise KeyboardInterrupt

    write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, splits={"train": made("train"), "validation": made("validation"), "test": breaks()})
    with pytest.raises(IntegrityError, match="no finished clip store"):
        ClipStore.open(tmp_path)


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="validation split has no clip"):
        write(tmp_path, splits={"train": made("train"), "validation": [], "test": made("test")})


@pytest.mark.parametrize(
    ("value", "message"), [(-0.1, "values from"), (1.5, "values from"), (np.nan, "1 missing value"), (np.inf, "1 missing value")]
)
def test_floats_out_of_range_are_refused(tmp_path, value, message):
    splits = {split: made(split, "float32") for split in SPLITS}
    splits["test"][5, 0, 0, 0, 0] = value
    with pytest.raises(DataError, match=f"clip 5 of test has {message}"):
        write(tmp_path, "float32", splits=splits)


def test_clips_of_another_shape_or_dtype_and_other_splits_are_mistakes_of_the_data_set(tmp_path):
    splits = {split: made(split) for split in SPLITS}
    with pytest.raises(ValueError, match=r"clip 0 of train is uint8 \[3, 2, 3, 5\]"):
        write(tmp_path, splits=splits | {"train": made("train")[:, :3]})
    with pytest.raises(ValueError, match="clip 0 of train is float32"):
        write(tmp_path, splits=splits | {"train": made("train", "float32")})
    with pytest.raises(ValueError, match="has the splits train, validation, test"):
        write(tmp_path, splits={"train": made("train")})


def test_a_full_disk_is_reported_in_words(tmp_path):
    # The limit on file size makes write() fail as a full disk does: by an OSError in the middle.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InfrastructureError, match=r"cannot write clips to .*File too large"):
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(IntegrityError):
        ClipStore.open(tmp_path)


def _memory_after_writing_and_reading(path, count):
    clip = np.full((10, 1, 64, 64), 7, np.uint8)
    splits = {"train": (clip for _ in range(count)), "validation": [clip], "test": [clip]}
    shape = FrameShape(channels=1, height=64, width=64)
    store = write_store(path, splits, shape=shape, length=10, dtype="uint8", generator={}, shard_bytes=8 * 2**20)
    for start in range(0, count, 8):
        store.split("train").gather(range(start, start + 8))
    # KiB of the process's own, without what belongs to the page cache.
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def test_memory_does_not_grow_with_the_data(tmp_path):
    # 40 KiB per clip: 8 MB of clips, then 64 MB, in one process that does nothing else.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        few, many = (pool.apply(_memory_after_writing_and_reading, (tmp_path / str(n), n)) for n in (200, 1600))
    assert many - few < 16_000
