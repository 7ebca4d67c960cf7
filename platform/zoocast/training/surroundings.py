"""What a training needs of the world around it: in a notebook nothing, in a step the step's folder, journal and driver.

The loop knows these few things and no step, so that the same loop trains in a notebook, in a step, in a Ray Train worker and in
a trial of a search.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from zoocast.config import digest
from zoocast.dag import StepContext
from zoocast.tracking import Journal

__all__ = ["OnValidation", "Surroundings"]

OnValidation = Callable[[int, float], None]
"""Called with the iterations done and the validation error."""


def _show_nothing(fraction: float, message: str) -> None:
    """Where no driver shows how far the work is."""


def _never() -> bool:
    return False


def _nothing() -> None:
    """Where no other attempt can own the folder, and no other machine reads it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a training keeps its state, and what it reports to. By itself it writes and reports nothing.

    Attributes:
        name: of the training, for its messages.
        directory: a folder that exists, for checkpoints and the best weights; a training that finds checkpoints there goes on
            from the newest one.
        identity: of all that decides how the training goes; a checkpoint of another one is refused. Empty: that of its config.
        journal: takes the metrics, and pictures of what the network predicts.
        progress: called with the finished share of the work and a message, several times a second.
        should_stop: asked after every iteration whether to save a checkpoint and end.
        check_fence: called before anything is written; raises when another attempt has the folder.
        push: called after each checkpoint, to hand it to other machines.
        on_validation: called after every reading of the validation split; what it raises ends the training. A training that goes
            on from a checkpoint calls it again for what lies behind the checkpoint.
    """

    name: str = "the training"
    directory: Path | None = None
    identity: str = ""
    journal: Journal | None = None
    progress: Callable[[float, str], None] = _show_nothing
    should_stop: Callable[[], bool] = _never
    check_fence: Callable[[], None] = _nothing
    push: Callable[[], None] = _nothing
    on_validation: OnValidation | None = None

    @classmethod
    def of_step(cls, context: StepContext, on_validation: OnValidation | None = None) -> Surroundings:
        """Those of a training in a step, or in a trial, which has a context of its own."""
        return cls(
            name=context.name,
            directory=context.directory,
            # Of the whole step: a checkpoint fits only the same network, method and data, and not just the same training.
            identity=digest(context.config),
            journal=Journal(context.journal_path),
            progress=context.progress,
            should_stop=context.should_stop,
            check_fence=context.check_fence,
            push=context.push,
            on_validation=on_validation,
        )
