"""Clips by the names that people have for them, what the doctor found in them, and a torch data set of them.

NAME                    of a data set that was imported
data.target[-KEY]       a finished data step; without a key the latest one of this name
FOLDER                  of a clip store, a data step's among them
PATH                    of files that are read as they are; cut into clips for the look alone
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils.data import Dataset

from zoocast.arrow import MANIFEST
from zoocast.cli.console import print_table
from zoocast.cli.options import RUNS
from zoocast.dag.records import latest, results
from zoocast.data.imported import ImportedConfig, imported_names
from zoocast.data.imported import folder as imports
from zoocast.data.splits import SPLITS, Progress, Split
from zoocast.data.store import ClipSplit, ClipStore
from zoocast.errors import ConfigError, did_you_mean
from zoocast.frames import FrameShape
from zoocast.store.address import address, open_root
from zoocast.store.files import require_free_space
from zoocast.words import Finding

if TYPE_CHECKING:
    from zoocast.data.doctor import Diagnosis, SplitFacts

__all__ = ["ClipDataset", "cut_clips", "open_dataset", "open_store", "print_diagnosis"]


def open_store(clips: str | Path, root: Path) -> ClipStore:
    """The clip store that `clips` names.

    Raises:
        ConfigError: there is none; the message names the nearest.
        IntegrityError: it is damaged.
    """
    if (Path(clips) / MANIFEST).exists():
        return ClipStore.open(clips)
    if (imports() / clips / MANIFEST).exists():
        return ClipStore.open(imports() / clips)
    if (folder := latest(root, str(clips))) is not None and (folder / MANIFEST).exists():
        return ClipStore.open(folder)
    known = [*imported_names(), *(name for name in results(root) if name.startswith("data."))]
    near = did_you_mean(str(clips), known)
    raise ConfigError(
        "NAME|PATH",
        f"there are no clips {str(clips)!r} under {address(root)}; {near}give an import, a data step or a folder",
    )


@contextlib.contextmanager
def cut_clips(clips: str, root: Path, progress: Progress) -> Iterator[tuple[ClipStore, tuple[Finding, ...]]]:
    """As `open_store`, and of files of the user's own clips that last as long as this context, with what was wrong with them.

    Raises:
        ConfigError, DataError: there is nothing of this name, or files that cannot be read.
        InfrastructureError: there is no room for the clips.
    """
    config = None if (Path(clips) / MANIFEST).exists() else ImportedConfig.of_text(clips)
    if config is None:
        yield open_store(clips, root), ()
        return
    config = _as_found(config)
    with tempfile.TemporaryDirectory(prefix="zoocast-") as temporary:
        require_free_space(Path(temporary), config.estimated_bytes(), f"the clips of {clips}")
        planned, store = sum(config.counts().values()), config.build(Path(temporary), progress)
        lost = planned - sum(store.manifest.sizes.values())
        seen = f"values are missing in {lost:,} of {planned:,} clips, which are left out here"
        yield store, (Finding("missing", "fail", seen, "import them with --missing drop or --missing fill"),) if lost else ()


def _as_found(config: ImportedConfig) -> ImportedConfig:
    """Settings with which most files can be looked at."""
    recordings = config.recordings()
    longest = max((len(run) for recording in recordings for run in recording.runs or (range(recording.frames),)), default=0)
    apart = len(recordings) >= len(SPLITS)
    return dataclasses.replace(
        config,
        # Of one recording, a tenth of it validates, and two gaps are as long as a clip.
        length=max(2, min(config.length, longest if apart else longest // 20)),
        scaling="none" if all(recording.dtype == "uint8" for recording in recordings) else "min-max",
        missing="drop",
        split="sequence" if apart else "time",
    )


class ClipDataset(Dataset[Tensor]):
    """The clips of one split for torch: ``dataset[i]`` is (T, C, H, W), float32 from 0 to 1.

    Batches come in one go where a loader asks for `__getitems__`, as torch's does, and workers map the same files.

    >>> from torch.utils.data import DataLoader
    >>> batch = next(iter(DataLoader(zoocast.data.open("data.target"), batch_size=16, shuffle=True)))  # (16, T, C, H, W)

    Attributes:
        clips: the split itself, with all of `zoocast.data.store`; ``clips.store.recipe.channels`` has names and units.
    """

    def __init__(self, clips: ClipSplit) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        position = operator.index(index)
        return self.clips.clips([position + len(self) if position < 0 else position])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        return list(self.clips.clips(indices))

    @property
    def shape(self) -> FrameShape:
        """Channels, height and width of each frame."""
        return self.clips.shape

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self.clips.length


def open_dataset(clips: str | Path, split: Split = "train", *, root: str | Path = RUNS) -> ClipDataset:
    """Clips as a torch data set: `zoocast.data.open`.

    Args:
        clips: a data step (``data.target``), or the folder of clips.
        split: train, validation or test.
        root: where the runs are, a folder or the URL of an object store.

    Raises:
        ConfigError: there are no such clips, or no such split.
        IntegrityError: they are damaged.
    """
    if split not in SPLITS:
        raise ConfigError("split", f"must be one of {', '.join(SPLITS)}, but got {split!r}")
    return ClipDataset(open_store(clips, open_root(root).folder).split(split))


COLUMNS = (
    *("split", "clips", "frames", "channel", "min", "max", "mean", "deviation"),
    *("constant", "still", "repeated", "copy-last", "mean frame"),
)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """The doctor's table and findings for people."""
    print(f"{diagnosis.path}: clips of {diagnosis.length} frames of {diagnosis.shape}, {diagnosis.dtype}\n")
    print_table(COLUMNS, [row for split, facts in diagnosis.splits.items() for row in _rows(split, facts)])
    predicted = diagnosis.length - diagnosis.observed
    print(
        "\nValues as a network gets them, 0 to 1. constant: nothing is in the frame; still: exactly as the one before;\n"
        "repeated: as another one of the split. copy-last, mean frame: MSE of the last observed frame, and of the mean frame of\n"
        f"training, on the last {predicted} frames of each clip.\n"
    )
    for finding in diagnosis.findings:
        print(f"{finding.state:<5} {finding.check:<8} {finding}")


def _rows(split: str, facts: SplitFacts) -> Iterator[list[object]]:
    shares = [facts.constant / facts.frames, facts.still / facts.frames, facts.repeated / max(1, facts.remembered)]
    head: list[object] = [split, f"{facts.clips:,}", f"{facts.frames:,}"]
    tail: list[object] = [*(f"{share:.1%}" for share in shares), facts.copy_last, facts.mean_frame]
    for channel in facts.channels:
        yield [*head, channel.name, channel.minimum, channel.maximum, channel.mean, channel.deviation, *tail]
        # What belongs to the split stands in the row of its first channel.
        head, tail = [""] * len(head), [""] * len(tail)
