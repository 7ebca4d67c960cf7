"""DiffCast's forms of Shanghai and CIKM in small: groups of clips in one HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np


def write(
    path: Path, counts: Mapping[str, int], *, frames: int = 25, size: int = 8, name: str = "{}", length: str = "all_len"
) -> None:
    """Groups with so many clips each, uint8 [frames, size, size], whose values are the number of the clip."""
    with h5py.File(path, "w") as file:
        for group, count in counts.items():
            for number in range(count):
                file[f"{group}/{name.format(number)}"] = np.full((frames, size, size), number, np.uint8)
            file[f"{group}/{length}"] = count
