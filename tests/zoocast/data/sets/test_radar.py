"""KNMI, ODIM and MRMS: folders with a file for each moment."""

import gzip

import h5py
import numpy as np
import pytest

from tests.fakes import knmi, mrms, odim
from zoocast.data.sets.knmi import KnmiConfig
from zoocast.data.sets.mrms import MrmsConfig
from zoocast.data.sets.odim import OdimConfig
from zoocast.errors import ConfigError, DataError

# Five minutes apart, but for one that is missing.
TIMES = ("201906010000", "201906010005", "201906010010", "201906010020", "201906010025")
MAPS = np.arange(5 * 3 * 4).reshape(5, 3, 4)


def test_knmi_keeps_hundredths_of_a_millimetre_and_knows_the_gap(tmp_path):
    maps = MAPS.astype(np.uint16)
    maps[1, 0, 0] = 65535
    knmi.write(tmp_path, TIMES, maps)
    (rain,) = KnmiConfig(path=str(tmp_path)).recordings()
    assert (rain.unit, rain.factor, rain.offset, rain.missing) == ("mm", 0.01, 0.0, 65535)
    assert rain.runs == (range(3), range(3, 5))
    np.testing.assert_array_equal(rain.read(1, 4)[:, 0], maps[1:4])


def test_a_store_of_knmi_gives_back_millimetres_and_holes_are_dry(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    times = np.datetime64("2019-06-01T00:00", "m") + 5 * np.arange(60)
    maps = np.broadcast_to((7 * np.arange(60) % 40)[:, None, None], (60, 4, 4)).astype(np.uint16)
    maps[:, 0, 0] = 65535
    knmi.write(folder, [str(time).translate(str.maketrans("", "", "-T:")) for time in times], maps)
    store = KnmiConfig(path=str(folder), length=4).build(tmp_path / "store", lambda _, __: None)
    # 60 frames without two gaps of 4 are 36, 5 and 11; the last ones test.
    expected = np.where(maps == 65535, 0, maps)[49:57].reshape(2, 4, 1, 4, 4) / 100
    np.testing.assert_allclose(store.physical(store.split("test").clips([0, 1]).numpy()), expected, atol=1e-6)
    assert (store.recipe.channels[0].name, store.recipe.channels[0].unit) == ("rain", "mm")


def test_knmi_reflectivity_has_steps_of_half_a_dbz(tmp_path):
    knmi.write(tmp_path, TIMES, MAPS.astype(np.uint8), formula="GEO = 0.500000 * PV + -32.000000")
    (echo,) = KnmiConfig(path=str(tmp_path)).recordings()
    assert (echo.unit, echo.factor, echo.offset, echo.missing) == ("dBZ", 0.5, -32.0, 255)


def test_a_knmi_file_of_another_scale_or_of_none_is_named(tmp_path):
    knmi.write(tmp_path, TIMES, MAPS.astype(np.uint16))
    (rain,) = KnmiConfig(path=str(tmp_path)).recordings()
    knmi.write(tmp_path, TIMES[2:3], MAPS[2:3].astype(np.uint16), formula="GEO=0.1*PV+0")
    with pytest.raises(DataError, match=r"201906010010\.h5: its calibration is \(0\.1, 0\.0\), but \(0\.01, 0\.0\)"):
        rain.read(0, 5)
    knmi.write(tmp_path, TIMES[:1], MAPS[:1].astype(np.uint16), formula="__import__('os')")
    with pytest.raises(DataError, match="expected GEO=factor"):
        KnmiConfig(path=str(tmp_path)).recordings()
    with h5py.File(tmp_path / f"RAD_NL25_RAC_5min_{TIMES[0]}.h5", "r+") as file:
        del file["image1/calibration"]
    with pytest.raises(DataError, match="cannot be read as KNMI's radar"):
        KnmiConfig(path=str(tmp_path)).recordings()


@pytest.mark.parametrize("what", ["dataset1/data1", "dataset1"])
def test_odim_tells_where_nothing_is_seen_from_where_nothing_looks(tmp_path, what):
    maps = np.full((5, 3, 4), 100, np.uint8)
    maps[:, 0, 0], maps[:, 0, 1] = 0, 255
    odim.write(tmp_path, [f"{time[:8]}T{time[8:]}00" for time in TIMES], maps, what=what)
    (echo,) = OdimConfig(path=str(tmp_path)).recordings()
    assert (echo.unit, echo.channels, str(echo.shape)) == ("dBZ", ("DBZH",), "1x3x4")
    # 0.5 * 100 - 32
    np.testing.assert_array_equal(echo.read(2, 3)[0, 0, 0], np.array([-32.5, np.nan, 18, 18], np.float32))


def test_odim_of_another_quantity_or_size_than_it_says_is_refused(tmp_path):
    odim.write(tmp_path, ["20190601T000000"], MAPS[:1].astype(np.uint8), quantity="VRAD")
    with pytest.raises(ConfigError, match="holds VRAD, where DBZH, TH, ACRR, RATE is expected"):
        OdimConfig(path=str(tmp_path)).recordings()
    odim.write(tmp_path, ["20190601T000000"], MAPS[:1].astype(np.uint8))
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path, "r+") as file:
        file["where"].attrs["xsize"] = 10**9
    with pytest.raises(DataError, match=r"a map of \[3, 4\], but says \[3, 1000000000\]"):
        OdimConfig(path=str(tmp_path)).recordings()


@pytest.mark.parametrize("packed", [True, False])
def test_mrms_is_rain_in_mm_per_hour_with_holes_where_no_radar_looks(tmp_path, packed):
    maps = MAPS.astype(np.float64)
    maps[0, 0, :2] = -3, -1
    mrms.write(tmp_path, ["20210601-120000", "20210601-120200", "20210601-120400"], maps[:3], packed=packed)
    (rain,) = MrmsConfig(path=str(tmp_path)).recordings()
    assert (rain.unit, str(rain.shape), rain.frames) == ("mm/h", "1x3x4", 3)
    expected = np.where(maps[:2] < 0, np.nan, maps[:2])
    # The sample packs 24 bits or less, so that a map of 0 to 60 is not exact.
    np.testing.assert_allclose(rain.read(0, 2)[:, 0], expected, atol=0.01)


def test_grib_that_ends_early_is_something_else_or_a_bomb_is_refused(tmp_path):
    mrms.write(tmp_path, ["20210601-120000"], MAPS[:1])
    (path,) = tmp_path.iterdir()
    whole = gzip.decompress(path.read_bytes())
    longer = whole[:8] + (10**15).to_bytes(8, "big") + whole[16:]
    for damaged in (whole[:-20], b"<html>" + whole, longer):
        path.write_bytes(gzip.compress(damaged))
        with pytest.raises(DataError, match="no single whole message"):
            MrmsConfig(path=str(tmp_path)).recordings()
    path.write_bytes(gzip.compress(bytes(2**27 + 1), compresslevel=1))
    with pytest.raises(DataError, match="unpacks to more than 128"):
        MrmsConfig(path=str(tmp_path)).recordings()
