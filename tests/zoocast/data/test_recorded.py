"""Clips cut from recordings: which, in what split, and with what values."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording
from zoocast.data.windows import Cut, by_time, clips_of
from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape


def _read(path, start, stop):
    return np.load(path, mmap_mode="r")[start:stop]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Films(RecordedClips):
    """A folder of .npy files, each a film of one group: the first letter of its name."""

    kind: ClassVar[str] = "films"
    gaps: tuple[int, ...] = ()

    def recordings(self):
        return tuple(self._film(path) for path in sorted(Path(self.path).glob("*.npy")))

    def _film(self, path):
        film = np.load(path, mmap_mode="r")
        frames, channels, height, width = film.shape
        edges = (0, *self.gaps, frames)
        return Recording(
            name=path.stem,
            shape=FrameShape(channels=channels, height=height, width=width),
            dtype=film.dtype,
            frames=frames,
            read=functools.partial(_read, path),
            files=(path,),
            group=path.stem[0],
            runs=tuple(range(a, b) for a, b in itertools.pairwise(edges)),
            unit="mm/h",
            factor=0.5,
            offset=-1.0,
        )


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()

    def make(count=10, frames=12, dtype=np.uint8, channels=2, scale=1):
        for n in range(count):
            # Frame t of film n is n * 16 + t everywhere, its second channel one more.
            film = (n * 16 + np.arange(frames)[:, None, None, None] + np.arange(channels)[:, None, None]) * np.ones((8, 12))
            np.save(folder / f"{'abc'[n % 3]}{n:02}.npy", (film * scale).astype(dtype))
        return str(folder)

    return make


def build(config, tmp_path):
    config.check()
    store = config.build(tmp_path / "store", lambda *_: None)
    assert {split: len(store.split(split)) for split in config.counts()} == config.counts()
    assert store.shape == config.frame_shape()
    return store


def first_frames(store, split):
    clips = store.split(split)
    return clips.gather(range(len(clips)))[:, 0, 0, 0, 0].tolist()


def test_whole_recordings_are_shared_out_and_bytes_stay_bytes(films, tmp_path):
    store = build(Films(path=films(), length=5), tmp_path)
    assert store.recipe.dtype == "uint8"
    names = sorted(Path(films()).glob("*.npy"))
    order = [int(path.stem[1:]) for path in names]
    assert first_frames(store, "train") == [n * 16 + start for n in order[:7] for start in (0, 5)]
    assert store.split("train").sequences == tuple(number for number in range(7) for _ in range(2))
    assert first_frames(store, "test") == [n * 16 + start for n in order[8:] for start in (0, 5)]
    # A byte v is offset + factor * v in mm/h; a store's clip has v / 255.
    clip = store.split("train").clips([0])[0]
    expected = (order[0] * 16 + np.arange(5)) * 0.5 - 1
    np.testing.assert_allclose(store.physical(clip.numpy())[:, 0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("count", [3, 5, 9])
def test_few_recordings_give_every_split_its_own(films, count):
    assert min(Films(path=films(count), length=5).counts().values()) >= 2


def test_time_is_cut_with_a_gap_of_a_clip(films):
    (film,) = Films(path=films(1, frames=100)).recordings()
    cut = Cut(length=3, step=2)
    clips = by_time([dataclasses.replace(film, runs=())], cut)
    used = {split: [frame for window in windows for frame in window.frames] for split, windows in clips.items()}
    assert min(used["validation"]) - max(used["train"]) > cut.span
    assert min(used["test"]) - max(used["validation"]) > cut.span
    assert max(used["test"]) >= 100 - cut.span


def test_groups_that_are_named_validate_and_test(films, tmp_path):
    config = Films(path=films(6), length=12, split="column", validation_groups=("b",), test_groups=("c",))
    store = build(config, tmp_path)
    assert {split: first_frames(store, split) for split in ("train", "validation", "test")} == {
        "train": [0, 48],
        "validation": [16, 64],
        "test": [32, 80],
    }
    with pytest.raises(ConfigError, match="must be some of the groups a, b, c, but got d"):
        dataclasses.replace(config, test_groups=("d",)).check()
    with pytest.raises(ConfigError, match="b is in validation_groups too"):
        dataclasses.replace(config, test_groups=("b",)).check()


def test_a_clip_lies_within_one_run_and_takes_every_nth_frame(films):
    (film,) = Films(path=films(1, frames=20), gaps=(7,)).recordings()
    assert [window.start for window in clips_of(0, film, Cut(length=5, stride=1))] == [0, 1, 2, *range(7, 16)]
    assert [list(w.frames) for w in clips_of(0, film, Cut(length=3, step=3))] == [[0, 3, 6], [7, 10, 13]]


def test_frames_are_cropped_resized_and_their_channels_chosen(films, tmp_path):
    folder = films(3, channels=3)
    gradient = np.tile(np.arange(12, dtype=np.uint8) * 10, (12, 3, 8, 1))
    np.save(Path(folder) / "a00.npy", gradient)
    config = Films(path=folder, length=4, crop=(0, 2, 8, 8), height=4, width=4, channels=(2, 0), train=1, validation=1, test=1)
    store = build(config, tmp_path)
    clip = store.split("train").gather([0])[0]
    assert clip.shape == (4, 2, 4, 4)
    assert clip[0, 0, 0].tolist() == [25, 45, 65, 85]  # the means of 20 and 30, 40 and 50, ...
    odd = dataclasses.replace(config, height=5, width=3)
    assert build(odd, tmp_path).shape == FrameShape(channels=2, height=5, width=3)


def test_floats_are_scaled_by_the_range_of_the_training_clips_and_back(films, tmp_path):
    config = Films(path=films(10, dtype=np.float32, scale=100), length=12, scaling="min-max")
    store = build(config, tmp_path)
    train = store.split("train").clips(range(len(store.split("train")))).numpy()
    assert (train.min(), train.max()) == (0, 1)
    raw = np.load(sorted(Path(config.path).glob("*.npy"))[0])
    np.testing.assert_allclose(store.physical(train[0]), raw * 0.5 - 1, rtol=1e-5)
    assert store.recipe.channels[1].unit == "mm/h"


def test_z_scores_are_of_the_training_clips_and_lie_around_a_half(films, tmp_path):
    config = Films(path=films(10, dtype=np.float32, scale=100), length=12, scaling="z-score", deviations=2.5)
    store = build(config, tmp_path)
    names = sorted(Path(config.path).glob("*.npy"))
    train = np.stack([np.load(name)[:12] for name in names[:7]]).astype(np.float64)
    z = (train - train.mean((0, 1, 3, 4))[:, None, None]) / train.std((0, 1, 3, 4))[:, None, None]
    assert (abs(z) < 2.5).all()
    np.testing.assert_allclose(store.split("train").clips(range(7)), 0.5 + z / 5, atol=1e-6)
    np.testing.assert_allclose(store.physical(store.split("train").clips([0]).numpy())[0], train[0] * 0.5 - 1, rtol=1e-4)


def test_the_range_of_integers_is_wider_than_they_are(films, tmp_path):
    folder = films(10, dtype=np.int16)
    wide = np.load(Path(folder) / "a00.npy")
    wide[0, :, 0, 0], wide[1, :, 0, 0] = -30_000, 30_000
    np.save(Path(folder) / "a00.npy", wide)
    store = build(Films(path=folder, length=6, scaling="min-max"), tmp_path)
    np.testing.assert_allclose(store.physical(store.split("train").clips([0]).numpy())[0], wide[:6] * 0.5 - 1, atol=0.01)


def test_values_of_another_scale_are_told_before_anything_is_built(films):
    with pytest.raises(DataError, match=r"values from .* which are not within 0 to 1; set scaling=min-max"):
        Films(path=films(10, dtype=np.float32), length=12).check()
    with pytest.raises(ConfigError, match="is none, but a00 holds uint16"):
        Films(path=films(10, dtype=np.uint16), length=12).check()
    Films(path=films(10, dtype=np.uint16), length=12, scaling="divisor", divisor=65535).check()


def test_missing_values_are_refused_left_out_or_filled(films, tmp_path):
    folder = films(10, dtype=np.float32, scale=1 / 256)
    holed = np.load(Path(folder) / "a00.npy")
    holed[3, 0, 2, 2] = np.nan
    np.save(Path(folder) / "a00.npy", holed)
    config = Films(path=folder, length=6)
    with pytest.raises(DataError, match=r"a00 has 1 missing values in frames 0 to 5, the first in frame 3 .*set missing=drop"):
        config.check()
    dropped = dataclasses.replace(config, missing="drop").build(tmp_path / "dropped", lambda *_: None)
    assert len(dropped.split("train")) == config.counts()["train"] - 1
    assert dropped.split("train").sequences == (0, *(number for number in range(1, 7) for _ in range(2)))
    filled = build(dataclasses.replace(config, missing="fill", fill_value=0.5), tmp_path)
    assert filled.split("train").clips([0])[0, 3, 0, 2, 2] == 0.5


def test_a_changed_file_is_other_data_and_a_moved_folder_is_not(films, tmp_path):
    config = Films(path=films())
    config = dataclasses.replace(config, length=5)
    before = config.source_digest()
    moved = Path(config.path).rename(tmp_path / "moved")
    assert dataclasses.replace(config, path=str(moved)).source_digest() == before
    film = np.load(moved / "a00.npy")
    film[0] += 1
    np.save(moved / "a00.npy", film)
    assert dataclasses.replace(config, path=str(moved)).source_digest() != before


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"path": ""}, ConfigError, "names no file or folder"),
        ({"path": "/nowhere"}, DataError, "/nowhere does not exist"),
        ({"length": 13}, ConfigError, "train: needs at least 1 clip, but there are 0 of 13 frames"),
        ({"train": 99}, ConfigError, "train: asks for 99 clips, but there are 14"),
        ({"channels": (2,)}, ConfigError, "channels: must be below 2"),
        ({"crop": (0, 0, 9, 9)}, ConfigError, "crop: must lie within 8x12 pixels"),
    ],
)
def test_settings_that_the_files_cannot_serve_are_told_by_name(films, settings, error, words):
    config = Films(**{"path": films(), "length": 5, **settings})
    with pytest.raises(error, match=words):
        config.check()


def test_half_a_size_and_half_a_crop_are_refused():
    with pytest.raises(ConfigError, match="width: must be given together"):
        Films(height=4)
    with pytest.raises(ConfigError, match="crop: must be top, left, height and width"):
        Films(crop=(0, 0, 4))
