"""Training in Ray Train worker groups: one function on every worker, restarted by Ray when a worker dies."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from zoocast.config import dump, load
from zoocast.dag import Fenced, StepContext
from zoocast.dag.worker import readable
from zoocast.errors import (
    ConfigError,
    DataError,
    InfrastructureError,
    IntegrityError,
    Interrupted,
    OutOfMemory,
    StepFailed,
    ZoocastError,
    last_line,
)
from zoocast.store.files import keep_private, parse_json, write_atomically
from zoocast.training.config import Worker, WorkerConfig, use_threads
from zoocast.training.result import Trained

__all__ = ["in_train_workers"]


def in_train_workers(context: StepContext, where: WorkerConfig, train: Callable[[StepContext, Worker], Trained]) -> Trained:
    """Run `train` in a Ray Train worker group and give the result of its first worker.

    The step's own folder holds the checkpoints, so a worker group that Ray restarts continues from the newest one; Ray Train's
    run gets a name of its own for each attempt, because Ray resumes silently by name.

    Args:
        context: the step.
        where: workers and their resources.
        train: a module-level function, or a partial one; called on each worker.

    Raises:
        ZoocastError: what `train` raised, or `InfrastructureError` when workers kept dying.
    """
    # Here, for importing Ray Train takes seconds, which a command that plans or a notebook should not pay.
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    outcome = _outcome(context)
    for old in context.directory.glob("outcome-*.json"):
        old.unlink()
    context.push()  # workers on other machines begin with what is pushed
    per_worker = {"CPU": float(where.cpus_per_worker)}
    if where.gpus_per_worker:
        per_worker["GPU"] = where.gpus_per_worker
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"context": context, "where": where, "train": train},
        scaling_config=ScalingConfig(
            num_workers=where.num_workers, use_gpu=where.gpus_per_worker > 0, resources_per_worker=per_worker
        ),
        torch_config=TorchConfig(backend="nccl" if where.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            # Ray Train goes on from a run of the same name, even a finished one, and then trains nothing.
            name=f"{context.name}-{context.key}-{context.token[:8]}",
            storage_path=str(context.directory / "ray"),
            # By default controller_failure_limit is infinite, and a run waits for ever for resources that never come.
            failure_config=FailureConfig(max_failures=where.max_failures, controller_failure_limit=where.max_failures),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        context.pull()
        _raise_outcome(outcome)  # a worker's own error says more than Ray's, which is that workers died
        raise InfrastructureError(
            f"the workers of {context.name} failed {where.max_failures + 1} times; last: {last_line(error)}"
        ) from error
    finally:
        # Ray Train's records of the run; all that the training keeps lies beside them.
        shutil.rmtree(context.directory / "ray", ignore_errors=True)
    context.pull()
    _raise_outcome(outcome)
    result = load(Trained, parse_json(outcome.read_text())["result"])
    outcome.unlink()
    return result


# By name, so that the driver can raise what a worker has met and nothing is unpickled.
_RAISED: dict[str, type[Exception]] = {
    e.__name__: e
    for e in (
        ConfigError,
        Fenced,
        DataError,
        OutOfMemory,
        InfrastructureError,
        IntegrityError,
        Interrupted,
        StepFailed,
        ZoocastError,
    )
}


def _train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker. What it raises is written down and ends the run: starting again would only meet it again.

    A process that was killed raises nothing, and Ray starts the group again.
    """
    from ray import train as ray_train

    context, where = config["context"].localize(), config["where"]
    outcome = _outcome(context)
    # The others die in their next all-reduce when one ends by an error, so Ray starts the group again: the error stands.
    if (remaining := _read_outcome(outcome)) is not None and "error" in remaining:
        return
    keep_private()
    use_threads(where.cpus_per_worker)
    ray_context = ray_train.get_context()
    device = str(ray_train.torch.get_device()) if where.gpus_per_worker else "cpu"
    worker = Worker(ray_context.get_world_rank(), ray_context.get_world_size(), device)
    try:
        result = config["train"](context, worker)
    except (Exception, SystemExit) as raised:
        error = readable(context, raised, getattr(config["train"], "func", config["train"]).__module__.partition(".")[0])
        # A RuntimeError is also what the others meet when one of several workers dies, and what comes of a GPU that falters.
        may_pass = isinstance(raised, RuntimeError) and (worker.world > 1 or "CUDA error" in str(raised))
        if may_pass and not isinstance(error, OutOfMemory):
            raise
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _RAISED)
        told = {"error": name, "args": error.args, "traceback": traceback.format_exc()}
        write_atomically(outcome, json.dumps(told))
        with contextlib.suppress(InfrastructureError):  # a store that does not answer must not take the error's place
            context.push()
        return
    # By file, for Ray Train keeps no metrics of a report without a checkpoint.
    if worker.rank == 0:
        write_atomically(outcome, json.dumps({"result": dump(result)}))
        context.push()
    # Every worker has to report, for Ray Train waits for all of them. Once: each further report takes two seconds.
    ray_train.report(dataclasses.asdict(result))


def _outcome(context: StepContext) -> Path:
    """Of this attempt alone: the workers of an earlier one may live on for a while, and have a last word."""
    return context.directory / f"outcome-{context.token[:8]}.json"


def _read_outcome(path: Path) -> dict[str, Any] | None:
    return cast(dict[str, Any], parse_json(path.read_text())) if path.exists() else None


def _raise_outcome(path: Path) -> None:
    outcome = _read_outcome(path)
    if outcome is not None and "error" in outcome:
        error = _RAISED[outcome["error"]](*outcome["args"])
        error.add_note(outcome["traceback"])
        raise error
