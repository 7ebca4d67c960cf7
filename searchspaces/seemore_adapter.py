"""SeeMore's level-specific meta-adapter: how its learning rates start, move and are held in order; the release's values first.

The length of a cycle is not varied, because ASHA's rungs are whole cycles. Without a weight on the chain its ratio means nothing.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from zoocast.search import SearchSpace, When

__all__ = ["space"]


def space(base: Any) -> SearchSpace:
    """The space for a config whose field `adapter` holds the meta-adapter's settings."""
    cycle = base.adapter.cycle
    return SearchSpace(
        fields={
            "adapter.initial_rate": FloatDistribution(2e-5, 1e-3, log=True),
            "adapter.meta_learning_rate": FloatDistribution(1e-8, 1e-5, log=True),
            # From a twentieth to three quarters of a cycle, at least one iteration in cycles as short as those of tests.
            "adapter.rate_iterations": IntDistribution(max(1, cycle // 20), max(1, 3 * cycle // 4)),
            # A choice and no range, for 0 is one of its values, on which the next field depends.
            "adapter.chain_weight": CategoricalDistribution((0.0, 1.0, 10.0, 100.0)),
            "adapter.chain_ratio": When("adapter.chain_weight", (1.0, 10.0, 100.0), FloatDistribution(1.0, 4.0)),
            "adapter.parametrisation": CategoricalDistribution(("linear", "logarithmic")),
            "adapter.meta_batch": CategoricalDistribution(("same", "held-out")),
            "adapter.moments": CategoricalDistribution(("private", "shared")),
        },
        points=(
            {
                "adapter.initial_rate": 1e-4,
                "adapter.meta_learning_rate": 1e-7,
                "adapter.rate_iterations": max(1, cycle // 4),  # release: 50 of 200
                "adapter.chain_weight": 10.0,
                "adapter.chain_ratio": 2.0,
                "adapter.parametrisation": "linear",
                "adapter.meta_batch": "same",
                "adapter.moments": "private",
            },
        ),
    )
