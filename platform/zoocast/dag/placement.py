"""Whether processes fit on the nodes of a cluster, so that work which can never start is refused before anything runs.

Ray itself waits for ever for resources that do not exist, and Ray Train complains aloud every minute while it waits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from zoocast.dag.step import Resources, Step
from zoocast.errors import InfrastructureError

__all__ = ["fits", "nodes_of", "require_room"]

EPSILON = 1e-6  # 0.1 ten times subtracted from 1 is not 0 in floats; Ray itself counts in ten-thousandths


def nodes_of(ray_nodes: Iterable[dict[str, Any]]) -> list[Resources]:
    """The living nodes among what `ray.nodes()` returned."""
    alive = [n["Resources"] for n in ray_nodes if n["Alive"]]
    return [Resources(num_cpus=r.get("CPU", 0.0), num_gpus=r.get("GPU", 0.0)) for r in alive]


def fits(nodes: Sequence[Resources], demands: Iterable[Resources]) -> bool:
    """Whether all `demands` fit at once, the largest placed first, each on the first node with room."""
    free = list(nodes)
    # The largest first, since small ones find room between large ones more easily than the other way round.
    for demand in sorted(demands, key=lambda d: (-d.num_gpus, -d.num_cpus)):
        for i, node in enumerate(free):
            cpus, gpus = node.num_cpus - demand.num_cpus, node.num_gpus - demand.num_gpus
            if cpus >= -EPSILON and gpus >= -EPSILON:
                free[i] = dataclasses.replace(node, num_cpus=max(cpus, 0.0), num_gpus=max(gpus, 0.0))
                break
        else:
            return False
    return True


def require_room(nodes: Sequence[Resources], steps: Iterable[Step]) -> None:
    """Check that each step could run if it had the cluster for itself.

    Raises:
        InfrastructureError: what the first impossible step asks for, and what there is.
    """
    for step in steps:
        # All at once, as Ray Train places its workers as one group.
        if not fits(nodes, step.demands):
            asked = f"{step.resources}"
            if step.launches:
                count, largest = len(step.launches), max(step.launches, key=_size)
                asked = f"{count} workers at once, the largest with {largest}" if count > 1 else f"a worker with {largest}"
            there = "; ".join(str(n) for n in sorted(nodes, key=_size, reverse=True)[:4]) or "no node at all"
            raise InfrastructureError(
                f"step {step.name} asks for {asked}, but the cluster's largest nodes have: {there};"
                " ask for fewer CPUs, GPUs or workers, or give --address of a larger cluster"
            )


def _size(resources: Resources) -> tuple[float, float]:
    return (resources.num_gpus, resources.num_cpus)
