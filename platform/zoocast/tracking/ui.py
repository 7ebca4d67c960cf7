"""How people get to see it: links into MLflow's page that show a comparison, and the page itself served on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from zoocast.errors import ConfigError, InfrastructureError, ZoocastError
from zoocast.store.files import writing
from zoocast.tracking.backend import ENVIRONMENT, connect, locate, sqlite_file, store_name
from zoocast.tracking.entries import Compare
from zoocast.tracking.journal import read_entries
from zoocast.tracking.outbox import PIPELINE, outboxes
from zoocast.tracking.server import VALIDATION_ERROR, children, view_key
from zoocast.tracking.sync import describe

__all__ = ["Page", "comparison", "comparison_link", "serve_ui", "study_links"]

# MLflow's server imports for seconds on an idle machine, and for many more beside trainings.
START_SECONDS = 90.0
# Hosts that stand for every address of this machine, and the one of them that always answers here.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


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
    """MLflow's page: its address, the link to show, and why it is not on the wanted port, if it is not."""

    url: str
    link: str
    moved: str = ""
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
    kept in ROOT/mlflow-ui.log. It answers to `host`, or to all names and addresses of this machine for 0.0.0.0, and to no others,
    so that no page elsewhere can have a browser read it under a name of its own.

    Raises:
        ConfigError: `host` is not known.
        InfrastructureError: the store cannot be opened, or the server did not start.
    """
    root = Path(root).absolute()
    uri = locate(root, uri)
    file = sqlite_file(uri)
    if file is None:
        yield Page(uri, comparison(root, uri, uri, run) or uri)
        return
    try:
        # Makes the tables under the lock; a server's own processes would do so unguarded.
        connect(uri)
    except ZoocastError:
        raise
    except Exception as error:
        raise InfrastructureError(f"cannot open {file}: {describe(error)}") from error
    chosen, moved = _free_port(host, port)
    names = _names(host)
    url = f"http://{names[0]}:{chosen}"
    log = root / "mlflow-ui.log"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(chosen)]
    command += ["--default-artifact-root", (file.parent / "mlartifacts").as_uri(), "--workers", "1"]
    # Job execution would start helper processes that this page never uses.
    environment = {**ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    for variable, scheme in (("MLFLOW_SERVER_ALLOWED_HOSTS", ""), ("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "http://")):
        allowed = [f"{scheme}{name}{end}" for name in [*names, "localhost", "127.0.0.1"] for end in ("", f":{chosen}")]
        environment[variable] = ",".join([*allowed, *filter(None, [os.environ.get(variable)])])
    with writing(log):
        root.mkdir(parents=True, exist_ok=True)
        out = log.open("wb")
    with out:
        # A session of its own: Ctrl-C must reach us first, and the server's helpers must end with it.
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        _await_answer(f"http://{_in_url(EVERYWHERE.get(host, host))}:{chosen}", process, log)
        yield Page(url, comparison(root, url, uri, run) or url, moved, process)
    finally:
        _end(process)


def _free_port(host: str, wanted: int) -> tuple[int, str]:
    """A port on which a server can listen, and why it is not the wanted one, if it is not."""
    try:
        family, *_, address = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(
            "host", f"must be a name or address of this machine, such as 127.0.0.1 or {socket.gethostname()}, but got {host!r}"
        ) from None
    why = ""
    for port in (wanted, 0):
        try:
            with socket.socket(family) as probe:
                # As servers do, so that a port whose last connections are still in TIME_WAIT counts as free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address[0], port, *address[2:]))
                return int(probe.getsockname()[1]), why
        except PermissionError:
            why = f"port {wanted} is not yours to use"
        except OSError as error:
            why = f"port {wanted} is taken" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
    raise InfrastructureError(f"no port is free on {host} ({why}); give an address of this machine, such as 127.0.0.1")


def _names(host: str) -> list[str]:
    """By what a browser may call a server that listens on `host`, as in an URL; the one to show is the first."""
    if host not in EVERYWHERE:
        return [_in_url(host)]
    found = [
        found for each in psutil.net_if_addrs().values() for found in each if found.family in (socket.AF_INET, socket.AF_INET6)
    ]
    named = [name for name in (socket.getfqdn(), socket.gethostname()) if not name.startswith("localhost")]
    shown = [name for name in named if _is_known(name)]
    return [_in_url(name) for name in dict.fromkeys([*shown, *sorted((a.address for a in found), key=_is_loopback), *named])]


def _is_known(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except (OSError, UnicodeError):
        return False


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()  # as browsers send it


def _await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no company's proxy knows this machine
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), direct.open(f"{url}/health", timeout=5) as answer:
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
