"""Reading the files that people have: sequences in `.npy` and `.npz`, images in MNIST's idx-ubyte, told apart by their content.

Nothing is unpickled, headers are compared with the size of the file before anything is believed, and with the free memory before
anything is loaded; sequences are mapped. Whatever is wrong raises `DataError` with what was found and what is expected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import io
import math
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from zoocast.data.layout import Layout, clips_first, layouts, likely_time_axis, sizes
from zoocast.data.values import Block, Place
from zoocast.errors import DataError, InfrastructureError, ZoocastError
from zoocast.frames import FrameShape
from zoocast.store.files import human_bytes, require_memory, sha256_file

__all__ = [
    "FRAMES",
    "Images",
    "NpyArray",
    "NpySequences",
    "NpzSequences",
    "Sequences",
    "inspect",
    "npy_header",
    "sha256",
    "suggested_axes",
]

EXPECTED = (
    "expected a .npy of clips (mnist_test_seq.npy, or [clips, time, height, width] and the like), predrnn's .npz (input_raw_data,"
    " clips, dims), or MNIST's images (idx3-ubyte, also .gz)"
)
# Two zeros, the type (8: unsigned bytes), the number of axes; then that many big-endian lengths, and the bytes.
IDX_IMAGES = b"\x00\x00\x08\x03"
IDX_HEADER = 16
IDX_LABELS = b"\x00\x00\x08\x01"
FRAMES = "input_raw_data.npy"
# Bounds of what is believed of a header. MNIST's images are 47 MB and EMNIST's 640 MB; numpy reads no longer npy header.
MOST_IMAGE_BYTES = 4 * 2**30
MOST_CLIPS = 10_000_000
MOST_HEADER_BYTES = 10_000
CHUNK = 2**20

ReadClip = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """An idx-ubyte file of `count` grey images."""

    path: Path
    count: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.count:,} images of {self.height}x{self.width}"

    def read(self) -> np.ndarray:
        """All images: uint8 [count, height, width].

        Raises:
            DataError: the file holds less or more than its header says.
            InfrastructureError: they do not fit into the memory that is free.
        """
        size = self.count * self.height * self.width
        if size > MOST_IMAGE_BYTES:
            raise DataError(
                f"{self.path}: its header promises {self}, {human_bytes(size)}; at most {human_bytes(MOST_IMAGE_BYTES)} are read,"
                " since all are held in memory; make a file of fewer images"
            )
        require_memory(2 * size, f"{self.path}, {self}, in order and shuffled,")
        images, filled = np.empty(size, np.uint8), 0
        with _reading(self.path), _open_idx(self.path) as stream:
            stream.read(IDX_HEADER)
            # Piece by piece: pages of the array are taken as they are filled, so a header that lies costs nothing.
            while data := stream.read(min(CHUNK, size + 1 - filled)):  # one byte more than there should be
                if filled + len(data) > size:
                    raise self.mismatch("more")
                images[filled : filled + len(data)] = np.frombuffer(data, np.uint8)
                filled += len(data)
        if filled < size:
            raise self.mismatch(f"{filled} bytes")
        return images.reshape(self.count, self.height, self.width)

    def mismatch(self, found: str) -> DataError:
        """The error for a file whose header promises more or less than `found`."""
        size = self.count * self.height * self.width
        return DataError(
            f"{self.path}: its header promises {self.count} images of {self.height}x{self.width} pixels, {size} bytes,"
            f" but {found} follow; download it again"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NpyArray:
    """A .npy file of clips, whose header says how long its axes are, but not what they are."""

    path: Path
    axes: tuple[int, ...]
    dtype: np.dtype

    def readings(self) -> tuple[NpySequences, ...]:
        """The clips that it holds in each layout with as many axes."""
        found = []
        for layout in layouts(len(self.axes)):
            count, length, shape = sizes(self.axes, layout)
            found.append(NpySequences(path=self.path, layout=layout, count=count, length=length, shape=shape, dtype=self.dtype))
        return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequences:
    """Clips in a file: how many, of how many frames that all of them have, and what is unpacked to read them."""

    path: Path
    count: int
    length: int
    shape: FrameShape
    dtype: np.dtype
    scratch_bytes: int = 0

    def __str__(self) -> str:
        channels = f"{self.shape.channels} channel{'s' if self.shape.channels != 1 else ''}"
        return f"{self.count:,} clips of {self.length:,} frames, {self.shape.height}x{self.shape.width}, {channels}"

    @property
    def frame_bytes(self) -> int:
        """Of one frame in the file."""
        return math.prod(dataclasses.astuple(self.shape)) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True)
class NpySequences(Sequences):
    """A .npy file of clips, read in one layout."""

    layout: Layout

    @contextlib.contextmanager
    def opened(self, scratch: Path) -> Iterator[ReadClip]:  # noqa: ARG002 -- the same call for every format
        """A function from a clip's number to the clip [time, channel, height, width]."""
        clips = clips_first(_mapped(self.path), self.layout)
        yield lambda index: clips[index]

    def sample(self, used: Sequence[int], length: int, limit: int) -> Iterator[Block]:
        """The first `length` frames of clips spread evenly over those that are `used`, `limit` bytes in all at most."""
        few = np.linspace(0, len(used) - 1, min(len(used), max(1, limit // (length * self.frame_bytes)))).round().astype(int)
        with self.opened(Path()) as read:
            for number in few:
                yield read(used[number])[:length], functools.partial(Place, used[number])


@dataclasses.dataclass(frozen=True, kw_only=True)
class NpzSequences(Sequences):
    """A .npz file of predrnn's releases: frames one after another, and a table that says which of them are a clip.

    `spans` is int64 [clips, 2, 2]: for the input and the output of each clip, its first frame and number of frames.
    """

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

    def sample(self, used: Sequence[int], length: int, limit: int) -> Iterator[Block]:
        """The frames in which the clips that are `used` have their first `length`, of the first `limit` bytes of the archive.

        Nothing is unpacked for it but what is looked at.
        """
        reach = limit // self.frame_bytes
        rows = [
            (number, clip, frame) for clip in used for frame, number in enumerate(self.numbers(clip)[:length]) if number < reach
        ]
        number, clip, frame = np.array(sorted(rows), np.int64).reshape(-1, 3).T
        with _reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(FRAMES) as stream:
            _, _, fortran = npy_header(stream, self.scratch_bytes, str(self.path))
            if fortran:
                return  # frames lie across each other; whoever unpacks them looks at them
            step = max(1, CHUNK // self.frame_bytes)
            for start in range(0, int(number.max(initial=-1)) + 1, step):
                data = stream.read(step * self.frame_bytes)
                frames = np.frombuffer(data, self.dtype).reshape(-1, *dataclasses.astuple(self.shape))
                here = slice(*np.searchsorted(number, [start, start + step]))
                if number[here].size:
                    yield frames[number[here] - start], functools.partial(_place, clip[here], frame[here])

    def numbers(self, clip: int) -> list[int]:
        """The frames of a clip, by their number in the file."""
        return [n for start, many in self.spans[clip].tolist() for n in range(start, start + many)]


def _place(clips: np.ndarray, frames: np.ndarray, index: int) -> Place:
    return Place(int(clips[index]), int(frames[index]))


def inspect(path: Path) -> Images | NpyArray | NpzSequences:
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


def suggested_axes(path: Path) -> str | None:
    """Which the content of a .npy suggests as its first two axes, "NT" or "TN"; see `likely_time_axis`."""
    axis = likely_time_axis(_mapped(path))
    return None if axis is None else ("TN", "NT")[axis]


def sha256(path: Path) -> str:
    """SHA-256 of the file's content."""
    with _reading(path):
        return sha256_file(path)


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
    except ZoocastError:
        raise
    # Of whatever kind: what an archive can raise depends on how it was packed (a password, a method of compression, ...).
    except Exception as error:
        raise DataError(f"{path} cannot be read ({error}); {EXPECTED}; if it is one, download it again") from error


def _mapped(path: Path) -> np.ndarray:
    with _reading(path):
        frames: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return frames


def npy_header(stream: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, dtype, and whether the first axis varies fastest, of the array in `stream`, compared with its `size` in bytes."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: version {version} of the npy format is none for plain numbers; {EXPECTED}")
    kind, read = ("<H", np.lib.format.read_array_header_1_0) if version == (1, 0) else ("<I", np.lib.format.read_array_header_2_0)
    length = stream.read(struct.calcsize(kind))
    # numpy would read all of it before it looks at its length, gigabytes that an archive packs into megabytes.
    if struct.unpack(kind, length)[0] > MOST_HEADER_BYTES:
        raise DataError(f"{name}: its header is longer than {MOST_HEADER_BYTES} bytes; {EXPECTED}")
    header = length + stream.read(struct.unpack(kind, length)[0])
    shape, fortran, dtype = read(io.BytesIO(header))
    if dtype.kind not in "fiub":
        raise DataError(f"{name} holds {dtype}; expected uint8 of 0 to 255, or floats of 0 to 1")
    # Whichever way the axes are laid out, which `np.load` looks after.
    expected = 8 + len(header) + math.prod(shape) * dtype.itemsize
    if size != expected or min(shape, default=0) < 0:
        raise DataError(f"{name}: {dtype} {list(shape)} needs {expected} bytes, but there are {size}; download it again")
    return shape, dtype, fortran


def _inspect_npy(path: Path) -> NpyArray:
    with _reading(path), path.open("rb") as stream:
        shape, dtype, _ = npy_header(stream, path.stat().st_size, str(path))
    if not layouts(len(shape)) or 0 in shape:
        raise DataError(
            f"{path} has shape {list(shape)}; expected the axes clips, time, height and width in one of the orders NTHW and TNHW,"
            " or with channels as NTCHW, TNCHW, NTHWC, TNHWC, none of them empty"
        )
    return NpyArray(path=path, axes=shape, dtype=dtype)


def _inspect_npz(path: Path) -> NpzSequences:
    with _reading(path), zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        missing = sorted({FRAMES, "clips.npy", "dims.npy"} - set(names))
        if missing:
            found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
            raise DataError(f"{path} has no {missing[0]}, only {found}; {EXPECTED}")
        size = archive.getinfo(FRAMES).file_size
        with archive.open(FRAMES) as stream:
            shape, dtype, _ = npy_header(stream, size, f"{path}: {FRAMES}")
        for name in ("clips", "dims"):
            _check_table(archive, path, name)
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


def _check_table(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """Refuse a table whose header promises more than any data set has, before memory is taken for it."""
    size = archive.getinfo(f"{name}.npy").file_size
    with archive.open(f"{name}.npy") as stream:
        shape, dtype, _ = npy_header(stream, size, f"{path}: {name}")
    entries = 4 * MOST_CLIPS  # the first frame and number of frames of an input and of an output
    if math.prod(shape) > entries:
        raise DataError(
            f"{path}: {name} is {dtype} {list(shape)}, {human_bytes(size)}, which is more than {MOST_CLIPS:,} clips have;"
            " make a file of fewer clips"
        )
    require_memory(3 * size, f"the table of clips in {path}")


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
