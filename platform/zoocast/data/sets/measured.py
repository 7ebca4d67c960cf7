"""What holds for films of measured quantities, unless told otherwise."""

from __future__ import annotations

import dataclasses
from typing import Literal

from zoocast.config import setting
from zoocast.data.recorded import RecordedClips

__all__ = ["MeasuredClips"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredClips(RecordedClips):
    """Abstract: clips of one long film, cut in time; 0 to 1 is the range of the training clips; what is missing is filled."""

    scaling: Literal["none", "divisor", "min-max", "z-score"] = setting(
        "min-max",
        "what becomes 0 to 1: of each channel the lowest and the highest value of the training clips; values over divisor",
    )
    missing: Literal["refuse", "drop", "fill"] = setting(
        "fill", "where nothing was measured: an error, the clip is left out, or the value is fill_value"
    )
    split: Literal["sequence", "time", "column"] = setting(
        "time", "what separates splits: time, with a gap between; whole recordings; or the groups that are named"
    )
