"""Random kills of driver, workers and nodes until the pipeline ends, and then what must hold all the same.

    python -m tests.faults.chaos --rounds 20 --seed 1

Two Ray nodes on this machine, a head and a node that is killed and replaced, and an MLflow server. Each round begins in an empty
root, gives the same command again until it ends well, and compares what is there with an undisturbed run.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.faults.cluster import NODE, cluster
from zoocast.cli.app import invoke
from zoocast.store.files import sha256_file
from zoocast.tracking.backend import connect
from zoocast.tracking.server import RUN, STEP

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

PIPELINE = "tests.faults.small"
REPOSITORY = Path(__file__).parents[2]
MARK = "ZOOCAST_CHAOS"  # in the environment of every process that is started here, so that none can hide
MOST_KILLS = 5
ROUND_SECONDS = 600.0
# Times and speeds differ between any two runs.
VOLATILE = re.compile(r"seconds|clips_per_second|host|run|started|finished|versions")


@dataclasses.dataclass(frozen=True)
class Round:
    """What happened in one round; `broken` names what should have held."""

    seed: int
    kills: collections.Counter[str]
    attempts: int
    seconds: float
    broken: tuple[str, ...]

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items())) or "nothing"
        end = "ok" if not self.broken else "BROKEN: " + "; ".join(self.broken)
        return f"seed {self.seed}: killed {kills}; {self.attempts} attempts, {self.seconds:.0f} s; {end}"


class Chaos:
    """A cluster, the results of an undisturbed run, and rounds. Made by `chaos`."""

    def __init__(self, ray: Cluster, tracking: str, folder: Path, mark: str) -> None:
        self.ray, self.tracking, self.folder, self.mark = ray, tracking, folder, mark
        self.node = ray.add_node(**NODE)
        root = self._root("undisturbed")
        with self._driver(root) as driver:
            _, err = driver.communicate()
        if driver.returncode != 0:
            raise RuntimeError(f"the undisturbed run failed: {err}")
        self.expected = digests(root)
        told(root, tracking)

    def round(self, seed: int, most_kills: int = MOST_KILLS) -> Round:
        """One pipeline under random kills, two at least; each costs its repair, so the tests ask for few."""
        rng, root, began = random.Random(seed), self._root(f"seed{seed}"), time.monotonic()
        left, kills, attempts = rng.randint(2, most_kills), collections.Counter[str](), 0
        broken: list[str] = []
        while time.monotonic() - began < ROUND_SECONDS:
            attempts += 1
            with self._driver(root) as driver:
                while left and not ended_within(driver, rng.uniform(0.5, 8.0)):
                    if (what := self._kill(rng, driver)) is not None:
                        kills[what] += 1
                        left -= 1
                try:
                    err = driver.communicate(timeout=ROUND_SECONDS)[1]
                except subprocess.TimeoutExpired:
                    broken.append(f"the driver did not end within {ROUND_SECONDS:g} s")
                    break
            if driver.returncode == 0:
                break
            if driver.returncode not in (-signal.SIGKILL, 4):
                broken.append(f"exit code {driver.returncode}: {err[-300:]}")
                break
        broken += self._violations(root)
        if not broken:
            shutil.rmtree(root)
        return Round(seed, kills, attempts, time.monotonic() - began, tuple(broken))

    def _root(self, name: str) -> Path:
        root = self.folder / name
        root.mkdir()
        return root

    @contextlib.contextmanager
    def _driver(self, root: Path) -> Iterator[subprocess.Popen[str]]:
        path = os.pathsep.join((str(REPOSITORY / "platform"), str(REPOSITORY)))
        command = [sys.executable, "-m", "pipelines", "run", PIPELINE, "--root", str(root), "--address", self.ray.address]
        command += ["--tracking-uri", self.tracking]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _kill(self, rng: random.Random, driver: subprocess.Popen[str]) -> str | None:
        """Kill the driver, a worker or the node; what it was, or None when there was none."""
        what = rng.choice(["driver", "worker", "worker", "node"])
        if what == "driver":
            driver.kill()
        elif what == "worker":
            workers = sorted(self._workers(), key=lambda p: p.pid)
            if not workers:
                return None
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
        else:
            self.ray.remove_node(self.node, allow_graceful=False)
            self.node = self.ray.add_node(**NODE)
        return what

    def _processes(self) -> Iterator[psutil.Process]:
        """Every process that was started in this chaos, wherever it hangs by now."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get(MARK) == self.mark:
                    yield process

    def _workers(self) -> list[psutil.Process]:
        """Processes that are at work on a step: not those that Ray keeps for the next one, or for itself.

        Ray Train's PlacementGroupCleaner asks the dashboard whether its controller lives. Without one, as here, it never hears
        that the controller was killed, and stays, on no CPU, until the cluster ends.
        """
        return [p for p in self._processes() if re.match(r"ray::(?!IDLE|_Autoscaling|PlacementGroupCleaner)", _title(p))]

    # ------------------------------------------------------------------------------------------------------------ what must hold

    def _violations(self, root: Path) -> list[str]:
        got = digests(root)
        found = [
            f"{name} differs from the undisturbed run"
            for name in sorted(self.expected.keys() | got.keys())
            if self.expected.get(name) != got.get(name)
        ]
        found += untidy(root) + told(root, self.tracking)
        if (busy := self._still_busy()) is not None:
            found.append(f"a worker still runs: {busy}")
        return found

    def _still_busy(self) -> str | None:
        deadline = time.monotonic() + 30
        while workers := self._workers():
            if time.monotonic() > deadline:
                return _title(workers[0])
            time.sleep(0.2)
        return None


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def ended_within(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it ended; its stderr is small enough for the pipe."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def digests(root: Path) -> dict[str, str]:
    """Of every step: the SHA-256 of its weights, clips, memories and scores, and what its record says, but for times."""
    found = {}
    for folder in (root / "steps").iterdir():
        for path in folder.rglob("*"):
            if path.suffix in (".arrow", ".safetensors") or path.name in ("manifest.json", "predictor.json", "scores.json"):
                found[str(path.relative_to(root))] = sha256_file(path)
        if (folder / "done.json").exists():
            record = json.loads((folder / "done.json").read_text())
            del record["files"], record["digest"]  # journals are among the files
            found[str(folder.relative_to(root))] = json.dumps(steady(record))
    return {name: value for name, value in found.items() if "/checkpoints/" not in name}


def steady(data: Any) -> Any:
    """`data` without what differs between any two runs."""
    return {k: steady(v) for k, v in data.items() if not VOLATILE.fullmatch(k)} if isinstance(data, dict) else data


def untidy(root: Path) -> list[str]:
    """What should not be there once a pipeline has ended and `pipelines cache gc` has removed what kills left."""
    for path in root.rglob(".*"):
        os.utime(path, (1, 1))  # gc leaves alone what is so young that somebody may still be writing it
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = invoke(["cache", "gc", "--yes", "--root", str(root)])
    if code != 0:
        return [f"`pipelines cache gc` ended with exit code {code}"]
    unknown = [p for p in root.rglob("*") if p.name.startswith(".") or p.suffix in (".partial", ".replaced")]
    return [f"{p.relative_to(root)} was left" for p in (*unknown, *root.glob("locks/*.lock"))]


def told(root: Path, tracking: str) -> list[str]:
    """What is wrong with the runs in MLflow: one of every step, finished, is right. Deletes them, for the next round."""
    client = connect(tracking)
    (experiment,) = (e for e in client.search_experiments() if e.name == PIPELINE)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    steps = collections.Counter(run.data.tags.get(STEP, "") for run in runs if RUN in run.data.tags)
    wanted = {folder.name.rpartition("-")[0] for folder in (root / "steps").iterdir()}
    found = [f"MLflow has {steps[name]} runs of {name}" for name in wanted if steps[name] != 1]
    for run in runs:
        client.delete_run(run.info.run_id)
    return found + [f"MLflow says {r.info.status} of {r.info.run_name}" for r in runs if r.info.status != "FINISHED"]


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server, by its address; a cluster of several nodes needs one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()) from error
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextlib.contextmanager
def chaos() -> Iterator[Chaos]:
    """Everything that rounds need. Afterwards no process is left, or it is an error."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        with tempfile.TemporaryDirectory(prefix="chaos") as folder:
            with mlflow_server(Path(folder)) as tracking, cluster(head_cpus=1) as ray:
                it = Chaos(ray, tracking, Path(folder), mark)
                yield it
            _, alive = psutil.wait_procs(list(it._processes()), timeout=30)
            if alive:
                raise RuntimeError(f"processes are left: {', '.join(map(_title, alive))}")
    finally:
        del os.environ[MARK]


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill, too, leaves no process behind
    good = True
    began = time.monotonic()
    with chaos() as it:
        print(f"undisturbed: {len(it.expected)} results, {time.monotonic() - began:.0f} s with the cluster's start", flush=True)
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            result = it.round(seed)
            good = good and not result.broken
            print(result, flush=True)
    print("all rounds ok" if good else "some rounds are broken")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
