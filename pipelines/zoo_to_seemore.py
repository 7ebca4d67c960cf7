"""Both papers joined: a zoo's memory banks feed a target with TMU that is trained in two directions and then adapted.

The arms of `ablation` that lead there, one part after the other: finetuning, TMU, with bidirectional distillation, and with the
meta-adapter in the second stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pipelines.ablation import PRESETS as ABLATIONS
from pipelines.ablation import Ablation, steps

__all__ = ["PRESETS", "SUMMARY", "steps"]

SUMMARY = "a zoo's banks feed a target with TMU that is trained in two directions and then adapted"

ARMS = ("base", "tmu", "tmu-bdn", "tmu-bdn-lma")


def smoke() -> Ablation:
    """Every step in its smallest form: shows that all works, and nothing about what is better."""
    return dataclasses.replace(ABLATIONS["smoke"](), arms=ARMS)


def laptop() -> Ablation:
    """The zoo and the target of `zoo-to-target`, whose sources are used again; 200 and 120 iterations, 3 seeds."""
    return dataclasses.replace(ABLATIONS["laptop"](), arms=ARMS)


def paper() -> Ablation:
    """The papers' scale with the releases' hyperparameters, as in `ablation`; see `zoo-to-target` for its data. Not run by us."""
    return dataclasses.replace(ABLATIONS["paper"](), arms=ARMS)


PRESETS: dict[str, Callable[[], Ablation]] = {"smoke": smoke, "laptop": laptop, "paper": paper}
