"""Which MLflow store to use, and how to enter it: a server by URL, or SQLite under the storage root.

A SQLite store is entered under a file lock: several processes that make its tables at once ruin it for good (measured with MLflow
3.17), and so would several that mend it. MLflow is imported late, nowhere at module level: it takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoocast.errors import ConfigError, InfrastructureError
from zoocast.store.files import writing
from zoocast.store.locks import exclusive
from zoocast.tracking import sqlite
from zoocast.words import redacted

__all__ = ["CREDENTIALS", "artifact_location", "connect", "locate", "relocate", "sqlite_file", "store_name"]

# A call that fails must fail soon, since the journal keeps everything and `Sync` comes again: MLflow's own seven retries would
# hold a call for 246 s. What the user has set stands.
ENVIRONMENT = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

# MLflow's client reads them there by itself.
TOKEN = "MLFLOW_TRACKING_TOKEN"
CREDENTIALS = "put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or into ~/.mlflow/credentials"


def locate(root: Path, uri: str | None = None) -> str:
    """The tracking URI in force: `uri`, else MLFLOW_TRACKING_URI, else SQLite at ROOT/mlflow.db.

    It holds no secret: MLflow repeats it in messages, records keep it, and other users of the machine see it in the list of
    processes.

    Raises:
        ConfigError: it is neither ``http(s)://SERVER`` nor ``sqlite:///FILE``, or holds a name, password or query.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(root).absolute() / 'mlflow.db'}"
    plain = redacted(chosen)  # this form alone is shown in messages
    is_server = chosen.lower().startswith(("http://", "https://"))
    if is_server and plain != chosen:
        raise ConfigError(
            "tracking_uri", f"must hold no name or password and no query, only {plain}; {CREDENTIALS}, a token into {TOKEN}"
        )
    with contextlib.suppress(ValueError):  # a port above 65535, or brackets that are not closed
        parts = urllib.parse.urlsplit(chosen)
        if is_server and parts.hostname and (parts.port is None or parts.port > 0):
            return chosen.rstrip("/")
    if chosen.startswith("sqlite:///") and len(chosen) > len("sqlite:///"):
        return f"sqlite:///{sqlite_file(chosen)}"
    raise ConfigError("tracking_uri", f"must be http://SERVER, https://SERVER or sqlite:///FILE, but got {plain!r}")


def sqlite_file(uri: str) -> Path | None:
    """The absolute file of a SQLite URI; None for a server."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def store_name(root: Path, uri: str) -> str:
    """A folder name for what was exported to `uri`, which `locate` gave. ROOT's own store keeps its name when ROOT moves."""
    # By its place relative to the root, or every cursor would be lost, and all exported again, when a root is moved.
    if sqlite_file(uri) == Path(root).absolute() / "mlflow.db":
        return "local"
    # The label is for people; the digest keeps two stores with equal labels apart.
    label = re.sub(r"[^A-Za-z0-9.]+", "-", urllib.parse.urlsplit(uri).netloc or "sqlite").strip("-")
    return f"{label}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite store, as an absolute URI; for a server None, it knows itself."""
    file = sqlite_file(uri)
    return (file.parent / sqlite.ARTIFACTS / experiment).as_uri() if file else None


def connect(uri: str) -> Any:
    """An `MlflowClient` of the store, which exists afterwards. Sets MLflow's environment before its import."""
    for name, value in ENVIRONMENT.items():
        # MLflow reads some of them at its import, so afterwards would be too late.
        os.environ.setdefault(name, value)
    # MLflow 3.17 on SQLAlchemy 2.1; where warnings are errors this one would leave MLflow's tables unusable.
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
    from mlflow.tracking import MlflowClient

    file = sqlite_file(uri)
    if file is None:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    with _entered(file):
        sqlite.prepare(file)
        try:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        except Exception as error:
            if "database schema" not in str(error) and "locate revision" not in str(error):
                raise
            raise InfrastructureError(
                f"{file} is of another version of MLflow; `mlflow db upgrade {uri}` brings it up to this one, or move it away:"
                " a new one is made, and `pipelines sync` delivers all again"
            ) from None


def relocate(root: Path, uri: str | None = None) -> None:
    """Have a SQLite store that was moved or copied with its root name its files by where they are now; see `sqlite.relocate`.

    `connect` does it by itself; this is for those who do not enter the store, and imports no MLflow.

    Raises:
        InfrastructureError: the store is damaged, or cannot be written.
    """
    file = sqlite_file(locate(root, uri))
    if file is not None and file.exists():
        with _entered(file):
            sqlite.relocate(file)


@contextlib.contextmanager
def _entered(file: Path) -> Iterator[None]:
    with writing(file), exclusive(file.with_name(f"{file.name}.lock")):
        yield
