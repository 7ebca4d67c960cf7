"""SEVIR's archive in small: CATALOG.csv and HDF5 of VIL, and the clips that were cut from it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

COLUMNS = (
    *("id", "file_name", "file_index", "img_type", "time_utc", "minute_offsets", "episode_id", "event_id", "event_type"),
    *("llcrnrlat", "llcrnrlon", "urcrnrlat", "urcrnrlon", "proj", "size_x", "size_y", "height_m", "width_m"),
    *("data_min", "data_max", "pct_missing"),
)
FRAMES = 49
MINUTES = ":".join(str(5 * (i - FRAMES // 2)) for i in range(FRAMES))


def write(folder: Path, events: Sequence[tuple[str, str]], *, size: int = 8, pct_missing: float = 0.0) -> np.ndarray:
    """Events (id, time of the middle map) in one file of vil; each is in the catalog as another sensor's too.

    Returns:
        uint8 [events, size, size, 49].
    """
    name = "vil/2019/SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"
    path = folder / "data" / name
    path.parent.mkdir(parents=True)
    vil = np.random.Generator(np.random.Philox(0)).integers(0, 255, (len(events), size, size, FRAMES), np.uint8)
    with h5py.File(path, "w") as file:
        file["id"] = np.array([identity.encode() for identity, _ in events])
        file.create_dataset("vil", data=vil, compression="gzip", chunks=(1, size, size, FRAMES))
    with (folder / "CATALOG.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, restval="")
        table.writeheader()
        for index, (identity, time) in enumerate(events):
            row = {"id": identity, "file_index": index, "time_utc": time, "minute_offsets": MINUTES, "pct_missing": pct_missing}
            table.writerow({**row, "file_name": name, "img_type": "vil"})
            table.writerow({**row, "file_name": name.replace("vil", "vis").replace("VIL", "VIS"), "img_type": "vis"})
    return vil


def write_cut(folder: Path, *, training: int = 5, testing: int = 2, size: int = 8) -> None:
    """The clips of 13 + 12 maps that were cut from it."""
    for name, count in (("training", training), ("testing", testing)):
        with h5py.File(folder / f"nowcast_{name}.h5", "w") as file:
            for part, frames in (("IN", 13), ("OUT", 12)):
                maps = np.arange(frames, dtype=np.uint8) + (0 if part == "IN" else 13)
                file[part] = np.broadcast_to(maps, (count, size, size, frames))
