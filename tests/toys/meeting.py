"""Two steps that meet: each goes on when the other has begun and the gate is open. They say where they ran, and on whose code.

left, right -> report
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toys.counting import write_report

import zoocast
from zoocast.config import setting
from zoocast.dag import Step
from zoocast.errors import Interrupted

if TYPE_CHECKING:
    from zoocast.dag import StepContext

SUMMARY = "meet on a cluster"
NAMES = ("left", "right")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeetingConfig:
    """Where to meet."""

    folder: str = setting("", "folder that both see; the file `gate` in it opens the gate")


PRESETS = {"laptop": MeetingConfig}


def steps(config: MeetingConfig) -> tuple[Step, ...]:
    """The graph in the module's docstring."""
    both = {name: Step(name, meet, config, salt=name) for name in NAMES}  # of equal steps only one would run
    return (*both.values(), Step("report", write_report, None, both))


def meet(context: StepContext) -> dict[str, Any]:
    """Wait for the other and for the gate, listening to the wish to stop."""
    import ray

    folder = Path(context.config.folder)
    (folder / context.name).touch()
    while not all((folder / name).exists() for name in ("gate", *NAMES)):
        if context.should_stop():
            raise Interrupted("stopped while waiting")
        time.sleep(0.02)
    return {
        "values": [1],
        "code": [zoocast.__file__, __file__],
        "node": ray.get_runtime_context().get_node_id(),
        "environment": dict(os.environ),
    }
