"""A root as a run leaves it: clips, an arm of two seeds, its evaluation, and the record of the run; nothing is trained."""

import dataclasses
import time

import pytest
import torch

from zoocast.cli.runs import RunRecord
from zoocast.dag import Record, Step, StepContext
from zoocast.data import DigitsConfig
from zoocast.experiment import Arm, Target
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.nn.tmu import TmuConfig
from zoocast.store.files import list_files
from zoocast.training import TrainingConfig
from zoocast.transfer import TargetConfig, train_target

DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=8, validation=2, test=3)
NETWORK = PredictorConfig(hidden_channels=(4, 4), tmu=TmuConfig(layers="first"), num_sources=2)
RUN = "study-0123abcd"


def finish(root, step: Step, work):
    """Do `work` in the folder of `step`, and make it a result."""
    folder = root / "steps" / step.folder
    inputs = {name: root / "steps" / parent.folder for name, parent in step.inputs.items()}
    result = work(StepContext.standalone(folder, step.config, inputs, name=step.name))
    files, now = list_files(folder), time.time()
    Record.of(step, result or {}, started=now, finished=now, host="here", run=RUN, files=files).write(folder)
    return folder


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The root; see the module."""
    root = tmp_path_factory.mktemp("trained")
    target = Target(config=TargetConfig(data=DATA, predictor=PredictorConfig(hidden_channels=(4, 4))), observed=3)

    def train(seed):
        config = target.from_scratch("tmu", dataclasses.replace(TrainingConfig(), seed=seed))
        return target.train(f"target.tmu.seed{seed}", train_target, config)

    def trained(context):
        torch.manual_seed(context.config.training.seed)
        save_predictor(Predictor(NETWORK, DATA.frame_shape()), context.directory / "model")

    arm = Arm("tmu", [train(0), train(1)])
    evaluation = target.evaluate(arm)
    steps = [target.data, *arm.seeds, evaluation]
    folders = [finish(root, target.data, lambda c: dataclasses.asdict(c.config.data.build(c.directory, c.progress).shape))]
    folders += [finish(root, step, trained) for step in arm.seeds]
    folders.append(finish(root, evaluation, lambda c: {"means": dict(evaluation.fn(c).means)}))
    record = RunRecord(RUN, "study", "smoke", [], None, [], "", "", 1.0, finished=2.0, exit_code=0)
    record.steps = [{"name": s.name, "directory": str(f), "state": "done"} for s, f in zip(steps, folders, strict=True)]
    record.write(root)
    return root
