"""Steps as Ray tasks: submit, collect, kill. The only module of this package that imports ray."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, TaskCancelledError

from zoocast.dag.context import StepContext
from zoocast.dag.head import promptly, silence
from zoocast.dag.memory import LOWER
from zoocast.dag.placement import nodes_of
from zoocast.dag.step import Resources, Step
from zoocast.dag.worker import Report, execute
from zoocast.errors import InfrastructureError, Interrupted, ZoocastError

__all__ = ["Tasks"]

# Ray starts a task again when its process or node dies; the step then goes on from its last checkpoint.
MAX_RETRIES = 2
KILL_SECONDS = 15.0  # for killed processes to end; then the driver ends without knowing what became of them
HEAD_SECONDS = 20.0  # well before Ray ends the driver itself, with exit code 1 and its locks held
ANSWER_SECONDS = 2.0


class Tasks:
    """The Ray tasks of one run, by the names of their steps."""

    def __init__(self) -> None:
        if not ray.is_initialized():  # there was nothing to do when the caller looked
            raise InfrastructureError("results that this run counts on were removed in this moment; run again to make them anew")
        # No runtime environment: Ray then uses worker processes again, and torch is imported once per process, not once per step.
        self._execute = ray.remote(max_retries=MAX_RETRIES)(execute)
        self._running: dict[Any, Step] = {}
        self._head = ray.get_runtime_context().gcs_address
        self._head_seen = time.monotonic()

    def nodes(self) -> list[Resources] | None:
        """What each living node of the cluster has in all; None while its head does not answer. Ask before any call to it.

        Raises:
            InfrastructureError: it has not answered for `HEAD_SECONDS`.
        """
        why = silence(self._head, ANSWER_SECONDS)
        if not why:
            try:
                nodes = nodes_of(promptly(ray.nodes, HEAD_SECONDS))
            except TimeoutError:
                why = "it hangs"
            else:
                self._head_seen = time.monotonic()
                return nodes
        if time.monotonic() - self._head_seen > HEAD_SECONDS:
            raise InfrastructureError(
                f"Ray's head at {self._head} has not answered for {HEAD_SECONDS:g} s ({why}); start the"
                " cluster again, then run the same command to go on from the last checkpoints"
            )
        return None

    def submit(self, step: Step, context: StepContext) -> None:
        options = {"num_cpus": step.resources.num_cpus, "num_gpus": step.resources.num_gpus, "name": step.name}
        self._running[self._execute.options(**options).remote(step.fn, context)] = step

    def collect(self, timeout: float) -> list[tuple[Step, Report | ZoocastError]]:
        """What has finished, after waiting at most `timeout` seconds for the first."""
        if not self._running:
            time.sleep(timeout)
            return []
        refs = list(self._running)
        # Two waits: with all of them asked for, the first one would sleep the whole time though some are ready.
        first, _ = ray.wait(refs, num_returns=1, timeout=timeout)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0) if first else ([], [])
        return [(step, _result(ref, step)) for ref, step in [(ref, self._running.pop(ref)) for ref in ready]]

    def kill(self) -> list[tuple[Step, Report | ZoocastError]]:
        """End all tasks now, and say what became of them."""
        for ref in self._running:
            # By force, which also ends a step that hangs in a library or heeds no wish to stop.
            ray.cancel(ref, force=True)
        refs = list(self._running.items())
        self._running.clear()
        if refs:
            ray.wait([ref for ref, _ in refs], num_returns=len(refs), timeout=KILL_SECONDS)
        return [(step, _result(ref, step)) for ref, step in refs]


def _result(ref: Any, step: Step) -> Report | ZoocastError:
    # No waiting: `ray.wait` has brought it here. The limit is for a task that did not end when it was killed.
    try:
        return ray.get(ref, timeout=0.5)
    except TaskCancelledError:
        return Interrupted(f"step {step.name} was killed")
    except OutOfMemoryError:
        return InfrastructureError(
            f"step {step.name}: its node ran out of memory; let fewer steps run at once by more CPUs for each, or {LOWER}"
        )
    except GetTimeoutError:
        return Interrupted(f"step {step.name} was killed, but has not ended within {KILL_SECONDS:g} s")
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return InfrastructureError(
            f"step {step.name}: its process died {MAX_RETRIES + 1} times ({type(error).__name__}: {lines[0] if lines else ''});"
            " run again to go on from its last checkpoint"
        )
