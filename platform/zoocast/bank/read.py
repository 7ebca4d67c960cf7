"""The memory bank: what frozen sources remember and predict of each of the target's clips, stored on disk or computed online.

Both kinds answer to `MemoryBank.recall` and, under the same policy, with the same numbers up to the stored precision. What a
source remembers depends on what it is fed, so a bank that is computed once needs a fixed policy; the releases feed the sources
the target's own random mask, which only an online bank can do (`shared`).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoocast.arrow import Manifest, TensorSplit
from zoocast.bank.config import BankConfig, MemoryRef, target_layers
from zoocast.bank.frozen import fixed_feed, load_frozen, run_source
from zoocast.bank.recipe import Recipe, column_name, combined_digest, frames_column, make_recipe, read_bank, wording
from zoocast.config import canonical, diff, digest
from zoocast.data.splits import Split
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, IntegrityError
from zoocast.nn.predictor import PredictorConfig

__all__ = ["BankConfig", "MemoryBank", "OnlineBank", "Recalled", "StoredBank", "open_bank"]

Memories = list[dict[int, Tensor]]


class Recalled(NamedTuple):
    """What M sources make of B clips, on the bank's device.

    memories: M dicts from layer of the target to (B, T - 1, n, h, w), with the source's channels and map size.
    frames: (B, M, T - 1, C, H, W), not clipped, where frames[:, :, t] predicts frame t + 1; None unless asked for.

    Both are float32 from an online bank, and in the precision at rest from a stored one: half the bytes make half the way to a
    device.
    """

    memories: Memories
    frames: Tensor | None


class MemoryBank(abc.ABC):
    """Abstract: what M frozen sources remember of each clip.

    Attributes:
        config: its settings.
        observed: frames of a clip that a free-running source sees.
        length: frames of a clip.
        counts: clips in each split.
        names: of the sources, in the order in which `memories` gives them.
        refs: for each source and each layer of the target that distils, which memory of the source this is, and its shape.
        digest: equal digests mean equal memories.
    """

    digest: str

    def __init__(self, recipe: Recipe, names: Sequence[str], refs: Sequence[Mapping[int, MemoryRef]], device: str) -> None:
        self.config, self.counts = recipe.config, recipe.clips
        self.observed, self.length = recipe.observed, recipe.length
        self.names, self.refs = tuple(names), tuple(refs)
        self.device = torch.device(device)

    @abc.abstractmethod
    def recall(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,
        feed: Tensor | None = None,
        memories: bool = True,
        frames: bool = False,
    ) -> Recalled:
        """What every source remembers of clips after every step, and on demand what it predicts there, in one reading.

        Args:
            split: of the target's clips.
            indices: (B,) whole numbers within the split.
            reverse: of the time-flipped clips.
            clips: (B, T, C, H, W), what the target sees, already flipped if `reverse`; an online bank reads them if not given.
            feed: (B, T - 1), what the target is fed; needed, and used, with policy ``shared`` alone.
            memories: False leaves them out, for readers of frames alone: each source then has an empty dict.
            frames: also the predicted frames.

        Raises:
            ConfigError: the bank does not hold this split or direction, or no frames.
            IndexError: an index beyond the split.
            IntegrityError: a file that is used for the first time is damaged.
        """

    def memories(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,
        feed: Tensor | None = None,
    ) -> Memories:
        """The memories alone; see `recall`."""
        return self.recall(split, indices, reverse=reverse, clips=clips, feed=feed).memories

    def _check(self, split: Split, reverse: bool, frames: bool) -> None:
        if split not in self.config.splits:
            raise ConfigError("splits", f"the bank holds {', '.join(self.config.splits)}, but was asked for {split}")
        if reverse and not self.config.reversed:
            raise ConfigError("reversed", "the bank holds no memories of time-flipped clips; set reversed=true")
        if frames and not self.config.frames:
            raise ConfigError("frames", "the bank holds no predicted frames; set frames=true")


class StoredBank(MemoryBank):
    """Reads what `build_bank` wrote for each source. Its memory does not grow with the banks: what is mapped is the page cache's.

    Args:
        recipe: of any of the banks, for what is the same in all.
        banks: folder and manifest of each, by the name of its source.
        refs: see `MemoryBank`.
        device: see `MemoryBank`.
    """

    def __init__(
        self,
        recipe: Recipe,
        banks: Mapping[str, tuple[Path, Manifest]],
        refs: Sequence[Mapping[int, MemoryRef]],
        device: str = "cpu",
    ) -> None:
        super().__init__(recipe, list(banks), refs, device)
        self.digest = combined_digest(manifest.digest for _, manifest in banks.values())
        self._readers = {
            (name, split): TensorSplit(directory, manifest, split, wording(name))
            for name, (directory, manifest) in banks.items()
            for split in self.config.splits
        }

    def recall(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,  # noqa: ARG002
        feed: Tensor | None = None,  # noqa: ARG002
        memories: bool = True,
        frames: bool = False,
    ) -> Recalled:
        """See `MemoryBank.recall`; clips and feed are ignored."""
        self._check(split, reverse, frames)
        rows = indices.tolist()
        out: Memories = []
        predicted = []
        for name, refs in zip(self.names, self.refs if memories else [{}] * len(self.refs), strict=True):
            reader = self._readers[name, split]
            # Two layers of a deep target may distil from one layer of a shallow source, which is then read once.
            read = {ref: reader.gather(rows, column_name(ref, reverse)) for ref in set(refs.values())}
            # In the precision at rest: the loss makes float32 of it on the device, after half the bytes made the way.
            moved = {ref: memory.to(self.device) for ref, memory in read.items()}
            out.append({layer: moved[ref] for layer, ref in refs.items()})
            if frames:
                predicted.append(reader.gather(rows, frames_column(reverse)).to(self.device))
        return Recalled(out, torch.stack(predicted, dim=1) if frames else None)


class OnlineBank(MemoryBank):
    """Runs the frozen sources on the clips it is asked for.

    Args:
        sources: folders with the networks, by their names.
        recipes: of the same names, what a stored bank of them would hold.
        store: the target's clips.
        refs: see `MemoryBank`.
        device: where the sources run.

    Raises:
        IntegrityError: a network's files are missing or damaged.
    """

    def __init__(
        self,
        sources: Mapping[str, Path],
        recipes: Mapping[str, Recipe],
        store: ClipStore,
        refs: Sequence[Mapping[int, MemoryRef]],
        device: str = "cpu",
    ) -> None:
        super().__init__(next(iter(recipes.values())), list(sources), refs, device)
        # There are no files to take a checksum of; a recipe says all that the memories depend on.
        self.digest = combined_digest(digest(recipes[name]) for name in self.names)
        self._sources = [
            load_frozen(folder, store.shape, wanted.values(), self.device)
            for folder, wanted in zip(sources.values(), self.refs, strict=True)
        ]
        self._splits = {name: store.split(name) for name in self.config.splits}

    def recall(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,
        feed: Tensor | None = None,
        memories: bool = True,
        frames: bool = False,
    ) -> Recalled:
        """See `MemoryBank.recall`. Raises `ValueError` if policy ``shared`` is not given the target's feed."""
        self._check(split, reverse, frames)
        if clips is None:
            clips = self._splits[split].clips(indices)
            # Clips that were given are what the target sees, flipped already.
            clips = clips.flip(1) if reverse else clips
        if self.config.policy != "shared":
            feed = fixed_feed(self.config, len(clips), self.observed, clips.shape[1])
        elif feed is None:
            # It is drawn anew in each iteration, so only the trainer has it.
            raise ValueError("policy shared needs the target's feed")
        clips = clips.to(self.device)
        runs = [run_source(source, clips, feed) for source in self._sources]
        out = [{layer: run.memories[ref] for layer, ref in refs.items()} for run, refs in zip(runs, self.refs, strict=True)]
        return Recalled(
            out if memories else [{} for _ in out], torch.stack([run.frames for run in runs], dim=1) if frames else None
        )


