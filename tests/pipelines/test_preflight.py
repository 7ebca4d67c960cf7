"""Bad clusters, refused: two real Ray nodes that ask for a token, one of them with other files under the same paths."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines import probe
from pipelines.catalogue import configure, load
from pipelines.preflight import Answer, access, clock, disk, require_fit, token
from zoocast.cluster import ClusterSummary
from zoocast.dag import Step

REPOSITORY = Path(__file__).parents[2]
TOY = "toys.counting"
ANSWER = Answer("1", "node-a", 100.0, 110.0, {"ray": "2.60.0"}, "c0de", "/lab", "", "", "token", "", 105.0)


# ---------------------------------------------------------------------------------------------------------- one machine alone


@pytest.mark.parametrize(
    ("seconds", "state", "seen"),
    [
        (100.0, "ok", "no clock is off by 2 s or more"),
        (111.5, "ok", "no clock is off by 2 s or more"),  # heard at 110: one and a half ahead
        (113.0, "warn", "the clock of node-b is off by 3.0 s or more"),
        (69.0, "fail", "the clock of node-b is off by 31.0 s or more"),  # asked at 100
    ],
)
def test_a_clock_is_off_by_what_the_way_cannot_explain(seconds: float, state: str, seen: str) -> None:
    finding = clock([ANSWER, dataclasses.replace(ANSWER, node="node-b", clock=seconds)])
    assert finding.state == state
    assert finding.seen.startswith(seen)


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


def test_what_the_steps_will_write_must_have_room(tmp_path: Path) -> None:
    steps = configure(load("zoo-to-target"), "smoke").steps
    data = [step for step in steps if step.name.startswith("data.")]
    assert all(step.estimated_bytes > 0 for step in data)
    exbibyte = dataclasses.replace(data[0], estimated_bytes=2**60)
    assert exbibyte.key == data[0].key
    finding = disk(tmp_path / "runs", [exbibyte])
    assert finding.state == "fail"
    assert "for 1048576.0 TiB of clips and all else, at least 1048577.0 TiB are needed" not in finding.seen
    assert f"free under {tmp_path}/runs for 1048576.0 TiB of clips and all else, at least 1048576.0 TiB are needed" in finding.seen


def test_other_files_are_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copied(tmp_path)
    here = look(REPOSITORY)
    assert look(copy)["code"] == here["code"]
    assert look(copy)["place"] == str(copy / "platform" / "zoocast")
    (copy / "pipelines" / "stages.py").write_text("# changed")
    assert look(copy)["code"] != here["code"]
    assert look(tmp_path)["code"] == "none"


def copied(folder: Path) -> Path:
    """The sources, somewhere else."""
    for name in ("platform", "pipelines", "searchspaces"):
        shutil.copytree(REPOSITORY / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "copy"


def look(tree: Path) -> dict[str, str]:
    """What the probe sees in a process that imports from `tree`, sent there as text."""
    code = (REPOSITORY / "pipelines" / "probe.py").read_text() + "\nimport json; print(json.dumps(_code()))"
    paths = os.pathsep.join([str(tree / "platform"), str(tree)])
    # -S: zoocast may be installed in this environment.
    done = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return dict(zip(("code", "place"), json.loads(done.stdout), strict=True))
