"""Tuning all arms alike: a grid of as many points for each, its trainings compared on the validation split, the best point taken.

An arm that is tuned longer than its rivals wins by that alone, so every arm has as many points, whatever its method can vary.
The points are trained with seeds of their own: the seeds of the report have no part in the choice.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping

from zoocast.config import check_ranges, override, setting
from zoocast.dag import StepContext, step_kind
from zoocast.errors import ConfigError, StepFailed
from zoocast.experiment.searching import SearchedStep
from zoocast.training import Trained, Worker, train_here, use_threads
from zoocast.transfer import TrainTargetConfig

__all__ = [
    "FIRST_SEED",
    "ChooseConfig",
    "Chosen",
    "ChosenConfig",
    "Tried",
    "TuningConfig",
    "choose_point",
    "train_chosen",
    "try_point",
]

FIRST_SEED = 1000
"""Of the trainings that tune; the seeds of a report are below it."""
RATE = "training.learning_rate"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """The grid of every arm, in factors of the learning rate and weight that are set."""

    rates: tuple[float, ...] = setting(
        (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), "times the arm's learning rate, where its method has no weight", above=0
    )
    weighted_rates: tuple[float, ...] = setting((0.3, 1.0, 3.0), "times the learning rate, where it has one", above=0)
    weights: tuple[float, ...] = setting((0.3, 1.0), "times the weight of its method, each with each of these rates", above=0)
    seeds: int = setting(1, f"trainings of every point, with seeds {FIRST_SEED}, {FIRST_SEED + 1}, ...", at_least=1, at_most=1000)

    def __post_init__(self) -> None:
        check_ranges(self)
        for field in ("rates", "weighted_rates", "weights"):
            factors = getattr(self, field)
            if not factors or len(set(factors)) < len(factors):
                raise ConfigError(
                    field, f"must be at least one factor, each once, but got {', '.join(map(str, factors)) or 'none'}"
                )
        points = len(self.weighted_rates) * len(self.weights)
        if len(self.rates) != points:
            raise ConfigError(
                "rates",
                f"must be {points}, as many as weighted_rates x weights, for every arm is tuned at the same cost,"
                f" but got {len(self.rates)}",
            )

    def points(self, config: TrainTargetConfig) -> dict[str, dict[str, float]]:
        """The settings of each point of an arm, by the field of `config`, under names such as ``lr3e-4.w0.1``."""
        rate, field = config.training.learning_rate, config.method.weight_field
        weight = float(getattr(config.method, field)) if field else 0.0
        if not weight:  # a weight of 0 is an arm without: none of its multiples is another
            return {_named_rate(value): {RATE: value} for value in _times(rate, self.rates)}
        pairs = itertools.product(_times(rate, self.weighted_rates), _times(weight, self.weights))
        return {f"{_named_rate(lr)}.w{value:g}".replace("+", ""): {RATE: lr, f"method.{field}": value} for lr, value in pairs}


def _times(value: float, factors: tuple[float, ...]) -> list[float]:
    """The products with three digits: 0.0009 and not 0.0008999999999999999."""
    return [float(f"{value * factor:.3g}") for factor in factors]


def _named_rate(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"lr{float(mantissa):g}e{int(exponent)}"  # a step's name takes no plus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What a point came to: its best error on the validation split, None where it diverged; and seconds of training."""

    val_mse: float | None
    seconds: float


@step_kind("try-point")
def try_point(context: StepContext) -> Tried:
    """Step: train as another step would, and nothing besides. Inputs as of that step. A training that diverges is an outcome."""
    config: SearchedStep = context.config
    use_threads(context.resources.num_cpus)
    worker = Worker(device="cuda" if context.resources.num_gpus else "cpu")
    # Only the training: by the step's own function each point would be entered in the registry as a network of its arm.
    train = train_here(config.resolve())
    try:
        trained = train(context, config.config, worker, None)
    except StepFailed:  # a learning rate that is too high is what a grid is to find
        return Tried(val_mse=None, seconds=0.0)
    return Tried(val_mse=trained.val_mse, seconds=trained.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChooseConfig:
    """The step that takes the best point: the settings of each, by its name."""

    points: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The best point of a grid.

    Attributes:
        point: its name.
        settings: by the field of the arm's training step.
        val_mse: strict/mse on the validation split, the mean over the tuning seeds.
        edges: the fields whose best value is the smallest or largest of those that were tried, of three or more.
        trainings: how many there were.
        train_seconds: that they took together.
        diverged: points that have no error.
    """

    point: str
    settings: Mapping[str, float]
    val_mse: float
    edges: tuple[str, ...]
    trainings: int
    train_seconds: float
    diverged: tuple[str, ...]


@step_kind("choose-point")
def choose_point(context: StepContext) -> Chosen:
    """Step: the point with the lowest validation error. Inputs: for each point the group of its trainings, by their seeds.

    Raises:
        StepFailed: all points diverged.
    """
    config: ChooseConfig = context.config
    tried = {point: [context.result(f"{point}/{seed}", Tried) for seed in context.group(point)] for point in config.points}
    errors = {
        point: math.fsum(t.val_mse for t in found if t.val_mse is not None) / len(found)
        for point, found in tried.items()
        if all(t.val_mse is not None for t in found)
    }
    if not errors:
        raise StepFailed(f"{context.name} has nothing to choose from, for all {len(tried)} points diverged; lower tuning.rates")
    best = min(errors, key=errors.__getitem__)  # of equal ones the first, so the choice is always the same
    return Chosen(
        point=best,
        settings=config.points[best],
        val_mse=errors[best],
        edges=_edges(config.points, best),
        trainings=sum(map(len, tried.values())),
        train_seconds=math.fsum(t.seconds for found in tried.values() for t in found),
        diverged=tuple(point for point in tried if point not in errors),
    )


def _edges(points: Mapping[str, Mapping[str, float]], best: str) -> tuple[str, ...]:
    found = []
    for field, value in points[best].items():
        values = {settings[field] for settings in points.values()}
        if len(values) > 2 and value in (min(values), max(values)):  # of two values each is an edge, which says nothing
            found.append(field)
    return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenConfig:
    """The step that trains with the settings that were chosen."""

    step: SearchedStep


@step_kind("train-chosen")
def train_chosen(context: StepContext) -> Trained:
    """Step: run another step with the settings that were chosen. Inputs as of that step, and ``choose``."""
    config: ChosenConfig = context.config
    chosen = context.result("choose", Chosen)
    tuned = override(config.step.config, chosen.settings)
    result: Trained = config.step.resolve()(dataclasses.replace(context, config=tuned))
    return result
