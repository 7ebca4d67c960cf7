"""What this machine, the run root, Ray and the MLflow store are like, before work depends on them: `pipelines doctor`.

Every check is a function that returns one finding: ok, warn or fail, what was seen, and the remedy.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

from zoocast.errors import ZoocastError

__all__ = ["Finding", "examine"]

GIB = 1024**3
MINIMUM_PYTHON = (3, 11)
# The laptop preset needs about 1 GiB of memory per training worker and under 1 GiB of disk; twice and five times that is comfort.
MEMORY = (1 * GIB, 4 * GIB)
DISK = (1 * GIB, 5 * GIB)
REPAIR = "in the repository: pip install -c constraints.txt -e ."
SHOWN = ("torch", "ray", "mlflow", "pyarrow", "optuna")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `remedy` is empty when all is well."""

    check: str
    state: Literal["ok", "warn", "fail"]
    seen: str
    remedy: str = ""


def examine(root: Path, address: str | None, tracking_uri: str | None) -> Iterator[Finding]:
    """All findings, as they become known; a check that itself breaks is a failure of the thing it checks."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python),
        ("packages", _packages),
        ("cpu", _cpu),
        ("memory", _memory),
        ("disk", lambda: _disk(root)),
        ("ray", lambda: _ray(address)),
        ("mlflow", lambda: _mlflow(root, tracking_uri)),
    ]
    for name, check in checks:
        try:
            yield check()
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
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{need} is missing")
            continue
        if not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need} is wanted, {have} is installed")
    if wrong:
        return Finding("packages", "fail", "; ".join(wrong), REPAIR)
    return Finding("packages", "ok", _versions())


def _versions() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)


def _cpu() -> Finding:
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
    return _at_least("memory", memory.available, MEMORY, seen, "close other programs, or lower batch sizes and workers with -S")


def _disk(root: Path) -> Finding:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", "fail", f"{root} cannot be written (looked at {place})", "give a folder of yours with --root")
    free = shutil.disk_usage(place).free
    return _at_least(
        "disk", free, DISK, f"{free / GIB:.1f} GiB free under {root}", "free space there, or use --root on a larger disk"
    )


def _at_least(check: str, value: float, limits: tuple[int, int], seen: str, remedy: str) -> Finding:
    fail, warn = limits
    if value < fail:
        return Finding(check, "fail", f"{seen}, at least {fail / GIB:.0f} GiB are needed", remedy)
    if value < warn:
        return Finding(check, "warn", seen, remedy)
    return Finding(check, "ok", seen)


def _ray(address: str | None) -> Finding:
    from zoocast.cluster import connect

    began = time.monotonic()
    with connect(address) as cluster:
        import ray

        where = ray.get(ray.remote(num_cpus=1)(_host).remote(), timeout=60)
    return Finding("ray", "ok", f"{cluster}; started and answered from {where} in {time.monotonic() - began:.1f} s")


def _host() -> str:
    return platform.node()


def _mlflow(root: Path, tracking_uri: str | None) -> Finding:
    from zoocast.tracking.delivery import describe
    from zoocast.tracking.store import connect, locate, sqlite_file

    uri = locate(root, tracking_uri)
    file = sqlite_file(uri)
    place = file or uri
    if file is not None and not file.exists():
        return Finding("mlflow", "ok", f"no store yet; the first run makes {file}")
    try:
        experiments = len(connect(uri).search_experiments(max_results=1000))
    except Exception as error:  # whatever MLflow raises, it means that runs cannot be delivered
        return Finding("mlflow", "fail", f"{place}: {describe(error)}", "start the server, or correct --tracking-uri")
    return Finding("mlflow", "ok", f"{place} with {experiments} experiment{'s' if experiments != 1 else ''}")
