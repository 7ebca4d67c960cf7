import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from zoocast.config import canonical, digest, dump, load
from zoocast.data.files import sha256
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
    small = {"frame_size": 6, "length": 3, "train": 2, "validation": 1, "test": 1, "layout": "TNHW"}
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


def test_clips_of_the_test_may_show_more_digits(idx, tmp_path):
    small = {
        "path": str(idx(count=20, size=2)),
        "frame_size": 24,
        "length": 2,
        "train": 9,
        "validation": 3,
        "test": 9,
        "num_digits": 1,
    }
    few, many = (MovingMnistConfig(**small, test_digits=n) for n in (0, 5))
    assert digest(few) == digest(MovingMnistConfig(**small))
    store, other = (config.build(tmp_path / str(config.test_digits), quiet) for config in (few, many))
    lit = [
        [int((s.split(split).clips(range(9 if split != "validation" else 3)) > 0).sum()) for split in SPLITS]
        for s in (store, other)
    ]
    # One image of 2x2 pixels in each frame; five at most cover each other in part.
    assert lit[0] == [9 * 2 * 4, 3 * 2 * 4, 9 * 2 * 4]
    assert lit[1][:2] == lit[0][:2]
    assert lit[1][2] > 3 * lit[0][2]


def test_digits_of_the_test_are_for_clips_that_are_generated(npy, idx):
    with pytest.raises(ConfigError, match="ready clips") as raised:
        MovingMnistConfig(path=str(npy(count=10)), test_digits=3, **SMALL).check()
    assert raised.value.field == "test_digits"
    with pytest.raises(ConfigError, match="between 1 and 9") as raised:
        MovingMnistConfig(path=str(idx()), frame_size=12, test_digits=10).check()
    assert raised.value.field == "test_digits"


def test_fashion_mnist_is_told_by_its_grey(idx):
    # Image i of 142 is filled with i + 1, of mean 71.5; of 20 it is 10.5.
    fashion, digits = (MovingMnistConfig(path=str(idx(count=n)), frame_size=12).remarks() for n in (142, 20))
    assert fashion[1:] == ("images: Moving Fashion-MNIST, by the mean grey value of 71.5 (MNIST's digits have 33.3)",)
    assert len(digits) == 1


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
    apart = {"frame_size": 6, "length": 4, "train": 8, "validation": 1, "test": 10}
    assert MovingMnistConfig(path=str(here), test_path=str(there), **apart).source_digest() != one.source_digest()


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


@pytest.mark.parametrize("value", [255, np.nan])
def test_values_that_cannot_be_learned_from_are_found_by_check_and_by_build(npz, tmp_path, value):
    frames = np.zeros((40, 1, 6, 6), np.float32)
    frames[38] = value  # of clip 9, of which it is frame 2
    np.save(tmp_path / "clips.npy", frames.reshape(10, 4, 6, 6))
    for path in (npz(input_raw_data=frames), npz(input_raw_data=np.asfortranarray(frames), name="f.npz"), tmp_path / "clips.npy"):
        config = MovingMnistConfig(path=str(path), **SMALL)
        message = rf"{path.name}.* in clip 9, frame 2 of the file"
        if path.name != "f.npz":  # whose frames lie across each other, so that a plan would have to unpack it
            with pytest.raises(DataError, match=message):
                config.check()
        with pytest.raises(DataError, match=message):
            config.build(tmp_path / "store", quiet)
        assert list((tmp_path / "store").iterdir()) == []
        # Of what no split uses, nothing is asked.
        MovingMnistConfig(path=str(path), **SMALL | {"test": 1}).check()
        MovingMnistConfig(path=str(path), **SMALL | {"length": 2}).check()


def test_a_plan_looks_at_so_many_bytes_and_no_more(npz, tmp_path, monkeypatch):
    frames = np.zeros((40, 1, 6, 6), np.float32)
    frames[38] = 255
    np.save(tmp_path / "clips.npy", frames.reshape(10, 4, 6, 6))
    monkeypatch.setattr("zoocast.data.moving_mnist.SURVEYED_BYTES", 4 * 36 * 4 * 2)  # two clips
    MovingMnistConfig(path=str(npz(input_raw_data=frames)), **SMALL).check()  # an archive is read from its beginning
    with pytest.raises(DataError, match="clip 9"):  # of a file the clips are spread, the last among them
        MovingMnistConfig(path=str(tmp_path / "clips.npy"), **SMALL).check()


def test_a_range_maps_any_numbers_to_0_and_1(tmp_path):
    dbz = np.linspace(-32, 70, 10 * 4 * 36).reshape(10, 4, 6, 6)
    for dtype in (np.float32, np.int16, ">f8"):
        np.save(tmp_path / "rain.npy", dbz.astype(dtype))
        config = MovingMnistConfig(path=str(tmp_path / "rain.npy"), low=-32, high=70, **SMALL)
        store = config.build(tmp_path / "store", quiet)
        test = store.split("test").clips([0, 1]).numpy()
        np.testing.assert_allclose(test[:, :, 0], (dbz.astype(dtype)[8:] + 32) / 102, atol=1e-6)
    np.save(tmp_path / "rain.npy", dbz.astype(np.int16))
    with pytest.raises(ConfigError, match=r"is none, but .*rain\.npy holds int16; set low and high") as raised:
        MovingMnistConfig(path=str(tmp_path / "rain.npy"), **SMALL).check()
    assert raised.value.field == "low"
    for settings, field in [({"low": 0}, "high"), ({"high": 1}, "low"), ({"low": 1, "high": 1}, "high")]:
        with pytest.raises(ConfigError) as raised:
            MovingMnistConfig(**settings)
        assert raised.value.field == field


