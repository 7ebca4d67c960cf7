"""What training needs to know, and where it may run."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from zoocast.config import check_ranges, setting
from zoocast.errors import ConfigError
from zoocast.nn.sampling import Sampling, ScheduledSampling

__all__ = ["TrainingConfig", "Worker", "WorkerConfig", "use_threads"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and on what one network is trained. The releases' values are in the `paper` presets."""

    iterations: int = setting(400, "optimiser iterations; with reverse_input each is two updates", at_least=1)
    batch_size: int = setting(8, "clips in one update, over all workers", at_least=1)
    learning_rate: float = setting(1e-3, "of Adam", above=0)
    learning_rate_decay: Literal["none", "linear"] = setting(
        "none", "how Adam's learning rate falls: not at all, or in equal steps that would reach 0 after the last one", added=True
    )
    sampling: Sampling = setting(ScheduledSampling(), "which true frames the network sees while it trains")
    reverse_input: bool = setting(
        False, "a second update per iteration on the time-flipped clip with the same mask (release: yes)"
    )
    decouple_weight: float = setting(
        0.1, "weight of the memory decoupling loss, where the cells are decoupled (PredRNN-V2: 0.1)", at_least=0
    )
    gradient_clip: float | None = setting(None, "largest gradient norm, or none")
    precision: Literal["float32", "bfloat16"] = setting("float32", "of the forward pass; weights stay float32")
    validate_every: int = setting(50, "iterations between readings of the validation split", at_least=1)
    checkpoint_every: int = setting(100, "iterations between full-state checkpoints", at_least=1)
    # Pictures change no weight, so more of them must not train anything anew.
    num_strips: int = setting(
        2, "times that the prediction of a validation clip is drawn, the last at the end", identity=False, at_least=0
    )
    seed: int = setting(0, "of weights, sample order and sampling masks", at_least=-(2**62), at_most=2**62)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.gradient_clip is not None and not self.gradient_clip > 0:  # by hand, for a range's message would not name none
            raise ConfigError("gradient_clip", f"must be greater than 0 or none, but got {self.gradient_clip}")

    def with_seed(self, seed: int) -> TrainingConfig:
        """The same with `seed` added to its own, for one of several trainings."""
        return dataclasses.replace(self, seed=self.seed + seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Where one network is trained: Ray Train workers and what each of them holds. Never part of a result's identity."""

    num_workers: int = setting(1, "data-parallel workers", identity=False, at_least=1)
    cpus_per_worker: int = setting(1, "CPUs, and threads, of each worker", identity=False, at_least=1)
    gpus_per_worker: float = setting(0.0, "GPUs of each worker", identity=False, at_least=0)
    max_failures: int = setting(3, "worker deaths survived before the step fails", identity=False, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)

    def check(self, training: TrainingConfig, clips: int) -> None:
        """Raise `ConfigError` if the batch is more than the `clips` of the training split, or cannot be shared out evenly."""
        if training.batch_size > clips:
            raise ConfigError(
                "batch_size", f"must be at most the {clips} clips of the training split, but got {training.batch_size}"
            )
        # Workers average their gradients with equal weight, so with unequal parts some clips would count more than others.
        if training.batch_size % self.num_workers:
            raise ConfigError(
                "batch_size",
                f"must be a multiple of num_workers, but got {training.batch_size} clips for {self.num_workers} workers",
            )


@dataclasses.dataclass(frozen=True)
class Worker:
    """One of `world` processes that train the same network."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"


def use_threads(cpus: float) -> int:
    """Let torch use as many threads as Ray gave CPUs, at least one; more make steps 10-100 times slower."""
    threads = max(1, int(cpus))
    torch.set_num_threads(threads)
    return threads
