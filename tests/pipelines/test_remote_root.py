"""The `pipelines` command with a root in an object store: from the machine that ran, and from another one."""

import json
import subprocess
from pathlib import Path

import pytest

TOY = "toys.counting"


@pytest.fixture
def on(shell, store, tmp_path, monkeypatch):
    """``on(machine, *args)`` runs the command with that machine's cache; all of them use one root."""

    def run(machine: str, *args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        return shell.run(*args, "--root", f"{store}/runs")

    return run


def test_a_run_is_found_and_read_on_every_machine(on, store, tmp_path):
    done = on("one", "run", TOY, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["resume"].endswith(f"run {TOY} --root {store}/runs")
    assert record["report"].startswith(f"{store}/runs/steps/report-")
    assert record["result"]["headline"] == "cube is larger"
    assert str(tmp_path) not in json.dumps([record["steps"], record["resume"], record["ui"]])

    plan = on("two", "plan", TOY, "-S", "powers.cube.exponent=4", "--json")
    assert plan.returncode == 0, plan.stderr
    planned = {step["name"]: (step["state"], step["why"]) for step in json.loads(plan.stdout)["steps"]}
    assert planned == {
        "numbers": ("done", []),
        "square": ("done", []),
        "cube": ("run", ["exponent: 3 -> 4"]),
        "report": ("run", ["input cube: exponent: 3 -> 4"]),
    }
    again = on("two", "run", TOY)
    assert again.returncode == 0, again.stderr
    assert "nothing to do: all 4 steps were done before" in again.stderr
    assert f"report  {store}/runs/steps/report-" in again.stdout

    assert [run["state"] for run in json.loads(on("three", "status", "--json").stdout)] == ["done"]
    report = on("three", "report", TOY)
    assert report.returncode == 0, report.stderr
    assert "cube is larger" in report.stdout
    assert Path(report.stdout.splitlines()[-1]).read_text() == "<title>counting</title>"
    assert report.stdout.splitlines()[-1].startswith(str(tmp_path / "three"))
