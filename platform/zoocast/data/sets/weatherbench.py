"""WeatherBench: reanalysis (ERA5) on coarse grids of latitude and longitude.

    weatherbench     FOLDER/VARIABLE/VARIABLE_YYYY_5.625deg.nc    hourly, a netCDF file for each year (Rasp et al., 2020)
    weatherbench2    NAME.zarr                                    6-hourly, all variables and years (Rasp et al., 2024)

Axes are found by their names, and the north is above. Frames are float32 in the unit of their variable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats import open_recordings
from zoocast.data.recordings import Recording, Window
from zoocast.data.sets.measured import MeasuredClips
from zoocast.data.sets.timeline import Dates, between, joined
from zoocast.data.splits import Split
from zoocast.errors import ConfigError, DataError

__all__ = ["WeatherBench2Config", "WeatherBenchConfig"]

PROTOCOLS: Mapping[str, Dates] = {
    # The years of Rasp et al., 2020.
    "weatherbench": {
        "train": ("1979-01-01", "2016-01-01"),
        "validation": ("2016-01-01", "2017-01-01"),
        "test": ("2017-01-01", "2019-01-01"),
    },
    "openstl": {
        "train": ("2010-01-01", "2016-01-01"),
        "validation": ("2016-01-01", "2017-01-01"),
        "test": ("2017-01-01", "2019-01-01"),
    },
    "weatherbench2": {
        "train": ("1959-01-01", "2019-01-01"),
        "validation": ("2019-01-01", "2020-01-01"),
        "test": ("2020-01-01", "2021-01-01"),
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reanalysis(MeasuredClips):
    """What both have in common: variables as channels, and years as splits."""

    protocol: str = setting("strict", "which years train, validate and test")
    variables: str = setting("2m_temperature", "what becomes the channels, in this order: names joined by commas")
    length: int = setting(24, "frames in each clip", at_least=2)

    def _film(self, variable: str) -> Recording:
        raise NotImplementedError

    def _dates(self) -> Dates | None:
        raise NotImplementedError

    def recordings(self) -> tuple[Recording, ...]:
        """All years as one film."""
        variables = [name.strip() for name in self.variables.split(",") if name.strip()]
        if not variables:
            raise ConfigError("variables", "names none; give one, for example 2m_temperature")
        return (_stacked(self.kind, [self._film(variable) for variable in variables]),)

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By years, or by time as for any recording; strict leaves out a clip's length before what validates and tests."""
        if (dates := self._dates()) is None:
            return super().windows(recordings)
        clips = between(recordings, self.cut, dates, gap=self.cut.span if self.protocol == "strict" else 0)
        for split, windows in clips.items():
            if not windows:
                times = recordings[0].times
                raise ConfigError(
                    "protocol",
                    f"{self.protocol} has {split} from {dates[split][0]} to {dates[split][1]}, of which the files, from"
                    f" {times[0]} to {times[-1]}, hold no clip; add these years, or set protocol=time",
                )
        return clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeatherBenchConfig(_Reanalysis):
    """Clips of WeatherBench's hourly maps."""

    kind: ClassVar[str] = "weatherbench"

    protocol: Literal["strict", "weatherbench", "openstl", "time"] = setting(
        "strict", "which years train, validate and test: strict has weatherbench's, with gaps between; time: see split"
    )

    def _dates(self) -> Dates | None:
        return PROTOCOLS.get(self.protocol, None if self.protocol == "time" else PROTOCOLS["weatherbench"])

    def _film(self, variable: str) -> Recording:
        folder = Path(self.path)
        files = [path for pattern in (f"{variable}_*.nc", f"{variable}/*.nc") for path in folder.glob(pattern)]
        if not files:
            raise ConfigError("variables", f"has {variable}, but {folder} has no {variable}_YYYY_....nc, nor a folder of them")
        parts = [part for path in files for part in open_recordings(path).recordings]
        return joined(variable, sorted(parts, key=lambda part: part.times[0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeatherBench2Config(_Reanalysis):
    """Clips of WeatherBench 2's maps, or of any zarr of ERA5."""

    kind: ClassVar[str] = "weatherbench2"

    protocol: Literal["strict", "weatherbench2", "time"] = setting(
        "strict", "which years train, validate and test: strict has weatherbench2's, with gaps between; time: see split"
    )

    def _dates(self) -> Dates | None:
        return None if self.protocol == "time" else PROTOCOLS["weatherbench2"]

    def _film(self, variable: str) -> Recording:
        return dataclasses.replace(open_recordings(Path(self.path), variable=variable).recordings[0], name=variable)


def _stacked(name: str, films: Sequence[Recording]) -> Recording:
    """One recording whose channels are those of several of the same frames."""
    first = films[0]
    for film in films:
        if not film.times:
            raise DataError(f"{film.files[0]}: {film.name} has no axis of time with a unit such as `hours since 1900-01-01`")
        if (film.dtype, film.factor, film.offset) != (first.dtype, first.factor, first.offset):
            raise DataError(f"{film.name} is packed otherwise than {first.name}; take variables of one form, float32 for example")
        if film.times != first.times or _grid(film) != _grid(first):
            raise DataError(
                f"{film.name} has {film.frames:,} frames of {film.shape} from {film.times[0]} on, but {first.name}"
                f" {first.frames:,} of {first.shape} from {first.times[0]} on; take variables of the same times and grid"
            )
    units = {film.unit for film in films}
    return dataclasses.replace(
        first,
        name=name,
        shape=dataclasses.replace(first.shape, channels=sum(film.shape.channels for film in films)),
        read=functools.partial(_read, tuple(films)),
        files=tuple(dict.fromkeys(file for film in films for file in film.files)),
        channels=tuple(name for film in films for name in _names(film)),
        unit=units.pop() if len(units) == 1 else "",
    )


def _grid(film: Recording) -> tuple[int, int]:
    return film.shape.height, film.shape.width


def _names(film: Recording) -> tuple[str, ...]:
    """Of its channels: that of the variable, with the level where it has several."""
    return tuple(f"{film.name} {level}" for level in film.channels) if film.shape.channels > 1 else (film.name,)


def _read(films: Sequence[Recording], start: int, stop: int) -> np.ndarray:
    return np.concatenate([film.read(start, stop) for film in films], axis=1)
