"""TaxiBJ: the original by year, and OpenSTL's clips."""

import h5py
import numpy as np
import pytest

from tests.fakes import taxibj
from zoocast.data.sets.taxibj import TaxiBjConfig
from zoocast.errors import ConfigError, DataError

DAY = 48


def quiet(_fraction, _message):
    pass


@pytest.fixture
def years(tmp_path):
    """Two years of 6 and 8 days; of the second the slots 100 and 101 are missing."""
    taxibj.write(tmp_path, "BJ13_M8x8_T30_InOut.h5", "2013-07-01", days=6)
    taxibj.write(tmp_path, "BJ16_M8x8_T30_InOut.h5", "2016-03-01", days=8, missing=(100, 101))
    return str(tmp_path)


def test_clips_lie_between_missing_slots_and_the_last_days_are_held_out(years, tmp_path):
    config = TaxiBjConfig(path=years, years=("16",), held_out_days=2)
    (recording,) = config.recordings()
    assert (recording.group, recording.runs) == ("16", (range(100), range(100, 8 * DAY - 2)))
    assert recording.times[48] == np.datetime64("2016-03-02T00:00:00")
    windows = config.windows([recording])
    # 4 days to train, 2 and 2 days held out, clip after clip; 100 slots hold 12 clips, and the 90 after the gap 11.
    assert [len(windows[split]) for split in ("train", "validation", "test")] == [12 + 11, 12, 12]
    store = config.build(tmp_path / "store", quiet)
    (first,) = store.split("train").clips([0])[:, :, :, 0, 0]
    # Slots 0 to 190 of inflow, and half of it outflow, become 0 to 1.
    highest = 100 + 11 * 8 + 2 - 1
    np.testing.assert_allclose(first, np.arange(8)[:, None] / [highest, highest], rtol=1e-5)
    assert [(channel.name, channel.factor) for channel in store.recipe.channels] == [
        ("inflow", highest),
        ("outflow", highest / 2),
    ]


def test_of_several_years_the_last_days_of_the_last_one_are_held_out(years):
    config = TaxiBjConfig(path=years, held_out_days=1)
    windows = config.windows(config.recordings())
    assert {w.recording for w in windows["train"]} == {0, 1}
    assert {w.recording for w in (*windows["validation"], *windows["test"])} == {1}


def test_new_york_comes_by_the_hour(tmp_path):
    taxibj.write(tmp_path, "NYC14_M16x8_T60_NewEnd.h5", "2014-04-01", days=6, minutes=60)
    config = TaxiBjConfig(path=str(tmp_path), held_out_days=2)
    assert config.counts() == {"train": 6, "validation": 6, "test": 6}
    assert str(config.frame_shape()) == "2x16x8"


def test_clips_of_openstl_are_0_to_1_and_strict_has_its_own_validation(tmp_path):
    taxibj.write_npz(tmp_path, train=100, test=10)
    kept = {"path": str(tmp_path), "scaling": "none"}
    release, strict = TaxiBjConfig(**kept, protocol="openstl"), TaxiBjConfig(**kept)
    assert release.counts() == {"train": 100, "validation": 10, "test": 10}
    assert any("its test validate" in remark for remark in release.remarks())
    # Clips 90 to 99 validate, and the 7 before share slots with them.
    assert strict.counts() == {"train": 83, "validation": 10, "test": 10}
    store = strict.build(tmp_path / "store", quiet)
    # (f / 100 - 1 + 1) / 2
    np.testing.assert_allclose(store.split("test").clips([0])[0, :, 0, 0, 0], np.arange(100, 108) / 200, rtol=1e-5)


def test_what_is_asked_for_and_not_there_is_named(years, tmp_path):
    with pytest.raises(ConfigError, match=r"has 14, but .* has 13, 16"):
        TaxiBjConfig(path=years, years=("14",)).check()
    with pytest.raises(ConfigError, match=r"dataset\.npz does not exist"):
        TaxiBjConfig(path=years, protocol="openstl").check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="BJ16_M32x32_T30_InOut"):
        TaxiBjConfig(path=str(tmp_path / "empty")).check()


def test_damaged_files_are_refused(years, tmp_path):
    path = tmp_path / "BJ13_M8x8_T30_InOut.h5"
    with h5py.File(path, "r+") as file:
        file["date"][5] = b"2013070199"[:8] + b"xx"
    with pytest.raises(DataError, match="dates that are no day and slot"):
        TaxiBjConfig(path=years).check()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"BJ13_M8x8_T30_InOut\.h5 cannot be read as HDF5"):
        TaxiBjConfig(path=years).check()
