import re
from pathlib import Path

import numpy as np
import pytest

from zoocast.data.values import Place, Scale, check_values, convert, doubts, survey
from zoocast.errors import ConfigError, DataError

FILE = Path("rain.npy")


def surveyed(clips, scale=None):
    """Of clips [n, t, h, w]."""
    return survey(((clip, lambda t, n=n: Place(n, t)) for n, clip in enumerate(clips)), scale)


def check(clips, scale=None):
    check_values(surveyed(clips, scale), FILE, clips.dtype, scale)


def zeros(dtype=np.float32):
    return np.zeros((5, 3, 4, 4), dtype)


def test_floats_that_are_bytes_in_disguise_are_told_from_others():
    every_level = (np.arange(256) / 255).reshape(1, 1, 16, 16)
    for dtype in (np.float32, np.float64):
        assert surveyed(every_level.astype(dtype)).among_levels
    assert surveyed((every_level > 0.5).astype(np.float32)).among_levels
    assert not surveyed(np.full((1, 1, 2, 2), 0.1234, np.float32)).among_levels
    # 0 to 70 dBZ in whole numbers are no levels of 255 when they become 0 to 1; 0 to 255 in floats are.
    assert not surveyed(np.arange(64.0).reshape(1, 1, 8, 8), Scale(0, 70)).among_levels
    assert surveyed(np.arange(256.0).reshape(1, 1, 16, 16), Scale(0, 255)).among_levels
    np.testing.assert_array_equal(convert(every_level.astype(np.float32), "uint8").ravel(), np.arange(256))


def test_conversion_goes_both_ways():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = convert(levels, "float32")
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(convert(floats, "uint8"), levels)
    np.testing.assert_array_equal(convert(levels, "uint8"), levels)


def test_a_scale_maps_low_to_0_and_high_to_1():
    dbz = np.array([-32, 19, 70], np.float32)
    np.testing.assert_array_equal(Scale(-32, 70).apply(dbz), np.array([0, 0.5, 1], np.float32))  # (19 + 32) / 102
    np.testing.assert_array_equal(Scale(0, 255).apply(np.array([0, 51, 255], np.uint8)), np.array([0, 0.2, 1], np.float32))


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (np.inf, "inf"), (-9999, "-9999"), (-999.9, "-999.9"), (9.96921e36, "9.96921e+36")]
)
def test_missing_values_are_counted_and_placed_in_the_file(value, kind):
    clips = zeros()
    clips[2, 1, 0, :3] = clips[4, 0, 0, 0] = value
    # 4 of 5 * 3 * 4 * 4 values.
    with pytest.raises(
        DataError,
        match=rf"rain\.npy: 4 of 240 values are missing \(4 {re.escape(kind)}\), in 2 clips, the first in clip 2, frame 1 of",
    ):
        check(clips)
    with pytest.raises(DataError, match="missing"):
        check(clips, Scale(-32, 70))


def test_what_lies_within_the_told_range_is_no_missing_value():
    check(np.full((5, 3, 4, 4), -99.0), Scale(-100, 0))
    check(np.full((5, 3, 4, 4), 255, np.uint8))
    marked = zeros(np.uint8)
    marked[:, 0] = 255
    marked[:, 1] = 71
    with pytest.raises(DataError, match=r"80 of 240 values are missing \(80 255\), in 5 clips, the first in clip 0, frame 0"):
        check(marked, Scale(0, 71))


@pytest.mark.parametrize(
    ("low", "high", "advice"), [(-32, 70, "low=-32 and high=70"), (-1, 1, "low=-1 and high=1"), (0, 255, "low=0 and high=255")]
)
def test_floats_of_another_scale_are_told_the_settings_for_it(low, high, advice):
    clips = zeros()
    clips[3, 2, 0, 0], clips[1, 1, 1, 1] = high, low
    with pytest.raises(
        DataError, match=rf"rain\.npy has values from {low} to {high}, the highest in clip 3, frame 2 .* for example {advice}"
    ):
        check(clips)
    check(clips, Scale(low, high))


@pytest.mark.parametrize(("field", "scale"), [("low", Scale(-10, 70)), ("high", Scale(-32, 60))])
def test_values_outside_of_the_told_range_name_the_end_that_is_wrong(field, scale):
    clips = zeros()
    clips[3, 2, 0, 0], clips[1, 1, 1, 1] = 70, -32
    with pytest.raises(
        ConfigError, match=r"has values from -32 to 70, the (lowest in clip 1, frame 1|highest in clip 3, frame 2)"
    ) as raised:
        check(clips, scale)
    assert raised.value.field == field


def test_bytes_of_0_and_1_are_not_taken_for_pictures_but_black_ones_are():
    with pytest.raises(
        DataError, match="no byte is above 1, where grey values go from 0 to 255; if 1 is white, set low=0 and high=1"
    ):
        check(np.ones((1, 1, 2, 2), np.uint8))
    check(np.ones((1, 1, 2, 2), np.uint8), Scale(0, 1))
    check(zeros(np.uint8))
    assert doubts(surveyed(zeros(np.uint8))) == ["every value is 0; there is nothing to learn"]


def test_bytes_of_255_far_above_all_others_are_doubted():
    rain = np.arange(71, dtype=np.uint8).repeat(2)[:128].reshape(1, 2, 8, 8)
    assert doubts(surveyed(rain)) == []
    rain[0, 1, 0, :5] = 255
    (doubt,) = doubts(surveyed(rain))
    assert doubt.startswith("5 bytes are 255 and no other is above 63: if 255 marks missing values")
    # Drawings in black and white, and pictures with all greys.
    assert doubts(surveyed(np.where(rain == 255, 255, 0).astype(np.uint8))) == []
    assert doubts(surveyed(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16))) == []
