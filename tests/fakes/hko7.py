"""HKO-7 in small: pictures and masks in folders of days, and lists of days."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path, days: Mapping[str, Sequence[str]], *, frames: int = 6, size: int = 8, masks: bool = True) -> None:
    """For each list, train, valid and test, its days, `20090215`. Pixels have their frame's number; masks leave out row 0."""
    useful = np.ones((size, size), bool)
    useful[0] = False
    for name, listed in days.items():
        (folder / f"hko7_rainy_{name}_days.txt").write_text("".join(f"{day}, 0.1\n" for day in listed))
        for day in listed:
            inside = f"{day[:4]}/{day[4:6]}/{day[6:]}"
            for kind in ("radarPNG", "radarPNG_mask"):
                (folder / kind / inside).mkdir(parents=True)
            for frame in range(frames):
                stem = f"RAD{day[2:]}00{6 * frame:02d}00"
                Image.fromarray(np.full((size, size), frame, np.uint8)).save(folder / "radarPNG" / inside / f"{stem}.png")
                if masks:
                    (folder / "radarPNG_mask" / inside / f"{stem}.mask").write_bytes(zlib.compress(useful.tobytes()))
