"""Your own data: a file or folder of any format that `zoocast.data.formats` reads, or what `pipelines data import` made of one.

-S target.data=FOLDER                                    cut into clips as the settings say, in the run that wants them
-S target.data=imported -S target.data.name=NAME         what was imported under that name
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoocast.config import canonical, digest, dump, setting
from zoocast.data.formats import Opened, open_recordings
from zoocast.data.recorded import RecordedClips
from zoocast.data.recordings import Recording
from zoocast.data.splits import SPLITS, Progress, Split, reported
from zoocast.data.windows import spread
from zoocast.errors import ConfigError, DataError, did_you_mean
from zoocast.frames import FrameShape

if TYPE_CHECKING:
    from zoocast.data.store import ClipStore

__all__ = ["ImportedConfig", "folder", "imported_names"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
OF_CLIPS = ("name", "path", "length", "train", "validation", "test")
"""Settings that imported clips can still follow; all others are decided when they are cut."""


def folder() -> Path:
    """Where imported data sets lie: ``ZOOCAST_DATA``, or ``data`` below the folder where the command was typed."""
    return Path(os.environ.get("ZOOCAST_DATA") or "data").absolute()


def imported_names() -> list[str]:
    """The data sets that were imported, by name."""
    return sorted(manifest.parent.name for manifest in folder().glob("*/manifest.json") if NAME.fullmatch(manifest.parent.name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedConfig(RecordedClips):
    """Clips of your own files, read as they are or imported before."""

    kind: ClassVar[str] = "imported"

    name: str = setting("", "of what `pipelines data import` has made; empty: `path` is read as it is", identity=False)
    length: int = setting(0, "frames in each clip; 0: 20, or as they were imported", at_least=0)
    layout: str = setting("auto", "which axis of an array is which, as in NTHW or THWC; auto: guessed where one reading fits")
    variable: str = setting("", "of files that hold several arrays: the name of the one that is read")
    gray: bool = setting(False, "colours become grey")
    verify: bool = setting(False, "videos are decoded once more to find what is damaged in them, and leave it out")
    time_pattern: str = setting("", "how the names of pictures tell the time, as in %Y%m%d%H%M")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name:
            if not NAME.fullmatch(self.name):
                raise ConfigError("name", f"must be of letters, digits, dots, dashes and underscores, but got {self.name!r}")
            # Workers have neither the folder of the command nor, perhaps, its environment.
            object.__setattr__(self, "path", str(folder() / self.name))
        if not self.length and self.path:
            object.__setattr__(self, "length", self._store().length if self.name else 20)
        if self.length == 1:
            raise ConfigError("length", "must be at least 2, some frames to see and one to predict, but got 1")

    @classmethod
    def of_text(cls, text: str) -> ImportedConfig | None:
        """What `text` names where a data set is asked for: a path that exists; None for anything else."""
        return cls(path=text) if ("/" in text or "." in text) and Path(text).expanduser().exists() else None

    def recordings(self) -> tuple[Recording, ...]:
        """See `RecordedClips.recordings`."""
        return self._opened().recordings

    def counts(self) -> dict[Split, int]:
        """Clips per split."""
        return {split: len(rows) for split, rows in self._rows().items()} if self.name else super().counts()

    def frame_shape(self) -> FrameShape:
        """Of a frame as it is kept."""
        return self._store().shape if self.name else super().frame_shape()

    def check(self) -> None:
        """See `RecordedClips.check`; of what was imported, what is asked of it."""
        if not self.name:
            super().check()
            return
        plain = {field.name: field.default for field in dataclasses.fields(ImportedConfig)}
        if changed := [field for field, value in plain.items() if field not in OF_CLIPS and getattr(self, field) != value]:
            raise ConfigError(changed[0], f"was decided when {self.name} was imported; import it again under another name")
        if self.length > self._store().length:
            raise ConfigError(
                "length", f"is {self.length}, but {self.name} was imported in clips of {self._store().length} frames"
            )
        self._rows()

    def source_digest(self) -> str:
        """Of the content: SHA-256 of the files, or that of the imported clips."""
        if not self.name:
            return super().source_digest()
        # Not the store's own digest, which holds all settings of the import: the same clips are the same data.
        store = self._store()
        return digest([[[s.split, s.rows, s.sha256] for s in store.manifest.shards], dump(store.recipe.channels)])

    def estimated_bytes(self) -> int:
        """What `build` will write at most."""
        if not self.name:
            return super().estimated_bytes()
        shape, store = self._store().shape, self._store()
        each = self.length * shape.channels * shape.height * shape.width * (1 if store.recipe.dtype == "uint8" else 4)
        return sum(self.counts().values()) * each

    def remarks(self) -> tuple[str, ...]:
        """How the files are read."""
        if not self.name:
            return (*self._opened().remarks, *super().remarks())
        return (f"{self.name}: imported clips of {self._store().length} frames of {self._store().shape}, in {self.path}",)

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """See `RecordedClips.build`; imported clips are copied, so that a run keeps its own when the import is removed."""
        if not self.name:
            return super().build(directory, progress)
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

        self.check()
        store, rows, counts = self._store(), self._rows(), self.counts()

        def clips(split: Split) -> Iterator[np.ndarray]:
            of_split = store.split(split)
            return (of_split.gather([row])[0, : self.length].numpy() for row in rows[split])

        return write_store(
            directory,
            {split: reported(clips(split), split, counts, progress) for split in SPLITS},
            shape=store.shape,
            length=self.length,
            dtype=store.recipe.dtype,
            generator={
                "name": self.kind,
                "parameters": canonical(self),
                "source": self.source_digest(),
                "of": store.recipe.generator,
            },
            sequences=_sequences(store, rows),
            channels=store.recipe.channels,
        )

    def _opened(self) -> Opened:
        return open_recordings(
            Path(self.path),
            layout=self.layout,
            variable=self.variable,
            gray=self.gray,
            verify=self.verify,
            time_pattern=self.time_pattern,
        )

    def _store(self) -> ClipStore:
        path = Path(self.path)
        if not (path / "manifest.json").exists():
            known = imported_names()
            there = f"{did_you_mean(self.name, known)}there are {', '.join(known)}" if known else "import one first"
            raise DataError(f"no data set {self.name} in {path.parent}; {there} (pipelines data import, ZOOCAST_DATA)")
        return _store_at(path, (path / "manifest.json").stat().st_mtime_ns)

    def _rows(self) -> dict[Split, list[int]]:
        rows: dict[Split, list[int]] = {}
        for split in SPLITS:
            there, asked = len(self._store().split(split)), getattr(self, split)
            if asked > there:
                raise ConfigError(split, f"asks for {asked} clips, but {self.name} has {there}; use at most that, or 0 for all")
            rows[split] = spread(range(there), asked)
        return rows


def _sequences(store: ClipStore, rows: Mapping[Split, Sequence[int]]) -> dict[Split, list[int]] | None:
    """Which recording each clip is from; None for clips that were not cut from recordings."""
    numbers = {split: store.split(split).sequences for split in SPLITS}
    return {split: [numbers[split][row] for row in rows[split]] for split in SPLITS} if numbers["train"] else None


@functools.lru_cache(maxsize=8)
def _store_at(path: Path, _: int) -> ClipStore:
    from zoocast.data.store import ClipStore  # imports torch

    return ClipStore.open(path)
