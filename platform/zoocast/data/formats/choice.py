"""Which array of a file is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoocast.data.formats.axes import Stored
from zoocast.errors import ConfigError, DataError, did_you_mean
from zoocast.words import some

__all__ = ["chosen"]


def chosen(path: Path, arrays: Sequence[Stored], variable: str) -> list[Stored]:
    """The array called `variable`, those in the group of that name, or the only one that may be a film, with three axes or more.

    Raises:
        ConfigError: `variable` names none, or is empty where several may be meant.
        DataError: none has three axes.
    """
    if variable:
        found = [array for array in arrays if array.name == variable or array.name.startswith(f"{variable}/")]
        if found:
            return found
        hint = did_you_mean(variable, [array.name for array in arrays])
        raise ConfigError("variable", f"{path} has no {variable}; {hint}it has {_listed(arrays)}")
    films = [array for array in arrays if len(array.shape) >= 3 and array.dtype.kind in "fiub"]
    if not films:
        raise DataError(f"{path} has no array of time, height and width; it has {_listed(arrays)}")
    if len(films) > 1:
        raise ConfigError("variable", f"{path} has several arrays, {_listed(films)}; name the one that is meant: {films[0].name}")
    return films


def _listed(arrays: Sequence[Stored]) -> str:
    return some([str(array) for array in arrays], 6) or "none"
