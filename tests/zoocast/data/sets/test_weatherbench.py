import numpy as np
import pytest

from tests.fakes import weatherbench
from zoocast.data.sets.weatherbench import WeatherBench2Config, WeatherBenchConfig
from zoocast.errors import ConfigError

YEARS = range(2014, 2019)


def moments(config):
    """The first and the last moment of the clips of each split."""
    (film,) = config.recordings()
    return {
        split: (str(film.times[windows[0].start])[:13], str(film.times[windows[-1].frames[-1]])[:13])
        for split, windows in config.windows((film,)).items()
    }


def test_years_are_one_film_with_the_north_above(tmp_path):
    weatherbench.write(tmp_path, YEARS)
    (film,) = WeatherBenchConfig(path=str(tmp_path)).recordings()
    assert (film.unit, film.channels, str(film.shape), film.frames) == ("K", ("2m_temperature",), "1x4x8", 5 * 48)
    # Only the first two days of each year are there.
    assert film.runs == tuple(range(48 * n, 48 * (n + 1)) for n in range(5))
    np.testing.assert_array_equal(film.read(47, 49)[:, 0, :, 0], [[114.5, 69.5, 24.5, -20.5], [67.5, 22.5, -22.5, -67.5]])


def test_several_variables_are_channels(tmp_path):
    weatherbench.write(tmp_path, YEARS)
    weatherbench.write(tmp_path, YEARS, variable="geopotential_500", short="z")
    (film,) = WeatherBenchConfig(path=str(tmp_path), variables="geopotential_500, 2m_temperature").recordings()
    assert (film.channels, film.read(0, 2).shape) == (("geopotential_500", "2m_temperature"), (2, 2, 4, 8))
    with pytest.raises(ConfigError, match="has wind, but"):
        WeatherBenchConfig(path=str(tmp_path), variables="wind").recordings()


def test_years_are_the_splits_of_each_protocol(tmp_path):
    weatherbench.write(tmp_path, YEARS)
    config = WeatherBenchConfig(path=str(tmp_path), protocol="openstl")
    expected = {
        "train": ("2014-01-01T00", "2015-01-02T23"),
        "validation": ("2016-01-01T00", "2016-01-02T23"),
        "test": ("2017-01-01T00", "2018-01-02T23"),
    }
    assert moments(config) == expected
    weatherbench.write(tmp_path / "recent", [2017, 2018])
    with pytest.raises(ConfigError, match="strict has train from 1979-01-01 to 2016-01-01, of which the files, from 2017-01-01"):
        moments(WeatherBenchConfig(path=str(tmp_path / "recent")))


@pytest.mark.parametrize("version", [2, 3])
def test_axes_of_a_zarr_are_found_by_their_names(tmp_path, version):
    path = tmp_path / "era5.zarr"
    weatherbench.write_zarr(path, "2018-12-01", steps=4 * 760, version=version)
    config = WeatherBench2Config(path=str(path))
    (film,) = config.recordings()
    assert (film.unit, str(film.shape)) == ("K", "1x4x8")
    np.testing.assert_array_equal(film.read(5, 6)[0, 0, :, 7], [72.5, 27.5, -17.5, -62.5])
    # Clips are 6 days and as much stays out at the end of a split: 4 clips fit 31 - 6 days, 59 fit 365 - 6, and 60 the last 364.
    assert moments(config) == {
        "train": ("2018-12-01T00", "2018-12-24T18"),
        "validation": ("2019-01-01T00", "2019-12-20T18"),
        "test": ("2020-01-01T00", "2020-12-25T18"),
    }
