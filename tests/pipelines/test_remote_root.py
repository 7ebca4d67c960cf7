"""The `pipelines` command with a root in an object store: from the machine that ran, and from another one."""

import json
import subprocess

import pytest

TOY = "toys.counting"


@pytest.fixture
def on(shell, store, tmp_path, monkeypatch):
    """``on(machine, *args)`` runs the command with that machine's cache; all of them use one root."""

    def run(machine: str, *args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        return shell.run(*args, "--root", f"{store}/runs")

    return run


def test_a_run_can_be_watched_read_and_gone_on_with_from_any_machine(on, store, tmp_path):
    failed = on("one", "run", TOY, "-S", "powers.cube.fault=data", "--json")
    assert failed.returncode == 2, failed.stderr
    record = json.loads(failed.stdout)
    assert record["resume"].endswith(f"run {TOY} -S powers.cube.fault=data --root {store}/runs")
    assert {step["name"]: step["state"] for step in record["steps"]}["cube"] == "failed"
    assert str(tmp_path) not in json.dumps([record["steps"], record["resume"], record["ui"]])

    plan = on("two", "plan", TOY, "--json")
    assert plan.returncode == 0, plan.stderr
    assert {step["name"]: step["state"] for step in json.loads(plan.stdout)["steps"]} == {
        "numbers": "done",
        "square": "done",
        "cube": "run",
        "report": "run",
    }
    done = on("two", "run", TOY)
    assert done.returncode == 0, done.stderr
    assert f"report  {store}/runs/steps/report-" in done.stdout

    status = json.loads(on("three", "status", "--json").stdout)
    assert {run["exit_code"] for run in status} == {0, 2}
    report = on("three", "report", TOY)
    assert report.returncode == 0, report.stderr
    assert "cube is larger" in report.stdout
    page = report.stdout.splitlines()[-1]
    assert page.startswith(str(tmp_path / "three"))
    assert page.endswith("report.html")

    again = on("two", "run", TOY)
    assert again.returncode == 0
    assert "nothing to do: all 4 steps were done before" in again.stderr
