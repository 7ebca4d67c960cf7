import zlib

import numpy as np
import pytest

from tests.fakes import hko7
from zoocast.data.sets.hko7 import Hko7Config
from zoocast.errors import DataError

DAYS = {"train": ["20090215", "20091230"], "valid": ["20091231"], "test": ["20150501"]}


def config(folder, **settings):
    return Hko7Config(path=str(folder), length=4, stride=2, **settings)


def days(config):
    """The days of each split, and where their clips start."""
    recordings = config.recordings()
    return {
        split: [(recordings[window.recording].name, window.start) for window in windows]
        for split, windows in config.windows(recordings).items()
    }


def test_lists_of_days_are_the_splits_and_strict_keeps_a_day_between_them(tmp_path):
    hko7.write(tmp_path, DAYS)
    held = {"validation": [("2009-12-31", 0), ("2009-12-31", 2)], "test": [("2015-05-01", 0), ("2015-05-01", 2)]}
    train = [("2009-02-15", 0), ("2009-02-15", 2)]
    assert days(config(tmp_path)) == {"train": train, **held}
    assert days(config(tmp_path, protocol="paper")) == {"train": [*train, ("2009-12-30", 0), ("2009-12-30", 2)], **held}


def test_pixels_are_dbz_and_masked_ones_are_missing(tmp_path):
    hko7.write(tmp_path, DAYS)
    day = config(tmp_path).recordings()[0]
    assert (day.unit, day.offset, day.offset + 255 * day.factor, str(day.times[1])) == ("dBZ", -10, 60, "2009-02-15T00:06:00")
    frames = day.read(2, 4)[:, 0]
    assert np.isnan(frames[:, 0]).all()
    assert frames[:, 1:].tolist() == np.broadcast_to([[[2]], [[3]]], (2, 7, 8)).tolist()
    bare = config(tmp_path, masks=False).recordings()[0]
    assert bare.read(2, 3)[0, 0, 0].tolist() == [2] * 8


def test_a_run_ends_where_a_picture_is_missing(tmp_path):
    hko7.write(tmp_path, DAYS, masks=False)
    (tmp_path / "radarPNG/2009/02/15/RAD090215001200.png").unlink()
    assert config(tmp_path).recordings()[0].runs == (range(2), range(2, 5))


def test_a_mask_that_is_none_or_a_bomb_and_a_day_without_pictures_are_refused(tmp_path):
    hko7.write(tmp_path, DAYS)
    day, mask = config(tmp_path).recordings()[0], tmp_path / "radarPNG_mask/2009/02/15/RAD090215000000.mask"
    for damaged, match in (
        (zlib.compress(bytes(2**26), 1), "another number of bytes than the 64"),
        (mask.read_bytes()[:-20], "another number of bytes"),
        (b"nothing", "cannot be read as a mask"),
    ):
        mask.write_bytes(damaged)
        with pytest.raises(DataError, match=match):
            day.read(0, 1)
    other = tmp_path / "other"
    other.mkdir()
    hko7.write(other, DAYS)
    (other / "hko7_rainy_valid_days.txt").write_text("20100101, 0.2\n")
    with pytest.raises(DataError, match=r"2010/01/01 has no RAD"):
        config(other).recordings()
