"""How much is searched, and where."""

from __future__ import annotations

import dataclasses

from zoocast.config import check_ranges, setting
from zoocast.dag import Resources
from zoocast.errors import ConfigError

__all__ = ["SearchConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How many trials, how long, and how they are chosen and ended early."""

    # The number of trials is taken out of a trial's identity (`run._identity`), so that a longer study takes over a shorter one.
    num_trials: int = setting(32, "trials in all; more of them extend an earlier study", at_least=1, at_most=100_000)
    max_iterations: int = setting(1000, "iterations of a trial that is not ended early", at_least=1)
    seed: int = setting(0, "of the suggested settings", at_least=0)
    num_startup: int = setting(
        8, "trials that are drawn at random, after the first points, before TPE has enough to go by", at_least=1
    )
    grace_cycles: int = setting(1, "cycles that every trial runs before it may be ended early", at_least=1)
    reduction_factor: int = setting(3, "one in so many trials goes on beyond a rung (ASHA's eta)", at_least=2)
    max_concurrent: int | None = setting(None, "trials at once, at most; none: as many as the cluster holds", identity=False)
    cpus_per_trial: int = setting(1, "CPUs, and threads, of each trial", identity=False, at_least=1)
    gpus_per_trial: float = setting(0.0, "GPUs of each trial", identity=False, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise ConfigError("max_concurrent", f"must be at least 1, or none, but got {self.max_concurrent}")

    @property
    def resources(self) -> Resources:
        """What each trial holds; the step that searches `launches` it."""
        return Resources(self.cpus_per_trial, self.gpus_per_trial)
