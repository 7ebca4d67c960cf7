"""BAIR robot pushing in small: TFRecord files of examples with pictures from two cameras, and what the arm did."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import numpy as np


def picture(example: int, frame: int, side: int = 16) -> np.ndarray:
    """The picture of the camera aux1: uint8 [side, side, 3], red of the example, green of the frame, blue of the column."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = example, frame, np.arange(side)
    return pixels


def write(folder: Path, train: int, test: int, frames: int = 30, each: int = 4) -> None:
    """Examples 0 to `train` - 1 in files of `each`, and `test` of them from there on."""
    for name, examples in (("train", range(train)), ("test", range(train, train + test))):
        (folder / name).mkdir(parents=True)
        for first in range(0, len(examples), each):
            some = examples[first : first + each]
            path = folder / name / f"traj_{first}_to_{first + len(some) - 1}.tfrecords"
            path.write_bytes(b"".join(_record(_example(example, frames)) for example in some))


def _record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + _checksum(length) + payload + _checksum(payload)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _example(example: int, frames: int) -> bytes:
    features: dict[str, bytes] = {}
    for frame in range(frames):
        aux = picture(example, frame)
        features |= {
            f"{frame}/image_main/encoded": _field(1, _field(1, (255 - aux).tobytes())),
            f"{frame}/image_aux1/encoded": _field(1, _field(1, aux.tobytes())),
            f"{frame}/action": _field(2, _field(1, struct.pack("<4f", 0.1, 0.2, 0.3, frame))),
        }
    entries = [_field(1, _field(1, name.encode()) + _field(2, feature)) for name, feature in features.items()]
    return _field(1, b"".join(entries))


def _field(number: int, data: bytes) -> bytes:
    """A field of a protocol buffer that has its length before it."""
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data
