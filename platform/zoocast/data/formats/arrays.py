""".npy, mapped, and .npz, of which what is packed is unpacked once to a scratch file. Nothing is ever unpickled."""

from __future__ import annotations

import functools
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from zoocast.data.files import FRAMES, NpzSequences, inspect, npy_header
from zoocast.data.formats.axes import Stored, open_stored
from zoocast.data.formats.base import Opened, stamp
from zoocast.data.formats.choice import open_chosen
from zoocast.data.formats.trust import reading
from zoocast.data.recordings import Recording
from zoocast.errors import DataError
from zoocast.store.files import require_free_space

__all__ = ["open_npy", "open_npz"]

MEMBER_HEADER = struct.Struct("<26xHH")  # of a zip: 26 bytes, and how long the name and what is extra are


def open_npy(path: Path, layout: str, *, name: str, group: str = "") -> Opened:
    """The recordings in a .npy. Raises as `open_stored`, and `DataError` where the header does not fit the size of the file."""
    with reading(path, "a .npy of numbers"), path.open("rb") as stream:
        shape, dtype, _ = npy_header(stream, path.stat().st_size, str(path))
    read = functools.partial(_mapped_part, path, stamp(path))
    return open_stored(Stored(path=path, shape=shape, dtype=dtype, read=read, files=(path,)), layout, name=name, group=group)


def open_npz(path: Path, layout: str, variable: str, *, name: str, group: str = "") -> Opened:
    """The recordings in one array of a .npz, or in the clips of predrnn's releases.

    Raises:
        ConfigError: as `open_stored`, or several arrays may be meant and `variable` does not say which.
        DataError: a header does not fit the size of its array, or the archive is damaged.
    """
    with reading(path, "a .npz of numbers"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not variable and {FRAMES, "clips.npy", "dims.npy"} <= set(names):
        return _clips(path, name, group)
    found: dict[str, Stored | DataError] = {}
    for member in names:
        # Beside the frames there may be names and dates; objects among them stay packed.
        try:
            found[member.removesuffix(".npy")] = _member(path, member)
        except DataError as error:
            found[member.removesuffix(".npy")] = error
    return open_chosen(path, found, variable, layout, name=name, group=group)


def _member(path: Path, member: str) -> Stored:
    with reading(path, "a .npz of numbers"), zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        shape, dtype, _ = npy_header(stream, archive.getinfo(member).file_size, f"{path}: {member}")
    read = functools.partial(_member_part, path, stamp(path), member)
    return Stored(path=path, name=member.removesuffix(".npy"), shape=shape, dtype=dtype, read=read, files=(path,))


def _clips(path: Path, name: str, group: str) -> Opened:
    file = inspect(path)
    assert isinstance(file, NpzSequences)
    recordings = tuple(
        Recording(
            name=f"{name}/{index:0{len(str(file.count - 1))}d}",
            shape=file.shape,
            dtype=file.dtype,
            frames=len(file.numbers(index)),
            read=functools.partial(_clip_part, file, stamp(path), index),
            files=(path,),
            group=group,
        )
        for index in range(file.count)
    )
    return Opened(recordings, (f"{path.name}: {file}, as its table of clips says",))


def _mapped_part(path: Path, stamp: tuple[int, ...], part: tuple[slice, ...]) -> np.ndarray:
    return np.asarray(_mapped(path, stamp)[part])


def _member_part(path: Path, stamp: tuple[int, ...], member: str, part: tuple[slice, ...]) -> np.ndarray:
    return np.asarray(_unpacked(path, stamp, member)[part])


def _clip_part(file: NpzSequences, stamp: tuple[int, ...], index: int, start: int, stop: int) -> np.ndarray:
    return np.asarray(_unpacked(file.path, stamp, FRAMES)[file.numbers(index)[start:stop]])


@functools.lru_cache(maxsize=8)
def _mapped(path: Path, stamp: tuple[int, ...]) -> np.ndarray:  # noqa: ARG001 -- a changed file is mapped anew
    with reading(path, "a .npy of numbers"):
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


@functools.lru_cache(maxsize=2)
def _unpacked(path: Path, stamp: tuple[int, ...], member: str) -> np.ndarray:  # noqa: ARG001 -- a changed file is unpacked anew
    """An array of the archive, mapped: where it lies if it is not packed, or else from a scratch file that nobody else sees.

    A packed array can only be read from its beginning, so that every clip of [time, clips, ...] would unpack all of it.
    """
    with reading(path, "a .npz of numbers"), zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        info = archive.getinfo(member)
        shape, dtype, fortran = npy_header(stream, info.file_size, f"{path}: {member}")
        order: Literal["F", "C"] = "F" if fortran else "C"
        at = stream.tell()
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as raw:
                raw.seek(info.header_offset)
                at += info.header_offset + MEMBER_HEADER.size + sum(MEMBER_HEADER.unpack(raw.read(MEMBER_HEADER.size)))
            return np.memmap(path, dtype=dtype, mode="r", offset=at, shape=shape, order=order)
        require_free_space(Path(tempfile.gettempdir()), info.file_size, f"{path}, unpacked,")
        with tempfile.TemporaryFile() as scratch:
            # To the end of the archive's member, where its checksum is compared.
            while data := stream.read(2**20):
                scratch.write(data)
            scratch.flush()
            return np.memmap(scratch, dtype=dtype, mode="r", shape=shape, order=order)
