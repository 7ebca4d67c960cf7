"""Which code made a result (the git commit, or the package's version, and whether files differ), how it was called, by whom.

And on what: the last bits of a result hang on the processor's instructions, the number of threads and the libraries.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

__all__ = ["SENT_COMMIT", "GitState", "changed_files", "differences", "git_state", "machine", "program", "user_name"]

SENT_COMMIT = "ZOOCAST_COMMIT"  # the environment's word for code that was sent without its repository; with "+" when dirty


class GitState(TypedDict):
    """`commit` is 40 hex digits, or ``zoocast VERSION`` outside of a repository; `dirty`: files differ from the commit."""

    commit: str
    dirty: bool


def git_state(path: Path | None = None) -> GitState:
    """The state of the repository that tracks `path` (default: this package), in some milliseconds.

    A repository that merely surrounds `path`, as one does that ignores the virtual environment inside it, does not count.
    """
    folder = Path(path) if path is not None else Path(__file__).parent.parent
    folder = folder if folder.is_dir() else folder.parent
    commit = _git(folder, "rev-parse", "HEAD")
    # git answers for any folder below a repository; only where it tracks our files is its commit that of our code.
    if commit is None or not _git(folder, "ls-files", "--", "."):
        sent = os.environ.get(SENT_COMMIT) or package_version()
        return {"commit": sent.removesuffix("+"), "dirty": sent.endswith("+")}
    # `:/` is the whole repository: what an experiment does may also be changed by a file beside this package.
    return {"commit": commit, "dirty": _git(folder, "status", "--porcelain", "--", ":/") != ""}


def changed_files(folder: Path) -> frozenset[Path]:
    """The files under `folder` that differ from the repository's commit or are not in it; none outside of a repository."""
    changed = _git(folder, "diff", "--name-only", "--relative", "-z", "HEAD") or ""
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "-z") or ""
    return frozenset(folder / name for name in f"{changed}\0{new}".split("\0") if name)


def _git(folder: Path, *arguments: str) -> str | None:
    # `git status` would refresh the index under its lock, and a commit that the user makes at this moment would fail.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        out = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.strip() if out.returncode == 0 else None


def package_version() -> str:
    """``zoocast VERSION``, or ``unknown`` for a folder of sources that is not installed."""
    try:
        return f"zoocast {importlib.metadata.version('zoocast')}"
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def program() -> list[str]:
    """How this command was called, in words that can be typed again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":  # by `python -m pipelines`, as every job of a cluster is
        return [sys.executable if shutil.which("python") != sys.executable else "python", "-m", "pipelines"]
    found = shutil.which(called.name)  # the bare name, unless that would start another installation's command
    if found is not None and Path(found).resolve() == called.resolve():
        return [called.name]
    with contextlib.suppress(ValueError):
        return [str(called.resolve().relative_to(Path.cwd()))]
    return [str(called)]


# What chooses among the ways in which oneDNN, MKL and torch add up a convolution (oneDNN: "CPU dispatcher control").
NUMERIC_SETTINGS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_CPU_ISA_HINTS"),
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
)
INSTRUCTIONS = re.compile(r"sse4_[12]|avx\w*|fma|f16c|amx_\w+|asimd\w*|sve\w*|i8mm|bf16")
"""Of the processor's features those by which these libraries choose."""


def machine() -> dict[str, str]:
    """What the last bits of this process's results hang on beside code and settings; never part of what a step is.

    ``processor``, ``instructions`` and ``settings`` (environment variables, if any is set); ``threads`` and ``onednn`` once torch
    is there, and ``gpu`` once one is used.
    """
    model, features = _processor()
    set_here = [f"{name}={os.environ[name]}" for name in NUMERIC_SETTINGS if os.environ.get(name)]
    found = {"processor": model, "instructions": features, "settings": " ".join(set_here)}
    # Not imported for this: the driver does without it.
    if (torch := sys.modules.get("torch")) is not None:
        found["threads"] = str(torch.get_num_threads())
        built = re.search(r"(?:MKL-DNN|oneDNN) (v\S+)", torch.__config__.show())
        found["onednn"] = built[1] if built else ""
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_initialized() else ""
    return {name: value for name, value in found.items() if value}


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """How a result was computed `there` and would not be `here`, as ends of "computed ..."; none if nothing is known of it."""
    out = []
    if there and there.get("processor") != here.get("processor"):
        out.append(f"on another processor, {there.get('processor')}, here {here.get('processor')}")
    # Two processors of one model can still offer different instructions, as virtual machines do.
    then, now = (set(machine.get("instructions", "").split()) for machine in (there, here))
    for verb, more in (("with", then - now), ("without", now - then)):
        if there and more:
            out.append(f"{verb} the instructions {' '.join(sorted(more))}")
    if there and there.get("settings") != here.get("settings"):
        out.append(f"with {there.get('settings', 'no numeric settings')}, here with {here.get('settings', 'none')}")
    return out


@functools.cache
def _processor() -> tuple[str, str]:
    """The model, and the features that matter, in order."""
    described: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            described.setdefault(name.strip(), value.strip())
    features = (described.get("flags") or described.get("Features") or "").split()
    model = described.get("model name") or platform.processor() or platform.machine()
    return model, " ".join(sorted(f for f in features if INSTRUCTIONS.fullmatch(f)))


def user_name() -> str:
    """Who runs this process, for people; the number of a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under ids without a name
        return str(os.getuid())
