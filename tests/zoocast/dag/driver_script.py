"""A driver in a process of its own, so that tests can kill it: one slow step that listens or not, and one step after it.

    python driver_script.py ROOT RUN_ID SECONDS listens|deaf

Prints every event as JSON, and ends with the run's exit code.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from zoocast.cluster.connect import connect
from zoocast.dag import Event, Step, StepContext, StopSignal, run
from zoocast.errors import Interrupted


def slow(context: StepContext) -> dict[str, Any]:
    """Count tenths of a second in a checkpoint; go on from the last one."""
    with (context.directory / "attempts").open("a") as file:
        file.write("x")
    checkpoint = context.directory / "checkpoint"
    begin = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for i in range(begin, int(context.config["seconds"] * 10)):
        time.sleep(0.1)
        context.check_fence()
        checkpoint.write_text(str(i + 1))
        context.progress((i + 1) / (context.config["seconds"] * 10), f"{i + 1} tenths")
        if context.config["listens"] and context.should_stop():
            raise Interrupted("stopped at a checkpoint")
    return {"attempts": len((context.directory / "attempts").read_text()), "from": begin}


def after(context: StepContext) -> dict[str, Any]:
    return context.results["slow"]


def pipeline(seconds: float, listens: bool) -> Step:
    return Step("after", after, inputs={"slow": Step("slow", slow, {"seconds": seconds, "listens": listens})})


def main() -> int:
    root, run_id, seconds, listens = sys.argv[1:]

    def report(event: Event) -> None:
        print(json.dumps(event.to_json()), flush=True)

    stop = StopSignal()
    with connect(num_cpus=1), stop.on_signals():
        result = run([pipeline(float(seconds), listens == "listens")], Path(root), run_id=run_id, on_event=report, stop=stop)
    print(json.dumps({"event": "end", "results": {n: dict(o.result) for n, o in result.outcomes.items()}}), flush=True)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
