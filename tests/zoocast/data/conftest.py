"""Files in the formats that people have, small."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Files = Callable[..., Path]


@pytest.fixture
def npy(tmp_path: Path) -> Files:
    """mnist_test_seq.npy in small: uint8 [time, clips, size, size]; clip i, frame t is filled with 10 i + t."""

    def write(count: int = 10, length: int = 4, size: int = 6, name: str = "seq.npy") -> Path:
        values = 10 * np.arange(count)[None, :] + np.arange(length)[:, None]
        frames = np.broadcast_to(values[:, :, None, None], (length, count, size, size)).astype(np.uint8)
        np.save(tmp_path / name, frames)
        return tmp_path / name

    return write


@pytest.fixture
def npz(tmp_path: Path) -> Files:
    """predrnn's moving-mnist-*.npz in small: frames [2 n t, 1, size, size] float32 k / 255, t in and t out for each clip."""

    def write(
        count: int = 10, half: int = 2, size: int = 6, compressed: bool = True, name: str = "seq.npz", **changed: np.ndarray
    ) -> Path:
        levels = np.arange(2 * half * count) % 256
        frames = np.broadcast_to((levels / 255).astype(np.float32)[:, None, None, None], (len(levels), 1, size, size))
        first = 2 * half * np.arange(count)
        lengths = np.full(count, half)
        clips = np.stack([np.stack([first, lengths], 1), np.stack([first + half, lengths], 1)]).astype(np.int32)
        arrays = {"input_raw_data": frames, "clips": clips, "dims": np.array([[1, size, size]], np.int32)} | changed
        (np.savez_compressed if compressed else np.savez)(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.fixture
def idx(tmp_path: Path) -> Files:
    """MNIST's train-images-idx3-ubyte in small: image i is filled with i + 1, so that a pixel tells its image."""

    def write(count: int = 20, size: int = 4, packed: bool = False, name: str = "images", cut: int = 0) -> Path:
        pixels = np.repeat(np.arange(1, count + 1, dtype=np.uint8), size * size).tobytes()
        data = struct.pack(">IIII", 0x803, count, size, size) + pixels[: len(pixels) - cut]
        (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
        return tmp_path / name

    return write
