"""What a training returns, for the steps and the people that come after it."""

from __future__ import annotations

import dataclasses

__all__ = ["Trained"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """How a training went; the weights lie in its folder, or in the objective that it was given.

    Attributes:
        iterations: that were done.
        best_iteration: the one after which the network predicted the validation clips best; its weights were kept.
        val_mse: strict/mse on the validation clips after that iteration.
        seconds: spent training, over all attempts.
        clips_per_second: trained on, over all workers.
        num_workers: that trained together.
        threads: of each of them.
    """

    iterations: int
    best_iteration: int
    val_mse: float
    seconds: float
    clips_per_second: float
    num_workers: int
    threads: int