def blobs(count, length):
    """Spots that drift by a quarter of a pixel: uint8 [clips, time, 16, 16]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    clips = []
    for _ in range(count):
        (cy, cx), (vy, vx) = rng.uniform(4, 12, 2), rng.uniform(-0.25, 0.25, 2)
        clips.append([255 * np.exp(-((y - cy - vy * t) ** 2 + (x - cx - vx * t) ** 2) / 18) for t in range(length)])
    return np.array(clips, np.uint8)


def test_a_file_that_may_be_read_in_two_ways_is_asked_about(tmp_path):
    clips = blobs(20, 10)
    both = {"frame_size": 16, "length": 5, "train": 7, "validation": 1, "test": 2}  # 20 clips of 10, or 10 clips of 20
    for array, meant, other in [(clips, "NTHW", "TNHW"), (clips.swapaxes(0, 1), "TNHW", "NTHW")]:
        np.save(tmp_path / "clips.npy", array)
        config = MovingMnistConfig(path=str(tmp_path / "clips.npy"), **both)
        message = (
            r"may be read as \d+ clips of \d+ frames, 16x16, 1 channel \(NTHW\) or \d+ clips of \d+ frames, 16x16, 1 channel"
            rf" \(TNHW\); its content looks like {meant}: set layout={meant}$"
        )
        for act in (config.check, config.source_digest, config.estimated_bytes):
            with pytest.raises(ConfigError, match=message) as raised:
                act()
            assert raised.value.field == "layout"
        told = MovingMnistConfig(path=config.path, layout=meant, **both)
        np.testing.assert_array_equal(told.build(tmp_path / "store", quiet).split("test").gather([1])[0, :, 0], clips[17, :5])
        assert told.remarks() == (f"clips.npy for train, validation, test: 20 clips of 10 frames, 16x16, 1 channel ({meant})",)
        doubt, _ = MovingMnistConfig(path=config.path, layout=other, **both).remarks()
        assert doubt.startswith("warning: clips.npy: the frames of a clip are less alike")
    np.save(tmp_path / "clips.npy", np.random.default_rng(0).integers(0, 256, (20, 10, 16, 16), np.uint8))
    with pytest.raises(ConfigError, match="its content does not say which: set layout=NTHW or TNHW"):
        MovingMnistConfig(path=str(tmp_path / "clips.npy"), **both).check()


def test_the_only_reading_that_serves_the_settings_is_taken_and_doubted_where_the_content_says_otherwise(tmp_path):
    clips = blobs(20, 10)
    np.save(tmp_path / "clips.npy", clips)
    # Only 20 clips of 10 have 14 for training; only 10 clips of 20 have 20 frames.
    right = MovingMnistConfig(path=str(tmp_path / "clips.npy"), frame_size=16, length=5, train=14, validation=2, test=4)
    wrong = MovingMnistConfig(path=str(tmp_path / "clips.npy"), frame_size=16, length=20, train=7, validation=1, test=2)
    assert right.remarks() == ("clips.npy for train, validation, test: 20 clips of 10 frames, 16x16, 1 channel (NTHW)",)
    assert [remark[:7] for remark in wrong.remarks()] == ["warning", "clips.n"]
    assert right.build(tmp_path / "store", quiet).split("test").gather([0])[0, :, 0].equal(torch.from_numpy(clips[16, :5]))


def test_where_no_reading_serves_the_settings_the_likely_one_says_why(tmp_path):
    np.save(tmp_path / "clips.npy", blobs(20, 10))
    with pytest.raises(
        ConfigError, match=r"asks for 99 clips, but of the 20 in .* 14 are for train.* \(read as NTHW; .* may be"
    ) as raised:
        MovingMnistConfig(path=str(tmp_path / "clips.npy"), frame_size=16, length=5, train=99, validation=1, test=1).check()
    assert raised.value.field == "train"
    with pytest.raises(ConfigError, match=r"is NTCHW, but .* has the shape \[20, 10, 16, 16\]; use one of NTHW, TNHW") as raised:
        MovingMnistConfig(path=str(tmp_path / "clips.npy"), layout="NTCHW").check()
    assert raised.value.field == "layout"


@pytest.mark.parametrize("layout", ["NTCHW", "NTHWC", "TNCHW", "TNHWC"])
def test_one_channel_may_stand_before_or_behind_the_pixels(tmp_path, layout):
    clips = blobs(20, 10)
    axes = clips[..., None].transpose(["NTHWC".index(axis) for axis in layout])
    np.save(tmp_path / "clips.npy", axes)
    config = MovingMnistConfig(path=str(tmp_path / "clips.npy"), frame_size=16, length=5, train=14, validation=2, test=4)
    assert config.build(tmp_path / "store", quiet).split("test").gather([0])[0, :, 0].equal(torch.from_numpy(clips[16, :5]))


def test_how_a_file_is_read_is_part_of_the_identity_and_what_always_was_is_no_news(npy, tmp_path):
    base = MovingMnistConfig(path=str(npy()), **SMALL)
    told = MovingMnistConfig(path=base.path, layout="TNHW", **SMALL)
    assert told.source_digest() == base.source_digest() == digest([[list(SPLITS), sha256(Path(base.path))]])
    scaled = MovingMnistConfig(path=base.path, low=0, high=255, **SMALL)
    np.save(tmp_path / "square.npy", np.zeros((10, 10, 6, 6), np.uint8))
    square = [
        MovingMnistConfig(path=str(tmp_path / "square.npy"), layout=layout, **SMALL).source_digest()
        for layout in ("NTHW", "TNHW")
    ]
    assert len({base.source_digest(), scaled.source_digest(), *square}) == 4


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
