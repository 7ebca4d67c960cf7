import shutil

import numpy as np
import pytest

from zoocast.config import canonical, digest, dump, load
from zoocast.data.moving_mnist import MovingMnistConfig
from zoocast.data.splits import SPLITS
from zoocast.errors import ConfigError, DataError, InfrastructureError
from zoocast.frames import FrameShape

SMALL = {"frame_size": 6, "length": 4, "train": 7, "validation": 1, "test": 2}


def quiet(fraction, message):
    assert 0 <= fraction <= 1
    assert message


def firsts(store, split):
    """The first pixel of every frame, as a whole number: [clips, time]."""
    clips = store.split(split)
    return (clips.clips(range(len(clips)))[:, :, 0, 0, 0] * 255).round().int().tolist()


def test_an_npy_is_cut_into_three_splits_in_its_order(npy, tmp_path):
    config = MovingMnistConfig(path=str(npy(count=10)), **SMALL)
    store = config.build(tmp_path / "store", quiet)
    assert store.shape == config.frame_shape() == FrameShape(channels=1, height=6, width=6)
    assert store.recipe.dtype == "uint8"
    assert store.recipe.generator == {"name": "moving-mnist", "parameters": canonical(config), "source": config.source_digest()}
    # Clip i, frame t is filled with 10 i + t: 7 clips for training, then 1, then 2.
    assert [clip[0] for clip in firsts(store, "train")] == [0, 10, 20, 30, 40, 50, 60]
    assert firsts(store, "validation") == [[70, 71, 72, 73]]
    assert [clip[0] for clip in firsts(store, "test")] == [80, 90]
    assert config.estimated_bytes() == 10 * 4 * 36
    assert sorted(f.suffix for f in (tmp_path / "store").iterdir()) == [".arrow", ".arrow", ".arrow", ".json"]


def test_fewer_clips_are_the_first_of_each_split_and_shorter_ones_their_beginning(npy, tmp_path):
    small = {"frame_size": 6, "length": 3, "train": 2, "validation": 1, "test": 1}
    store = MovingMnistConfig(path=str(npy(count=10)), **small).build(tmp_path / "store", quiet)
    assert firsts(store, "train") == [[0, 1, 2], [10, 11, 12]]
    assert firsts(store, "validation") == [[70, 71, 72]]
    assert firsts(store, "test") == [[80, 81, 82]]


@pytest.mark.parametrize("compressed", [True, False])
def test_an_npz_of_floats_becomes_bytes(npz, tmp_path, compressed):
    config = MovingMnistConfig(path=str(npz(count=10, compressed=compressed)), **SMALL)
    store = config.build(tmp_path / "store", quiet)
    assert store.recipe.dtype == "uint8"
    # Clip i has frames 4 i to 4 i + 3, filled with their number.
    assert firsts(store, "validation") == [[28, 29, 30, 31]]
    assert firsts(store, "test") == [[32, 33, 34, 35], [36, 37, 38, 39]]
    assert sorted(f.suffix for f in (tmp_path / "store").iterdir()) == [".arrow", ".arrow", ".arrow", ".json"]
    # 4 bytes per pixel at most, and as much again (and a header of 128) for the unpacked frames.
    assert config.estimated_bytes() == 2 * (10 * 4 * 36 * 4) + 128


def test_floats_between_the_levels_stay_floats(npz, tmp_path):
    frames = np.random.default_rng(0).random((40, 1, 6, 6)).astype(np.float32)
    store = MovingMnistConfig(path=str(npz(input_raw_data=frames)), **SMALL).build(tmp_path / "store", quiet)
    assert store.recipe.dtype == "float32"
    np.testing.assert_array_equal(store.split("test").clips([1])[0].numpy(), frames[36:40])


def test_every_split_may_have_a_file_of_its_own(npz, npy, tmp_path):
    config = MovingMnistConfig(
        path=str(npz(count=4, name="train.npz")),
        validation_path=str(npz(count=2, name="valid.npz")),
        test_path=str(npy(count=3, name="test.npy")),
        frame_size=6,
        length=4,
        train=4,
        validation=2,
        test=3,
    )
    store = config.build(tmp_path / "store", quiet)
    assert [len(firsts(store, split)) for split in SPLITS] == [4, 2, 3]
    assert firsts(store, "validation") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [clip[0] for clip in firsts(store, "test")] == [0, 10, 20]


@pytest.mark.parametrize("packed", [True, False])
def test_clips_from_images_share_no_image_between_splits(idx, tmp_path, packed):
    small = {"frame_size": 12, "length": 5, "train": 60, "validation": 20, "test": 20}
    store = MovingMnistConfig(path=str(idx(count=20, packed=packed)), **small).build(tmp_path / "store", quiet)
    # Every pixel of image i is i + 1, so the values in a split are the images that it shows: 14, 2 and 4 of 20.
    shown = [set(store.split(s).gather(range(len(store.split(s)))).unique().tolist()) - {0} for s in SPLITS]
    assert [len(values) for values in shown] == [14, 2, 4]
    assert set().union(*shown) == set(range(1, 21))


