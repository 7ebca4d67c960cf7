"""Pipelines as graphs of cached steps: a step is data, its key says what it computes, Ray runs what is not there yet.

`plan` reads the storage root and says what would run and why; `run` does it. Importing the package imports neither ray nor torch.
"""

from zoocast.dag.context import Fenced, StepContext
from zoocast.dag.driver import run
from zoocast.dag.events import Event, Finished, Outcome, Planned, Progress, RunResult, Started, StopSignal, Waiting
from zoocast.dag.planning import Plan, PlannedStep, plan, select
from zoocast.dag.records import Record, read_record
from zoocast.dag.step import Kind, Resources, Step, group, ordered, step_kind

__all__ = [
    "Event",
    "Fenced",
    "Finished",
    "Kind",
    "Outcome",
    "Plan",
    "Planned",
    "PlannedStep",
    "Progress",
    "Record",
    "Resources",
    "RunResult",
    "Started",
    "Step",
    "StepContext",
    "StopSignal",
    "Waiting",
    "group",
    "ordered",
    "plan",
    "read_record",
    "run",
    "select",
    "step_kind",
]
