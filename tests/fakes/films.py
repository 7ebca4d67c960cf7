"""Small films in the formats that people bring: what is written, and the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def film(frames: int = 12, height: int = 24, width: int = 32, channels: int = 1, dtype: str = "u1", seed: int = 0) -> np.ndarray:
    """A bright square that moves by a pixel in each frame over a gradient: [time, height, width, channel]."""
    dark, most = (0, 1) if np.dtype(dtype).kind == "f" else (16, np.iinfo(dtype).max)
    row, column = np.random.default_rng(seed).integers(0, 8, 2)
    values = np.empty((frames, height, width, channels))
    values[:] = np.linspace(dark, most / 2, width)[:, None]
    for t in range(frames):
        values[t, row : row + 6, column + t : column + t + 6] = most * np.linspace(1, 0.7, channels)
    return values.astype(dtype)


def write_pictures(folder: Path, frames: np.ndarray, ending: str = "png", numbers: range | None = None, name: str = "") -> None:
    """One picture for each frame of `film`, called by its number, from 1 on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in zip(numbers or range(1, len(frames) + 1), frames, strict=True):
        Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(folder / f"{name}{number}.{ending}")


def write_video(path: Path, frames: np.ndarray, codec: str = "mpeg4", rate: int = 25, **options: str) -> None:
    """`film` of uint8 as a video of the form that the path's ending says. `options` are the codec's: g="12", bf="2"."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        _, stream.height, stream.width, channels = frames.shape
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.repeat(3, -1) if channels == 1 else frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
