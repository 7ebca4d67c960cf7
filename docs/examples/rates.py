"""A search space of your own: only how SeeMore's learning rates start and move, from the paper's values.

pipelines run seemore-search -S space=docs.examples.rates
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from zoocast.search import SearchSpace, When


def space(base: Any) -> SearchSpace:
    """The space for a config whose field `adapter` holds the meta-adapter's settings."""
    paper = base.adapter.initial_rate
    return SearchSpace(
        fields={
            "adapter.initial_rate": FloatDistribution(paper / 3, paper * 3, log=True),
            "adapter.chain_weight": CategoricalDistribution((0.0, 10.0)),
            "adapter.chain_ratio": When("adapter.chain_weight", (10.0,), FloatDistribution(1.0, 4.0)),
        },
        points=(
            {"adapter.initial_rate": paper, "adapter.chain_weight": 10.0, "adapter.chain_ratio": 2.0},
            {"adapter.initial_rate": paper, "adapter.chain_weight": 0.0},
        ),
    )
