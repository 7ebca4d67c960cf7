"""MLflow as a team has it: one server on PostgreSQL behind basic auth, artifacts through the server, many who write at once."""

import contextlib
import http.server
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from zoocast.cli.app import invoke
from zoocast.tracking import Journal, Sync, SyncState
from zoocast.tracking.backend import connect
from zoocast.tracking.ui import comparison, serve_ui

PLATFORM = Path(__file__).parents[3] / "platform"
BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
pytestmark = [
    pytest.mark.skipif(BINARIES is None, reason="needs Debian's postgresql"),
    # Python 3.12 and later warn of forking beside MLflow's idle threads.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

USER, PASSWORD = "ada", "a-canary-of-a-password"
NO_ANSWER = "no server answers there"
EXPERIMENT = "zoo-to-target"
WRITERS = 8
AUTH = """[mlflow]
default_permission = EDIT
database_uri = sqlite:///auth.db
auth_cache_ttl_seconds = 60
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """`mlflow server` on a port of its own, to be killed and started again; `files` is where it keeps artifacts."""

    def __init__(self, folder: Path, store: str, *options: str, **environment: str) -> None:
        port = free_port()
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
        deadline = time.monotonic() + 200
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
def database():
    """A fresh PostgreSQL on loopback with one user and a password; yields its address."""
    assert BINARIES is not None
    # Sockets need short paths, and PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="zoocast-pg-", dir="/tmp"))
    (folder / "password").write_text("loopback")
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    if owner:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        command = [str(BINARIES / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **owner)

    port = free_port()
    run("initdb", "-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync", "--locale=C.UTF-8")
    settings = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", settings)
    yield f"mlflow:loopback@127.0.0.1:{port}/postgres"
    run("pg_ctl", "stop", "-w", "-m", "immediate")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "auth.ini").write_text(AUTH)
    server = MlflowServer(
        folder,
        f"postgresql+psycopg://{database}",
        "--app-name=basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        MLFLOW_AUTH_ADMIN_USERNAME=USER,
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        MLFLOW_FLASK_SERVER_SECRET_KEY="for its own page",
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.fixture
def query(database):
    """Ask the database itself."""
    import psycopg

    def ask(sql: str, *values: object) -> list[tuple]:
        with psycopg.connect(f"postgresql://{database}") as connection:
            return connection.execute(sql, values).fetchall()

    return ask


@pytest.fixture
def rows(query):
    """For each name of the MLflow runs of a pipeline run: the rows of its metrics, and how many different points they are."""
    sql = """select name, count(*), count(distinct (metrics.key, step)) from metrics join runs using (run_uuid)
             join tags using (run_uuid) where tags.key = 'zoocast.run' and tags.value = %s group by name"""
    return lambda run: {name: (count, different) for name, count, different in query(sql, run)}


@pytest.fixture
def pages(query):
    """(name, status) of each MLflow run of a pipeline run that is not in the trash."""
    sql = """select name, status from runs join tags using (run_uuid) where tags.key = 'zoocast.run' and tags.value = %s
             and lifecycle_stage = 'active' order by name, start_time"""
    return lambda run: query(sql, run)


def open_sync(root: Path, run: str, uri: str) -> Sync:
    return Sync(root, run, root / "runs" / run, experiment=EXPERIMENT, uri=uri)


def step(root: Path, name: str, points: int = 0) -> tuple[Path, Journal]:
    directory = root / "steps" / f"{name}-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    journal = Journal(directory / "journal.jsonl")
    for i in range(points):
        journal.metrics({"train/loss": 1 / (i + 1)}, step=i)
    return directory, journal


def add_model(directory: Path, journal: Journal, name: str) -> None:
    (directory / "model").mkdir()
    (directory / "model" / "predictor.safetensors").write_bytes(b"weights")
    journal.model("model", name, alias="current", step=9)


def with_model(root: Path, name: str) -> Path:
    directory, journal = step(root, name, 10)
    add_model(directory, journal, name)
    return directory


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def at_once(work: Callable[..., None], arguments: list[tuple]) -> list[int | None]:
    """Run `work` in a process for each of the arguments; returns exit codes. Forked, since importing MLflow takes seconds."""
    processes = [multiprocessing.get_context("fork").Process(target=work, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]


def test_eight_workers_of_one_run_lose_nothing(root, server, rows):
    """Each has a step of its own, and all of them write into the journal of one more step."""
    worker = (
        "import sys; from pathlib import Path; from zoocast.tracking import Journal\n"
        "root, n = Path(sys.argv[1]), sys.argv[2]\n"
        "own, shared = (Journal(root / 'steps' / f'{s}-{s}' / 'journal.jsonl') for s in (f'worker{n}', 'shared'))\n"
        "for i in range(300): own.metrics({'train/loss': 1 / (i + 1)}, step=i); shared.metrics({f'rank{n}/loss': 1.0}, step=i)\n"
    )
    run = f"{EXPERIMENT}-00000001"
    names = ["shared", *(f"worker{n}" for n in range(WRITERS))]
    sync = open_sync(root, run, server.uri)
    places = {name: step(root, name)[0] for name in names}
    for name in names:
        sync.started(name, name, places[name])
    workers = [
        subprocess.Popen([sys.executable, "-c", worker, str(root), str(n)], env={**os.environ, "PYTHONPATH": str(PLATFORM)})
        for n in range(WRITERS)
    ]
    assert [process.wait(120) for process in workers] == [0] * WRITERS
    for name in names:
        sync.finished(name, name, places[name])
    assert sync.close("finished", timeout=120) == SyncState(0, 0, "")
    assert rows(run) == {f"worker{n}": (300, 300) for n in range(WRITERS)} | {"shared": (300 * WRITERS, 300 * WRITERS)}


def drive(root: Path, uri: str, number: int) -> None:
    """One of several pipeline runs that have a finished step in common."""
    sync = open_sync(root, f"{EXPERIMENT}-1000000{number}", uri)
    sync.finished("common", "common", root / "steps" / "common-common")
    own, _ = step(root, f"driver{number}", 500)
    sync.finished(f"driver{number}", f"driver{number}", own)
    assert sync.close("finished", timeout=200) == SyncState(0, 0, "")


def test_eight_drivers_at_once_lose_nothing_and_register_a_common_model_once(root, server, query, rows):
    with_model(root, "common")
    assert at_once(drive, [(root, server.uri, n) for n in range(WRITERS)]) == [0] * WRITERS
    for n in range(WRITERS):
        assert rows(f"{EXPERIMENT}-1000000{n}") == {"common": (10, 10), f"driver{n}": (500, 500)}
    assert query("select count(*) from model_versions where name = 'common'") == [(1,)]
    assert query("select count(*) from experiments where name = %s", EXPERIMENT) == [(1,)]


def test_a_wrong_password_is_named_and_loses_nothing(root, server, query, rows, pages, monkeypatch):
    run = f"{EXPERIMENT}-20000001"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mistyped-canary")
    sync = open_sync(root, run, server.uri)
    directory, journal = step(root, "source", 100)
    sync.started("source", "source", directory)
    wait_until(lambda: sync.state().problem)
    assert sync.state().problem == (
        "the server does not take the name and password (401); put them into MLFLOW_TRACKING_USERNAME and"
        " MLFLOW_TRACKING_PASSWORD, or into ~/.mlflow/credentials"
    )
    journal.metrics({"train/loss": 0.0}, step=100)  # training goes on
    sync.finished("source", "source", directory)
    assert sync.close("finished").pending > 100
    assert rows(run) == {}

    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(root.parent))
    (root.parent / ".mlflow").mkdir()
    secret = f"[mlflow]\nmlflow_tracking_username = {USER}\nmlflow_tracking_password = {PASSWORD}\n"
    (root.parent / ".mlflow" / "credentials").write_text(secret)
    later = open_sync(root, f"{EXPERIMENT}-20000002", server.uri)  # the next run sends what was left over
    wait_until(lambda: pages(run) == [("source", "FINISHED"), (run, "FINISHED")])
    assert later.close("finished") == SyncState(0, 0, "")
    assert rows(run) == {"source": (101, 101)}
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"train/loss" in written
    assert b"canary" not in written
    assert query("select count(*) from tags where value like '%%canary%%'") == [(0,)]


def test_files_are_uploaded_to_the_server_and_downloaded_from_it(root, server, png, tmp_path):
    run = f"{EXPERIMENT}-30000001"
    sync = open_sync(root, run, server.uri)
    (root / "report.html").write_text("<p>report</p>")
    sync.journal.artifact(root / "report.html")
    directory = with_model(root, "painter")
    Journal(directory / "journal.jsonl").image("strips/val", png, step=0)
    sync.finished("painter", "painter", directory)
    assert sync.close("finished", timeout=60) == SyncState(0, 0, "")

    client = connect(server.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], filter_string=f"tags.`zoocast.run` = '{run}'")
    runs = {each.info.run_name: each.info for each in found}
    assert all(info.artifact_uri.startswith("mlflow-artifacts:/") for info in runs.values())
    assert Path(client.download_artifacts(runs[run].run_id, "report.html", str(tmp_path))).read_text() == "<p>report</p>"
    picture = next(file.path for file in client.list_artifacts(runs["painter"].run_id, "images") if file.path.endswith("png"))
    assert Path(client.download_artifacts(runs["painter"].run_id, picture, str(tmp_path))).read_bytes() == png
    assert client.get_model_version_by_alias("painter", "current").source.startswith("mlflow-artifacts:/")
    # What lies in the server's folder came by its own door.
    names = ("report.html", Path(picture).name, "predictor.safetensors")
    received = [line for line in server.log.read_text().splitlines() if "PUT /api/2.0/mlflow-artifacts/artifacts/" in line]
    for name in names:
        assert list(server.files.rglob(name))
        assert any(requests.utils.quote(name) in line for line in received), f"{name} was not uploaded"

    # The page is the server's own.
    with serve_ui(root, server.uri, run=run) as page:
        assert (page.url, page.link, page.process) == (server.uri, comparison(root, server.uri, server.uri, run), None)
        assert requests.get(page.link, auth=(USER, PASSWORD), timeout=30).status_code == 200
        assert requests.get(page.link, timeout=30).status_code == 401


def test_a_colleague_with_the_same_settings_has_a_page_of_their_own(root, server, pages, monkeypatch, tmp_path):
    """The same pipeline, the same settings, so the same names and keys, in another root; even after doing a step again."""
    run = f"{EXPERIMENT}-40000001"

    def export(root: Path) -> SyncState:
        sync = open_sync(root, run, server.uri)
        sync.finished("source", "source", root / "steps" / "source-source")
        return sync.close("finished", timeout=60)

    with_model(root, "source")
    assert export(root) == SyncState(0, 0, "")
    bob = {"username": "bob", "password": "another-password"}
    made = requests.post(f"{server.uri}/api/2.0/mlflow/users/create", json=bob, auth=(USER, PASSWORD), timeout=30)
    assert made.status_code == 200
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another-password")
    theirs = tmp_path / "theirs"
    for _ in range(2):
        with_model(theirs, "source")
        assert export(theirs) == SyncState(0, 0, "")
        shutil.rmtree(theirs / "steps")
    # Who may edit, but not delete, keeps the step's former run beside the new one; ours is left alone.
    assert pages(run) == [(name, "FINISHED") for name in ("source", "source", "source", run, run)]


def sync_by_command(root: Path, uri: str) -> None:
    sys.exit(invoke(["sync", "--root", str(root), "--tracking-uri", uri]))


@contextlib.contextmanager
def broken_server(port: int):
    """Answers everything with 500, as a server does whose database is gone."""

    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(500)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Broken) as broken:
        thread = threading.Thread(target=broken.serve_forever)
        thread.start()
        yield
        broken.shutdown()
        thread.join()


def test_a_server_that_dies_during_an_export_gets_everything_once_by_sync(root, server, query, rows, pages, png, capsys):
    run, many = f"{EXPERIMENT}-50000001", 6_000
    everything = "select * from metrics order by run_uuid, key, step", "select * from runs order by run_uuid"
    directory, journal = step(root, "source", many)
    sync = open_sync(root, run, server.uri)
    sync.started("source", "source", directory)
    wait_until(lambda: rows(run).get("source", (0,))[0] >= 2000)
    server.kill()
    assert 2000 <= rows(run)["source"][0] < many
    step(root, "source", 500)  # as if gone back to the start, which is a repetition
    journal.image("strips/val", png, step=0)
    add_model(directory, journal, "survivor")
    sync.finished("source", "source", directory)
    state = sync.close("finished", timeout=60)
    assert (state.pending > 502, state.problem) == (True, NO_ANSWER)
    assert invoke(["sync", "--root", str(root), "--tracking-uri", server.uri]) == 4
    assert f"entries wait ({NO_ANSWER})" in capsys.readouterr().err
    with broken_server(int(server.uri.rpartition(":")[2])):
        assert invoke(["sync", "--root", str(root), "--tracking-uri", server.uri]) == 4
    assert f"{state.pending} entries wait (the server answers with errors such as 500" in capsys.readouterr().err

    server.start()
    codes = at_once(sync_by_command, [(root, server.uri)] * 2)
    assert 0 in codes
    assert set(codes) <= {0, 4}  # the second one may have found it in the hands of the first
    assert rows(run) == {"source": (many, many)}
    before = [query(sql) for sql in everything]
    assert invoke(["sync", "--root", str(root), "--tracking-uri", server.uri, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"server": server.uri, "runs": [{"run": run, "pending": 0, "refused": 0, "problem": ""}], "elsewhere": {}}
    assert [query(sql) for sql in everything] == before
    assert pages(run) == [("source", "FINISHED"), (run, "FINISHED")]
    client = connect(server.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (child,) = client.search_runs([experiment.experiment_id], f"tags.`zoocast.run` = '{run}' and tags.`zoocast.step` = 'source'")
    history = client.get_metric_history(child.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(i, 1 / (i + 1)) for i in range(many)]
    assert len(client.list_artifacts(child.info.run_id, "images")) == 2  # the picture and its thumbnail
    version = client.get_model_version_by_alias("survivor", "current")
    assert client.get_logged_model(version.tags["zoocast.model"]).status == "READY"


def die_at_work(root: Path, uri: str, run: str) -> None:
    sync = open_sync(root, run, uri)
    sync.started("source", "source", step(root, "source", 50)[0])
    wait_until(lambda: sync.state().pending == 0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_driver_that_was_killed_leaves_no_run_running_once_it_is_resumed(root, server, rows, pages):
    run = f"{EXPERIMENT}-60000001"
    assert at_once(die_at_work, [(root, server.uri, run)]) == [-signal.SIGKILL]
    assert pages(run) == [("source", "RUNNING"), (run, "RUNNING")]
    sync = open_sync(root, run, server.uri)
    directory, journal = step(root, "source")
    sync.started("source", "source", directory)
    journal.rewind(40)
    for i in range(40, 80):
        journal.metrics({"train/loss": 1 / (i + 1)}, step=i)
    sync.finished("source", "source", directory)
    assert sync.close("finished", timeout=60) == SyncState(0, 0, "")
    assert pages(run) == [("source", "FINISHED"), (run, "FINISHED")]
    assert rows(run) == {"source": (80, 80)}
