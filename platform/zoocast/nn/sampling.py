"""What a network is fed while it trains: true frames or its own predictions, as a mask made outside the network.

A mask (`feed`) is (batch, length - 1) of 0 and 1, one draw for each sequence and step: entry [b, t] = 1 feeds the true frame t,
0 the network's own prediction of it. The first step is always true. A schedule is a closed form of the iteration, counted from 1
as the releases do, so a resumed run goes on where it stopped with nothing but the iteration and the generator's state.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import Tensor

from zoocast.config import setting
from zoocast.errors import ConfigError

__all__ = ["ReverseScheduledSampling", "Sampling", "ScheduledSampling", "TeacherForcing", "free_run", "teacher_forced"]


def teacher_forced(batch: int, length: int) -> Tensor:
    """The mask that feeds true frames only, (batch, length - 1)."""
    return torch.ones(batch, length - 1)


def free_run(batch: int, observed: int, length: int) -> Tensor:
    """The mask that feeds the `observed` first frames and then the network's own predictions, (batch, length - 1)."""
    feed = torch.zeros(batch, length - 1)
    feed[:, :observed] = 1
    return feed


def _draw(probabilities: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    # rand is below 1, so that probability 1 is certain; on the CPU, so that a seed means the same masks on every device.
    return (torch.rand(batch, len(probabilities), generator=generator) < probabilities).float()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherForcing:
    """True frames only."""

    kind: ClassVar[str] = "teacher-forcing"

    def feed(self, iteration: int, batch: int, observed: int, length: int, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """The mask of an iteration; draws nothing."""
        return teacher_forced(batch, length)

    def scaled(self, share: float) -> TeacherForcing:  # noqa: ARG002
        """The schedule of a training of that share of the iterations."""
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduledSampling:
    """Observed frames are true; later ones are with a probability that falls linearly to 0 (Bengio et al. 2015, as in PredRNN).

    Iterations are 80,000 in the papers: scale `rate` and `stop_iteration` with the length of shorter runs.
    """

    kind: ClassVar[str] = "scheduled"

    start: float = setting(1.0, "probability of a true frame before the first iteration")
    rate: float = setting(2e-5, "what the probability loses per iteration")
    stop_iteration: int = setting(50_000, "from this iteration on the probability is 0")

    def __post_init__(self) -> None:
        _check_probability("start", self.start)
        if self.rate < 0:
            raise ConfigError("rate", f"must be 0 or more, but got {self.rate}")
        _check_iteration("stop_iteration", self.stop_iteration)

    def probability(self, iteration: int) -> float:
        """Of a true frame after the observed ones."""
        return 0.0 if iteration >= self.stop_iteration else max(0.0, self.start - self.rate * iteration)

    def feed(self, iteration: int, batch: int, observed: int, length: int, generator: torch.Generator) -> Tensor:
        """The mask of an iteration, which counts from 1."""
        feed = teacher_forced(batch, length)
        # length - 1 steps, of which the observed ones are true; none is left to draw where the whole clip is observed.
        drawn = torch.full((max(0, length - 1 - observed),), self.probability(iteration))
        feed[:, observed:] = _draw(drawn, batch, generator)
        return feed

    def scaled(self, share: float) -> ScheduledSampling:
        """The schedule of a training of that share of the iterations."""
        return dataclasses.replace(self, rate=self.rate / share, stop_iteration=round(self.stop_iteration * share))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseScheduledSampling:
    """PredRNN-V2's schedule (Wang et al. 2022): the observed part, too, starts with predictions and ends with true frames.

    Up to `start_iteration` every frame is true with probability 0.5. Then the observed frames' probability rises as
    1 - 0.5 exp(-(i - start) / decay) and is 1 from `stop_iteration`; the later frames' falls linearly to 0 at `stop_iteration`.
    """

    kind: ClassVar[str] = "reverse-scheduled"

    start_iteration: int = setting(25_000, "up to this iteration every frame is true with probability 0.5")
    stop_iteration: int = setting(50_000, "from this iteration on observed frames are true and later ones predicted")
    decay: float = setting(5_000.0, "iterations in which the observed part's share of predictions falls by a factor of e")

    def __post_init__(self) -> None:
        _check_iteration("start_iteration", self.start_iteration)
        if self.stop_iteration < self.start_iteration:
            raise ConfigError(
                "stop_iteration",
                f"start_iteration <= stop_iteration must hold, but got {self.start_iteration} and {self.stop_iteration}",
            )
        if self.decay <= 0:
            raise ConfigError("decay", f"must be more than 0, but got {self.decay}")

    def probabilities(self, iteration: int) -> tuple[float, float]:
        """Of a true frame in the observed part (after the first frame) and after it."""
        if iteration < self.start_iteration:
            return 0.5, 0.5
        if iteration >= self.stop_iteration:
            return 1.0, 0.0
        # The two halves meet at 0.5, so that nothing jumps at start_iteration.
        past = iteration - self.start_iteration
        later = 0.5 - 0.5 * past / (self.stop_iteration - self.start_iteration)
        return 1.0 - 0.5 * math.exp(-past / self.decay), later

    def feed(self, iteration: int, batch: int, observed: int, length: int, generator: torch.Generator) -> Tensor:
        """The mask of an iteration, which counts from 1."""
        encoder, decoder = self.probabilities(iteration)
        later = max(0, length - 1 - observed)
        # The first step is true, observed - 1 are drawn by the encoder's probability and the later ones by the decoder's.
        drawn = torch.tensor([encoder] * (length - 2 - later) + [decoder] * later)
        return torch.cat([torch.ones(batch, 1), _draw(drawn, batch, generator)], dim=1)

    def scaled(self, share: float) -> ReverseScheduledSampling:
        """The schedule of a training of that share of the iterations."""
        start, stop = round(self.start_iteration * share), round(self.stop_iteration * share)
        return ReverseScheduledSampling(start_iteration=start, stop_iteration=stop, decay=self.decay * share)


Sampling = TeacherForcing | ScheduledSampling | ReverseScheduledSampling


def _check_probability(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(field, f"a probability lies between 0 and 1, but got {value}")


def _check_iteration(field: str, value: int) -> None:
    if value < 0:
        raise ConfigError(field, f"an iteration is 0 or more, but got {value}")
