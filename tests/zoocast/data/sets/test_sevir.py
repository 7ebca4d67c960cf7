import h5py
import numpy as np
import pytest

from tests.fakes import sevir
from zoocast.data.sets.sevir import THRESHOLDS, SevirConfig, kg_per_m2
from zoocast.errors import DataError

EVENTS = (
    ("S1", "2018-06-01 12:00:00"),
    ("S2", "2018-12-31 23:00:00"),  # goes on into the next year
    ("R3", "2019-02-01 00:00:00"),
    ("S4", "2019-07-01 00:00:00"),
    ("S5", "2019-11-01 00:00:00"),
)


def split(config):
    """The names of the events of each split, and where their clips start."""
    recordings = config.recordings()
    return {
        name: [(recordings[window.recording].name, window.start) for window in windows]
        for name, windows in config.windows(recordings).items()
    }


def test_an_event_is_maps_in_the_order_of_time_with_the_moment_of_each(tmp_path):
    vil = sevir.write(tmp_path, EVENTS)
    first = SevirConfig(path=str(tmp_path)).recordings()[0]
    assert (first.name, str(first.shape), first.frames, first.missing) == ("S1", "1x8x8", 49, 255)
    assert [str(first.times[0]), str(first.times[24])] == ["2018-06-01T10:00:00", "2018-06-01T12:00:00"]
    np.testing.assert_array_equal(first.read(12, 37)[:, 0], np.moveaxis(vil[0], -1, 0)[12:37])


@pytest.mark.parametrize(
    ("protocol", "train", "validation", "test"),
    [
        ("strict", ["S1"], ["R3"], ["S4", "S5"]),
        ("earthformer", ["S1", "S2"], ["R3"], ["S4", "S5"]),
        ("diffcast", ["S1", "S2"], ["R3", "S4"], ["S5"]),
        ("mit", ["S1", "S2"], ["R3"], ["S4", "S5"]),
    ],
)
def test_dates_split_the_events_and_each_gives_three_clips(tmp_path, protocol, train, validation, test):
    sevir.write(tmp_path, EVENTS)
    expected = {"train": train, "validation": validation, "test": test}
    assert split(SevirConfig(path=str(tmp_path), protocol=protocol)) == {
        name: [(event, start) for event in events for start in (0, 12, 24)] for name, events in expected.items()
    }


def test_events_with_holes_and_those_that_stand_twice_are_left_out(tmp_path):
    sevir.write(tmp_path / "twice", [*EVENTS, ("S1", "2018-06-01 12:00:00")])
    assert [event.name for event in SevirConfig(path=str(tmp_path / "twice")).recordings()] == ["S2", "R3", "S4", "S5"]
    sevir.write(tmp_path / "holes", EVENTS, pct_missing=0.01)
    with pytest.raises(DataError, match="names no whole event"):
        SevirConfig(path=str(tmp_path / "holes")).recordings()


def test_clips_that_were_cut_already_are_read_whole_and_the_last_fifth_validates(tmp_path):
    sevir.write_cut(tmp_path)
    config = SevirConfig(path=str(tmp_path))
    assert config.recordings()[0].read(11, 15)[:, 0, 0, 0].tolist() == [11, 12, 13, 14]
    assert split(config) == {
        "train": [(f"training-{i}", 0) for i in range(4)],
        "validation": [("training-4", 0)],
        "test": [("testing-0", 0), ("testing-1", 0)],
    }


def test_a_plan_says_whose_files_are_not_there(tmp_path):
    sevir.write(tmp_path, EVENTS)
    config = SevirConfig(path=str(tmp_path))
    assert not any("left out" in line for line in config.remarks())
    with (tmp_path / "CATALOG.csv").open("a") as stream:
        stream.write("S7,vil/2020/SEVIR_VIL_2020.h5,0,vil,2020-01-01 00:00:00,0" + "," * 15 + "\n")
    assert config.remarks()[-1] == "left out: the events of 1 of 2 files in the catalog, which are not in data/"


def test_a_catalog_that_fits_another_file_and_a_file_that_ends_early_are_refused(tmp_path):
    sevir.write(tmp_path, EVENTS)
    (path,) = (tmp_path / "data").rglob("*.h5")
    with h5py.File(path, "r+") as file:
        file["id"][1] = b"S9"
    with pytest.raises(DataError, match="S2 is said to be event 1"):
        SevirConfig(path=str(tmp_path)).recordings()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        SevirConfig(path=str(tmp_path)).recordings()


def test_the_catalog_leads_to_no_file_outside_its_folder(tmp_path):
    sevir.write(tmp_path, EVENTS)
    catalog = tmp_path / "CATALOG.csv"
    catalog.write_text(catalog.read_text().replace("vil/2019/", "../../"))
    with pytest.raises(DataError, match="outside of its folder"):
        SevirConfig(path=str(tmp_path)).recordings()


def test_bytes_become_kg_per_m2_as_in_the_tutorial():
    np.testing.assert_allclose(kg_per_m2(np.array([0, 5, 6, 18], np.uint8)), [0, 0, 4 / 90.66, 16 / 90.66])
    # e^((133 - 83.9) / 38.9) = e^1.26221 and e^((219 - 83.9) / 38.9) = e^3.47301
    np.testing.assert_allclose(kg_per_m2(np.array(THRESHOLDS, np.uint8))[[2, 5]], [3.53323, 32.2337], rtol=1e-4)
