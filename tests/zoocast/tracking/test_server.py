"""A real MLflow server that dies in the middle of a run and comes back, and its page in a real browser."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from zoocast.errors import InfrastructureError
from zoocast.tracking import Delivered, Delivery, Journal, deliver_pending
from zoocast.tracking.store import connect
from zoocast.tracking.views import comparison, comparison_link, serve_ui

RUN = "zoo-to-target-0123abcd"


class MlflowServer:
    """`mlflow server` on a port of its own, to be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.uri = folder, f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self.command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail((self.folder / "log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path, empty_store, free_port):
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    server = MlflowServer(folder, free_port)
    server.start()
    yield server
    server.kill()


def work(root: Path, key: str, png: bytes, steps: range) -> tuple[Path, Journal]:
    directory = root / "steps" / f"target-{key}"
    directory.mkdir(exist_ok=True)
    journal = Journal(directory / "journal.jsonl")
    for i in steps:
        journal.metrics({"train/loss": 1 / (i + 1), "val/mse": 1 / (i + 1)}, step=i)
    journal.image("strips/val", png, step=steps[-1])
    return directory, journal


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


def test_a_server_that_dies_then_answers_500_and_comes_back_has_everything_once(root, server, free_port, png):
    delivery = Delivery(root, RUN, root / "runs" / RUN, experiment="zoo-to-target", uri=server.uri)
    directory, journal = work(root, "aaa", png, range(100))
    delivery.started("target-aaa", "aaa", directory)
    deadline = time.monotonic() + 60
    while delivery.state().pending and time.monotonic() < deadline:
        time.sleep(0.05)
    assert delivery.state() == Delivered(0, 0, "")
    server.kill()
    work(root, "aaa", png, range(80, 1500))
    (directory / "model").mkdir()
    (directory / "model" / "predictor.safetensors").write_bytes(b"weights")
    journal.model("model", "target-aaa", alias="current")
    delivery.finished("target-aaa", "aaa", directory)
    state = delivery.close("finished", timeout=20)
    # 1420 metrics, an image and a model of the step; its status, and the parent's
    assert state == Delivered(1420 + 2 + 2, 0, "no server answers there")

    with broken_server(free_port):
        broken = deliver_pending(root, server.uri)
    assert (broken.pending, broken.refused) == (state.pending, 0)
    assert "500" in broken.problem

    server.start()
    second = Delivery(root, "zoo-to-target-00000002", root / "runs" / "2", experiment="zoo-to-target", uri=server.uri)
    deadline = time.monotonic() + 60
    while deliver_pending(root, server.uri).pending and time.monotonic() < deadline:
        time.sleep(0.2)
    assert second.close("finished", timeout=60).pending == 0

    client = connect(server.uri)
    experiment = client.get_experiment_by_name("zoo-to-target")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {RUN, "target-aaa", "zoo-to-target-00000002"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    child = runs["target-aaa"]
    history = client.get_metric_history(child.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(i, 1 / (i + 1)) for i in range(1500)]
    assert len(client.list_artifacts(child.info.run_id, "images")) == 4  # two pictures and their thumbnails
    version = client.get_model_version_by_alias("target-aaa", "current")
    assert client.get_logged_model(version.tags["zoocast.model"]).status == "READY"
    assert comparison(root, server.uri, server.uri, RUN) == comparison_link(
        server.uri, experiment.experiment_id, runs[RUN].info.run_id
    )


def test_the_link_searches_for_children_and_names_its_mode():
    link = comparison_link("http://127.0.0.1:5000/", "3", "c0ffee")
    assert link == (
        "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&compareRunsMode=CHART"
        "&searchFilter=tags.mlflow.parentRunId%20%3D%20%27c0ffee%27&orderByKey=metrics.%60val%2Fmse%60&orderByAsc=true"
    )
    assert "orderByKey=metrics.%60trial%2Fbest_error%60" in comparison_link("http://h", "3", "c0ffee", metric="trial/best_error")
    prepared = comparison_link("http://127.0.0.1:5000", "3", "c0ffee", prepared=True)
    assert prepared.endswith("?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=zoocast-c0ffee")


def test_a_server_elsewhere_is_linked_and_none_is_started(root):
    with serve_ui(root, "http://me:secret@lab.example/mlflow") as page:
        assert (page.url, page.link, page.process) == ("http://lab.example/mlflow", "http://lab.example/mlflow", None)


def test_a_page_that_cannot_be_served_says_why(root):
    with pytest.raises(InfrastructureError, match=r"no port is free on 203\.0\.113\.1"), serve_ui(root, host="203.0.113.1"):
        pytest.fail("that address is nobody's")


@pytest.mark.browser
@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs Debian's chromium")
def test_the_page_shows_the_comparison_filled(root, png, tmp_path, free_port):
    from playwright.sync_api import expect, sync_playwright

    delivery = Delivery(root, RUN, root / "runs" / RUN, experiment="zoo-to-target")
    arms = [f"arm{i:02}" for i in range(12)]  # more than the ten that MLflow draws by itself
    for i, arm in enumerate(arms):
        directory, journal = work(root, arm, png, range(20))
        journal.metrics({"test/strict_mse": 40.0 - i}, step=0)
        delivery.finished(f"target-{arm}", arm, directory)
    assert delivery.close("finished", timeout=60).pending == 0

    with socket.create_server(("127.0.0.1", free_port)), serve_ui(root, port=free_port) as page:
        assert page.moved
        assert not page.url.endswith(f":{free_port}")
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        quiet += ["--disable-component-update", "--disable-sync"]
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                tmp_path / "profile",
                executable_path="/usr/bin/chromium",
                headless=True,
                args=quiet,
                viewport={"width": 1600, "height": 2400},
            )
            window = context.new_page()
            window.goto(page.link)
            for chart in ("strips/val", "test/strict_mse", "train/loss", "val/mse"):
                expect(window.get_by_text(chart, exact=True).first).to_be_visible(timeout=30_000)
            expect(window.get_by_text("12 matching runs")).to_be_visible(timeout=30_000)
            expect(window.locator(".js-plotly-plot .barlayer .point")).to_have_count(12, timeout=30_000)
            expect(window.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
            context.close()
        process = page.process
    assert process is not None
    assert process.poll() is not None
