"""The `pipelines` command with a root in an object store: from the machine that ran, and from another one."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from zoocast.cluster import preflight, probe
from zoocast.cluster.preflight import Answer
from zoocast.store.address import address, open_root

TOY = "toys.counting"


@pytest.fixture
def at(store, tmp_path, monkeypatch, empty_store):
    """``at(machine)`` works there from now on, with a cache of its own; all machines use one root, whose URL it returns."""

    def move(machine: str) -> str:
        monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path / machine))
        root = open_root(f"{store}/runs").folder
        root.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(empty_store, root / "mlflow.db")
        return f"{store}/runs"

    return move


def test_a_run_is_found_and_read_on_every_machine(at, command, shell, store, tmp_path):
    root = at("one")
    done = shell.run("run", TOY, "--json", "--root", root)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["resume"].endswith(f"run {TOY} --root {store}/runs")
    assert record["report"].startswith(f"{store}/runs/steps/report-")
    assert record["result"]["headline"] == "cube is larger"
    assert str(tmp_path) not in json.dumps([record["steps"], record["resume"], record["ui"]])

    at("two")
    code, out, err = command("plan", TOY, "-S", "powers.cube.exponent=4", "--json", "--root", root)
    assert code == 0, err
    planned = {step["name"]: (step["state"], step["why"]) for step in json.loads(out)["steps"]}
    assert planned == {
        "numbers": ("done", []),
        "square": ("done", []),
        "cube": ("run", ["exponent: 3 -> 4"]),
        "report": ("run", ["input cube: exponent: 3 -> 4"]),
    }
    code, out, err = command("run", TOY, "--root", root)
    assert code == 0, err
    assert "nothing to do: all 4 steps were done before" in err
    assert f"report  {store}/runs/steps/report-" in out

    at("three")
    assert [run["state"] for run in json.loads(command("status", "--json", "--root", root)[1])] == ["done"]
    code, out, err = command("report", TOY, "--root", root)
    assert code == 0, err
    assert "cube is larger" in out
    assert Path(out.splitlines()[-1]).read_text() == "<title>counting</title>"
    assert out.splitlines()[-1].startswith(str(tmp_path / "three"))
    code, _, err = command("cache", "ls", "--root", root)
    assert (code, "`pipelines cache` looks after folders" in err) == (2, True)


def test_the_preflight_asks_every_node_for_the_store(store, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOCAST_CACHE", str(tmp_path))
    bucket = open_root(f"{store}/preflight?region=us-east-1")
    root = bucket.folder
    with preflight._exchange(root) as exchange:
        seen = probe.examine("1", address(exchange.folder), exchange.nonce, None)
        silent = Answer("2", "node-b", 0.0, 0.0, clock=0.0, **{k: v for k, v in seen.items() if k != "clock"})
        echoed = dataclasses.replace(silent, node_id="1", node="node-a")
        assert str(exchange.compare([echoed])) == f"{address(root)} is written and read"
        assert "node-b writes what does not arrive here" in str(exchange.compare([echoed, silent]))
        bucket.objects.write(f"{exchange.folder.name}/driver", "another word")
        assert probe.examine("1", address(exchange.folder), exchange.nonce, None)["storage"] == "reads something else there"
    assert probe.examine("1", address(exchange.folder), "", None)["storage"] == "does not see what this machine writes there"
    assert not bucket.objects.below(exchange.folder.name)
