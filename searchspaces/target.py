"""A target with Transferable Memory Units: its learning rate, what it distils, and how that enters its own memory.

The first points are the release as it runs (it computes the distillation loss and drops it), the release with the weight that its
remains name, and our units, which do not grow with the number of sources. Everything that shapes the bank stays as it is, so that
all trials read the same memories. A loss that is not there has no way to be computed, which is what the conditions say.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from zoocast.errors import ConfigError
from zoocast.search import SearchSpace, When
from zoocast.transfer import Transfer

__all__ = ["space"]

WEIGHT = "method.distillation_weight"
# A choice and no range: 0 is the release, and the fields that depend on the weight must know its values.
WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


def space(base: Any) -> SearchSpace:
    """The space for the config of a `train-target` step.

    Raises:
        ConfigError: its method has no transfer units, or it has no bank to distil from.
    """
    if not isinstance(base.method, Transfer):
        raise ConfigError("method", f"must be tmu, whose settings are searched, but got {base.method.kind}")
    if base.bank is None:
        raise ConfigError(
            "method.distillation_weight", "must be above 0, for the space compares weights against a bank, but got 0"
        )
    fields: dict[str, BaseDistribution | When] = {
        "training.learning_rate": FloatDistribution(3e-5, 3e-3, log=True),
        WEIGHT: CategoricalDistribution(WEIGHTS),
        "method.tmu.combine": CategoricalDistribution(("sum", "mean", "residual")),
        "method.source_memories": When(WEIGHT, WEIGHTS[1:], CategoricalDistribution(("raw", "standardised"))),
        "method.reduction": When(WEIGHT, WEIGHTS[1:], CategoricalDistribution(("mean", "release"))),
    }
    release = {"training.learning_rate": 3e-4, WEIGHT: 0.0, "method.tmu.combine": "sum"}
    paper = {**release, WEIGHT: 0.1, "method.source_memories": "raw", "method.reduction": "release"}
    ours = {**paper, "method.tmu.combine": "mean", "method.reduction": "mean"}
    points: list[dict[str, Any]] = [release, paper, ours]
    if base.method.tmu.gate != "none":  # without gates there is no bias, and the config refuses one
        fields["method.tmu.gate_bias"] = FloatDistribution(-3.0, 1.0)
        points = [{**point, "method.tmu.gate_bias": 0.0} for point in points]
    return SearchSpace(fields=fields, points=tuple(points))
