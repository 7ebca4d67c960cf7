"""Folders of pictures."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.fakes.films import film, write_pictures
from zoocast.data.formats import open_recordings
from zoocast.errors import ConfigError, DataError


def channels_first(frames: np.ndarray) -> np.ndarray:
    return frames.transpose(0, 3, 1, 2)


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path):
    frames = film()
    write_pictures(tmp_path / "a", frames)
    (recording,) = open_recordings(tmp_path).recordings
    assert (recording.name, recording.frames, str(recording.shape), recording.dtype) == ("a", 12, "1x24x32", np.uint8)
    assert recording.runs == ()
    np.testing.assert_array_equal(recording.read(0, 12), channels_first(frames))
    np.testing.assert_array_equal(recording.read(9, 11), channels_first(frames)[9:11])


@pytest.mark.parametrize(
    ("dtype", "channels", "ending"), [("u2", 1, "png"), ("u2", 1, "tif"), ("u1", 3, "png"), ("f4", 1, "tif")]
)
def test_values_stay_what_they_are(tmp_path: Path, dtype: str, channels: int, ending: str):
    frames = film(dtype=dtype, channels=channels)
    write_pictures(tmp_path, frames, ending)
    (recording,) = open_recordings(tmp_path).recordings
    assert recording.dtype == dtype
    np.testing.assert_array_equal(recording.read(0, 12), channels_first(frames))


def test_colours_of_16_bits_in_tif_stay_as_well(tmp_path: Path):
    frames = film(3, dtype="u2", channels=3)
    for number, frame in enumerate(frames):
        tifffile.imwrite(tmp_path / f"{number}.tif", frame, photometric="rgb")
    (recording,) = open_recordings(tmp_path).recordings
    assert recording.dtype == np.uint16
    np.testing.assert_array_equal(recording.read(0, 3), channels_first(frames))


def test_colours_become_grey_on_demand(tmp_path: Path):
    write_pictures(tmp_path, film(channels=3), "jpg")
    colours, grey = (open_recordings(tmp_path, gray=gray).recordings[0] for gray in (False, True))
    assert (colours.shape.channels, grey.shape.channels) == (3, 1)
    by_hand = (colours.read(0, 1).astype(float) * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True)
    np.testing.assert_allclose(grey.read(0, 1), by_hand, atol=2)


def test_a_recording_for_each_folder_with_the_folder_above_as_its_group(tmp_path: Path):
    for name in ("walking/person2", "walking/person10", "running/person1"):
        write_pictures(tmp_path / name, film(3))
    (tmp_path / "walking" / "readme.txt").write_text("by hand")
    opened = open_recordings(tmp_path)
    assert [(r.name, r.group) for r in opened.recordings] == [
        ("running/person1", "running"),
        ("walking/person2", "walking"),
        ("walking/person10", "walking"),
    ]
    assert opened.remarks == ("left out, of no known format: readme.txt",)


def test_runs_end_where_numbers_are_missing(tmp_path: Path):
    write_pictures(tmp_path, film(9), numbers=(*range(5, 25, 5), *range(50, 75, 5)), name="image_")
    opened = open_recordings(tmp_path)
    assert opened.recordings[0].runs == (range(4), range(4, 9))
    assert opened.remarks == (f"{tmp_path.name}: 2 runs without a gap, by the numbers of the frames",)


def test_names_that_are_counted_up_apart_are_recordings_of_their_own(tmp_path: Path):
    write_pictures(tmp_path, film(3, seed=1), name="S1_walking.54138969_")
    write_pictures(tmp_path, film(4, seed=2), name="S9_walking.54138969_")
    assert [(r.name, r.frames) for r in open_recordings(tmp_path).recordings] == [
        (f"{tmp_path.name}/S1_walking.54138969", 3),
        (f"{tmp_path.name}/S9_walking.54138969", 4),
    ]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (("r_2019-05-31_2350", "r_2019-05-31_2355", "r_2019-06-01_0000", "r_2019-06-01_0010"), ""),
        (("RAD190531235000", "RAD190531235500", "RAD190601000000", "RAD190601001000"), "RAD%y%m%d%H%M%S"),
    ],
)
def test_names_tell_the_time_across_midnight(tmp_path: Path, names: tuple[str, ...], pattern: str):
    for name, frame in zip(names, film(4), strict=True):
        Image.fromarray(frame[..., 0]).save(tmp_path / f"{name}.png")
    (recording,) = open_recordings(tmp_path, time_pattern=pattern).recordings
    assert [str(time) for time in recording.times[1:3]] == ["2019-05-31T23:55:00", "2019-06-01T00:00:00"]
    assert recording.runs == (range(3), range(3, 4))


def test_a_name_that_tells_no_time_is_named(tmp_path: Path):
    write_pictures(tmp_path, film(2), name="frame")
    with pytest.raises(ConfigError, match=r"time_pattern: is 'RAD%y', but .*frame1.png is called frame1"):
        open_recordings(tmp_path, time_pattern="RAD%y")


def test_the_first_frame_that_is_unlike_the_others_is_named(tmp_path: Path):
    write_pictures(tmp_path, film(4))
    Image.new("L", (32, 25)).save(tmp_path / "3.png")
    with pytest.raises(DataError, match=r"3.png is uint8 1x25x32, but 1.png is uint8 1x24x32"):
        open_recordings(tmp_path)


def test_a_picture_cut_short_is_named_when_it_is_read(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 1), np.uint8)
    write_pictures(tmp_path, noise)
    content = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(content[: len(content) // 2])
    (recording,) = open_recordings(tmp_path).recordings
    recording.read(0, 1)
    with pytest.raises(DataError, match=r"2.png cannot be read as a picture .*download it again"):
        recording.read(0, 3)


def png_header(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """A png that has a header, and hardly any pixels."""
    pieces = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(9))),
        (b"IEND", b""),
    )
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in pieces]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (png_header(60_000, 60_000), "cannot be read as a picture .*decompression bomb"),
        (png_header(70_000, 1), "promises frames of 1x1x70000"),
        (png_header(0, 4), "cannot be read as a picture|promises frames"),
        (png_header(4, 4, bits=16, colour=2), "colours of 16 bits"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "cannot be read as a picture"),
        (b"<html>Not found</html>", "holds no file of a known format; .* found 1.png"),
    ],
)
def test_bombs_and_what_is_no_picture_are_refused_by_their_headers(tmp_path: Path, content: bytes, problem: str):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        open_recordings(tmp_path)
