"""How far files that others wrote are believed: errors of their libraries as words, and bounds of what a header may promise."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from zoocast.errors import DataError, ZoocastError
from zoocast.frames import FrameShape
from zoocast.store.files import human_bytes

__all__ = ["MOST_CHUNK_BYTES", "MOST_FRAME_BYTES", "check_numbers", "check_promise", "frame_shape", "reading"]

MOST_FRAME_BYTES = 2**29
"""Of one frame unpacked: 16,384 x 16,384 pixels in 16 bits. What promises more is a bomb, or no film."""
MOST_CHUNK_BYTES = 2**29
"""Of one compressed piece of an array, which is unpacked whole even if one value of it is asked for."""
BELIEVED_BYTES = 2**30
PACKED = 4096  # as 1 : 4096; deflate reaches 1032, and a part of the chunks of a sparse array may never have been written


@contextlib.contextmanager
def reading(path: object, form: str, kinds: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Raise what a library says of a damaged file as `DataError`.

    Args:
        path: the file.
        form: what it is expected to be.
        kinds: the errors of the library; it may raise anything between OSError and KeyError.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the path of a file or folder") from None
    except (ZoocastError, MemoryError):
        raise
    except kinds as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path} cannot be read as {form} ({said}); it is damaged or something else: download it again"
        ) from error


def check_numbers(dtype: np.dtype, what: object) -> None:
    """Raise `DataError` unless `dtype` is of plain numbers: objects would be unpickled, and records are no pixels."""
    if dtype.kind not in "fiub":
        kind = "objects, which are never unpickled" if dtype.kind == "O" else str(dtype)
        raise DataError(f"{what} holds {kind}; expected whole numbers or floats")


def check_promise(shape: tuple[int, ...], dtype: np.dtype, stored: int, what: object) -> None:
    """Raise `DataError` where `stored` bytes can hardly be an array of this shape, however well it is packed."""
    promised = math.prod(shape) * dtype.itemsize
    if promised > max(BELIEVED_BYTES, PACKED * stored):
        raise DataError(
            f"{what}: its header promises {dtype} {list(shape)}, {human_bytes(promised)}, but only {human_bytes(stored)} are"
            " stored; it is damaged or was never filled"
        )


def frame_shape(channels: int, height: int, width: int, itemsize: int, what: object) -> FrameShape:
    """The shape of a frame. Raises `DataError` if it is empty or larger than frames are."""
    promised = channels * height * width * itemsize
    if not promised or promised > MOST_FRAME_BYTES or max(height, width) > 2**16:
        raise DataError(
            f"{what}: its header promises frames of {channels}x{height}x{width}, {human_bytes(promised)};"
            f" expected at least one pixel, and at most {human_bytes(MOST_FRAME_BYTES)} in all and 65,536 along each side"
        )
    return FrameShape(channels=channels, height=height, width=width)
