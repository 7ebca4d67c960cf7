from pathlib import Path

import numpy as np
import pytest

from zoocast.data.recordings import Window
from zoocast.data.sets.timeline import between, film, joined, moment, moments
from zoocast.data.windows import Cut
from zoocast.errors import DataError
from zoocast.frames import FrameShape

SHAPE = FrameShape(channels=1, height=2, width=3)


def hourly(first, frames, value=0.0):
    """A film of hours from `first` on, whose frame n is full of `value` + n."""
    start = np.datetime64(first, "h")
    maps = {(start + hour).astype("datetime64[s]"): Path(str(value + hour)) for hour in range(frames)}
    return film("hours", maps, lambda path: np.full((1, 2, 3), float(path.name)), shape=SHAPE, dtype=np.dtype(np.float64))


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("RAD_NL25_RAC_5min_201906010005.h5", "2019-06-01T00:05:00"),
        ("MRMS_PrecipRate_00.00_20210601-120230.grib2.gz", "2021-06-01T12:02:30"),
        ("T_PAAH21_C_EUOC_20190601T000500.h5", "2019-06-01T00:05:00"),
        ("frame_0001.h5", None),
        ("radar_201913010005.h5", None),
    ],
)
def test_the_name_of_a_file_tells_its_time(name, time):
    assert moment(name) == (time and np.datetime64(time))


def test_files_without_a_time_or_with_the_same_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no file that ends in \.h5"):
        moments(tmp_path, (".h5",))
    for name in ("a_201906010005.h5", "b_201906010005.h5"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="are both of 2019-06-01T00:05:00"):
        moments(tmp_path, (".h5",))
    (tmp_path / "A.h5").touch()
    with pytest.raises(DataError, match=r"A\.h5 has no time"):
        moments(tmp_path, (".h5",))


def test_joined_films_are_read_across_their_borders_and_have_a_gap_where_hours_are_missing():
    first, second, third = hourly("2019-01-01T00", 3), hourly("2019-01-01T03", 3, 3.0), hourly("2019-01-01T08", 2, 8.0)
    both = joined("all", [first, second, third])
    assert both.runs == (range(6), range(6, 8))
    assert both.read(2, 7)[:, 0, 0, 0].tolist() == [2, 3, 4, 5, 8]
    with pytest.raises(DataError, match="still goes on"):
        joined("all", [second, first])


def test_clips_lie_within_the_dates_of_their_split_and_a_gap_before_the_next():
    recording = hourly("2018-12-31T12", 24)
    dates = {"train": ("2018-01-01", "2019-01-01"), "test": ("2019-01-01", "2020-01-01")}
    clips = between([recording], Cut(length=4), dates)
    assert [window.start for window in clips["train"]] == [0, 4, 8]
    assert clips["test"] == [Window(0, start, 4) for start in (12, 16, 20)]
    clips = between([recording], Cut(length=4), dates, gap=4)
    assert [window.start for window in clips["train"]] == [0, 4]
    # Of four frames, every third, a clip spans 10 of 12.
    assert [window.start for window in between([recording], Cut(length=4, step=3, stride=1), dates)["train"]] == [0, 1, 2]


def test_a_map_of_another_form_is_named():
    times = [np.datetime64(f"2019-01-01T0{hour}:00:00") for hour in range(2)]
    maps = dict(zip(times, (Path("good"), Path("bad")), strict=True))
    recording = film(
        "maps",
        maps,
        lambda path: np.zeros((1, 2, 3 if path.name == "good" else 4), np.uint8),
        shape=SHAPE,
        dtype=np.dtype(np.uint8),
    )
    with pytest.raises(DataError, match=r"bad holds uint8 \[1, 2, 4\], but good uint8 \[1, 2, 3\]"):
        recording.read(0, 2)
