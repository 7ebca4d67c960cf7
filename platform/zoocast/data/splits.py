"""The three splits that every data set has, how one file is shared among them, and how building reports its progress.

The shares are fixed, not settings: two experiments that take different numbers of clips from the same file or the same digit
images then still agree on what is test, so a source can never have been pretrained on what its target is tested on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

__all__ = ["LARGEST_SEED", "SHARES", "SPLITS", "Progress", "Split", "clip_generator", "pools", "reported", "shuffled"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SHARES: Mapping[Split, int] = {"train": 7, "validation": 1, "test": 2}

LARGEST_SEED = 2**32 - 1
"""One 32-bit word of numpy's seed sequences, so that a seed, a split and a clip's number are told apart in `clip_generator`."""

Progress = Callable[[float, str], None]
"""Called with the finished fraction of the work, 0 to 1, and what is being done."""


def pools(count: int, splits: Sequence[Split] = SPLITS) -> dict[Split, range]:
    """Cut `range(count)` into one run of indices per split, in the proportions of `SHARES`.

    Example: 10,000 sequences become 7,000 for training, 1,000 for validation and 2,000 for the test.
    """
    # Whole numbers throughout: a share of 0.7 as a float would move an edge by one clip for some counts.
    total = sum(SHARES[s] for s in splits)
    edges = [0]
    for split in splits:
        edges.append(edges[-1] + SHARES[split])
    return {s: range(count * a // total, count * b // total) for s, a, b in zip(splits, edges[:-1], edges[1:], strict=True)}


def shuffled(items: np.ndarray) -> np.ndarray:
    """`items` in one fixed random order, so that the pools of a file sorted by class or writer are alike."""
    return items[np.random.Generator(np.random.Philox(0)).permutation(len(items))]


def clip_generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """The random numbers of one clip, which do not depend on how many clips there are."""
    # A named bit generator stays what it is; numpy may let `default_rng` choose another one some day.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, SPLITS.index(split), index))))


def reported(clips: Iterable[np.ndarray], split: Split, counts: Mapping[Split, int], progress: Progress) -> Iterator[np.ndarray]:
    """Pass `clips` of `split` on, and report about a hundred times per data set how many are done."""
    total = sum(counts.values())
    # `write_store` takes the splits in this order.
    before = sum(counts[s] for s in SPLITS[: SPLITS.index(split)])
    interval = max(1, total // 100)
    for done, clip in enumerate(clips, start=1):
        yield clip
        if (before + done) % interval == 0 or done == counts[split]:
            progress((before + done) / total, f"{split}: {done:,} of {counts[split]:,} clips")
