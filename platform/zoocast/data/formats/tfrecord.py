"""TFRecord without TensorFlow: framed records with CRC-32C, and of protocol buffers what `tf.train.Example` needs.

A record is its length (u64, little end first), the masked checksum of these 8 bytes, the payload, and the masked checksum of it
(tensorflow/core/lib/io/record_writer.h). An example is a map from names to lists of bytes, floats or whole numbers.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoocast.data.formats.trust import reading
from zoocast.errors import DataError
from zoocast.store.files import human_bytes

__all__ = ["byte_features", "crc32c", "read_record", "records"]

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits reversed
MOST_RECORD_BYTES = 2**28
LANES = 2**12  # pieces of a payload whose checksums are computed side by side


def records(path: Path) -> list[int]:
    """Where each record begins, from the headers, which are compared with their checksums and with the size of the file.

    Raises:
        DataError: the file is missing, truncated, or none of TFRecord.
    """
    offsets, at = [], 0
    with reading(path, "TFRecord"), path.open("rb") as stream:
        size = path.stat().st_size
        while at < size:
            stream.seek(at)
            offsets.append(at)
            at += HEADER.size + _length(path, at, stream.read(HEADER.size)) + FOOTER.size
    if at != size or not offsets:
        raise DataError(
            f"{path} has {human_bytes(size)}, but its records need {human_bytes(at)}; it is cut off: download it again"
        )
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """The payload of the record that begins at `offset`. Raises `DataError` where it differs from its checksum."""
    with reading(path, "TFRecord"), path.open("rb") as stream:
        stream.seek(offset)
        payload = stream.read(_length(path, offset, stream.read(HEADER.size)))
        if FOOTER.unpack(stream.read(FOOTER.size))[0] != _masked(crc32c(payload)):
            raise DataError(f"{path}: the record at byte {offset} differs from its checksum; download it again")
    return payload


def _length(path: Path, offset: int, header: bytes) -> int:
    if len(header) < HEADER.size or HEADER.unpack(header)[1] != _masked(crc32c(header[:8])):
        raise DataError(f"{path} is no TFRecord at byte {offset}: its header differs from its checksum; download it again")
    length: int = HEADER.unpack(header)[0]
    if length > MOST_RECORD_BYTES:
        raise DataError(
            f"{path}: the record at byte {offset} has {human_bytes(length)}; at most {human_bytes(MOST_RECORD_BYTES)} are read"
        )
    return length


def _masked(crc: int) -> int:
    """A checksum as it is kept, so that checksums of what holds checksums stay good ones."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32 of Castagnoli (RFC 3720)."""
    crc, width = 0xFFFFFFFF, len(data) // LANES
    if width:
        lanes = np.zeros(LANES, np.uint32)
        lanes[0] = crc
        for column in np.frombuffer(data, np.uint8, LANES * width).reshape(LANES, width).T.copy():
            lanes = _table()[(lanes ^ column) & 255] ^ lanes >> 8
        # Of two pieces: the checksum of the first, taken on through as many zeros as the second is long, xor that of the second.
        zeros = _zeros(width)
        while len(lanes) > 1:
            lanes, zeros = _through(zeros, lanes[::2]) ^ lanes[1::2], _through(zeros, zeros)
        crc = int(lanes[0])
    for byte in data[LANES * width :]:
        crc = int(_table()[(crc ^ byte) & 255]) ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    """What a byte becomes: uint32 [256]."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ POLYNOMIAL * (table & 1)
    return table


@functools.lru_cache(maxsize=16)
def _zeros(count: int) -> np.ndarray:
    """What each bit of a checksum becomes by `count` bytes of zero: uint32 [32]."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(count):
        bits = _table()[bits & 255] ^ bits >> 8
    return bits


def _through(zeros: np.ndarray, checksums: np.ndarray) -> np.ndarray:
    """What checksums become by the zeros for which each bit becomes `zeros`."""
    out = np.zeros_like(checksums)
    for bit in range(32):
        out ^= zeros[bit] * (checksums >> bit & 1)
    return out


def byte_features(payload: bytes, what: object) -> dict[str, bytes]:
    """The features of a `tf.train.Example` that are lists of bytes, by name; of each list the first item.

    Raises:
        DataError: it is no example.
    """
    found = {}
    with reading(what, "tf.train.Example"):
        # Example.features, then an entry for each: its name, and a feature, whose first kind are lists of bytes.
        for entry in _path(payload, 1, 1):
            (name,), values = _path(entry, 1), list(_path(entry, 2, 1, 1))
            if values:
                found[str(name, "utf-8")] = bytes(values[0])
    return found


def _path(message: bytes | memoryview, *numbers: int) -> Iterator[memoryview]:
    """The fields with the last of these numbers, in those with the one before it, and so on."""
    if not numbers:
        yield memoryview(message)
        return
    for inner in _fields(message, numbers[0]):
        yield from _path(inner, *numbers[1:])


def _fields(message: bytes | memoryview, number: int) -> Iterator[memoryview]:
    """The fields of a message with this number. Down to its lists an example has only fields with their length before them."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        length, at = _varint(view, at)
        if tag & 7 != 2 or at + length > len(view):
            raise ValueError(f"field {tag >> 3} of kind {tag & 7} and {length} bytes")
        if tag >> 3 == number:
            yield view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (view[at + shift // 7] & 127) << shift
        if view[at + shift // 7] < 128:
            return value, at + shift // 7 + 1
    raise ValueError("a number of more than 64 bits")
