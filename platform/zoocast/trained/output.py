"""What predictions are written as: arrays in the units of the data (npy, netCDF), and pictures of them (png, gif, mp4).

Each format is a context that gives a function to write the next clips with; nothing is held but the clips that are being written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoocast.data.formats.extra import require
from zoocast.frames import FrameShape
from zoocast.trained.units import Units

__all__ = ["FORMATS", "Batch", "Sheet"]

FRAMES_PER_SECOND = 5
SMALLEST_SIDE = 128
"""Pixels of the shorter side of a film; smaller frames are magnified by a whole number."""


class Sheet(NamedTuple):
    """What is written: so many clips of so many frames, under these names, in these units."""

    names: Sequence[str]
    horizon: int
    shape: FrameShape
    dtype: np.dtype
    units: Units

    @property
    def axes(self) -> tuple[int, ...]:
        """(clips, time, channels, height, width)."""
        return (len(self.names), self.horizon, self.shape.channels, self.shape.height, self.shape.width)


class Batch(NamedTuple):
    """Some clips from the one with the number `start` on.

    Attributes:
        values: (B, horizon, C, H, W) in the user's units.
        shown: the same from 0 to 1, for pictures.
    """

    start: int
    values: np.ndarray
    shown: np.ndarray


Write = Callable[[Batch], None]
Format = Callable[[Path, Sheet], AbstractContextManager[Write]]


@contextlib.contextmanager
def write_npy(folder: Path, sheet: Sheet) -> Iterator[Write]:
    """``predictions.npy``, (clips, time, channels, height, width)."""
    header = {"descr": np.lib.format.dtype_to_descr(sheet.dtype), "fortran_order": False, "shape": sheet.axes}
    with (folder / "predictions.npy").open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        # By appending, and not through a mapping, whose pages would stay in memory.
        yield lambda batch: np.ascontiguousarray(batch.values, sheet.dtype).tofile(file)


@contextlib.contextmanager
def write_netcdf(folder: Path, sheet: Sheet) -> Iterator[Write]:
    """``predictions.nc``, netCDF-4 with a variable `frames` and the names of the clips."""
    h5netcdf = require("h5netcdf", extra="h5", what="netCDF")
    names = np.array([name.encode() for name in sheet.names])
    with h5netcdf.File(folder / "predictions.nc", "w") as file:
        dims = ("clip", "time", "channel", "y", "x")
        file.dimensions = dict(zip(dims, sheet.axes, strict=True)) | {"letters": names.dtype.itemsize}
        file.create_variable("name", ("clip", "letters"), "S1", data=names.view("S1").reshape(len(names), -1))
        frames = file.create_variable("frames", dims, sheet.dtype, chunks=(1, *sheet.axes[1:]))
        frames.attrs["long_name"] = "predicted frames"
        if sheet.units.unit:
            frames.attrs["units"] = sheet.units.unit

        def write(batch: Batch) -> None:
            frames[batch.start : batch.start + len(batch.values)] = batch.values

        yield write


@contextlib.contextmanager
def write_png(folder: Path, sheet: Sheet) -> Iterator[Write]:
    """``png/NAME/01.png``, ...: 8 bits, from the lowest to the highest value that the network knows."""
    from PIL import Image

    digits = max(2, len(str(sheet.horizon)))

    def write(name: str, frames: np.ndarray) -> None:
        (folder / "png" / name).mkdir(parents=True)
        for number, frame in enumerate(frames, start=1):
            Image.fromarray(frame).save(folder / "png" / name / f"{number:0{digits}}.png")

    yield _each(sheet, write)


@contextlib.contextmanager
def write_gif(folder: Path, sheet: Sheet) -> Iterator[Write]:
    """``gif/NAME.gif``."""
    from PIL import Image

    (folder / "gif").mkdir()

    def write(name: str, frames: np.ndarray) -> None:
        first, *rest = (Image.fromarray(frame) for frame in _magnified(frames))
        place, duration = folder / "gif" / f"{name}.gif", 1000 // FRAMES_PER_SECOND
        first.save(place, save_all=True, append_images=rest, duration=duration, loop=0)

    yield _each(sheet, write)


@contextlib.contextmanager
def write_mp4(folder: Path, sheet: Sheet) -> Iterator[Write]:
    """``mp4/NAME.mp4``, H.264."""
    av = require("av", extra="video", what="mp4")
    (folder / "mp4").mkdir()

    def write(name: str, frames: np.ndarray) -> None:
        with av.open(str(folder / "mp4" / f"{name}.mp4"), "w") as container:
            frames = _even(_magnified(frames))
            stream: Any = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    yield _each(sheet, write)


FORMATS: Mapping[str, Format] = {
    "npy": write_npy,
    "netcdf": write_netcdf,
    "png": write_png,
    "gif": write_gif,
    "mp4": write_mp4,
}


def _each(sheet: Sheet, write: Callable[[str, np.ndarray], None]) -> Write:
    """A function that writes every clip of a batch by its name."""
    from zoocast.report.figures.pictures import rgb  # with matplotlib, for which whoever wants arrays need not wait

    def write_all(batch: Batch) -> None:
        for number, frames in enumerate(batch.shown, start=batch.start):
            write(sheet.names[number], rgb(frames))

    return write_all


def _magnified(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) with every pixel as a square, so that small frames can be seen."""
    zoom = max(1, -(-SMALLEST_SIDE // min(frames.shape[1:3])))
    return frames.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _even(frames: np.ndarray) -> np.ndarray:
    """With an even height and width, as the colours of H.264 need: an odd last row or column is left out."""
    height, width = (side - side % 2 for side in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, :height, :width])