def open_bank(
    config: BankConfig,
    *,
    sources: Mapping[str, Path],
    banks: Mapping[str, Path],
    clips: Path,
    observed: int,
    target: PredictorConfig,
    device: str = "cpu",
) -> MemoryBank:
    """The memories of a set of sources, as `config` describes them, for a target to train against.

    Args:
        config: of the bank.
        sources: folders with the networks as `save_predictor` writes them, by their names, in the order in which the target
            distils from them. Of these a stored bank reads only the descriptions.
        banks: folders where `build_bank` stored the memories of the same sources; none if they are computed online.
        clips: folder of the target's clip store.
        observed: frames of a clip that a free-running source sees.
        target: its network, with transfer units.
        device: where the memories are wanted, and where the sources of an online bank run.

    Raises:
        ConfigError: a source that the target cannot distil from, or whose stored bank is not given.
        IntegrityError: a bank that is damaged, or was built from another source, other clips or settings.
    """
    store, depth = ClipStore.open(clips), len(target.hidden_channels)
    recipes = {name: make_recipe(config, name, source, store, observed, depth) for name, source in sources.items()}
    # The bank may hold memories for more layers than those in which this target distils.
    wanted = target_layers(config, target)
    refs = [{layer: recipes[name].refs[layer] for layer in wanted} for name in sources]
    if config.mode == "online":
        return OnlineBank(sources, recipes, store, refs, device)
    if missing := [name for name in sources if name not in banks]:
        raise ConfigError(
            "mode",
            f"a stored bank is read from a directory, but {', '.join(missing)} has none; build it first, or use mode=online",
        )
    opened = {name: (banks[name], _manifest(banks[name], name, recipe)) for name, recipe in recipes.items()}
    return StoredBank(next(iter(recipes.values())), opened, refs, device)


def _manifest(directory: Path, name: str, wanted: Recipe) -> Manifest:
    """The manifest of a bank, which must have been built by the recipe `wanted`."""
    manifest, built = read_bank(directory, name)
    # A recipe holds no path and no name: a bank that was moved, or whose source was renamed, is the same bank.
    if changes := diff(canonical(built), canonical(wanted)):
        raise IntegrityError(
            f"bank {directory} was built for something else than it is used for ({'; '.join(map(str, changes[:3]))});"
            f" {wording(name).remedy}"
        )
    return manifest
