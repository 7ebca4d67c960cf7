"""What this machine, the run root, Ray and the MLflow store are like, before work depends on them: `pipelines doctor`.

Every check is a function that returns one finding: ok, warn or fail, what was seen, and the remedy.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from zoocast.cli.environment import home_problem
from zoocast.cluster.connect import private_folder
from zoocast.cluster.preflight import GIB, Finding, at_least, disk, on_cluster
from zoocast.dag import Step
from zoocast.errors import ZoocastError
from zoocast.store.flock import locks_known

__all__ = ["examine"]

MINIMUM_PYTHON = (3, 11)
MEMORY = (1 * GIB, 4 * GIB)  # the laptop preset needs about 1 GiB per training worker; four times that is comfort
REPAIR = "in the repository: pip install -c constraints.txt -e ."
SHOWN = ("torch", "ray", "mlflow", "pyarrow", "optuna")


def examine(root: Path, address: str | None, tracking_uri: str | None, steps: Sequence[Step] = ()) -> Iterator[Finding]:
    """All findings, as they become known; a check that itself breaks is a failure of the thing it checks."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("python", lambda: [_python()]),
        ("packages", lambda: [_packages()]),
        ("cpu", lambda: [_cpu()]),
        ("memory", lambda: [_memory()]),
        ("disk", lambda: [disk(root, steps)]),
        ("home", lambda: [_home()]),
        ("locks", lambda: [_locks(root)]),
        ("ray", lambda: _ray(root, address, tracking_uri, steps)),
        ("mlflow", lambda: [_mlflow(root, tracking_uri)]),
    ]
    for name, check in checks:
        try:
            yield from check()
        except ZoocastError as error:  # says itself what to do
            yield Finding(name, "fail", str(error))
        except Exception as error:  # a diagnosis must go on to the next check whatever breaks in this one
            yield Finding(name, "fail", f"{type(error).__name__}: {error}", REPAIR)


def _python() -> Finding:
    seen = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info < MINIMUM_PYTHON:
        return Finding("python", "fail", seen, "install Python 3.11 or newer and make the environment anew")
    return Finding("python", "ok", seen)


def _packages() -> Finding:
    from packaging.requirements import Requirement

    try:
        needs = metadata.requires("zoocast") or []
    except metadata.PackageNotFoundError:
        return Finding("packages", "warn", f"{_versions()}; zoocast itself is not installed", REPAIR)
    wrong = []
    for line in needs:
        need = Requirement(line)
        # Needs of extras (`cluster`, `dev`) and of other systems are none of this installation.
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need} is missing")
            continue
        # Without prereleases=True a release candidate that somebody has installed would count as missing.
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need} is wanted, {have} is installed")
    if wrong:
        return Finding("packages", "fail", "; ".join(wrong), REPAIR)
    return Finding("packages", "ok", _versions())


def _versions() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)


def _cpu() -> Finding:
    # A batch system may have bound this process to fewer CPUs than the machine has.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    seen = f"{usable} usable of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS {threads or 'unset'}"
    if threads and threads.isdigit() and int(threads) > usable:
        return Finding(
            "cpu", "warn", seen, f"more threads than CPUs are 10-100 times slower: unset OMP_NUM_THREADS or use {usable}"
        )
    if os.getloadavg()[0] > 1.5 * usable:
        return Finding("cpu", "warn", seen, "other programs keep the CPUs busy; times will be longer than the presets say")
    return Finding("cpu", "ok", seen)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    seen = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    return at_least("memory", memory.available, MEMORY, seen, "close other programs, or lower batch sizes and workers with -S")


def _locks(root: Path) -> Finding:
    try:
        known = locks_known(root)
    except OSError as error:  # what `disk` has more to say about
        return Finding("locks", "fail", f"nothing can be written at {root} ({error.strerror or error})")
    if known == "none":
        return Finding(
            "locks",
            "warn",
            f"the file system of {root} knows no locks; files take their place",
            "SQLite needs locks: mount it with them, or keep MLflow's store elsewhere with --tracking-uri",
        )
    return Finding("locks", "ok", "flock" if known == "flock" else f"the file system of {root} knows no flock; fcntl's are used")


def _home() -> Finding:
    problem = home_problem()
    if problem:
        seen = f"{problem}; until the machine restarts, Ray's token and libraries' settings are kept in {private_folder()}"
        return Finding("home", "warn", seen, "set HOME to a folder of yours")
    return Finding("home", "ok", os.path.expanduser("~"))


def _ray(root: Path, address: str | None, tracking_uri: str | None, steps: Sequence[Step]) -> Iterator[Finding]:
    from zoocast.cluster.connect import connect

    began = time.monotonic()
    with connect(address) as cluster:
        answered = ""
        if cluster.is_ours:  # of another one every node is asked
            import ray

            answered = f" and answered from {ray.get(ray.remote(num_cpus=1)(_host).remote(), timeout=60)}"
        yield Finding("ray", "ok", f"{cluster}; connected{answered} in {time.monotonic() - began:.1f} s")
        yield from on_cluster(cluster, root, tracking_uri, steps)


def _host() -> str:
    return platform.node()


def _mlflow(root: Path, tracking_uri: str | None) -> Finding:
    from zoocast.tracking.backend import connect, locate, sqlite_file
    from zoocast.tracking.sync import describe

    uri = locate(root, tracking_uri)
    file = sqlite_file(uri)
    place = file or uri
    # To connect would make the store, and a diagnosis leaves nothing behind.
    if file is not None and not file.exists():
        return Finding("mlflow", "ok", f"no store yet; the first run makes {file}")
    try:
        experiments = len(connect(uri).search_experiments(max_results=1000))
    except Exception as error:  # whatever MLflow raises, it means that runs cannot be synced
        return Finding("mlflow", "fail", f"{place}: {describe(error)}", "start the server, or correct --tracking-uri")
    return Finding("mlflow", "ok", f"{place} with {experiments} experiment{'s' if experiments != 1 else ''}")
