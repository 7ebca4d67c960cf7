import io
import re

import numpy as np
import pytest
from PIL import Image

from zoocast.data.store import write_store
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.report.preview import write_preview


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four clips of training, two of validation and one of the test, 12 frames each that grow brighter; three channels."""
    frames = np.linspace(0, 1, 12, dtype=np.float32)[:, None, None, None] * np.ones((3, 8, 12), np.float32)
    splits = {"train": [frames] * 4, "validation": [frames] * 2, "test": [frames]}
    shape = FrameShape(channels=3, height=8, width=12)
    generator = {"name": "<b>made"}
    return write_store(tmp_path_factory.mktemp("clips"), splits, shape=shape, length=12, dtype="float32", generator=generator)


def test_the_page_shows_every_split_in_motion_and_asks_nobody_for_anything(store, tmp_path):
    write_preview(store, tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert re.findall(r"<h2 id=\"(\w+)\">\w+, (\d+) clips", page) == [("train", "4"), ("validation", "2"), ("test", "1")]
    assert page.count("data:image/png;base64,") == page.count("<img") == 6
    assert "&lt;b&gt;made" in page
    assert not re.search(r"https?://|<script|<b>made", page)


def test_a_strip_has_a_row_for_each_of_some_clips_of_each_split(store, tmp_path):
    write_preview(store, tmp_path / "p.png")
    strip = np.asarray(Image.open(tmp_path / "p.png").convert("L"))
    # Every row begins with a black frame: three clips of training, two of validation, one of the test.
    rows = np.flatnonzero(np.diff(((strip < 3).sum(axis=1) > 50).astype(int)) == 1)
    assert len(rows) == 6


def test_an_animation_has_all_frames_of_a_clip(store, tmp_path):
    write_preview(store, tmp_path / "p.gif")
    assert Image.open(io.BytesIO((tmp_path / "p.gif").read_bytes())).n_frames == 12


def test_another_ending_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"--out: must end in \.html, \.png, \.gif, .*'p\.mp4'"):
        write_preview(store, tmp_path / "p.mp4")
