""".npy and .npz."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.films import film
from zoocast.data.formats import open_recordings
from zoocast.errors import ConfigError, DataError

CLIPS = np.stack([film(10, seed=seed) for seed in range(6)])  # NTHWC, one channel
COLOURS = np.stack([film(10, channels=3, seed=seed) for seed in range(6)])


@pytest.mark.parametrize(
    ("array", "layout", "count"),
    [
        (CLIPS[..., 0], "NTHW", 6),
        (CLIPS[..., 0].swapaxes(0, 1), "TNHW", 6),
        (COLOURS, "NTHWC", 6),
        (COLOURS.swapaxes(0, 1), "TNHWC", 6),
        (COLOURS.transpose(0, 1, 4, 2, 3), "NTCHW", 6),
        (CLIPS[1, ..., 0], "THW", 1),
        (COLOURS[1], "THWC", 1),
        (CLIPS[1].transpose(0, 3, 1, 2), "TCHW", 1),
    ],
)
def test_the_order_of_axes_is_guessed_and_said(tmp_path: Path, array: np.ndarray, layout: str, count: int):
    np.save(tmp_path / "clips.npy", array)
    opened = open_recordings(tmp_path / "clips.npy")
    assert f"read as {layout}, guessed: {count} recording" in opened.remarks[0]
    source = COLOURS if 3 in array.shape else CLIPS
    assert len(opened.recordings) == count
    assert [r.name for r in opened.recordings][-1] == ("clips/5" if count > 1 else "clips")
    np.testing.assert_array_equal(opened.recordings[min(1, count - 1)].read(2, 5), source[1, 2:5].transpose(0, 3, 1, 2))


def test_an_order_that_is_told_is_followed(tmp_path: Path):
    np.save(tmp_path / "vil.npy", CLIPS[..., 0].transpose(0, 2, 3, 1))
    opened = open_recordings(tmp_path / "vil.npy", layout="NHWT")
    np.testing.assert_array_equal(opened.recordings[2].read(0, 10)[:, 0], CLIPS[2, ..., 0])
    with pytest.raises(ConfigError, match=r"layout: is THW, 3 axes, but .*vil.npy has 4"):
        open_recordings(tmp_path / "vil.npy", layout="THW")
    with pytest.raises(ConfigError, match=r"layout: names axes, T, H and W .* but got 'NTXY'"):
        open_recordings(tmp_path / "vil.npy", layout="NTXY")


def test_two_readings_that_fit_are_asked_about(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 10, 16, 16), np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    with pytest.raises(ConfigError, match=r"layout: .*may be read as NTHW or TNHW; set layout=NTHW or TNHW"):
        open_recordings(tmp_path / "noise.npy")
    np.save(tmp_path / "flows.npy", noise[:, :2])
    with pytest.raises(ConfigError, match="may be read as TCHW or NTHW or TNHW"):
        open_recordings(tmp_path / "flows.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_one_array_of_an_archive_is_read(tmp_path: Path, save):
    path = tmp_path / "taxi.npz"
    save(path, x=CLIPS[..., 0], y=CLIPS[:, ::-1, :, :, 0], dates=np.array(["2020"], object))
    with pytest.raises(ConfigError, match=r"variable: .* has several arrays, x uint8 \[6, 10, 24, 32\], y uint8"):
        open_recordings(path)
    with pytest.raises(ConfigError, match=r"variable: .* has no z; .*it has x uint8"):
        open_recordings(path, variable="z")
    opened = open_recordings(path, variable="y")
    np.testing.assert_array_equal(opened.recordings[3].read(0, 2)[:, 0], CLIPS[3, :7:-1, :, :, 0])


def test_recordings_of_files_that_differ_in_their_ending_alone_have_other_names(tmp_path: Path):
    np.save(tmp_path / "a.npy", CLIPS[0, ..., 0])
    np.savez(tmp_path / "a.npz", CLIPS[0, ..., 0])
    np.save(tmp_path / "b.npy", CLIPS[0, ..., 0])
    assert [r.name for r in open_recordings(tmp_path).recordings] == ["a.npy", "a.npz", "b"]


def test_the_clips_of_predrnns_releases_are_recordings(tmp_path: Path):
    frames = CLIPS[:2, :, None, ..., 0].reshape(20, 1, 24, 32)
    clips = np.array([[[0, 4], [10, 4]], [[4, 6], [14, 6]]], np.int32)
    np.savez_compressed(tmp_path / "mm.npz", input_raw_data=frames, clips=clips, dims=np.array([[1, 24, 32]]))
    opened = open_recordings(tmp_path / "mm.npz")
    assert [r.frames for r in opened.recordings] == [10, 10]
    np.testing.assert_array_equal(opened.recordings[1].read(3, 6), frames[13:16])


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


LYING = npy(np.zeros((4, 8, 8), "u1")).replace(b"(4, 8, 8)", b"(9, 8, 8)")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npy(CLIPS[0])[:-9], "download it again"),
        (LYING, r"uint8 \[9, 8, 8\] needs .* but there are"),
        (npy(np.array([{}], object)), "holds object"),
        (npy(np.zeros((4, 8, 8), "U3")), "holds <U3"),
        (npy(np.zeros((4, 0, 8))), "with nothing in it"),
        (npy(np.zeros((2, 2, 70_000), "u1")), "promises frames of 1x2x70000"),
        (b"\x93NUMPY\x09\x00" + bytes(90), "cannot be read|version"),
    ],
)
def test_damaged_lying_and_object_arrays_are_refused(tmp_path: Path, content: bytes, problem: str):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        open_recordings(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", content)
    with pytest.raises(DataError, match=problem):
        open_recordings(tmp_path / "a.npz")


def test_a_damaged_archive_is_named_when_it_is_read(tmp_path: Path):
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 255, (50, 64, 64), np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[150_000:150_010] = bytes(10)
    (tmp_path / "a.npz").write_bytes(content)
    (recording,) = open_recordings(tmp_path / "a.npz").recordings
    with pytest.raises(DataError, match=r"a.npz cannot be read .*download it again"):
        recording.read(0, 1)
