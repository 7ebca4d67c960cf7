"""Bad clusters, refused: two real Ray nodes that ask for a token, one of them with other files under the same paths."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from zoocast.cli.catalogue import configure, load
from zoocast.cluster import probe
from zoocast.cluster.preflight import Answer, access, clock, disk, token, versions

REPOSITORY = Path(__file__).parents[3]
TOY = "toys.counting"
ANSWER = Answer("1", "node-a", 100.0, 110.0, {"ray": "2.60.0"}, "c0de", "/lab", "", "", "token", "", 105.0)


# ---------------------------------------------------------------------------------------------------------- one machine alone


@pytest.mark.parametrize(
    ("seconds", "state", "seen"),
    [
        (100.0, "ok", "no clock is off by 2 s or more"),
        (111.5, "ok", "no clock is off by 2 s or more"),  # answered at 110: one and a half ahead
        (113.0, "warn", "the clock of node-b is off by 3.0 s or more"),
        (69.0, "fail", "the clock of node-b is off by 31.0 s or more"),  # asked at 100
    ],
)
def test_a_clock_is_off_by_what_the_time_of_the_answer_cannot_explain(seconds: float, state: str, seen: str) -> None:
    finding = clock([ANSWER, dataclasses.replace(ANSWER, node="node-b", clock=seconds)])
    assert finding.state == state
    assert finding.seen.startswith(seen)


def test_other_versions_are_named_with_their_nodes() -> None:
    assert versions(ANSWER, [ANSWER]).state == "ok"
    others = [dataclasses.replace(ANSWER, node=node, versions={"ray": "2.61.0"}) for node in ("b", "c", "d", "e", "f", "g")]
    finding = versions(ANSWER, [ANSWER, *others])
    assert (finding.state, finding.seen) == ("fail", "ray 2.60.0 here, 2.61.0 on b, c, d, e and 2 more")
    without = versions(ANSWER, [dataclasses.replace(ANSWER, node="b", versions={"torch": "2.13.0"})])  # of an older zoocast
    assert (without.state, without.seen) == ("fail", "ray 2.60.0 here, unknown on b")


def test_a_node_without_a_token_is_a_warning() -> None:
    assert access([ANSWER]).state == "ok"
    finding = access([ANSWER, dataclasses.replace(ANSWER, node="node-b", authentication="disabled")])
    assert (finding.state, finding.seen) == (
        "warn",
        "Ray asks for no token on node-b: whoever reaches its ports can run anything there",
    )


def test_a_token_that_others_can_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "auth_token"
    file.write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    file.chmod(0o644)
    finding = token([dataclasses.replace(ANSWER, open_token=probe.open_token_file())])
    assert (finding.state, finding.remedy) == ("warn", f"chmod 600 {file}")
    file.chmod(0o600)
    assert token([dataclasses.replace(ANSWER, open_token=probe.open_token_file())]).state == "ok"


def test_a_disk_without_room_for_what_the_steps_write_fails(tmp_path: Path) -> None:
    steps = configure(load("zoo-to-target"), "smoke").steps
    data = [step for step in steps if step.name.startswith("data.")]
    assert all(step.estimated_bytes > 0 for step in data)
    exbibyte = dataclasses.replace(data[0], estimated_bytes=2**60)
    assert exbibyte.key == data[0].key
    finding = disk(tmp_path / "runs", [exbibyte])
    assert finding.state == "fail"
    assert (
        f"free under {tmp_path}/runs for 1048576.0 TiB of clips and all else, at least 1048576.0 TiB are needed" in finding.seen
    )


def test_the_probes_digest_changes_with_a_source_file_and_not_with_its_folder(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    here = probed(REPOSITORY)
    assert probed(copy)["code"] == here["code"]
    assert probed(copy)["place"] == str(copy / "platform" / "zoocast")
    (copy / "pipelines" / "zoo_to_target.py").write_text("# changed")
    assert probed(copy)["code"] != here["code"]
    assert probed(tmp_path)["code"] == "none"


def copied(folder: Path) -> Path:
    """The sources, somewhere else."""
    for name in ("platform", "pipelines", "searchspaces"):
        shutil.copytree(REPOSITORY / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "copy"


def probed(tree: Path) -> dict[str, str]:
    """What the probe sees in a process that imports from `tree`, sent there as text."""
    code = (
        REPOSITORY / "platform" / "zoocast" / "cluster" / "probe.py"
    ).read_text() + "\nimport json; print(json.dumps(_code()))"
    paths = os.pathsep.join([str(tree / "platform"), str(tree)])
    # Neither what is installed here nor what lies in this folder.
    alone = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(alone, env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return dict(zip(("code", "place"), json.loads(done.stdout), strict=True))


# ---------------------------------------------------------------------------------------------------------- a cluster of two


@pytest.fixture(scope="module")
def cluster(shell):
    """The address of two nodes that ask for a token. node-b works in another folder, and has changed sources of its own."""
    folder = Path(tempfile.mkdtemp(prefix="zc", dir="/tmp"))
    (folder / "token").touch(0o600)
    (folder / "token").write_text("a-canary-of-a-token")
    changed = copied(folder)
    with (changed / "pipelines" / "zoo_to_target.py").open("a") as file:
        file.write("# changed\n")
    address = f"127.0.0.1:{free_port()}"
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secret.items():
            patch.setenv(name, value)
        with (
            node("node-a", head, shell.folder, REPOSITORY),
            node("node-b", [f"--address={address}"], folder, changed),
        ):
            yield address
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def node(name: str, args: list[str], folder: Path, tree: Path) -> Iterator[None]:
    """`ray start --block` with `tree` as the sources that its workers import."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *args, "--block", f"--node-name={name}", "--num-cpus=1"]
    command += ["--object-store-memory=80000000", "--disable-usage-stats"]
    paths = os.pathsep.join([str(tree / "platform"), str(tree), str(REPOSITORY / "tests")])
    environment = os.environ | {"PYTHONPATH": paths}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **output) as process:
        try:
            printed = ""
            while "--block" not in printed:  # the last thing that it prints
                line = process.stdout.readline()
                assert line, printed
                printed += line
            yield
        finally:
            process.terminate()


