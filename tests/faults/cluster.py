"""A Ray cluster of several nodes on this machine, whose nodes can be lost."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

__all__ = ["NODE", "cluster"]

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
# Ray takes half a minute to believe that a node is dead; here a few seconds.
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}


@contextlib.contextmanager
def cluster(head_cpus: int) -> Iterator[Cluster]:
    """A head with so many CPUs; further nodes are the caller's. No process is left behind."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # short, for the sake of sockets
        head = {**NODE, "num_cpus": head_cpus, "include_dashboard": False, "temp_dir": folder, "_system_config": QUICK}
        it = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield it
        finally:
            it.shutdown()
