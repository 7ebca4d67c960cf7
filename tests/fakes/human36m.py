"""Human3.6M in small: every fifth frame as a picture, and OpenSTL's two lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Clips = Sequence[tuple[str, int]]


def write(folder: Path, films: Mapping[str, int], train: Clips = (), test: Clips = ()) -> None:
    """`films`, as S1_Walking.54138969, with how many pictures each has; the lists name a film and the first frame of a clip.

    Frame n of a film is red of n, and green of its place among the films.
    """
    (folder / "images").mkdir(parents=True)
    for place, (film, count) in enumerate(films.items()):
        for number in range(1, 1 + 5 * count, 5):
            picture = np.full((16, 16, 3), (number, 40 * place, 128), np.uint8)
            Image.fromarray(picture).save(folder / "images" / f"{film}_{number:06d}.jpg", quality=100, subsampling=0)
    for name, clips in (("train", train), ("test", test)):
        (folder / f"{name}.txt").write_text("".join(f"images/{film}_,{first},{first + 70}\n" for film, first in clips))
