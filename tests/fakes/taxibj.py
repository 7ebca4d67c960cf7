"""TaxiBJ in small: the original, a file for each year, and OpenSTL's npz."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np


def write(folder: Path, name: str, first: str, days: int, missing: Collection[int] = (), minutes: int = 30) -> Path:
    """A year called as BJ16_M32x32_T30_InOut.h5 from a day on, without the missing slots; slot n is filled with n, n/2."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = (int(side) for side in name.split("_M")[1].split("_")[0].split("x"))
    many = 24 * 60 // minutes
    slots = [slot for slot in range(days * many) if slot not in missing]
    dates = [f"{np.datetime64(first) + slot // many}".replace("-", "") + f"{slot % many + 1:02d}" for slot in slots]
    with h5py.File(folder / name, "w") as file:
        data = np.zeros((len(slots), 2, height, width))
        data[:] = np.array(slots)[:, None, None, None]
        data[:, 1] /= 2
        file["data"], file["date"] = data, np.array(dates, "S10")
    return folder / name


def write_npz(folder: Path, train: int, test: int) -> None:
    """OpenSTL's dataset.npz: clip n has the frames n to n + 7 of a film, those of the test go on behind; frame f is f/100 - 1."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for split, first, count in (("train", 0, train), ("test", train, test)):
        clips = np.zeros((count, 8, 2, 8, 8), np.float32)
        clips[:] = ((first + np.arange(count)[:, None] + np.arange(8)) / 100 - 1)[..., None, None, None]
        arrays |= {f"X_{split}": clips[:, :4], f"Y_{split}": clips[:, 4:]}
    np.savez(folder / "dataset.npz", **arrays)
