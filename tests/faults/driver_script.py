"""A driver of `tests.faults.training` on the Ray at RAY_ADDRESS, in a process of its own.

    python driver_script.py ROOT ITERATIONS

Prints every event as JSON, and ends as the command does: with one line on stderr and the error's exit code.
"""

import json
import sys
from pathlib import Path

from tests.faults.training import pipeline
from zoocast.cluster.connect import connect
from zoocast.dag import run
from zoocast.dag.head import leave
from zoocast.errors import ZoocastError


def main() -> int:
    root, iterations = sys.argv[1:]
    try:
        with connect():
            from zoocast.dag import tasks  # imports ray, whose settings `connect` makes first

            tasks.HEAD_SECONDS = 3.0
            result = run(
                pipeline(int(iterations), every=5),
                Path(root),
                run_id="run",
                on_event=lambda event: print(json.dumps(event.to_json()), flush=True),
            )
    except ZoocastError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return result.exit_code


if __name__ == "__main__":
    leave(main())
