"""More clips for a target that has few: the source that knows a clip goes on from its end, and windows are cut out of the whole.

The sources are frozen and pretrained without labels, so nothing is read but the target's own training clips. A window begins with
true frames and ends with frames of the source that predicts this very clip best, which thereby teaches what it knows.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from zoocast.bank.frozen import load_frozen
from zoocast.config import check_ranges, dump, setting
from zoocast.dag import StepContext, step_kind
from zoocast.data.splits import SPLITS
from zoocast.data.store import BRIGHTEST, ClipSplit, ClipStore, write_store
from zoocast.errors import ConfigError, StepFailed
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, read_description
from zoocast.store.files import require_free_space
from zoocast.tracking import Journal
from zoocast.training import MODEL_FOLDER, use_threads
from zoocast.zoo import can_see

__all__ = ["ContinuationConfig", "ContinueClipsConfig", "ContinuedClips", "continue_clips", "go_on"]

BATCH = 32  # clips that a source sees at once; another number could change a frame's last bit


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContinuationConfig:
    """How far sources go on from the end of each training clip, and which windows become training clips as well."""

    frames: int = setting(
        0, "frames that the source which predicts a training clip best adds to its end; 0: none, and no windows", at_least=0
    )
    every: int = setting(2, "a window of a clip's length begins so many frames after the one before", at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        if 0 < self.frames < self.every:
            raise ConfigError("frames", f"must be at least every={self.every}, or no window has room, but got {self.frames}")

    @property
    def offsets(self) -> range:
        """Where windows begin, in frames from the start of the clip; the clip itself is not among them."""
        return range(self.every, self.frames + 1, self.every) if self.frames else range(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContinueClipsConfig:
    """The step that makes a clip store of a target's clips and of windows that reach beyond their ends."""

    continuation: ContinuationConfig
    observed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContinuedClips:
    """Digest of the store, its training clips, and how many of the target's clips each source went on from."""

    digest: str
    train: int
    continued: Mapping[str, int]


@step_kind("continue-clips")
def continue_clips(context: StepContext) -> ContinuedClips:
    """Step: the target's clips, in their order, and behind them for each the windows that reach beyond its end.

    Inputs: ``data``, and the group ``sources``. Validation and test stay as they are; a window is of its clip's kind.

    Raises:
        StepFailed: a source predicts values that are not finite.
    """
    config: ContinueClipsConfig = context.config
    use_threads(context.resources.num_cpus)
    device = "cuda" if context.resources.num_gpus else "cpu"
    store = ClipStore.open(context.inputs["data"])
    train, offsets = store.split("train"), config.continuation.offsets
    networks = _networks(context, store.shape, device)
    by_source: collections.Counter[str] = collections.Counter()

    def clips() -> Iterator[np.ndarray]:
        yield from _at_rest(train)
        for first in range(0, len(train), BATCH):
            indices = range(first, min(first + BATCH, len(train)))
            frames, best = go_on(train.clips(indices), networks, observed=config.observed, frames=offsets[-1])
            by_source.update(best)
            whole = torch.cat([train.gather(indices), _as_at_rest(frames, store)], dim=1).numpy()
            yield from (clip[offset : offset + train.length] for clip in whole for offset in offsets)
            context.progress(indices.stop / len(train), f"{indices.stop}/{len(train)} clips")

    kinds = {name: store.split(name).kinds for name in SPLITS}
    kinds["train"] += tuple(kind for kind in train.kinds for _ in offsets)
    require_free_space(context.directory, store.manifest.bytes * (1 + len(offsets)), f"the clips of {context.name}")
    with Journal(context.journal_path) as journal:
        continued = write_store(
            context.directory,
            {"train": clips(), "validation": _at_rest(store.split("validation")), "test": _at_rest(store.split("test"))},
            shape=store.shape,
            length=store.length,
            dtype=store.recipe.dtype,
            generator={"name": "continued", "clips": store.digest, "continuation": dump(config.continuation)},
            kinds=kinds if train.kinds else None,
        )
        journal.dataset("continued", continued.digest, context="built", profile={"train": len(continued.split("train"))})
        journal.params({f"continued.{name}": by_source[name] for name in networks})
    return ContinuedClips(digest=continued.digest, train=len(continued.split("train")), continued=dict(by_source))


def go_on(clips: Tensor, networks: Mapping[str, Predictor], *, observed: int, frames: int) -> tuple[Tensor, list[str]]:
    """What comes after whole clips, by the network that predicts each clip's own last frames best, the first of several.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        networks: by name, each for frames of the clips' shape.
        observed: frames of a clip from which the networks are judged by how they predict the others.
        frames: how many shall come.

    Returns:
        (B, frames, C, H, W) in [0, 1], on the CPU, and for each clip the name of the network.

    Raises:
        StepFailed: a network predicts values that are not finite.
    """
    seen, truth = clips[:, :observed], clips[:, observed:]
    errors = {
        name: (_predict(name, network, seen, truth.shape[1]) - truth).square().flatten(1).mean(1)
        for name, network in networks.items()
    }
    names = list(networks)
    best = [names[place] for place in torch.stack(list(errors.values()), dim=1).argmin(dim=1).tolist()]
    future = torch.empty(len(clips), frames, *clips.shape[2:])
    for name in set(best):
        mine = torch.tensor([chosen == name for chosen in best])
        future[mine] = _predict(name, networks[name], clips[mine], frames)
    return future, best


def _predict(name: str, network: Predictor, seen: Tensor, frames: int) -> Tensor:
    predicted = network.predict(seen, frames).cpu()
    if not bool(predicted.isfinite().all()):
        raise StepFailed(
            f"source {name} predicts values that are not finite for the target's training clips; leave it out of sources, or"
            " train it with a lower learning rate"
        )
    return predicted.clamp(0, 1)


def _networks(context: StepContext, frames: FrameShape, device: str) -> dict[str, Predictor]:
    """The sources that can be run on the target's frames, sorted, so that of two equally good ones the same always goes on."""
    folders = {name: folder / MODEL_FOLDER for name, folder in sorted(context.group("sources").items())}
    return {
        name: load_frozen(folder, frames, (), device).predictor
        for name, folder in folders.items()
        if can_see(*read_description(folder)[:2], frames)
    }


def _at_rest(split: ClipSplit) -> Iterator[np.ndarray]:
    for index in range(len(split)):
        yield split.gather([index])[0].numpy()


def _as_at_rest(frames: Tensor, store: ClipStore) -> Tensor:
    """Frames in [0, 1] in the precision and range in which the store keeps its clips."""
    return (frames * BRIGHTEST["uint8"]).round().to(torch.uint8) if store.recipe.dtype == "uint8" else frames
