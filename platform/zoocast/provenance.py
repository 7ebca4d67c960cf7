"""Which code made a result (the git commit, or the package's version, and whether files differ), how it was called, by whom."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

__all__ = ["SENT_COMMIT", "GitState", "changed_files", "git_state", "program", "user_name"]

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
        sent = os.environ.get(SENT_COMMIT) or _version()
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


def _version() -> str:
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


def user_name() -> str:
    """Who runs this process, for people; the number of a user without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run under ids without a name
        return str(os.getuid())
