"""How people get to see it: links into MLflow's page that show a comparison, and the page itself served on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from zoocast.errors import InfrastructureError
from zoocast.tracking.backend import ENVIRONMENT, connect, locate, sqlite_file, store_name
from zoocast.tracking.entries import Compare
from zoocast.tracking.journal import read_entries
from zoocast.tracking.outbox import PIPELINE, outboxes
from zoocast.tracking.server import VALIDATION_ERROR, children, view_key

__all__ = ["Page", "comparison", "comparison_link", "serve_ui", "study_links"]

# MLflow's server imports for seconds on an idle machine, and for many more beside trainings.
START_SECONDS = 90.0


def comparison_link(
    base_url: str, experiment_id: str, run_id: str, *, metric: str = VALIDATION_ERROR, prepared: bool = False
) -> str:
    """MLflow's chart page with the children of the run `run_id`, the lowest `metric` first.

    By itself the page lists parents only, whose charts hold a point each; the search for children fills them.

    Args:
        metric: what the list is ordered by.
        prepared: use the view that the export has prepared, which draws all children where the page's default is ten. How a view
            is written down is not documented, so this is for servers of the MLflow that wrote it.
    """
    # Without the workflow type the page opens in its GenAI mode.
    query = {"workflowType": "machine_learning", "compareRunsMode": "CHART"}
    query |= {"viewStateShareKey": view_key(run_id)} if prepared else children(run_id, metric)
    return (
        f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
    )


def comparison(root: Path, base_url: str, uri: str | None = None, run: str | None = None) -> str | None:
    """The comparison of a pipeline run (default: the latest) that was exported to `uri`; None when nothing was."""
    root = Path(root).absolute()
    store = store_name(root, locate(root, uri))
    for outbox in reversed(outboxes(root)):
        cursor = outbox.cursor(store, PIPELINE)
        if cursor.run_id and run in (None, outbox.run):
            ours = sqlite_file(locate(root, uri)) is not None
            return comparison_link(base_url, cursor.experiment_id, cursor.run_id, prepared=ours)
    return None


def study_links(root: Path, base_url: str, uri: str | None = None, run: str | None = None) -> dict[str, str]:
    """For each step of a pipeline run (default: the latest exported to `uri`) that has parts, their comparison on MLflow's page.

    For a search these are its trials: their curves and, from the searched settings to the best error, parallel coordinates.
    """
    root = Path(root).absolute()
    uri = locate(root, uri)
    store, ours = store_name(root, uri), sqlite_file(uri) is not None
    for outbox in reversed(outboxes(root)):
        if outbox.cursor(store, PIPELINE).run_id and run in (None, outbox.run):
            links = {}
            for stream in outbox.streams:
                cursor, journal = outbox.cursor(store, stream.key), outbox.journal(stream)
                if cursor.run_id and journal and outbox.parts(stream):
                    metrics = [entry.metric for entry in read_entries(journal, Compare)]
                    metric = metrics[-1] if metrics else VALIDATION_ERROR
                    links[stream.name] = comparison_link(
                        base_url, cursor.experiment_id, cursor.run_id, metric=metric, prepared=bool(metrics) and ours
                    )
            return links
    return {}


@dataclasses.dataclass(frozen=True)
class Page:
    """MLflow's page: its address, the link to show, and whether the wanted port was taken by something else."""

    url: str
    link: str
    moved: bool = False
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> None:
        """Block until the server ends by itself; returns at once for a server that is not ours."""
        if self.process is not None:
            self.process.wait()


@contextlib.contextmanager
def serve_ui(
    root: Path, uri: str | None = None, *, host: str = "127.0.0.1", port: int = 5000, run: str | None = None
) -> Iterator[Page]:
    """MLflow's page on the store in force (see `locate`), ready when this yields, gone afterwards.

    A server elsewhere already shows its page; for SQLite one is started, on a free port when `port` is taken. Its output is
    kept in ROOT/mlflow-ui.log.

    Raises:
        InfrastructureError: the server did not start.
    """
    root = Path(root).absolute()
    uri = locate(root, uri)
    file = sqlite_file(uri)
    if file is None:
        yield Page(uri, comparison(root, uri, uri, run) or uri)
        return
    # Makes the tables under the lock; a server's own processes would do so unguarded.
    connect(uri)
    chosen = _free_port(host, port)
    url = f"http://{host}:{chosen}"
    root.mkdir(parents=True, exist_ok=True)
    log = root / "mlflow-ui.log"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(chosen)]
    command += ["--default-artifact-root", (file.parent / "mlartifacts").as_uri(), "--workers", "1"]
    # Job execution would start helper processes that this page never uses.
    environment = {**ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("wb") as out:
        # A session of its own: Ctrl-C must reach us first, and the server's helpers must end with it.
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        _await_answer(url, process, log)
        yield Page(url, comparison(root, url, uri, run) or url, port not in (0, chosen), process)
    finally:
        _end(process)


def _free_port(host: str, wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As servers do, so that a port whose last connections are still in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    raise InfrastructureError(f"no port is free on {host}; give an address of this machine, such as 127.0.0.1")


def _await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise InfrastructureError(f"MLflow's server did not start at {url}: {' | '.join(last) or 'it printed nothing'}; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            if sign == signal.SIGTERM:
                continue  # the group may outlive its leader; the second signal finds nobody, or the rest
