"""A storage root whose MLflow store is made already (making one takes seconds), servers, and ways to look into MLflow."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from zoocast.tracking.store import connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    connect(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path, monkeypatch, empty_store) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    (root / "steps").mkdir(parents=True)
    shutil.copyfile(empty_store, root / "mlflow.db")
    return root


@pytest.fixture(scope="session")
def png() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (640, 32), 128).save(out, "png")
    return out.getvalue()


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(name="free_port", scope="module")
def free_port_fixture() -> int:
    return a_free_port()


class MlflowServer:
    """`mlflow server` on a port of its own, to be killed and started again; `files` is where it keeps artifacts."""

    def __init__(self, folder: Path, store: str, *options: str, **environment: str) -> None:
        port = a_free_port()
        self.uri, self.folder, self.files, self.log = f"http://127.0.0.1:{port}", folder, folder / "files", folder / "log"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self.command += ["--backend-store-uri", store, "--artifacts-destination", str(self.files), *options]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.environment = {**os.environ, **quiet, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(self.log.read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def launch():
    """Starts an `MlflowServer` for the rest of the module."""
    servers = []

    def start(*options, **environment) -> MlflowServer:
        servers.append(MlflowServer(*options, **environment))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
