"""Sample order and sampling masks as functions of the seed and the iteration alone.

So any number of workers sees the same clips in the same order, and a resumed run needs no generator's state.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from zoocast.training.config import TrainingConfig, Worker

__all__ = ["SampleOrder", "feed"]


def _generator(*parts: int | str) -> torch.Generator:
    # Hashed, for a sum of seed and iteration would give seed 1 what seed 0 had one iteration later.
    text = "/".join(map(str, parts))
    # 63 bits of the hash, for a seed is a signed 64-bit number.
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


class SampleOrder:
    """The endless order of the training clips: one permutation of the whole split for each epoch."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, iteration: int, batch_size: int, worker: Worker) -> Tensor:
        """The clips of an iteration that `worker` sees: every `world`-th of the batch, which may reach into the next epoch."""
        start = iteration * batch_size
        return torch.stack([self._at(p) for p in range(start + worker.rank, start + batch_size, worker.world)])

    def _at(self, position: int) -> Tensor:
        epoch, place = divmod(position, self.size)
        # One permutation is held, for positions come in order; a batch that reaches into the next epoch draws once.
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = torch.randperm(self.size, generator=_generator("order", self.seed, epoch))
        return self._permutation[place]


def feed(config: TrainingConfig, iteration: int, observed: int, length: int, worker: Worker, offset: int = 0) -> Tensor:
    """The part of an iteration's mask that `worker` sees; the curriculum is `offset` iterations ahead.

    Iterations count from 0 here and from 1 in the schedules, as in the releases.
    """
    generator = _generator("feed", config.seed, iteration)
    mask = config.sampling.feed(offset + iteration + 1, config.batch_size, observed, length, generator)
    # Drawn for the whole batch and then shared out as the clips are: a clip's mask does not hang on the number of workers.
    return mask[worker.rank :: worker.world]
