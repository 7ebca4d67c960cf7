"""A data set of your own: rain radar, one `.npy` file for each day in a folder, uint8 [time, height, width].

Copied to `platform/zoocast/data/radar.py` and named in `DataConfig` beside it, it is there for every pipeline: `-S
target.data=radar -S target.data.path=FOLDER`. A pipeline of your own can use it from wherever it lies (`rain.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoocast.config import canonical, check_ranges, setting
from zoocast.data.splits import SPLITS, Progress, Split, pools, reported
from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape
from zoocast.store.files import sha256_file
from zoocast.store.typed import typed_path

if TYPE_CHECKING:
    from zoocast.data.store import ClipStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadarConfig:
    """Clips of rain, cut one after another from the days of a folder. Early days are for training, the last for the test."""

    kind: ClassVar[str] = "radar"

    path: str = setting("", "folder of days: NAME.npy, uint8 [time, height, width]", identity=False)
    height: int = setting(64, "of a frame, pixels", at_least=1)
    width: int = setting(64, "of a frame, pixels", at_least=1)
    length: int = setting(20, "frames in each clip", at_least=2)
    train: int = setting(1000, "clips in the training split", at_least=1)
    validation: int = setting(100, "clips in the validation split", at_least=1)
    test: int = setting(200, "clips in the test split", at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.path:  # workers run in other folders than the command
            object.__setattr__(self, "path", str(typed_path(self.path).absolute()))

    def counts(self) -> dict[Split, int]:
        """Clips per split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def frame_shape(self) -> FrameShape:
        """One channel: the strength of the echo."""
        return FrameShape(channels=1, height=self.height, width=self.width)

    def check(self) -> None:
        """Read the headers of all days; `pipelines plan` comes here, before anything runs."""
        for split, days in self._days().items():
            there = sum(len(self._frames(day)) // self.length for day in days)
            if there < self.counts()[split]:
                raise ConfigError(
                    split, f"asks for {self.counts()[split]} clips, but its {len(days)} days hold {there}; use at most that"
                )

    def source_digest(self) -> str:
        """A hash of what the files hold: a changed day is other data, a moved folder is not."""
        digests = [sha256_file(day) for days in self._days().values() for day in days]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def estimated_bytes(self) -> int:
        """What `build` will write, up to file headers."""
        return sum(self.counts().values()) * self.length * self.height * self.width

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """Write the clips into `directory`."""
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

        self.check()
        return write_store(
            directory,
            {split: reported(self._clips(split), split, self.counts(), progress) for split in SPLITS},
            shape=self.frame_shape(),
            length=self.length,
            dtype="uint8",
            generator={"name": self.kind, "parameters": canonical(self), "source": self.source_digest()},
        )

    def _days(self) -> dict[Split, list[Path]]:
        """The files of each split, whole days, so that no two splits share an afternoon."""
        days = sorted(Path(self.path).glob("*.npy")) if self.path else []
        if len(days) < 10:  # the shares are 7 : 1 : 2
            raise ConfigError("path", f"needs a folder of at least 10 days (NAME.npy), but {self.path!r} has {len(days)}")
        return {split: [days[i] for i in pool] for split, pool in pools(len(days)).items()}

    def _clips(self, split: Split) -> Iterator[np.ndarray]:
        """The first clips of a split, each [length, 1, height, width]."""
        left = self.counts()[split]
        for day in self._days()[split]:
            frames = self._frames(day)
            for start in range(0, len(frames) - self.length + 1, self.length):
                if left == 0:
                    return
                left -= 1
                yield frames[start : start + self.length, None]

    def _frames(self, day: Path) -> np.ndarray:
        """A day, mapped and not loaded: uint8 [time, height, width]."""
        try:
            frames = np.load(day, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{day} cannot be read ({error}); expected a .npy file of uint8 [time, height, width]") from error
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.height, self.width):
            raise DataError(f"{day} is {frames.dtype} {list(frames.shape)}; expected uint8 [time, {self.height}, {self.width}]")
        return frames
