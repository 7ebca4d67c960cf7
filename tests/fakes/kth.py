"""KTH actions in small, both in its own films with their text and in predrnn's folders of pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

HEADER = """The list of sequences, 24 frames and more of somebody each.
Training: person11, 12, 13, 14, 15, 16, 17, 18
"""


def frames(person: int, count: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A person, a bright bar that moves by a pixel a frame: uint8 [time, height, width]."""
    film = np.full((count, height, width), 4 * person, np.uint8)
    for number, frame in enumerate(film):
        frame[4:20, number % (width - 6) : number % (width - 6) + 6] = 220
    return film


def write(folder: Path, films: dict[str, str], count: int = 40) -> None:
    """A film of `count` frames for each name, `person01_boxing_d1`, and the text with its ranges, `1-20, 21-40`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} \t\tframes\t{ranges}" for name, ranges in films.items()]
    (folder / "00sequences.txt").write_text(HEADER + "\n".join([*lines, "person13_handclapping_d3 \t\t*missing*"]))
    for name in films:
        path = folder / name.split("_")[1] / f"{name}_uncomp.avi"
        path.parent.mkdir(exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 24, 32, "yuv420p", 1_000_000
            for frame in frames(int(name[6:8]), count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
            container.mux(stream.encode())


def write_folders(folder: Path, films: dict[str, list[int]]) -> None:
    """A folder of pictures for each name, of the frames with these numbers."""
    for name, numbers in films.items():
        inner = folder / name.split("_")[1] / f"{name}_uncomp"
        inner.mkdir(parents=True)
        film = frames(int(name[6:8]), max(numbers))
        for number in numbers:
            Image.fromarray(film[number - 1]).save(inner / f"image_{number:04d}.jpg", quality=95)