def doctor(shell, address: str, *args: str) -> dict[str, dict[str, str]]:
    """The findings by the names of their checks."""
    done = shell.run("doctor", "--json", "--address", address, *args)
    assert done.returncode in (0, 4), done.stderr
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_two_sound_nodes_pass_every_check(cluster, shell, tmp_path):
    with listening() as port:
        findings = doctor(shell, cluster, TOY, "--root", str(tmp_path / "shared"), "--tracking-uri", f"http://127.0.0.1:{port}")
    checks = ("resources", "nodes", "versions", "code", "storage", "tracking", "clock", "access", "token")
    assert {check: findings[check]["state"] for check in checks} == dict.fromkeys(checks, "ok")
    assert "node-a, node-b" in findings["nodes"]["seen"]
    assert not (tmp_path / "shared").exists()  # nothing is left behind


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """The port of a server that knows no MLflow, but is there."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


class Silent(http.server.BaseHTTPRequestHandler):
    """Answers 501 to everything, and writes nothing on the terminal."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_run_is_refused_with_everything_that_is_in_its_way(cluster, shell):
    """The root is another folder on node-b, a step is too large, and the store is SQLite."""
    root = "/proc/self/cwd/apart"  # every process sees its own working directory there
    done = shell.run("run", TOY, "-S", "powers.cube.cpus=3", "--address", cluster, "--root", root)
    assert (done.returncode, done.stdout) == (4, "")
    error = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert error[0] == "error: 3 things keep this run from starting"
    assert error[1] == (
        "  step cube asks for 3 CPUs, but the cluster's largest nodes have: 1 CPU; 1 CPU;"
        " ask for fewer CPUs, GPUs or workers, or give --address of a larger cluster"
    )
    assert error[2] == (
        f"  {root} is not the same everywhere: node-b does not see what this machine writes there;"
        " give a folder that all nodes share (--root /mnt/...), or an object store (--root s3://BUCKET/FOLDER)"
    )
    assert error[3].startswith(
        f"  {root}/mlflow.db is a SQLite store, which is for one machine, and the cluster has 2 nodes; start"
    )
    assert os.listdir(shell.folder / "apart") == ["runs"]  # the record of the refusal, and nothing else


def test_a_dead_tracking_server_is_a_warning_and_the_work_is_done(cluster, shell, tmp_path):
    server = ("--tracking-uri", f"http://127.0.0.1:{free_port()}")
    done = shell.run("run", TOY, "--preset", "smoke", "--only", "numbers", "--address", cluster, "--root", str(tmp_path), *server)
    assert done.returncode == 0, done.stderr
    assert f"warning: {server[1]} is not reached from this machine (Connection refused), node-a (Connection" in done.stderr
    assert "a-canary-of-a-token" not in done.stderr + "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()
    )


def test_a_node_with_other_sources_is_refused(cluster, shell, tmp_path, monkeypatch):
    # In a job that brings a folder without zoocast every node imports what it has; else the driver says from where.
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "study.py").touch()
    sent = {"runtime_env": {"working_dir": str(tmp_path / "sent")}, "metadata": {}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(sent))
    code = doctor(shell, cluster, "--root", str(tmp_path))["code"]
    assert code["state"] == "fail"
    assert code["seen"].startswith("zoocast's source files differ: ")
    assert "node-a" not in code["seen"]
    assert "on node-b (" in code["seen"]


@pytest.mark.parametrize("setting", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"])
def test_a_missing_or_wrong_token_is_an_error_at_once(cluster, shell, tmp_path, monkeypatch, setting):
    (tmp_path / "other").touch(0o600)
    (tmp_path / "other").write_text("another-token")
    monkeypatch.setenv(setting, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}[setting])
    done = shell.run("run", TOY, "--address", cluster, "--root", str(tmp_path))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1] == (
        f"error: Ray at {cluster} asks for a token and did not get the right one; set RAY_AUTH_MODE=token, and put the cluster's"
        " token into ~/.ray/auth_token, or into a file named by RAY_AUTH_TOKEN_PATH"
    )


def test_a_node_that_does_not_answer_is_named(cluster, shell, tmp_path):
    (raylet,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() == "raylet" and "--node-name=node-b" in " ".join(process.cmdline())
    ]
    impatient = (
        "import sys; from zoocast.cluster import preflight; from zoocast.cli.app import invoke\n"
        "preflight.ANSWER_SECONDS = 3.0; sys.exit(invoke(sys.argv[3:]))"  # after `-m pipelines`
    )
    raylet.suspend()
    try:
        done = shell.run("doctor", "--json", "--address", cluster, "--root", str(tmp_path), flags=("-c", impatient))
    finally:
        raylet.resume()
    (finding,) = [finding for finding in json.loads(done.stdout) if finding["check"] == "nodes"]
    assert finding["state"] == "fail"
    assert finding["seen"] == "no answer from node-b (no answer in 3 s)"
