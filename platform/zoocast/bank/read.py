"""The memory bank: the memories of frozen sources for each of the target's clips, stored on disk or computed online.

Both kinds answer to `MemoryBank.memories` and, under the same policy, with the same numbers up to the stored precision. What a
source remembers depends on what it is fed, so a bank that is computed once needs a fixed policy; the releases feed the sources
the target's own random mask, which only an online bank can do (`shared`).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoocast.bank.build import make_recipe
from zoocast.bank.config import BankConfig, MemoryRef, target_layers
from zoocast.bank.frozen import FrozenSource, fixed_feed, load_sources, run_source
from zoocast.bank.shards import REMEDY, Manifest, Recipe, SplitReader, column_name, read_manifest
from zoocast.config import canonical, diff, digest
from zoocast.data.splits import Split
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError, IntegrityError
from zoocast.nn.predictor import PredictorConfig

__all__ = ["BankConfig", "MemoryBank", "OnlineBank", "StoredBank", "open_bank"]

Memories = list[dict[int, Tensor]]


class MemoryBank(abc.ABC):
    """Abstract: what M frozen sources remember of each clip.

    Attributes:
        config: its settings.
        names: of the sources, in the order in which `memories` gives them.
        refs: for each source and each layer of the target that distils, which memory of the source this is, and its shape.
        digest: equal digests mean equal memories.
    """

    digest: str

    def __init__(self, config: BankConfig, names: Sequence[str], refs: Sequence[Mapping[int, MemoryRef]], device: str) -> None:
        self.config, self.names, self.refs = config, tuple(names), tuple(refs)
        self.device = torch.device(device)

    @abc.abstractmethod
    def memories(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,
        feed: Tensor | None = None,
    ) -> Memories:
        """For each source and each layer of the target that distils the source's memory after every step, on the bank's device.

        Args:
            split: of the target's clips.
            indices: (B,) whole numbers within the split.
            reverse: of the time-flipped clips.
            clips: (B, T, C, H, W), what the target sees, already flipped if `reverse`; an online bank reads them if not given.
            feed: (B, T - 1), what the target is fed; needed, and used, with policy ``shared`` alone.

        Returns:
            M dicts from layer of the target to (B, T - 1, n, h, w), with the source's channels and map size: float32 from an
            online bank, in the precision at rest from a stored one, for half the bytes make half the way to a device.

        Raises:
            ConfigError: the bank does not hold this split or direction.
            IndexError: an index beyond the split.
            IntegrityError: a file that is used for the first time is damaged.
        """

    def _check(self, split: Split, reverse: bool) -> None:
        if split not in self.config.splits:
            raise ConfigError("splits", f"the bank holds {', '.join(self.config.splits)}, but was asked for {split}")
        if reverse and not self.config.reversed:
            raise ConfigError("reversed", "the bank holds no memories of time-flipped clips; set reversed=true")


class StoredBank(MemoryBank):
    """Reads what `build_bank` wrote. Its memory does not grow with the bank: what is mapped belongs to the page cache."""

    def __init__(self, directory: Path, manifest: Manifest, refs: Sequence[Mapping[int, MemoryRef]], device: str = "cpu") -> None:
        recipe = manifest.recipe
        super().__init__(recipe.config, [s.name for s in recipe.sources], refs, device)
        self.digest = manifest.digest
        self._readers = {
            (source, split.name): SplitReader(directory, manifest, source, split.name)
            for source in range(len(self.names))
            for split in recipe.splits
        }

    def memories(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,  # noqa: ARG002
        feed: Tensor | None = None,  # noqa: ARG002
    ) -> Memories:
        """See `MemoryBank.memories`; clips and feed are not looked at."""
        self._check(split, reverse)
        rows = indices.tolist()
        out: Memories = []
        for source, refs in enumerate(self.refs):
            reader = self._readers[source, split]
            # Two layers of a deep target may distil from one layer of a shallow source, which is then read once.
            read = {t: reader.gather(rows, column_name(t.layer, t.memory, reverse)) for t in set(refs.values())}
            moved = {ref: memory.to(self.device, non_blocking=True) for ref, memory in read.items()}
            out.append({layer: moved[ref] for layer, ref in refs.items()})
        return out


class OnlineBank(MemoryBank):
    """Runs the frozen sources on the clips it is asked for."""

    def __init__(
        self,
        config: BankConfig,
        sources: Sequence[FrozenSource],
        store: ClipStore,
        observed: int,
        refs: Sequence[Mapping[int, MemoryRef]],
        device: str = "cpu",
    ) -> None:
        super().__init__(config, [s.name for s in sources], refs, device)
        self.observed = observed
        self.digest = digest({"recipe": make_recipe(config, sources, store, observed)})
        self._predictors = [s.predictor.to(self.device) for s in sources]
        self._splits = {name: store.split(name) for name in config.splits}

    def memories(
        self,
        split: Split,
        indices: Tensor,
        *,
        reverse: bool = False,
        clips: Tensor | None = None,
        feed: Tensor | None = None,
    ) -> Memories:
        """See `MemoryBank.memories`. Raises `ValueError` if policy ``shared`` is not given the target's feed."""
        self._check(split, reverse)
        if clips is None:
            clips = self._splits[split].clips(indices)
            clips = clips.flip(1) if reverse else clips
        if self.config.policy != "shared":
            feed = fixed_feed(self.config, len(clips), self.observed, clips.shape[1])
        elif feed is None:
            raise ValueError("policy shared needs the target's feed")
        clips = clips.to(self.device)
        out: Memories = []
        for predictor, refs in zip(self._predictors, self.refs, strict=True):
            run = run_source(predictor, refs.values(), clips, feed)
            out.append({layer: run[ref] for layer, ref in refs.items()})
        return out


def open_bank(
    config: BankConfig,
    *,
    directory: Path | None,
    sources: Sequence[tuple[str, Path]],
    clips: Path,
    observed: int,
    target: PredictorConfig,
    device: str = "cpu",
) -> MemoryBank:
    """The bank that `config` describes, for a target to train against.

    Args:
        config: of the bank.
        directory: where `build_bank` stored it; None if it is online.
        sources: names, and folders with the networks as `save_predictor` writes them.
        clips: folder of the target's clip store.
        observed: frames of a clip that a free-running source sees.
        target: its network, with transfer units.
        device: where the memories are wanted, and where an online bank's sources run.

    Raises:
        ConfigError: a source that the target cannot distil from, or a stored bank without a directory.
        IntegrityError: a bank that is damaged, or was built from other sources, clips or settings.
    """
    store = ClipStore.open(clips)
    frozen = load_sources(config, sources, store.shape, target)
    wanted = target_layers(config, target)
    refs = [{layer: source.refs[layer] for layer in wanted} for source in frozen]
    if config.mode == "online":
        return OnlineBank(config, frozen, store, observed, refs, device)
    if directory is None:
        raise ConfigError("mode", "a stored bank is read from a directory; build it first, or use mode=online")
    manifest = read_manifest(directory)
    _check_recipe(directory, manifest.recipe, make_recipe(config, frozen, store, observed))
    return StoredBank(directory, manifest, refs, device)


def _check_recipe(directory: Path, built: Recipe, wanted: Recipe) -> None:
    if changes := diff(canonical(built), canonical(wanted)):
        raise IntegrityError(
            f"bank {directory} was built for something else than it is used for ({'; '.join(map(str, changes[:3]))}); {REMEDY}"
        )
