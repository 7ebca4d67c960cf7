"""Links into MLflow's page, and the page itself, served here and opened in a real browser; a team's server: test_team.py."""

import socket
from pathlib import Path

import pytest

from zoocast.errors import ConfigError, InfrastructureError
from zoocast.tracking import Journal, Sync
from zoocast.tracking.ui import _free_port, _is_known, _names, comparison_link, serve_ui

RUN = "zoo-to-target-0123abcd"


def work(root: Path, key: str, png: bytes, steps: range) -> tuple[Path, Journal]:
    directory = root / "steps" / f"target-{key}"
    directory.mkdir(exist_ok=True)
    journal = Journal(directory / "journal.jsonl")
    for i in steps:
        journal.metrics({"train/loss": 1 / (i + 1), "val/mse": 1 / (i + 1)}, step=i)
    journal.image("strips/val", png, step=steps[-1])
    return directory, journal


def test_the_comparisons_link_searches_for_the_runs_children():
    link = comparison_link("http://127.0.0.1:5000/", "3", "c0ffee")
    assert link == (
        "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&compareRunsMode=CHART"
        "&searchFilter=tags.mlflow.parentRunId%20%3D%20%27c0ffee%27&orderByKey=metrics.%60val%2Fmse%60&orderByAsc=true"
    )
    assert "orderByKey=metrics.%60trial%2Fbest_error%60" in comparison_link("http://h", "3", "c0ffee", metric="trial/best_error")
    prepared = comparison_link("http://127.0.0.1:5000", "3", "c0ffee", prepared=True)
    assert prepared.endswith("?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=zoocast-c0ffee")


def test_the_page_of_a_server_elsewhere_is_linked_and_none_is_started(root):
    with serve_ui(root, "http://lab.example/mlflow") as page:
        assert (page.url, page.link, page.process) == ("http://lab.example/mlflow", "http://lab.example/mlflow", None)


def test_an_address_of_another_machine_is_an_error_when_serving(root):
    with pytest.raises(InfrastructureError, match=r"no port is free on 203\.0\.113\.1"), serve_ui(root, host="203.0.113.1"):
        pytest.fail("that address is nobody's")
    with pytest.raises(ConfigError, match=r"host: must be a name or address of this machine.*'nowhere\.invalid'"):
        serve_ui(root, host="nowhere.invalid").__enter__()


def test_a_page_for_everybody_answers_to_the_names_of_this_machine_and_to_no_others():
    names = _names("0.0.0.0")
    assert {socket.gethostname().lower(), "127.0.0.1"} <= set(names)
    assert _is_known(names[0].strip("[]"))  # the one that is shown
    assert _names("Lab.example") == ["lab.example"]  # as browsers send it
    assert _names("::1") == ["[::1]"]


def test_a_port_that_is_taken_is_replaced_and_the_reason_told(free_port):
    assert _free_port("127.0.0.1", free_port) == (free_port, "")
    with socket.create_server(("127.0.0.1", free_port)):
        other, why = _free_port("127.0.0.1", free_port)
    assert other != free_port
    assert why == f"port {free_port} is taken"


def test_a_store_that_cannot_be_opened_is_no_fault_of_zoocast(root):
    (root / "mlflow.db").write_bytes((root / "mlflow.db").read_bytes()[:4096] + bytes(8192))
    with pytest.raises(InfrastructureError, match=r"damaged|cannot"):
        serve_ui(root).__enter__()


@pytest.mark.browser
@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs Debian's chromium")
def test_mlflows_page_shows_the_charts_of_all_arms_in_a_browser(root, png, tmp_path, free_port):
    from playwright.sync_api import expect, sync_playwright

    sync = Sync(root, RUN, root / "runs" / RUN, experiment="zoo-to-target")
    arms = [f"arm{i:02}" for i in range(12)]  # more than the ten that MLflow draws by itself
    for i, arm in enumerate(arms):
        directory, journal = work(root, arm, png, range(20))
        journal.metrics({"test/strict_mse": 40.0 - i}, step=0)
        sync.finished(f"target-{arm}", arm, directory)
    assert sync.close("finished", timeout=60).pending == 0

    host = socket.gethostname() if _is_known(socket.gethostname()) else "127.0.0.1"  # the page's own calls are to be let in
    with socket.create_server((host, free_port)), serve_ui(root, host=host, port=free_port) as page:
        assert page.moved == f"port {free_port} is taken"
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
            expect(window.locator("img[src*=artifact]").first).to_be_visible(timeout=30_000)  # and no slider was moved
            expect(window.get_by_text("12 matching runs")).to_be_visible(timeout=30_000)
            expect(window.locator(".js-plotly-plot .barlayer .point")).to_have_count(12, timeout=30_000)
            expect(window.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
            context.close()
        process = page.process
    assert process is not None
    assert process.poll() is not None
