"""MeteoNet's radar in small: .npz whose dates are pickled objects."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np


def write(path: Path, first: str, data: np.ndarray, *, left_out: int | None = None) -> None:
    """Maps int16 [time, height, width], five minutes apart from `first` on; one may be left out, with its date."""
    dates = [datetime.datetime.fromisoformat(first) + datetime.timedelta(minutes=5 * i) for i in range(len(data))]
    kept = [i for i in range(len(data)) if i != left_out]
    missing = np.array([dates[i] for i in range(len(data)) if i == left_out], object)
    np.savez_compressed(path, data=data[kept], dates=np.array(dates, object)[kept], miss_dates=missing)
