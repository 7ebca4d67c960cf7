"""What a process that trains loads: nothing that draws, nothing that scores."""

import json
import subprocess
import sys

import pytest

from zoocast.cluster.connect import connect
from zoocast.dag import Resources, StepContext
from zoocast.data.store import ClipStore
from zoocast.nn.predictor import Predictor
from zoocast.training import PredictionObjective, Surroundings, TrainingConfig, WorkerConfig, fit, in_train_workers

HEAVY = ("matplotlib", "mlflow", "optuna", "scipy", "skimage", "sklearn")
"""The list: what no process that trains loads. Together they take seconds to import, in every worker."""

TRAINERS = ("zoocast.training", "zoocast.transfer", "zoocast.seemore.train", "zoocast.zoo")


def loaded():
    return sorted(set(HEAVY) & {name.partition(".")[0] for name in sys.modules})


@pytest.mark.parametrize("module", TRAINERS)
def test_what_trains_imports_nothing_that_draws_or_scores(module):
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(json.loads(ran.stdout))
    assert found & set(HEAVY) == set()
    assert {"torch", "zoocast"} <= found


def _train(context, worker):
    """A whole training, with validations, checkpoints and pictures; then what its process has loaded, in a file."""
    clips, network = context.config
    store = ClipStore.open(clips)
    config = TrainingConfig(iterations=2, batch_size=4, validate_every=1, checkpoint_every=1)
    trained = fit(
        lambda: PredictionObjective(Predictor(network, store.shape), 0.0),
        store.split("train"),
        store.split("validation"),
        observed=3,
        config=config,
        worker=worker,
        surroundings=Surroundings(directory=context.directory, journal=Surroundings.of_step(context).journal),
    )
    (context.directory / f"loaded-{worker.rank}.json").write_text(json.dumps(loaded()))
    return trained


def test_a_worker_has_loaded_none_of_it_after_a_whole_training(tmp_path, clips, predictor_config):
    import ray.cloudpickle

    # Workers cannot import a test module under the name that pytest gave it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    context = StepContext.standalone(tmp_path, (str(clips), predictor_config), resources=Resources(0))
    with connect("local", num_cpus=1):
        trained = in_train_workers(context, WorkerConfig(), _train)
    assert trained.iterations == 2
    assert list((tmp_path / "images").glob("val-strip-*.png"))
    assert json.loads((tmp_path / "loaded-0.json").read_text()) == []
