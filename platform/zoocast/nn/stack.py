"""The only loop over time: unrolls a stack of cells over clips and collects what was asked for, nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zoocast.nn.cells import Cell

__all__ = ["Unrolled", "unroll"]


class Unrolled(NamedTuple):
    """Everything is (B, steps, ...); memories and aux are keyed by (layer, name)."""

    outputs: Tensor
    memories: dict[tuple[int, str], Tensor]
    aux: dict[tuple[int, str], Tensor]


def unroll(
    cells: Sequence[Cell],
    head: Callable[[Tensor], Tensor],
    frames: Tensor,
    feed: Tensor,
    *,
    collect: Mapping[int, Collection[str]],
    aux: Collection[str] | None,
) -> Unrolled:
    """Runs as many steps as `feed` is long, each on a true frame or on what the step before predicted.

    Memories that a cell declares as carried go up through the layers and from the top back to the bottom of the next step
    (PredRNN's zig-zag); all others stay in their layer.

    Args:
        cells: from bottom to top.
        head: makes a frame (B, C, h, w) of the top layer's output (B, n, h, w).
        frames: (B, T, C, h, w), already in patches. Steps from T on, if there are any, run on predictions.
        feed: (B, steps): 1 feeds the true frame of this step, 0 the network's own prediction of it.
        collect: for each layer the memories to keep.
        aux: the names in the cells' aux to keep; None keeps all.
    """
    batch, length, _, height, width = frames.shape
    states = [cell.zero_state(batch, height, width, frames.device, frames.dtype) for cell in cells]
    carried = {name: states[0][name] for name in cells[0].carried}
    kept: defaultdict[tuple[int, str], list[Tensor]] = defaultdict(list)
    kept_aux: defaultdict[tuple[int, str], list[Tensor]] = defaultdict(list)
    outputs: list[Tensor] = []
    true = feed.bool().to(frames.device)
    for t, source in enumerate(_sources(feed.bool(), length)):
        if source == "mixed":
            x = torch.where(true[:, t, None, None, None], frames[:, t], outputs[-1])
        else:
            x = frames[:, t] if source == "true" else outputs[-1]
        for layer, cell in enumerate(cells):
            x, states[layer], extra = cell(x, states[layer] | carried)
            carried = {name: states[layer][name] for name in cell.carried}
            for name in collect.get(layer, ()):
                kept[layer, name].append(states[layer][name])
            for name in extra:
                if aux is None or name in aux:
                    kept_aux[layer, name].append(extra[name])
        outputs.append(head(x))
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
