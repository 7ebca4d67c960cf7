"""Clips and a small training as steps, for whatever kills who works on them, and the digests by which results are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoocast.dag import Step, StepContext
from zoocast.dag.context import begin_attempt
from zoocast.dag.records import Record, final_path, partial_path, publish_step
from zoocast.dag.worker import execute
from zoocast.data import DigitsConfig
from zoocast.data.store import ClipStore
from zoocast.errors import ZoocastError
from zoocast.experiment.stages import BuildClipsConfig, build_clips
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.store.address import open_root
from zoocast.store.files import sha256_file, writing
from zoocast.store.locks import Locks
from zoocast.training import PredictionObjective, Surroundings, TrainingConfig, fit

RESULTS = ("*.arrow", "manifest.json", "predictor.*")


def train(context: StepContext) -> dict[str, Any]:
    """A plain training in this process."""
    store = ClipStore.open(context.inputs["data"])
    network = PredictorConfig(hidden_channels=(4,))
    result = fit(
        lambda: PredictionObjective(Predictor(network, store.shape), 0.0),
        store.split("train"),
        store.split("validation"),
        observed=3,
        config=context.config,
        surroundings=Surroundings.of_step(context),
    )
    return {"val_mse": result.val_mse}


def pipeline(iterations: int, every: int) -> tuple[Step, Step]:
    """Clips, and a training on them that validates and saves a checkpoint every so many iterations."""
    data = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=4, validation=2, test=2)
    clips = Step("data", build_clips, BuildClipsConfig(data=data))
    training = TrainingConfig(iterations=iterations, batch_size=2, validate_every=every, checkpoint_every=every, num_strips=1)
    return clips, Step("model", train, training, {"data": clips})


def attempt(root: Path, step: Step) -> ZoocastError | None:
    """What the driver and its worker do to bring `step` to a result, here in one process. Returns the error that ended it."""
    for folder in ("steps", "locks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    try:
        with Locks("run") as locks, writing(root):
            lock = root / "locks" / f"{step.folder}.lock"
            assert locks.acquire(lock) is None
            partial = partial_path(root, step)
            partial.mkdir(exist_ok=True)
            token = begin_attempt(partial, "run")
            inputs = {name: final_path(root, parent) for name, parent in step.inputs.items()}
            context = StepContext(
                name=step.name,
                key=step.key,
                config=step.config,
                directory=partial,
                inputs=inputs,
                results={},
                resources=step.resources,
                root=open_root(root),
                run_id="run",
                token=token,
            )
            report = execute(step.fn, context)
            if report.error is not None:
                return report.error
            record = Record.of(
                step, report.result, started=report.started, finished=report.finished, host="", run="run", files=report.files
            )
            publish_step(root, step, record)
    except ZoocastError as error:
        return error
    return None


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below `folder` that is a result: clips, memories, weights."""
    return {str(p.relative_to(folder)): sha256_file(p) for pattern in RESULTS for p in sorted(folder.rglob(pattern))}


def made(root: Path, *steps: Step) -> Path:
    """`root`, with the results of `steps` made there without any fault."""
    for step in steps:
        assert attempt(root, step) is None
    return root
