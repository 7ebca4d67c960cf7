import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from tests.fakes import meteonet
from zoocast.data.sets.meteonet import MeteonetConfig, pickled_dates
from zoocast.errors import DataError

NAME = "reflectivity_old_NW_2016_01.{}.npz"


def maps(count, first=0):
    """int16 [count, 3, 4], each full of its number."""
    return np.broadcast_to(np.arange(first, first + count)[:, None, None], (count, 3, 4)).astype(np.int16)


def with_dates(path, dates):
    """The file with another member of dates."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | {"dates.npy": dates}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def objects(payload, count):
    """A .npy of objects with this pickle."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (count,)})
    return stream.getvalue() + payload


def test_parts_of_a_month_are_one_film_with_a_gap_where_a_map_is_missing(tmp_path):
    meteonet.write(tmp_path / NAME.format(2), "2016-01-01T00:20:00", maps(3, first=4))
    meteonet.write(tmp_path / NAME.format(1), "2016-01-01T00:00:00", maps(4), left_out=2)
    meteonet.write(tmp_path / "reflectivity_old_SE_2016_01.1.npz", "2016-01-01T00:00:00", maps(4))
    (film,) = MeteonetConfig(path=str(tmp_path)).recordings()
    assert (film.missing, film.unit, film.frames, str(film.times[-1])) == (255, "dBZ", 6, "2016-01-01T00:30:00")
    assert film.runs == (range(2), range(2, 6))
    assert film.read(1, 5)[:, 0, 2, 3].tolist() == [1, 3, 4, 5]


def test_the_new_files_have_tenths_of_a_dbz(tmp_path):
    meteonet.write(tmp_path / "reflectivity_new_SE_2018_03.1.npz", "2018-03-01T00:00:00", maps(4))
    (film,) = MeteonetConfig(path=str(tmp_path), product="reflectivity_new", zone="SE").recordings()
    assert (film.factor, film.missing) == (0.1, -200)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_dates_are_read_from_pickles_of_every_age(tmp_path, protocol):
    path = tmp_path / NAME.format(1)
    meteonet.write(path, "2016-01-31T23:55:00", maps(2))
    with np.load(path, allow_pickle=True) as ours:
        payload = pickle.dumps(ours["dates"], protocol)
    with_dates(
        path, objects(payload.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if protocol == 2 else payload, 2)
    )
    assert [str(date) for date in pickled_dates(path)] == ["2016-01-31T23:55:00", "2016-02-01T00:00:00"]


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path):
    path, mark = tmp_path / NAME.format(1), tmp_path / "it-ran"
    meteonet.write(path, "2016-01-01T00:00:00", maps(2))
    hostile = pickle.dumps(_Hostile(str(mark)))
    with_dates(path, objects(hostile, 2))
    with pytest.raises(DataError, match=r"its dates would call posix\.mkdir, which no date needs"):
        MeteonetConfig(path=str(tmp_path)).recordings()
    assert not mark.exists()
    pickle.loads(hostile)
    assert mark.exists()  # the pickle does what the test says that it does


@pytest.mark.parametrize("dates", [["2016"], [[]], 5, None])
def test_dates_that_are_none_are_refused(tmp_path, dates):
    path = tmp_path / NAME.format(1)
    meteonet.write(path, "2016-01-01T00:00:00", maps(1))
    with_dates(path, objects(pickle.dumps(np.array(dates, object)), 1))
    with pytest.raises(DataError, match=r"its dates are no list of dates|has 1 maps"):
        MeteonetConfig(path=str(tmp_path)).recordings()


def test_too_many_dates_and_a_file_that_ends_early_are_refused(tmp_path):
    path = tmp_path / NAME.format(1)
    meteonet.write(path, "2016-01-01T00:00:00", maps(2))
    with_dates(path, bytes(10_000_001))
    with pytest.raises(DataError, match="expected at most 10,000,000"):
        pickled_dates(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        MeteonetConfig(path=str(tmp_path)).recordings()
