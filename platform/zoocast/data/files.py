"""Reading the files that people have: sequences in `.npy` and `.npz`, images in MNIST's idx-ubyte, told apart by their content.

Nothing is unpickled, headers are compared with the size of the file before anything is believed, and sequences are mapped, not
loaded. Whatever is wrong raises `DataError` with what was found and what is expected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import math
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from zoocast.errors import DataError, InfrastructureError
from zoocast.frames import FrameShape
from zoocast.store.files import sha256_file

if TYPE_CHECKING:
    from zoocast.data.store import Dtype

__all__ = ["Images", "NpySequences", "NpzSequences", "convert", "fitting_dtype", "inspect", "sha256"]

EXPECTED = (
    "expected mnist_test_seq.npy (uint8 [time, clips, height, width]), predrnn's .npz (input_raw_data, clips, dims),"
    " or MNIST's images (idx3-ubyte, also .gz)"
)
# Two zeros, the type (8: unsigned bytes), the number of axes; then that many big-endian lengths, and the bytes.
IDX_IMAGES = b"\x00\x00\x08\x03"
IDX_HEADER = 16
IDX_LABELS = b"\x00\x00\x08\x01"
FRAMES = "input_raw_data.npy"

ReadClip = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """An idx-ubyte file of `count` grey images."""

    path: Path
    count: int
    height: int
    width: int

    def read(self) -> np.ndarray:
        """All images: uint8 [count, height, width]."""
        size = self.count * self.height * self.width
        with _reading(self.path), _open_idx(self.path) as stream:
            stream.read(IDX_HEADER)
            data = stream.read(size + 1)  # one more than there should be, to see whether the file goes on
        if len(data) != size:
            raise self.mismatch(f"{len(data)} bytes" if len(data) < size else "more")
        return np.frombuffer(data, np.uint8).reshape(self.count, self.height, self.width)

    def mismatch(self, found: str) -> DataError:
        """The error for a file whose header promises more or less than `found`."""
        size = self.count * self.height * self.width
        return DataError(
            f"{self.path}: its header promises {self.count} images of {self.height}x{self.width} pixels, {size} bytes,"
            f" but {found} follow; download it again"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NpySequences:
    """A .npy file of clips in the layout of mnist_test_seq.npy: [time, clips, height, width]."""

    path: Path
    count: int
    length: int
    shape: FrameShape
    dtype: np.dtype
    scratch_bytes: int = 0

    @contextlib.contextmanager
    def opened(self, scratch: Path) -> Iterator[ReadClip]:  # noqa: ARG002 -- the same call for every format
        """A function from a clip's number to the clip [time, channel, height, width]."""
        with _reading(self.path):
            frames = np.load(self.path, mmap_mode="r", allow_pickle=False)
        # The file is time first and has no channel axis.
        yield lambda index: frames[:, index, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NpzSequences:
    """A .npz file of predrnn's releases: frames one after another, and a table that says which of them are a clip.

    `spans` is int64 [clips, 2, 2]: for the input and the output of each clip, its first frame and number of frames.
    """

    path: Path
    count: int
    length: int
    shape: FrameShape
    dtype: np.dtype
    scratch_bytes: int
    spans: np.ndarray = dataclasses.field(repr=False, compare=False)

    @contextlib.contextmanager
    def opened(self, scratch: Path) -> Iterator[ReadClip]:
        """A function from a clip's number to the clip [time, channel, height, width].

        The frames are unpacked to the file `scratch` and mapped from there, because a compressed archive can only be read from
        its beginning. This also compares them with the archive's own checksum.
        """
        try:
            _unpack(self.path, scratch)
            with _reading(self.path):
                frames = np.load(scratch, mmap_mode="r", allow_pickle=False)
            yield lambda index: np.concatenate([frames[start : start + length] for start, length in self.spans[index]])
        finally:
            scratch.unlink(missing_ok=True)


def inspect(path: Path) -> Images | NpySequences | NpzSequences:
    """What `path` holds, from its header. Raises `DataError` if it is missing, truncated or of no known format."""
    with _reading(path), path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"\x93NUMPY"):
        return _inspect_npy(path)
    if start.startswith(b"PK\x03\x04"):
        return _inspect_npz(path)
    # gzip, or the two zeros of idx; the part behind tells images from labels.
    if start.startswith((b"\x1f\x8b", b"\x00\x00")):
        return _inspect_idx(path)
    hint = "; this looks like a web page, not the file behind it" if start.lstrip().startswith(b"<") else ""
    raise DataError(f"{path} has no known format, it begins with {start!r}{hint}; {EXPECTED}")


