"""Frozen sources as a bank uses them: loaded once, set up for frames of the target's size, run without gradients on these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoocast.bank.config import BankConfig, MemoryRef
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, load_predictor
from zoocast.nn.sampling import free_run, teacher_forced

__all__ = ["FrozenSource", "SourceRun", "fixed_feed", "load_frozen", "run_source"]


@dataclasses.dataclass(frozen=True)
class FrozenSource:
    """A source on the target's clips, and what is collected of it."""

    predictor: Predictor
    refs: tuple[MemoryRef, ...]


class SourceRun(NamedTuple):
    """What a source made of B clips, in float32: a memory after, and a frame from, each of T - 1 steps."""

    memories: dict[MemoryRef, Tensor]
    """The memories to collect, each (B, T - 1, n, h, w)."""
    frames: Tensor
    """(B, T - 1, C, H, W), not clipped: frames[:, t] is its prediction of frame t + 1."""


def load_frozen(source: Path, clips: FrameShape, refs: Iterable[MemoryRef], device: str | torch.device = "cpu") -> FrozenSource:
    """The network in the folder `source`, as `save_predictor` wrote it, frozen and ready for the target's clips.

    Args:
        source: its folder.
        clips: shape of the target's frames; `memory_refs` has refused those that this network cannot see.
        refs: what is collected of it, see `run_source`.
        device: where it runs.

    Raises:
        IntegrityError: its files are missing or damaged.
    """
    # A network is made with random weights before it gets its own. What is trained next to the bank must not begin with other
    # numbers because its bank is computed online, and not read from a disk, where no network is made.
    with torch.random.fork_rng(devices=[]):  # weights are made on the CPU, so no GPU's generator moves
        predictor = load_predictor(source)
        if predictor.frames != clips:
            # Convolutions do not mind the size of a map; `memory_refs` has refused what does.
            moved = Predictor(predictor.config, clips)
            moved.load_state_dict(predictor.state_dict())
            predictor = moved
    # In one order and each once, however many layers of the target distil from it.
    return FrozenSource(predictor.to(device).requires_grad_(False).eval(), tuple(sorted(set(refs))))


def fixed_feed(config: BankConfig, batch: int, observed: int, length: int) -> Tensor:
    """What a source is fed under a policy that does not depend on the iteration, (batch, length - 1)."""
    if config.policy == "shared":
        raise ValueError("policy shared has no fixed feed")
    return teacher_forced(batch, length) if config.policy == "teacher_forced" else free_run(batch, observed, length)


def run_source(source: FrozenSource, clips: Tensor, feed: Tensor) -> SourceRun:
    """What the source remembers and predicts after every step, in float32, whatever precision the caller trains in.

    Args:
        source: says what to collect.
        clips: (B, T, C, H, W) in [0, 1], on the source's device.
        feed: (B, T - 1), 1 where the source sees the true frame.
    """
    collect: dict[int, tuple[str, ...]] = {}
    for ref in source.refs:
        collect[ref.layer] = (*collect.get(ref.layer, ()), ref.memory)
    # A trainer's autocast would reach into here, and an online bank would then give other numbers than a stored one.
    with torch.no_grad(), torch.autocast(clips.device.type, enabled=False):
        run = source.predictor(clips.float(), feed.to(clips.device), collect, ())
    return SourceRun({ref: run.memories[ref.layer, ref.memory] for ref in source.refs}, run.frames)
