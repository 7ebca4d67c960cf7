"""Frames as pictures: png, jpg, tif, of 8 or 16 bits, which stay what they are. Headers alone are read to open them."""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.data.formats.base import Opened, natural, unbroken
from zoocast.data.formats.trust import frame_shape, reading
from zoocast.data.recordings import Recording
from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape
from zoocast.words import some

__all__ = ["open_images"]

# Pillow's modes whose values stay as they are; a palette and single bits are written out, which loses nothing.
MODES = {
    "L": (1, "u1"),
    "LA": (2, "u1"),
    "RGB": (3, "u1"),
    "RGBA": (4, "u1"),
    "I;16": (1, "u2"),
    "I;16B": (1, "u2"),
    "F": (1, "f4"),
}
WRITTEN_OUT = {"1": "L", "P": "RGB", "PA": "RGBA"}
TIMES = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M"}
BITS_PER_SAMPLE = 258  # the tag of a tif


def open_images(
    folder: Path, files: Sequence[Path], *, name: str, group: str = "", gray: bool = False, time_pattern: str = ""
) -> Opened:
    """The pictures of one folder as recordings: one, or one for each name that is counted up (`a_1.png`, `a_2.png`, `b_1.png`).

    Args:
        folder: that they lie in, for messages.
        files: the pictures, in any order.
        name: of the recording; the counted names are added where there are several.
        group: of all recordings.
        gray: colours become grey (ITU-R 601).
        time_pattern: how names, without their ending, tell the time, as in `strptime`: "RAD%y%m%d%H%M00".

    Raises:
        ConfigError: a name does not fit `time_pattern`.
        DataError: a picture is damaged, of another size than the first, absurdly large, or of a kind that would lose bits.
    """
    series, remarks = _series(files)
    opened = []
    for prefix, members in series.items():
        shape, dtype = _common(folder, members, gray)
        times, moments = _moments(members, time_pattern)
        runs = unbroken(moments)
        if len(runs) > 1 and len(set(moments)) < len(moments):
            raise DataError(
                f"{folder}: two pictures have the same number or time; keep one of each in {some([f.name for f in members])}"
            )
        if runs:
            remarks.append(
                f"{folder.name}: {len(runs)} runs without a gap, by the {'times' if times else 'numbers'} of the frames"
            )
        opened.append(
            Recording(
                name="/".join(part for part in (name, prefix if len(series) > 1 else "") if part),
                shape=shape,
                dtype=dtype,
                frames=len(members),
                read=functools.partial(_read, tuple(members), shape, dtype, gray),
                files=tuple(members),
                runs=runs,
                times=times,
                group=group,
            )
        )
    return Opened(tuple(opened), tuple(remarks))


