"""netCDF, HDF5 and zarr: the axes by their names, north up, times, units, and what is missing."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from tests.fakes import grids
from zoocast.data.formats import open_recordings
from zoocast.data.formats.cf import moments
from zoocast.errors import ConfigError, DataError

Write = Callable[[Path, grids.Variables], None]
FORMS: list[tuple[str, Write]] = [
    ("classic.nc", grids.write_netcdf3),
    ("t2m.nc", grids.write_netcdf4),
    ("two.zarr", lambda path, content: grids.write_zarr(path, content, 2)),
    ("three.zarr", lambda path, content: grids.write_zarr(path, content, 3)),
    ("three.zarr.zip", lambda path, content: grids.write_zarr(path, content, 3)),
]


@pytest.mark.parametrize(("name", "write"), FORMS)
@pytest.mark.parametrize("dims", [grids.DIMS, ("time", "longitude", "latitude")])
def test_axes_are_told_by_their_names_and_north_is_up(tmp_path: Path, name: str, write: Write, dims: tuple[str, ...]):
    write(tmp_path / name, grids.variables(dims))
    opened = open_recordings(tmp_path / name)
    (recording,) = opened.recordings
    assert (recording.frames, str(recording.shape), recording.dtype, recording.unit) == (7, "1x9x12", np.float32, "K")
    assert recording.runs == (range(4), range(4, 7))
    assert str(recording.times[4]) == "2020-01-02T06:00:00"
    layout = "".join({"time": "T", "latitude": "H", "longitude": "W"}[dim] for dim in dims)
    assert f"read as {layout}, by the names of its axes: 1 recording of 7 frames" in opened.remarks[0]
    assert opened.remarks[1:] == ("t2m: turned, so that north is up", "t2m: 2 runs without a gap, by the times of the frames")
    frames = grids.temperature()[:, None, ::-1]
    np.testing.assert_array_equal(recording.read(0, 7), frames)
    np.testing.assert_array_equal(recording.read(2, 4), frames[2:4])  # across two chunks


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_packed_integers_keep_their_scale_and_what_is_missing(tmp_path: Path, name: str, write: Write):
    content = grids.variables()
    packed = np.arange(7 * 9 * 12, dtype="i2").reshape(7, 9, 12)
    about = {"scale_factor": 0.5, "add_offset": 200.0, "_FillValue": np.int16(-999), "units": "K"}
    if name.endswith((".zarr", ".zip")):
        about["_FillValue"] = -999
    write(tmp_path / name, content | {"t2m": (grids.DIMS, packed, about)})
    (recording,) = open_recordings(tmp_path / name).recordings
    assert (recording.dtype, recording.factor, recording.offset, recording.missing) == (np.int16, 0.5, 200.0, -999)
    np.testing.assert_array_equal(recording.read(0, 7)[:, 0], packed[:, ::-1])


@pytest.mark.parametrize(("name", "write"), FORMS[:2])
def test_bytes_that_are_said_to_be_unsigned_are(tmp_path: Path, name: str, write: Write):
    packed = np.arange(7 * 9 * 12).reshape(7, 9, 12).astype("u1")
    write(tmp_path / name, {"dbz": (grids.DIMS, packed.view("i1"), {"_Unsigned": "true", "_FillValue": np.int8(-1)})})
    (recording,) = open_recordings(tmp_path / name).recordings
    assert (recording.dtype, recording.missing) == (np.uint8, 255)
    np.testing.assert_array_equal(recording.read(0, 7)[:, 0], packed)


@pytest.mark.parametrize("fill", ["NaN", "AAAAAAAA+H8=", -9999.0])
def test_zarr_says_in_several_ways_what_is_missing(tmp_path: Path, fill: object):
    grids.write_zarr(tmp_path / "a.zarr", grids.variables(_FillValue=fill), 3)
    (recording,) = open_recordings(tmp_path / "a.zarr").recordings
    assert recording.missing == (None if isinstance(fill, str) else fill)


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_one_of_several_variables_is_asked_for(tmp_path: Path, name: str, write: Write):
    write(tmp_path / name, grids.variables() | {"u10": (grids.DIMS, -grids.temperature(), {"units": "m s**-1"})})
    with pytest.raises(ConfigError, match=r"variable: .* has several arrays, t2m float32 \[7, 9, 12\] \(time, lat.*, u10"):
        open_recordings(tmp_path / name)
    with pytest.raises(ConfigError, match=r"variable: .* has no u1; did you mean u10"):
        open_recordings(tmp_path / name, variable="u1")
    (recording,) = open_recordings(tmp_path / name, variable="u10").recordings
    assert (recording.unit, recording.read(0, 1)[0, 0, -1, 1].round(1)) == ("m s**-1", np.float32(-273.1))


def test_levels_are_channels_and_a_year_a_file_is_a_recording_each(tmp_path: Path):
    levels = np.array([500, 850], "i4")
    for year in (2019, 2020):
        content = grids.variables()
        values = np.stack([grids.temperature(), grids.temperature() + year], axis=1)
        del content["t2m"]
        content["level"] = ("level",), levels, {"units": "millibars"}
        content["z"] = ("time", "level", "latitude", "longitude"), values, {}
        grids.write_netcdf4(tmp_path / f"z_{year}.nc", content)
    opened = open_recordings(tmp_path)
    assert [(r.name, r.channels, str(r.shape)) for r in opened.recordings] == [
        ("z_2019", ("500", "850"), "2x9x12"),
        ("z_2020", ("500", "850"), "2x9x12"),
    ]
    np.testing.assert_array_equal(opened.recordings[1].read(0, 1)[0, 1], grids.temperature()[0, ::-1] + 2020)


def test_all_datasets_of_a_group_are_recordings(tmp_path: Path):
    with h5py.File(tmp_path / "shanghai.h5", "w") as file:
        for split, number in itertools.product(("train", "test"), range(3)):
            file[f"{split}/{number}"] = np.full((5, 8, 8), number, "u1")
    opened = open_recordings(tmp_path / "shanghai.h5", variable="test")
    assert [(r.name, r.read(1, 2).max()) for r in opened.recordings] == [(f"shanghai/test/{n}", n) for n in range(3)]
    assert opened.remarks[0].startswith("shanghai.h5: 3 arrays in test; test/0 uint8 [5, 8, 8]: read as THW, guessed")


@pytest.mark.parametrize(
    ("units", "calendar", "last"),
    [
        ("hours since 1900-01-01 00:00:00.0", "gregorian", "1900-01-02T18:00:00"),
        ("days since 2000-2-28", "", "2000-04-10T00:00:00"),
        ("seconds since 1970-01-01T00:00:00Z", "proleptic_gregorian", "1970-01-01T00:00:42"),
        ("minutes since 2020-01-01 00:30", "standard", "2020-01-01T01:12:00"),
        ("hours since 0001-01-01", "standard", ""),
        ("days since 2000-01-01", "noleap", ""),
        ("months since 2000-01-01", "", ""),
        ("hours", "", ""),
    ],
)
def test_times_are_read_by_their_units_or_not_at_all(units: str, calendar: str, last: str):
    assert [str(time) for time in moments(grids.HOURS, units, calendar)[-1:]] == ([last] if last else [])


@pytest.mark.parametrize(("name", "write"), FORMS)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_files_cut_short_are_refused(tmp_path: Path, name: str, write: Write, kept: float):
    path = tmp_path / name
    write(path, grids.variables())
    cut = path / "t2m" / ("zarr.json" if (path / "t2m" / "zarr.json").exists() else ".zarray") if path.is_dir() else path
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * kept)])
    with pytest.raises(DataError, match=f"{name} (cannot be read as|has no array)"):
        open_recordings(path)


def test_a_damaged_chunk_of_zarr_is_named_when_it_is_read(tmp_path: Path):
    grids.write_zarr(tmp_path / "a.zarr", grids.variables(), 3)
    (tmp_path / "a.zarr" / "t2m" / "c" / "0" / "0" / "0").write_bytes(b"nothing of the kind")
    (recording,) = open_recordings(tmp_path / "a.zarr").recordings
    with pytest.raises(DataError, match=r"a.zarr cannot be read as zarr .*download it again"):
        recording.read(0, 1)


def changed(path: Path, **values: object) -> None:
    """The metadata of an array of zarr 2 with other values."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_zarr_that_would_unpickle_or_lies_is_refused(tmp_path: Path):
    path = tmp_path / "a.zarr"
    for values, problem in (
        ({"filters": [{"id": "pickle", "protocol": 5}]}, "cannot be read as zarr .*pickle"),
        ({"filters": [{"id": "base64"}]}, "packed by base64; only codecs that pack numbers are used"),
        ({"shape": [10**7, 900, 1200]}, r"promises float32 \[10000000, 900, 1200\]"),
        ({"shape": [7, 90000, 120000], "chunks": [7, 90000, 120000]}, "packed in chunks of .* unpacked whole"),
        ({"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}, "holds objects|cannot be read"),
    ):
        grids.write_zarr(path, grids.variables(), 2)
        changed(path / "t2m" / ".zarray", **values)
        with pytest.raises(DataError, match=problem):
            open_recordings(path, variable="t2m")


def test_a_codec_that_packs_anything_but_numbers_is_refused_in_zarr_3(tmp_path: Path):
    grids.write_zarr(tmp_path / "a.zarr", grids.variables(), 3)
    metadata = tmp_path / "a.zarr" / "t2m" / "zarr.json"
    codecs = json.loads(metadata.read_text())["codecs"]
    changed(metadata, codecs=[{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}, *codecs])
    with pytest.raises(DataError, match=r"packed by pickle|cannot be read as zarr|no array"):
        open_recordings(tmp_path / "a.zarr")


def test_shards_are_read(tmp_path: Path):
    values = np.arange(8 * 6 * 6, dtype="u2").reshape(8, 6, 6)
    zarr.create_array(tmp_path / "s.zarr", data=values, chunks=(2, 6, 6), shards=(4, 6, 6))
    opened = open_recordings(tmp_path / "s.zarr")
    np.testing.assert_array_equal(opened.recordings[0].read(1, 7)[:, 0], values[1:7])
    assert "read as THW, guessed" in opened.remarks[0]