def sha256(path: Path) -> str:
    """SHA-256 of the file's content."""
    with _reading(path):
        return sha256_file(path)


def fitting_dtype(clips: Iterable[np.ndarray], path: Path) -> Dtype:
    """How to store `clips`: uint8 if all values are among 256 levels, however they are written, else float32.

    Raises:
        DataError: floats outside [0, 1], or bytes of which none is above 1 (then 0 to 1 was meant, and all would be black).
    """
    brightest, levels = 0.0, True
    for number, clip in enumerate(clips):
        low, high = clip.min(), clip.max()
        if clip.dtype != np.uint8:
            if not (low >= 0 and high <= 1):  # so written, a NaN is refused as well
                raise DataError(f"{path}: clip {number} has values from {low} to {high}; floats must be 0 to 1: divide them")
            # predrnn's files hold grey values divided by 255, in float32: a quarter of the space once they are bytes again. 1e-3
            # of a level is more than float32 loses there and back, and no picture comes so near to all levels by chance.
            scaled = clip * clip.dtype.type(255)
            levels = levels and bool(np.abs(scaled - np.rint(scaled)).max() < 1e-3)
        elif high > brightest:
            brightest = high
    if clip.dtype == np.uint8 and brightest <= 1:
        raise DataError(f"{path}: no byte is above {brightest:.0f}; expected grey values from 0 to 255: multiply them by 255")
    return "uint8" if levels else "float32"


def convert(clip: np.ndarray, dtype: Dtype) -> np.ndarray:
    """`clip`, bytes of 0 to 255 or floats of 0 to 1, in the other of the two if `dtype` says so."""
    if dtype == "uint8":
        return np.ascontiguousarray(clip if clip.dtype == np.uint8 else np.rint(clip * clip.dtype.type(255)), np.uint8)
    return np.ascontiguousarray(clip / 255 if clip.dtype == np.uint8 else clip, np.float32)


# -------------------------------------------------------------------------------------------------------------------- headers


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # The old files were written by Python 2, whose numbers end in L; numpy reads such headers, but warns.
            warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file required additional header parsing", UserWarning)
            yield
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; give the path of a file, or use the data set `digits`, which needs none"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {EXPECTED}; if it is one, download it again") from error


