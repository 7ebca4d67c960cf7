"""What orchestration costs as pipelines grow: steps that only wait, on several Ray nodes of this machine.

    python benchmarks/scale.py [--nodes 4] [--steps 1 10 100 1000] [--sources 64]

Each pipeline is run by the real command in a process of its own, with its record, its journal and an MLflow server. Overhead is
the run's seconds beyond the waiting itself, if every place of the cluster were always in use. The module is a pipeline as well:

    pipelines run benchmarks.scale -S num_steps=100
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.cluster.connect import ENVIRONMENT
from zoocast.config import setting
from zoocast.dag import Resources, Step

if TYPE_CHECKING:
    from zoocast.dag import StepContext

SUMMARY = "steps that only wait, to measure what the rest costs"

CPUS_PER_NODE = 1.0
CPUS_PER_STEP = 0.5  # places that only wait need no core of their own
REPOSITORY = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """How many steps wait for how long."""

    num_steps: int = setting(100, "steps that need each other's results in no way")
    num_sources: int = setting(0, "instead: a zoo, data -> sources -> rank -> bank -> target")
    seconds: float = setting(0.5, "how long each of them waits")


def laptop() -> ScaleConfig:
    """A hundred steps of half a second."""
    return ScaleConfig()


PRESETS = {"laptop": laptop}


def steps(config: ScaleConfig) -> tuple[Step, ...]:
    """`num_steps` steps and a last one that needs them all, or the graph of a zoo."""
    held = Resources(CPUS_PER_STEP)
    if not config.num_sources:
        waits = {
            f"wait.{i}": Step(f"wait.{i}", wait, config.seconds, salt=str(i), resources=held) for i in range(config.num_steps)
        }
        return (Step("report", report, None, waits, resources=held),)
    data = Step("data", wait, config.seconds, resources=held)
    sources = {
        f"source.{i}": Step(f"source.{i}", wait, config.seconds, {"data": data}, salt=str(i), resources=held)
        for i in range(config.num_sources)
    }
    rank = Step("rank", wait, config.seconds, sources, resources=held)
    bank = Step("bank", wait, config.seconds, {"data": data, **sources}, resources=held)
    target = Step("target", wait, config.seconds, {"rank": rank, "bank": bank}, resources=held)
    return (Step("report", report, None, {"target": target}, resources=held),)


def wait(context: StepContext) -> dict[str, Any]:
    """Wait, as a step waits for a GPU."""
    time.sleep(context.config)
    return {}


def report(context: StepContext) -> dict[str, Any]:
    """What the command expects of a last step."""
    result = {"columns": ["waited"], "rows": [[len(context.inputs)]], "notes": [], "headline": "all have waited"}
    (context.directory / "result.json").write_text(json.dumps(result))
    (context.directory / "table.md").write_text("| waited |\n")
    (context.directory / "report.html").write_text("<title>scale</title>")
    return {}


# ------------------------------------------------------------------------------------------------------------------- measuring


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of the command: wall seconds, of which the steps' own places were in use, and the driver's peak memory in bytes."""

    steps: int
    wall: float
    waiting: float
    memory: int

    def __str__(self) -> str:
        overhead = self.wall - self.waiting
        return (
            f"{self.steps:>6} steps  {self.wall:8.1f} s  of which waiting {self.waiting:7.1f} s  overhead {overhead:7.1f} s,"
            f" {1000 * overhead / self.steps:7.1f} ms a step  driver {self.memory / 2**20:5.0f} MiB"
        )


def measure(address: str, tracking: str, places: int, config: ScaleConfig, root: Path) -> Measured:
    """Run the pipeline anew under `root`."""
    shutil.rmtree(root, ignore_errors=True)
    overrides = [f"{field.name}={getattr(config, field.name)}" for field in dataclasses.fields(config)]
    command = [sys.executable, "-m", "pipelines", "run", "benchmarks.scale", "--address", address, "--tracking-uri", tracking]
    started = time.perf_counter()
    with (root.parent / f"{root.name}.log").open("w") as log:
        driver = subprocess.Popen(
            [*command, "--root", str(root), "-S", *overrides], cwd=REPOSITORY, env=environment(), stdout=log, stderr=log
        )
        _, status, usage = os.wait4(driver.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit((root.parent / f"{root.name}.log").read_text())
    if config.num_sources:
        rounds, count = 3 + math.ceil(config.num_sources / places), config.num_sources + 5
    else:
        rounds, count = math.ceil(config.num_steps / places), config.num_steps + 1
    return Measured(count, wall, rounds * config.seconds, usage.ru_maxrss * 1024)


def environment() -> dict[str, str]:
    return os.environ | ENVIRONMENT | {"PYTHONPATH": f"{REPOSITORY / 'platform'}{os.pathsep}{REPOSITORY}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--sources", type=int, nargs="*", default=[64])
    parser.add_argument("--seconds", type=float, default=0.5)
    asked = parser.parse_args()
    os.environ.update(environment())  # Ray's processes read it when they start
    from ray.cluster_utils import Cluster

    from zoocast.tracking.ui import serve_ui

    places = asked.nodes * int(CPUS_PER_NODE / CPUS_PER_STEP)
    configs = [ScaleConfig(num_steps=n, seconds=asked.seconds) for n in asked.steps]
    configs += [ScaleConfig(num_sources=n, seconds=asked.seconds) for n in asked.sources]
    with tempfile.TemporaryDirectory(prefix="scale") as folder, serve_ui(Path(folder), port=0) as page:
        cluster = Cluster()
        try:
            for _ in range(asked.nodes):
                cluster.add_node(num_cpus=CPUS_PER_NODE, object_store_memory=100 * 2**20, include_dashboard=False)
            measure(cluster.address, page.url, places, ScaleConfig(num_steps=places), Path(folder, "warm"))
            print(f"{asked.nodes} nodes, {places} places, every step waits {asked.seconds:g} s", flush=True)
            for config in configs:
                what = f"{config.num_sources} sources:" if config.num_sources else "independent:"
                print(f"{what:<13}{measure(cluster.address, page.url, places, config, Path(folder, 'runs'))}", flush=True)
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
