"""Running the `pipelines` command on the toy pipelines beside this file: in this process, or as a user would.

Starting a process costs a second, a Ray of its own four, and making MLflow's tables two: tests that need neither a process nor
another root use `command` and what `finished` has left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from zoocast.cli.app import invoke
from zoocast.tracking.backend import connect

HERE = Path(__file__).parent
REPOSITORY = HERE.parent


def environment() -> dict[str, str]:
    """What a shell would hold that finds the toys and the sources."""
    # A developer's own root, server or cluster must neither be used by tests nor decide how they end.
    users = ("ZOOCAST_ROOT", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    kept = {k: v for k, v in os.environ.items() if k not in users}
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, (HERE, REPOSITORY / "platform", REPOSITORY)))}


class Shell:
    """Starts ``python -m pipelines`` in a folder, with more variables in its environment."""

    def __init__(self, folder: Path, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self.variables = variables

    def start(self, *args: str, flags: tuple[str, ...] = (), stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, *flags, "-m", "pipelines", *args]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**environment(), **self.variables},
            umask=0o022,  # as shells have it: what is to be private must not hang on it
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, flags: tuple[str, ...] = (), timeout: float = 120) -> subprocess.CompletedProcess[str]:
        with self.start(*args, flags=flags) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                # After a timeout, or `with` would wait for the process for ever.
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with nothing in it, to be copied to ROOT/mlflow.db: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    connect(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="session")
def shell_in() -> Callable[[Path, Mapping[str, str]], Shell]:
    """Makes a shell in a folder, with more variables in its environment."""
    return Shell


@pytest.fixture(scope="session")
def finished(shell: Shell) -> subprocess.CompletedProcess[str]:
    """The first run of the toy pipeline in `shell`, with the default root, which later tests fill with other runs."""
    done = shell.run("run", "toys.counting")
    assert done.returncode == 0, done.stderr
    # Before any test adds runs of its own to the default root.
    shutil.copytree(shell.folder / "runs", shell.folder / "finished")
    return done


@pytest.fixture(scope="session")
def finished_root(shell: Shell, finished: subprocess.CompletedProcess[str]) -> Path:  # noqa: ARG001
    """A root with nothing in it but the run `finished`; not to be changed."""
    return shell.folder / "finished"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: Shell
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process, in the shell's folder: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.chdir(shell.folder)
    for name in ("ZOOCAST_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> tuple[int, str, str]:
        code = invoke(args)
        out, err = capsys.readouterr()
        return code, out, err

    return run
