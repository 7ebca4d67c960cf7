"""How long a process that trains takes to import what it needs, beside another checkout: torch first, then zoocast.training.

    python benchmarks/imports.py BASELINE [--pairs 8] [--module zoocast.training]

BASELINE is a checkout of the commit to compare with, for example made by `git worktree add ../base COMMIT`. Both are timed in
turns, each time in a new process, so that what else the machine does meets both alike; the first pair fills the disk's cache and
does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
HEAVY = ("matplotlib", "scipy", "skimage", "sklearn", "optuna", "mlflow", "ray")
CODE = """
import sys, time
import torch
begin = time.perf_counter()
import {module}
print(time.perf_counter() - begin, *(name for name in {heavy} if name in sys.modules))
"""


def measure(checkout: Path, module: str) -> tuple[float, list[str]]:
    """Seconds that `module` of `checkout` takes to import after torch, and which heavy packages it brought along."""
    environment = {**os.environ, "PYTHONPATH": f"{checkout / 'platform'}:{checkout}"}
    code = CODE.format(module=module, heavy=HEAVY)
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    seconds, *brought = ran.stdout.split()
    return float(seconds), brought


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--module", default="zoocast.training")
    args = parser.parse_args()
    checkouts = {"baseline": args.baseline.absolute(), "here": HERE}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for pair in range(args.pairs + 1):
        for name, checkout in checkouts.items():
            taken, brought = measure(checkout, args.module)
            if pair:
                seconds[name].append(taken)
            else:
                print(f"{name}: {checkout} imports {', '.join(brought) or 'none of ' + ', '.join(HEAVY)}")
    for name, taken in seconds.items():
        print(f"{name}: median {statistics.median(taken):.3f} s, {min(taken):.3f} to {max(taken):.3f} s in {len(taken)} imports")
    ratios = sorted(a / b for a, b in zip(seconds["baseline"], seconds["here"], strict=True))
    print(f"baseline / here, pair by pair: median {statistics.median(ratios):.1f}, {ratios[0]:.1f} to {ratios[-1]:.1f}")


if __name__ == "__main__":
    main()