def _series(files: Sequence[Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """The files in natural order, by what stands before the last number of their names."""
    ordered = sorted(files, key=lambda file: natural(file.name))
    series: dict[str, list[Path]] = {}
    for file in ordered:
        series.setdefault(_parts(file)[0].rstrip("_-. "), []).append(file)
    # Dates and hashes are no names of films.
    if len(series) == 1 or any(len(members) < 2 for members in series.values()) or all(_time(file) for file in ordered):
        return {"": ordered}, []
    return series, [f"{ordered[0].parent.name}: {len(series)} recordings, by the names before the last number"]


def _parts(file: Path) -> tuple[str, str]:
    """What stands before the last number of a name, and the number; the number is empty where there is none."""
    found = re.fullmatch(r"(.*?)([0-9]+)[^0-9]*", file.stem)
    return (found[1], found[2]) if found else ("", "")


def _time(file: Path) -> datetime.datetime | None:
    """The time that all digits of a name make, to the minute or the second: radar_2019-05-31_2355."""
    digits = re.sub("[^0-9]", "", file.stem)
    if len(digits) not in TIMES or not "1900" <= digits[:4] < "2200":
        return None
    with contextlib.suppress(ValueError):
        return datetime.datetime.strptime(digits, TIMES[len(digits)])
    return None


def _moments(files: Sequence[Path], pattern: str) -> tuple[tuple[np.datetime64, ...], Sequence[int]]:
    """When each frame was taken, where that is known, and whole numbers that count up by the same where no frame is missing."""
    found: list[datetime.datetime] = []
    for file in files:
        if not pattern:
            time = _time(file)
            if time is None:
                break
        else:
            try:
                time = datetime.datetime.strptime(file.stem, pattern)
            except ValueError as error:
                raise ConfigError("time_pattern", f"is {pattern!r}, but {file} is called {file.stem}: {error}") from None
        found.append(time)
    if len(found) == len(files):
        times = tuple(np.datetime64(time, "s") for time in found)
        return times, [int(time.astype(np.int64)) for time in times]
    numbers = [_parts(file)[1] for file in files]
    return (), [int(number) for number in numbers] if all(numbers) else range(len(files))


@contextlib.contextmanager
def _picture(path: Path) -> Iterator[Any]:
    """The picture, its header read. Bombs are refused: Pillow's own warning of them is an error here."""
    from PIL import Image

    with reading(path, "a picture"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            yield image


def _deep(image: Any) -> bool:
    """Whether it is colour of 16 bits, of which Pillow keeps 8."""
    return image.format == "TIFF" and len(image.tag_v2.get(BITS_PER_SAMPLE, ())) > 1 and max(image.tag_v2[BITS_PER_SAMPLE]) > 8


def _mode(image: Any, gray: bool) -> str:
    """The kind of pixels that it becomes."""
    mode: str = WRITTEN_OUT.get(image.mode, image.mode)
    return "L" if gray and MODES.get(mode, (1,))[0] > 1 else mode


def _header(path: Path, gray: bool) -> tuple[FrameShape, np.dtype]:
    with _picture(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(
                f"{path} has {image.n_frames} pages; save each as a picture, or all as one .npy [time, height, width]"
            )
        # The fourth item of a tile is how its bytes are read.
        if _deep(image):
            channels, kind = len(image.tag_v2[BITS_PER_SAMPLE]), "u2"
        elif _mode(image, gray) not in MODES or (image.mode == "RGB" and any("16" in str(tile[3]) for tile in image.tile)):
            raise DataError(
                f"{path} has pixels of the kind {image.mode}, or colours of 16 bits, not in tif; expected grey or RGB"
            )
        else:
            channels, kind = MODES[_mode(image, gray)]
        width, height = image.size
    if gray and channels > 1:
        raise ConfigError("gray", f"is for colours of 8 bits, but {path} has 16; choose a channel instead")
    dtype = np.dtype(kind)
    return frame_shape(channels, height, width, dtype.itemsize, path), dtype


def _common(folder: Path, files: Sequence[Path], gray: bool) -> tuple[FrameShape, np.dtype]:
    """What all pictures are."""
    first = _header(files[0], gray)
    for file in files[1:]:
        if (found := _header(file, gray)) != first:
            raise DataError(
                f"{folder}: {file.name} is {found[1]} {found[0]}, but {files[0].name} is {first[1]} {first[0]};"
                " the frames of a recording are alike: put others into a folder of their own"
            )
    return first


def _read(files: Sequence[Path], shape: FrameShape, dtype: np.dtype, gray: bool, start: int, stop: int) -> np.ndarray:
    frames = np.empty((len(files[start:stop]), shape.channels, shape.height, shape.width), dtype)
    for frame, path in zip(frames, files[start:stop], strict=True):
        with _picture(path) as image:
            if image.size != (shape.width, shape.height):
                raise DataError(f"{path} has changed: it is {image.size[1]}x{image.size[0]} now and was {shape}; start again")
            frame[:] = np.atleast_3d(_pixels(path, image, gray)).transpose(2, 0, 1)
    return frames


def _pixels(path: Path, image: Any, gray: bool) -> np.ndarray:
    """[height, width], or [height, width, channel]."""
    if _deep(image):
        import tifffile

        return np.asarray(tifffile.imread(path))
    mode = _mode(image, gray)
    return np.asarray(image if mode == image.mode else image.convert(mode))
