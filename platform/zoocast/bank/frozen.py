"""Frozen sources as a bank uses them: loaded once, checked against the target, run without gradients on the target's clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoocast.bank.config import BankConfig, MemoryRef, memory_refs
from zoocast.frames import FrameShape
from zoocast.nn.predictor import DESCRIPTION, Predictor, PredictorConfig, load_predictor
from zoocast.nn.sampling import free_run, teacher_forced
from zoocast.store.files import sha256_file

__all__ = ["FrozenSource", "fixed_feed", "load_sources", "run_source"]


@dataclasses.dataclass(frozen=True)
class FrozenSource:
    """A source on the target's clips; `refs` is what each layer of the target in the bank distils from it."""

    name: str
    digest: str
    predictor: Predictor
    refs: Mapping[int, MemoryRef]


def load_sources(
    config: BankConfig, sources: Sequence[tuple[str, Path]], clips: FrameShape, target: PredictorConfig
) -> list[FrozenSource]:
    """The sources with these names from the folders where `save_predictor` left them, for clips of shape `clips`, on the CPU.

    Raises:
        ConfigError: a source that the target cannot distil from; see `memory_refs`.
        IntegrityError: a source's files are missing or damaged.
    """
    return [_load(config, name, directory, clips, target) for name, directory in sources]


def _load(config: BankConfig, name: str, directory: Path, clips: FrameShape, target: PredictorConfig) -> FrozenSource:
    predictor = load_predictor(directory)
    refs = memory_refs(config, name, predictor.config, predictor.frames, clips, target)
    if predictor.frames != clips:
        # Convolutions do not mind the size of a map; `memory_refs` has refused what does.
        moved = Predictor(predictor.config, clips)
        moved.load_state_dict(predictor.state_dict())
        predictor = moved
    # The JSON beside the weights holds their checksum, so its own covers both.
    return FrozenSource(name, sha256_file(directory / DESCRIPTION), predictor.requires_grad_(False).eval(), refs)


def fixed_feed(config: BankConfig, batch: int, observed: int, length: int) -> Tensor:
    """What a source is fed under a policy that does not depend on the iteration, (batch, length - 1)."""
    if config.policy == "shared":
        raise ValueError("policy shared has no fixed feed")
    return teacher_forced(batch, length) if config.policy == "teacher_forced" else free_run(batch, observed, length)


def run_source(predictor: Predictor, refs: Collection[MemoryRef], clips: Tensor, feed: Tensor) -> dict[MemoryRef, Tensor]:
    """The tapped memories after every step, each (B, T - 1, n, h, w) in float32, whatever precision the caller trains in.

    Args:
        predictor: a frozen source.
        refs: what to collect.
        clips: (B, T, C, H, W) in [0, 1], on the source's device.
        feed: (B, T - 1), 1 where the source sees the true frame.
    """
    collect: dict[int, tuple[str, ...]] = {}
    for ref in sorted(set(refs)):
        collect[ref.layer] = (*collect.get(ref.layer, ()), ref.memory)
    with torch.no_grad(), torch.autocast(clips.device.type, enabled=False):
        memories = predictor(clips.float(), feed.to(clips.device), collect, ()).memories
    return {ref: memories[ref.layer, ref.memory] for ref in refs}
