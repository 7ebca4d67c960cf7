"""Where work runs: a Ray of our own on this machine, or a cluster that is already there.

All settings that Ray needs to start fast, stay quiet, and give every process only the threads it was given are made here, once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoocast.errors import InfrastructureError

__all__ = ["ClusterSummary", "connect", "resources", "source_roots"]

LOCAL = "local"
ANSWER_SECONDS = 5.0
OBJECT_STORE_BYTES = 200 * 2**20  # steps exchange paths, not tensors
LONGEST_TEMPORARY_DIRECTORY = 40  # a socket's path may have 107 bytes, of which Ray's own names take up to 66

# Read by Ray's processes when they start.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # else every report after the first takes two seconds
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # workers wait for a busy cluster; after 60 seconds it is no failure
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray says of a dead worker goes to stdout, which is data
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials have journals
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be silent
    "RAY_task_oom_retries": "2",  # for ever by default
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's own future default; without it Ray warns
    "OMP_NUM_THREADS": "1",  # a step or a training worker takes more when it was given more CPUs
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Read by the driver alone: without a head Ray ends it after a minute, perhaps before it has told MLflow what happened.
DRIVER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "120"}


@dataclasses.dataclass(frozen=True)
class ClusterSummary:
    """What the connected cluster has in all."""

    address: str
    num_nodes: int
    num_cpus: float
    num_gpus: float

    def __str__(self) -> str:
        gpus = f", {self.num_gpus:g} GPUs" if self.num_gpus else ""
        return f"Ray at {self.address}: {self.num_nodes} node{'s' if self.num_nodes > 1 else ''}, {self.num_cpus:g} CPUs{gpus}"


@contextlib.contextmanager
def connect(address: str | None = None, num_cpus: int | None = None) -> Iterator[ClusterSummary]:
    """Connect to Ray for the length of the block.

    Args:
        address: ``local`` for a Ray of our own, or a cluster's address. None: RAY_ADDRESS, else ``local``. Never a Ray that
            merely happens to run on this machine.
        num_cpus: how many CPUs a local Ray may use; None for all.

    Raises:
        InfrastructureError: there is no Ray at the address, or it cannot be started.
    """
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    if address not in (LOCAL, "auto"):
        _require_answer(address)
    with _environment(ENVIRONMENT | DRIVER | {"PYTHONPATH": _python_path()}):
        import ray

        try:
            with _no_dashboard() if address == LOCAL else contextlib.nullcontext():
                ray.init(**_arguments(address, num_cpus))
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _no_ray(address, error) from None
        try:
            yield resources(address)
        finally:
            ray.shutdown()


def _arguments(address: str, num_cpus: int | None) -> dict[str, Any]:
    common = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        return common | {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": _short_temporary_directory(),
        }
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return common  # the job has brought its own runtime environment, and Ray refuses a second one
    # Machines of a cluster have the code installed, or see it at the same path.
    return common | {"runtime_env": {"env_vars": ENVIRONMENT | {"PYTHONPATH": _python_path()}}}


@contextlib.contextmanager
def _no_dashboard() -> Iterator[None]:
    """Let Ray start as if the extra `cluster` were not installed: its agents, which serve no one here, take twice as long.

    Ray asks by an import whether they can run, and knows no setting. None in `sys.modules` makes an import fail.
    """
    name = "ray.dashboard.optional_deps"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def _require_answer(address: str) -> None:
    """Ask the port itself: Ray would try for minutes, and write about it on the terminal."""
    host, _, port = address.rpartition(":")
    try:
        if not host or not port.isdigit():
            raise ValueError("an address is HOST:PORT, such as 10.0.0.1:6379")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_ray(address, error) from None


def _no_ray(address: str, error: Exception) -> InfrastructureError:
    first = str(error).strip().splitlines()
    reason = first[0] if first else type(error).__name__
    if address == LOCAL:
        logs = _short_temporary_directory() or tempfile.gettempdir()
        return InfrastructureError(f"Ray did not start on this machine: {reason}; see its logs under {logs}")
    remedy = f"start it, correct --address or RAY_ADDRESS, or use --address {LOCAL}"
    return InfrastructureError(f"no Ray answers at {address} ({reason}); {remedy}")


def _short_temporary_directory() -> str | None:
    default = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
    return None if len(default) <= LONGEST_TEMPORARY_DIRECTORY else f"/tmp/ray-{os.getuid()}"


def source_roots() -> list[str]:
    """The folders from which this process imports zoocast and its neighbours; workers import from the same ones."""
    roots: dict[str, None] = {}
    for package in ("zoocast", "pipelines", "searchspaces"):
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            roots[str(Path(location).absolute().parent)] = None
    return list(roots)


def _python_path() -> str:
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*source_roots(), *(p for p in given if p)]))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def resources(address: str = LOCAL) -> ClusterSummary:
    """What the connected cluster has in all."""
    import ray

    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    return ClusterSummary(address, len(alive), sum(n.get("CPU", 0) for n in alive), sum(n.get("GPU", 0) for n in alive))