def test_images_of_the_test_may_come_from_a_file_of_their_own(idx, tmp_path):
    train, test = idx(count=8, name="train"), idx(count=3, name="t10k", size=5)
    small = {"frame_size": 12, "length": 5, "train": 60, "validation": 20, "test": 30}
    store = MovingMnistConfig(path=str(train), test_path=str(test), **small).build(tmp_path / "store", quiet)
    shown = [set(store.split(s).gather(range(len(store.split(s)))).unique().tolist()) - {0} for s in SPLITS]
    # 8 images in shares of 7 : 1.
    assert [len(values) for values in shown] == [7, 1, 3]
    assert not shown[0] & shown[1]


def test_generated_clips_are_reproducible_and_follow_the_seed(idx, tmp_path):
    small = {"path": str(idx()), "frame_size": 12, "length": 5, "train": 9, "validation": 3, "test": 3}
    one, same, other = (
        MovingMnistConfig(**small, seed=seed).build(tmp_path / name, quiet) for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert one.digest == same.digest != other.digest


def test_identity_is_the_content_not_the_path(npy, tmp_path):
    here = npy(count=10)
    there = tmp_path / "elsewhere.npy"
    shutil.copy(here, there)
    one, same = (MovingMnistConfig(path=str(p), **SMALL) for p in (here, there))
    assert digest(one) == digest(same)
    assert one.source_digest() == same.source_digest()
    assert one.build(tmp_path / "a", quiet).digest == same.build(tmp_path / "b", quiet).digest
    np.save(there, 255 - np.load(there))
    assert one.source_digest() != same.source_digest()
    # The same file in another part is another data set.
    assert MovingMnistConfig(path=str(here), test_path=str(there)).source_digest() != one.source_digest()


def test_paths_are_absolute_and_the_home_folder_is_known(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    config = MovingMnistConfig(path="a.npy", test_path="~/b.npy")
    assert (config.path, config.validation_path, config.test_path) == (str(tmp_path / "a.npy"), "", "/home/somebody/b.npy")
    assert load(MovingMnistConfig, dump(config)) == config


# ------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        ({"path": ""}, "path", "names no file; give mnist_test_seq"),
        ({"frame_size": 64}, "frame_size", "is 64, but the frames of .* are 1x6x6; set it to 6"),
        ({"length": 5}, "length", "is 5 frames, but clips of .* have 4"),
        ({"train": 8}, "train", "asks for 8 clips, but of the 10 in .* 7 are for train"),
        ({"test": 3}, "test", "asks for 3 clips, but of the 10 in .* 2 are for test"),
    ],
)
def test_settings_that_a_file_cannot_serve_are_named_before_work_starts(npy, tmp_path, settings, field, message):
    config = MovingMnistConfig(**({"path": str(npy(count=10)), **SMALL} | settings))
    for act in (config.check, lambda: config.build(tmp_path / "store", quiet)):
        with pytest.raises(ConfigError, match=message) as raised:
            act()
        assert raised.value.field == field
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"train": 0}, "train"), ({"length": 1}, "length"), ({"num_digits": 0}, "num_digits"), ({"frame_size": 0}, "frame_size")],
)
def test_settings_that_no_file_can_serve_are_named(settings, field):
    with pytest.raises(ConfigError) as raised:
        MovingMnistConfig(**settings)
    assert raised.value.field == field


def test_images_that_do_not_fit_or_are_too_few_are_named(idx):
    with pytest.raises(ConfigError, match="larger than a digit") as raised:
        MovingMnistConfig(path=str(idx(size=28)), frame_size=28).check()
    assert raised.value.field == "frame_size"
    # 12 * 12 / (4 * 4) = 9
    with pytest.raises(ConfigError, match="between 1 and 9"):
        MovingMnistConfig(path=str(idx()), frame_size=12, num_digits=10).check()
    with pytest.raises(DataError, match="has 3 images, too few"):
        MovingMnistConfig(path=str(idx(count=3))).check()
    with pytest.raises(DataError, match="319 bytes follow"):
        MovingMnistConfig(path=str(idx(packed=True, cut=1))).check()


def test_one_file_for_two_splits_is_refused(npy, tmp_path):
    path = npy()
    (tmp_path / "link.npy").symlink_to(path)
    for other in (path, tmp_path / "link.npy"):
        with pytest.raises(ConfigError, match="must not share clips"):
            MovingMnistConfig(path=str(path), test_path=str(other), **SMALL).check()


def test_a_missing_file_is_named_by_everything_that_reads_it(npy, tmp_path):
    config = MovingMnistConfig(path=str(npy()), test_path=str(tmp_path / "gone.npy"), **SMALL)
    for act in (config.check, config.source_digest, config.estimated_bytes, lambda: config.build(tmp_path / "store", quiet)):
        with pytest.raises(DataError, match=r"gone\.npy does not exist"):
            act()


def test_values_out_of_range_are_found_before_anything_is_written(npz, tmp_path):
    frames = np.zeros((40, 1, 6, 6), np.float32)
    frames[38] = 255
    config = MovingMnistConfig(path=str(npz(input_raw_data=frames)), **SMALL)
    config.check()
    with pytest.raises(DataError, match=r"seq\.npz: clip 1 has values from 0\.0 to 255\.0"):
        config.build(tmp_path / "store", quiet)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_full_disk_while_unpacking_is_reported_in_words(npz, tmp_path):
    import resource

    path = npz()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InfrastructureError, match=r"cannot unpack .*seq\.npz to .*File too large"):
            MovingMnistConfig(path=str(path), **SMALL).build(tmp_path / "store", quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "store").iterdir()) == []
