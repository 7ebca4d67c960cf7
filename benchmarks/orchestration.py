"""How much of a finished run was neither training nor searching nor building banks.

    python benchmarks/orchestration.py runs/runs/RUN/run.json

Training loops, bank building and searches are taken as the intervals that end with their step and are as long as they themselves
measured; what none of them covers is orchestration: start of Ray and of Train's workers, data, evaluation, the report, MLflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def covered(intervals: list[tuple[float, float]]) -> float:
    """Seconds in the union of the intervals."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def main(path: Path) -> None:
    """Print the shares of one run."""
    run = json.loads(path.read_text())
    busy = []
    for step in run["steps"]:
        if step["state"] != "done":
            continue
        done = json.loads((Path(step["directory"]) / "done.json").read_text())
        if "seconds" in done["result"]:
            busy.append((done["finished"] - done["result"]["seconds"], done["finished"]))
        elif step["name"].startswith("bank.") or step["name"] == "search":
            busy.append((done["started"], done["finished"]))
    if run["finished"] is None or not busy:
        sys.exit(f"{path}: give the record of a finished run that trained something")
    wall, work = run["finished"] - run["started"], covered(busy)
    print(f"whole run {wall:.1f} s, training and banks {work:.1f} s, orchestration {wall - work:.1f} s: {1 - work / wall:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
