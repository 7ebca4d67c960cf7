"""A cluster of several nodes on this machine that loses one, or its head, under a driver with work on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.cluster import NODE, cluster
from tests.faults.training import contents, made, pipeline
from zoocast.dag.records import final_path

HERE = Path(__file__)
REPOSITORY = HERE.parents[2]
ITERATIONS = 200
pytestmark = pytest.mark.chaos
CLIPS, MODEL = pipeline(ITERATIONS, every=5)


class Driver:
    """`driver_script.py` at work; a context manager that ends it."""

    def __init__(self, root: Path, address: str, iterations: int) -> None:
        path = os.pathsep.join((str(REPOSITORY / "platform"), str(REPOSITORY)))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE.with_name("driver_script.py")), str(root), str(iterations)],
            env=os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_it_trains(self, fraction: float = 0.1) -> None:
        """Returns when some, but not much, of the training is done."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["name"] == "model" and event["fraction"] > fraction:
                assert event["fraction"] < 0.9
                return
        raise AssertionError(f"the driver ended early: {self.process.communicate()[1]}")

    def end(self) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, remaining events, and what was said on stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@contextlib.contextmanager
def driver(root: Path, address: str, iterations: int = ITERATIONS) -> Iterator[Driver]:
    one = Driver(root, address, iterations)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the clips and the model, made without any fault."""
    return made(tmp_path_factory.mktemp("undisturbed"), CLIPS, MODEL)


@contextlib.contextmanager
def its_workers_killed(node: Any) -> Iterator[None]:
    """After the block, which kills a node, kill its workers: else they end by themselves soon, or with their work done."""
    (raylet,) = node.all_processes["raylet"]
    workers = psutil.Process(raylet.process.pid).children(recursive=True)
    yield
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def trained(root: Path) -> dict[str, str]:
    return contents(final_path(root, MODEL))


def with_clips(root: Path, undisturbed: Path) -> Path:
    """A root in which only the training is left to do."""
    shutil.copytree(final_path(undisturbed, CLIPS), final_path(root, CLIPS))
    return root


def test_work_on_a_lost_node_goes_on_elsewhere_to_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    root = with_clips(tmp_path, undisturbed)
    with cluster(head_cpus=0) as ray:
        node = ray.add_node(**NODE)
        with driver(root, ray.address) as one:
            one.until_it_trains()
            with its_workers_killed(node):
                ray.remove_node(node, allow_graceful=False)
            ray.add_node(**NODE)
            code, events, err = one.end()
    assert (code, err) == (0, "")
    assert any("goes on from" in event.get("message", "") for event in events)
    assert trained(root) == trained(undisturbed)


def test_a_head_that_hangs_ends_the_driver_in_words(tmp_path: Path, undisturbed: Path) -> None:
    root = with_clips(tmp_path, undisturbed)
    # So long a training that it is never done before the head is missed: its worker needs no head to go on.
    with cluster(head_cpus=1) as ray, driver(root, ray.address, iterations=100 * ITERATIONS) as one:
        one.until_it_trains(0.001)
        (head,) = ray.head_node.all_processes["gcs_server"]
        head.process.send_signal(signal.SIGSTOP)  # connections to it are still taken, by the kernel
        try:
            code, _, err = one.end()
        finally:
            head.process.send_signal(signal.SIGCONT)
        assert code == 4, err
        assert f"Ray's head at {ray.address} has not answered for 3 s (it takes connections and says nothing for 2 s" in err
    assert not list((root / "locks").glob("*.lock"))


def test_a_lost_head_ends_the_driver_in_words_and_a_new_one_goes_on_to_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    root = with_clips(tmp_path, undisturbed)
    with cluster(head_cpus=1) as ray, driver(root, ray.address) as one:
        one.until_it_trains()
        address = ray.address
        with its_workers_killed(ray.head_node):
            ray.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        code, _, err = one.end()
    assert code == 4, err
    assert f"Ray's head at {address} has not answered for 3 s" in err
    assert "run the same command" in err
    assert not list((root / "locks").glob("*.lock"))
    with driver(root, "local") as again:  # any other Ray will do
        code, events, err = again.end()
    assert (code, err) == (0, "")
    assert {step["name"]: step["state"] for step in events[0]["steps"]} == {"data": "done", "model": "resume"}
    assert trained(root) == trained(undisturbed)
