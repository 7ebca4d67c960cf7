"""Which function does the training of a step: what Ray Tune calls in each trial when that step's settings are searched.

A step's own function says where it trains and logs what it trains; a trial has a process and a journal of its own and wants the
training alone. So the two are tied together where the step is defined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from zoocast.dag import StepContext
from zoocast.errors import ConfigError
from zoocast.training.config import Worker
from zoocast.training.result import Trained
from zoocast.training.surroundings import OnValidation

__all__ = ["TrainHere", "train_here", "trains_with"]

F = TypeVar("F", bound=Callable[..., Any])


class TrainHere(Protocol):
    """Train in this process, in the folder of `context` and with its inputs, as `config` says.

    `on_validation` is called after every reading of the validation split; see `zoocast.training.Surroundings`.
    """

    def __call__(self, context: StepContext, config: Any, worker: Worker, on_validation: OnValidation | None) -> Trained: ...


def trains_with(train: TrainHere) -> Callable[[F], F]:
    """Mark a step's function with the function that trains for it: ``@trains_with(adapt_in)`` below ``@step_kind("adapt")``."""

    def mark(fn: F) -> F:
        # On the function itself and in no registry: a trial's process that imports it by its name has both.
        fn.train_here = train  # type: ignore[attr-defined]
        return fn

    return mark


def train_here(fn: Callable[..., Any]) -> TrainHere:
    """The function that trains for the step function `fn`. Raises `ConfigError` when it was not marked by `trains_with`."""
    train: TrainHere | None = getattr(fn, "train_here", None)
    if train is None:
        raise ConfigError("", f"{fn.__module__}:{fn.__qualname__} cannot be searched: mark it with zoocast.training.trains_with")
    return train
