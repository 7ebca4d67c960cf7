"""The `pipelines` command with a root in an object store: from the machine that ran, and from another one."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from zoocast.cluster import preflight, probe
from zoocast.cluster.preflight import Answer
from zoocast.store.address import address, open_root

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
    cache = on("three", "cache", "ls")
    assert (cache.returncode, "`pipelines cache` looks after folders" in cache.stderr) == (2, True)


def test_the_preflight_asks_every_node_for_the_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path))
    bucket = open_root(f"{store}/preflight?region=us-east-1")
    root = bucket.folder
    with preflight._exchange(root) as exchange:
        seen = probe.look("1", address(exchange.folder), exchange.word, None)
        silent = Answer("2", "node-b", 0.0, 0.0, clock=0.0, **{k: v for k, v in seen.items() if k != "clock"})
        heard = dataclasses.replace(silent, node_id="1", node="node-a")
        assert str(exchange.compare([heard])) == f"{address(root)} is written and read"
        assert "node-b writes what does not arrive here" in str(exchange.compare([heard, silent]))
        bucket.objects.write(f"{exchange.folder.name}/driver", "another word")
        assert probe.look("1", address(exchange.folder), exchange.word, None)["storage"] == "reads something else there"
    assert probe.look("1", address(exchange.folder), "", None)["storage"] == "does not see what this machine writes there"
    assert not bucket.objects.below(exchange.folder.name)