def _npy_header(stream: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the array in `stream`, after a comparison with its `size` in bytes."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: version {version} of the npy format is none for plain numbers; {EXPECTED}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataError(f"{name} holds {dtype}; expected uint8 of 0 to 255, or floats of 0 to 1")
    # Whichever way the axes are laid out, which `np.load` looks after.
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise DataError(f"{name}: {dtype} {list(shape)} needs {expected} bytes, but there are {size}; download it again")
    return shape, dtype


def _inspect_npy(path: Path) -> NpySequences:
    with _reading(path), path.open("rb") as stream:
        shape, dtype = _npy_header(stream, path.stat().st_size, str(path))
    if len(shape) != 4 or 0 in shape:
        raise DataError(f"{path} has shape {list(shape)}; expected [time, clips, height, width] like mnist_test_seq.npy")
    length, count, height, width = shape
    return NpySequences(
        path=path, count=count, length=length, dtype=dtype, shape=FrameShape(channels=1, height=height, width=width)
    )


def _inspect_npz(path: Path) -> NpzSequences:
    with _reading(path), zipfile.ZipFile(path) as archive:
        missing = sorted({FRAMES, "clips.npy", "dims.npy"} - set(archive.namelist()))
        if missing:
            found = ", ".join(sorted(archive.namelist())) or "nothing"
            raise DataError(f"{path} has no {missing[0]}, only {found}; {EXPECTED}")
        size = archive.getinfo(FRAMES).file_size
        with archive.open(FRAMES) as stream:
            shape, dtype = _npy_header(stream, size, f"{path}: {FRAMES}")
    # numpy unpacks only the members that are asked for: the frames stay packed.
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        spans, dims = arrays["clips"], arrays["dims"]
    if len(shape) != 4 or 0 in shape or dims.shape != (1, 3) or dims[0].tolist() != list(shape[1:]):
        raise DataError(
            f"{path}: input_raw_data is {list(shape)} and dims {dims.tolist()};"
            " expected [frames, channels, height, width] and [[channels, height, width]]"
        )
    lengths = _check_spans(path, spans, shape[0])
    channels, height, width = shape[1:]
    return NpzSequences(
        path=path,
        count=spans.shape[1],
        # Clips may differ in length; what all of them have can be asked for.
        length=int(lengths.min()),
        shape=FrameShape(channels=channels, height=height, width=width),
        dtype=dtype,
        scratch_bytes=size,
        # The file has the inputs of all clips and then their outputs; a clip is read as its two spans, one after the other.
        spans=spans.astype(np.int64).transpose(1, 0, 2),
    )


def _check_spans(path: Path, spans: np.ndarray, frames: int) -> np.ndarray:
    """Frames per clip, input and output together: [clips]."""
    if spans.ndim != 3 or spans.shape[0] != 2 or spans.shape[2] != 2 or not spans.size or spans.dtype.kind not in "iu":
        raise DataError(
            f"{path}: clips is {spans.dtype} {list(spans.shape)}; expected whole numbers [2, clips, 2],"
            " the first frame and number of frames of each clip's input and output"
        )
    # int64 before anything is added: a sum of the file's own small type could wrap around and pass the check.
    starts, lengths = spans.astype(np.int64).transpose(2, 0, 1)
    if starts.min() < 0 or lengths.min() < 0 or (starts + lengths).max() > frames:
        raise DataError(f"{path}: clips points beyond the {frames} frames of input_raw_data; download it again")
    return np.asarray(lengths.sum(axis=0))


def _open_idx(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


def _inspect_idx(path: Path) -> Images:
    with _reading(path), _open_idx(path) as stream:
        header = stream.read(IDX_HEADER)
        compressed = not isinstance(stream, io.BufferedReader)
    if header[:4] == IDX_LABELS:
        raise DataError(f"{path} holds labels; expected the images, for example train-images-idx3-ubyte.gz")
    if header[:4] != IDX_IMAGES or len(header) < IDX_HEADER:
        raise DataError(f"{path} begins with {header[:4]!r} where idx images begin with {IDX_IMAGES!r}; {EXPECTED}")
    count, height, width = struct.unpack(">III", header[4:])
    if not count * height * width:
        raise DataError(f"{path} holds {count} images of {height}x{width} pixels; {EXPECTED}")
    images = Images(path=path, count=count, height=height, width=width)
    # A header of nonsense must not make `read` ask for terabytes; deflate cannot pack tighter than 1 in 1032.
    most = path.stat().st_size * (1032 if compressed else 1) - (0 if compressed else IDX_HEADER)
    if count * height * width > most:
        raise images.mismatch(f"at most {most} bytes")
    return images


def _unpack(path: Path, scratch: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(FRAMES) as packed, scratch.open("wb") as out:
            shutil.copyfileobj(packed, out, 2**20)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); download it again") from error
    except OSError as error:
        raise InfrastructureError(
            f"cannot unpack {path} to {scratch} ({error.strerror}); free space or choose another --root"
        ) from error
