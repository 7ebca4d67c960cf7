"""Shanghai radar: clips of 25 maps of reflectivity in one HDF5 file, in the form that DiffCast's authors give out.

`shanghai.h5` has the groups train and test with the datasets "0", "1", ..., each uint8 [25, height, width]; 255 is 90 dBZ. The
archive itself (Harvard Dataverse, 2GKMQJ) is folders of pictures, which `pipelines data import` reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from zoocast.config import setting
from zoocast.data.formats.hdf5 import dataset, opened
from zoocast.data.formats.trust import frame_shape
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import SPLITS, Split
from zoocast.data.windows import clips_of
from zoocast.errors import DataError

__all__ = ["THRESHOLDS", "ShanghaiConfig", "grouped"]

GROUPS = ("train", "test")
THRESHOLDS = (20, 30, 35, 40)
"""dBZ, at or above which there is an event (Yu et al., "DiffCast", CVPR 2024)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShanghaiConfig(RecordedClips):
    """Clips of Shanghai's radar."""

    kind: ClassVar[str] = "shanghai"

    protocol: Literal["strict", "diffcast"] = setting(
        "strict", "strict: the last eighth of train validates; diffcast: the test clips do"
    )
    length: int = setting(25, "frames in each clip", at_least=2)

    def recordings(self) -> tuple[Recording, ...]:
        """The clips in the order of the file."""
        path, scale = Path(self.path), {"unit": "dBZ", "factor": 90 / 255}
        with opened(path) as file:
            return tuple(clip for group in GROUPS for clip in grouped(path, file, group, **scale))

    def remarks(self) -> tuple[str, ...]:
        """As for any recordings, and that nothing may be chosen by the validation of diffcast."""
        warning = ["warning: the test clips validate as well; choose nothing by them"] if self.protocol == "diffcast" else []
        return (*super().remarks(), *warning)

    def windows(self, recordings: Sequence[Recording]) -> Mapping[Split, Sequence[Window]]:
        """By the groups of the file."""
        train, test = ([n for n, recording in enumerate(recordings) if recording.group == group] for group in GROUPS)
        cut = len(train) * 7 // 8
        parts = (train[:cut], train[cut:], test) if self.protocol == "strict" else (train, test, test)
        return {
            split: [window for n in part for window in clips_of(n, recordings[n], self.cut)]
            for split, part in zip(SPLITS, parts, strict=True)
        }


def grouped(path: Path, file: Any, group: str, **rest: Any) -> Iterator[Recording]:
    """The datasets uint8 [time, height, width] of a group, in the order of the numbers in their names.

    Args:
        path, file: what is open, and where from.
        group: its name, which the recordings have as well.
        rest: of `Recording`: unit, factor and offset.
    """
    names = [name for name in file.get(group, ()) if file[group][name].shape != ()]
    if not names:
        raise DataError(f"{path} has no clips in the group {group}, only {', '.join(list(file)[:8]) or 'nothing'}")
    for name in sorted(names, key=lambda name: (len(name), name)):
        clip = dataset(file, f"{group}/{name}")
        if clip.ndim != 3 or clip.dtype != np.uint8:
            raise DataError(f"{path}: {group}/{name} is {clip.dtype} {list(clip.shape)}; expected uint8 [time, height, width]")
        yield Recording(
            name=f"{group}/{name}",
            shape=frame_shape(1, clip.shape[1], clip.shape[2], 1, path),
            dtype=clip.dtype,
            frames=len(clip),
            read=functools.partial(_read, path, f"{group}/{name}"),
            files=(path,),
            group=group,
            channels=("reflectivity",),
            **rest,
        )


def _read(path: Path, name: str, start: int, stop: int) -> np.ndarray:
    with opened(path) as file:
        clip: np.ndarray = dataset(file, name)[start:stop]
    return clip[:, None]
