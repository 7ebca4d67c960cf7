"""The only loop over time: unrolls a stack of cells over clips and collects what was asked for, nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zoocast.nn.cells import Cell, Codec, State

__all__ = ["Unrolled", "begin", "rising_of", "step", "unroll"]


class Unrolled(NamedTuple):
    """Everything is (B, steps, ...); memories and aux are keyed by (layer, name)."""

    outputs: Tensor
    memories: dict[tuple[int, str], Tensor]
    aux: dict[tuple[int, str], Tensor]


def begin(cells: Sequence[Cell], batch: int, height: int, width: int, device: torch.device, dtype: torch.dtype) -> list[State]:
    """The states of all layers before the first frame; maps are height x width."""
    return [cell.zero_state(batch, height, width, device, dtype) for cell in cells]


def rising_of(cells: Sequence[Cell], states: Sequence[State]) -> State:
    """What rises at the beginning of every step, from the states before the first one."""
    # Top down, so that the lowest layer that knows a rising tensor decides what it is at the beginning of a step.
    return {name: state[name] for cell, state in reversed([*zip(cells, states, strict=True)]) for name in cell.rising}


def step(
    cells: Sequence[Cell], x: Tensor, states: Sequence[State], carried: State, rising: State
) -> tuple[Tensor, list[State], State, list[dict[str, Tensor]]]:
    """One step of all layers: the top's output, the new states, what the next step's bottom gets, and the aux of each layer."""
    after, extras = [], []
    for cell, state in zip(cells, states, strict=True):
        # The right-hand side wins: a tensor that travels replaces the copy that this layer kept of it in the step before.
        x, new, extra = cell(x, state | carried | rising)
        carried = carried | {name: new[name] for name in cell.carried}
        rising = rising | {name: new[name] for name in cell.rising}
        after.append(new)
        extras.append(extra)
    return x, after, carried, extras


def unroll(
    cells: Sequence[Cell],
    codec: Codec,
    frames: Tensor,
    feed: Tensor,
    *,
    collect: Mapping[int, Collection[str]],
    aux: Collection[str] | None,
) -> Unrolled:
    """Runs as many steps as `feed` is long, each on a true frame or on what the step before predicted.

    What a cell declares as carried goes up through the layers and from the top back to the bottom of the next step (PredRNN's
    zig-zag); what it declares as rising goes up too, but the bottom finds it as it was before the first step; all else stays in
    its layer. Both pass layers that do not declare them.

    Args:
        cells: from bottom to top.
        codec: makes the bottom layer's input of a frame, and a frame of the top layer's output.
        frames: (B, T, C, h, w), already in patches. Steps from T on, if there are any, run on predictions.
        feed: (B, steps): 1 feeds the true frame of this step, 0 the network's own prediction of it.
        collect: for each layer the memories to keep.
        aux: the names in the cells' aux to keep; None keeps all.
    """
    batch, length = frames.shape[:2]
    states: list[State] = []
    carried: State = {}
    anew: State = {}
    kept: defaultdict[tuple[int, str], list[Tensor]] = defaultdict(list)
    kept_aux: defaultdict[tuple[int, str], list[Tensor]] = defaultdict(list)
    outputs: list[Tensor] = []
    # For `torch.where` on the network's device. `_sources` reads the mask once, so that no step has to wait for a GPU's answer.
    true = feed.bool().to(frames.device)
    for t, source in enumerate(_sources(feed.bool(), length)):
        # Teacher forcing and free runs copy nothing; only a step on which the clips of a batch disagree needs a choice for each.
        if source == "mixed":
            x = torch.where(true[:, t, None, None, None], frames[:, t], outputs[-1])
        else:
            x = frames[:, t] if source == "true" else outputs[-1]
        x, skips = codec.encode(x)
        if not states:
            # Only now: an encoder may have made the maps smaller than the patches.
            height, width = x.shape[-2:]
            states = begin(cells, batch, height, width, frames.device, frames.dtype)
            anew = rising_of(cells, states)
        # `carried` is not set back here: so the top layer's M gets to the bottom of the next step. Before the very first cell it
        # is empty, and the cell finds its own zeros.
        x, states, carried, extras = step(cells, x, states, carried, anew)
        for layer, extra in enumerate(extras):
            # Kept steps are copied into one tensor at the end, so only those that somebody reads are kept.
            for name in collect.get(layer, ()):
                kept[layer, name].append(states[layer][name])
            for name in extra:
                if aux is None or name in aux:
                    kept_aux[layer, name].append(extra[name])
        outputs.append(codec.decode(x, skips))
    return Unrolled(torch.stack(outputs, dim=1), _stack(kept), _stack(kept_aux))


def _sources(feed: Tensor, length: int) -> list[Literal["true", "own", "mixed"]]:
    """Where each step's input comes from. Read once, so that a mask on a GPU costs one synchronisation and not one per step."""
    counts = feed[:, :length].sum(dim=0).tolist()
    known: list[Literal["true", "own", "mixed"]] = ["true" if n == len(feed) else "own" if n == 0 else "mixed" for n in counts]
    if known[0] != "true":
        raise ValueError("the first step has no prediction to run on: feed[:, 0] must be 1")
    return known + ["own"] * (feed.shape[1] - len(known))


def _stack(lists: Mapping[tuple[int, str], list[Tensor]]) -> dict[tuple[int, str], Tensor]:
    return {key: torch.stack(steps, dim=1) for key, steps in lists.items()}
