"""Readers of what lies on people's disks, one module for each format; each turns a path into recordings.

`open_recordings` tells formats by their content and says in words how it reads them. Headers are read, frames are not.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from zoocast.data.formats import netcdf
from zoocast.data.formats.arrays import open_npy, open_npz
from zoocast.data.formats.base import Opened, natural
from zoocast.data.formats.hdf5 import SIGNATURE, open_hdf5
from zoocast.data.formats.images import open_images
from zoocast.data.formats.trust import reading
from zoocast.data.formats.video import demuxer, open_video
from zoocast.data.formats.zarr import is_zarr, open_zarr
from zoocast.errors import DataError
from zoocast.words import some

__all__ = ["Opened", "open_recordings"]

# How files begin; what a file is called says nothing.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "picture",
    b"\xff\xd8\xff": "picture",
    b"II*\x00": "picture",
    b"MM\x00*": "picture",
    b"\x93NUMPY": "npy",
    SIGNATURE: "hdf5",
    **dict.fromkeys(netcdf.SIGNATURES, "netcdf"),
}
MOST_REMARKS = 6
KNOWN = "pictures (png, jpg, tif), videos, .npy, .npz, HDF5, netCDF, zarr"


def open_recordings(
    path: Path,
    *,
    layout: str = "auto",
    variable: str = "",
    gray: bool = False,
    verify: bool = False,
    time_pattern: str = "",
) -> Opened:
    """The recordings in a file or a folder, folders in it included.

    Args:
        path: a file of any format that is known, or a folder of such.
        layout: which axis of an array is which, N clips, T time, C channels, H height, W width: "NTHW", "THWC", ...; auto:
            guessed where only one reading fits.
        variable: of files that hold several arrays: the name of the one, or of the group of those, that is read.
        gray: colours of pictures and videos become grey.
        verify: videos are decoded once, and what is damaged in them is left out; else it is an error when it is read.
        time_pattern: how the names of pictures tell the time, as in `strptime`; see `open_images`.

    Raises:
        ConfigError: `layout` or `variable` must be given, or fits nothing; or what reads the format is not installed.
        DataError: a file is missing, damaged, absurd, or of no known format.
    """
    how = _How(layout=layout, variable=variable, gray=gray, verify=verify, time_pattern=time_pattern)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the path of a file or folder")
    if not path.is_dir() or is_zarr(path):
        form = _form(path)
        if form is None:
            raise DataError(f"{path} has no known format, it begins with {_start(path)!r}; expected {KNOWN}")
        return _open_file(path, form, path.stem, "", how)
    recordings, remarks, unknown = [], [], []
    for folder, files in _folders(path, set()):
        inside = folder.relative_to(path).as_posix()
        name = path.name if inside == "." else inside
        group = inside.rpartition("/")[0]
        forms = {file: _form(file) for file in files}
        stems = collections.Counter(file.stem for file, form in forms.items() if form not in (None, "picture"))
        unknown += [file.name for file in files if forms[file] is None]
        found = []
        if pictures := [file for file in files if forms[file] == "picture"]:
            found.append(open_images(folder, pictures, name=name, group=group, gray=gray, time_pattern=time_pattern))
        for file, form in forms.items():
            if form not in (None, "picture"):
                alone = stems[file.stem] == 1 and not file.with_suffix("").is_dir()
                called = (file.relative_to(path).with_suffix("") if alone else file.relative_to(path)).as_posix()
                found.append(_open_file(file, form, called, "" if inside == "." else inside, how))
        recordings += [recording for opened in found for recording in opened.recordings]
        remarks += [remark for opened in found for remark in opened.remarks]
    if not recordings:
        raise DataError(
            f"{path} holds no file of a known format; expected {KNOWN}" + (f", found {some(unknown)}" if unknown else "")
        )
    if unknown:
        remarks.insert(0, f"left out, of no known format: {some(unknown)}")
    return Opened(tuple(recordings), _few(remarks))


def _few(remarks: list[str]) -> tuple[str, ...]:
    """The first remarks and the first warnings, and how many more there are: a folder may hold thousands of files."""
    kinds: tuple[list[str], list[str]] = ([], [])
    for remark in dict.fromkeys(remarks):
        kinds[remark.startswith("warning: ")].append(remark)
    few: list[str] = []
    for kind, start in zip(kinds, ("", "warning: "), strict=True):
        few += kind[:MOST_REMARKS]
        if len(kind) > MOST_REMARKS:
            few.append(f"{start}and {len(kind) - MOST_REMARKS} more like these")
    return tuple(few)


def _start(path: Path) -> bytes:
    with reading(path, "a file"), path.open("rb") as stream:
        return stream.read(16)


def _form(path: Path) -> str | None:
    if path.is_dir():
        return "zarr"
    start = _start(path)
    if start.startswith(b"PK\x03\x04"):
        return "zarr" if is_zarr(path) else "npz"
    video = demuxer(start)
    return next((form for signature, form in SIGNATURES.items() if start.startswith(signature)), video and f"video {video}")


def _folders(folder: Path, seen: set[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """The folder and all in it, each once however links go, with their files and zarr stores, but for hidden ones."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    entries = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: natural(entry.name)
    )
    stores = {entry for entry in entries if entry.is_dir() and is_zarr(entry)}
    yield folder, [entry for entry in entries if entry.is_file() or entry in stores]
    for entry in entries:
        if entry.is_dir() and entry not in stores:
            yield from _folders(entry, seen)


ARRAYS = {"npz": open_npz, "hdf5": open_hdf5, "netcdf": netcdf.open_netcdf, "zarr": open_zarr}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _How:
    """The arguments of `open_recordings`."""

    layout: str
    variable: str
    gray: bool
    verify: bool
    time_pattern: str


def _open_file(path: Path, form: str, name: str, group: str, how: _How) -> Opened:
    if form == "npy":
        return open_npy(path, how.layout, name=name, group=group)
    if opener := ARRAYS.get(form):
        return opener(path, how.layout, how.variable, name=name, group=group)
    if form.startswith("video "):
        return open_video(path, form.removeprefix("video "), name=name, group=group, gray=how.gray, verify=how.verify)
    return open_images(path.parent, [path], name=name, group=group, gray=how.gray, time_pattern=how.time_pattern)
