"""When memory is not enough: how much was asked for and is there, and which settings it hangs on.

An allocation that fails at once fails the next time too, so it is no worker's death, after which work would begin again.
"""

from __future__ import annotations

import contextlib
import re
import resource
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from zoocast.dag.step import Step
from zoocast.errors import OutOfMemory
from zoocast.store.files import human_bytes

__all__ = ["LOWER", "lack_of_memory", "machine_bytes", "require_memory"]

LOWER = "lower training.batch_size, predictor.hidden_channels or data.length, or raise predictor.patch_size"
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# torch's allocator on the CPU, torch on a GPU, numpy.
WANTED = re.compile(r"[Tt]ried to allocate (\d+ bytes|[\d.]+ [KMGTPE]iB)|Unable to allocate ([\d.]+ [KMGTPE]iB)")
GPU = re.compile(r"GPU \d+ has a total capacity of .+? is free")


def lack_of_memory(name: str, error: BaseException) -> OutOfMemory | None:
    """`error`, met by the step `name`, in words if it is a failed allocation of Python, numpy or torch; None for any other."""
    text = str(error)
    # By their names and texts, for this module knows no torch, whose error on the CPU is a plain RuntimeError.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not named and not any(words in text for words in ("can't allocate memory", "CUDA error: out of memory")):
        return None
    found = WANTED.search(text)
    wanted = next(part for part in found.groups() if part) if found else "more memory"
    if wanted.endswith(" bytes"):
        wanted = human_bytes(int(wanted.removesuffix(" bytes")))
    gpu = GPU.search(text)
    free = min(psutil.virtual_memory().available, machine_bytes())
    there = gpu[0] if gpu else f"{socket.gethostname()} has {human_bytes(machine_bytes())}, {human_bytes(free)} of them free"
    return OutOfMemory(f"step {name}: out of memory: it asked for {wanted} at once, where {there}; {LOWER}")


def require_memory(steps: Iterable[Step]) -> None:
    """Refuse what this machine can never hold.

    Raises:
        OutOfMemory: what the first impossible step needs, and what there is.
    """
    have = machine_bytes()
    for step in steps:
        if step.least_memory > have:
            raise OutOfMemory(
                f"step {step.name}: its network's weights, their gradients and Adam's moments alone take"
                f" {human_bytes(step.least_memory)}, but this machine has {human_bytes(have)}; lower predictor.hidden_channels,"
                " or give --address of a cluster with larger nodes"
            )


def machine_bytes() -> int:
    """What a process of this machine, container and shell can have at most."""
    limits = [psutil.virtual_memory().total]
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
        limits.append(int(CGROUP_LIMIT.read_text()))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min(limits + ([soft] if soft != resource.RLIM_INFINITY else []))
