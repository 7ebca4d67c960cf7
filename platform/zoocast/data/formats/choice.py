"""Which array of a file is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoocast.data.formats.axes import Stored, open_stored
from zoocast.data.formats.base import Opened
from zoocast.errors import ConfigError, DataError, did_you_mean
from zoocast.words import some

__all__ = ["open_chosen"]


def open_chosen(
    path: Path, found: Mapping[str, Stored | DataError], variable: str, layout: str, *, name: str, group: str = ""
) -> Opened:
    """The recordings in the array called `variable`, in those of the group of that name, or in the only one that may be a film.

    Args:
        path: of the file.
        found: the arrays of the file by their names, or why they cannot be read.
        variable: a name, or empty.
        layout: as `open_stored` takes it.
        name: of the recordings; where several arrays are read, their names are added.
        group: of the recordings.

    Raises:
        ConfigError: `variable` names none, or is empty where several may be meant; or as `open_stored`.
        DataError: none has three axes, or what is meant cannot be read.
    """
    arrays = _chosen(path, found, variable)
    opened = [open_stored(a, layout, name=f"{name}/{a.name}" if len(arrays) > 1 else name, group=group) for a in arrays]
    remarks = [remark for each in opened for remark in each.remarks]
    if len(arrays) > 1:
        remarks = [f"{path.name}: {len(arrays)} arrays in {variable}; {remarks[0]}, and so on"]
    return Opened(tuple(recording for each in opened for recording in each.recordings), tuple(remarks))


def _chosen(path: Path, found: Mapping[str, Stored | DataError], variable: str) -> Sequence[Stored]:
    named = {name: array for name, array in found.items() if name == variable or name.startswith(f"{variable}/")}
    for array in named.values() if named else found.values():
        # Of what is not asked for only one problem is worth a word, where there is nothing else.
        if isinstance(array, DataError) and (named or not any(isinstance(other, Stored) for other in found.values())):
            raise array
    arrays = [array for array in found.values() if isinstance(array, Stored)]
    if variable and not named:
        hint = did_you_mean(variable, list(found))
        raise ConfigError("variable", f"{path} has no {variable}; {hint}it has {_listed(arrays)}")
    films = [array for array in arrays if (array.name in named if named else len(array.shape) >= 3)]
    if not films:
        raise DataError(f"{path} has no array of time, height and width; it has {_listed(arrays)}")
    if len(films) > 1 and not named:
        raise ConfigError("variable", f"{path} has several arrays, {_listed(films)}; name the one that is meant: {films[0].name}")
    return films


def _listed(arrays: Sequence[Stored]) -> str:
    return some([str(array) for array in arrays], 6) or "none"
