"""A storage root whose MLflow store is made already (making one takes seconds), and ways to look into MLflow."""

import io
import shutil
import socket
from pathlib import Path

import pytest


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


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
