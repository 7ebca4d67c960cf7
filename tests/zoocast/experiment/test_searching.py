"""A search of any training step, here of a target with transfer units, by Ray Tune on a real local Ray."""

import dataclasses

import pytest
import torch

from searchspaces.target import WEIGHT
from zoocast.cluster.connect import connect
from zoocast.config import dump, load
from zoocast.dag import Resources, ordered, read_record, run
from zoocast.dag.records import final_path
from zoocast.data import DigitsConfig
from zoocast.errors import ConfigError
from zoocast.experiment import Target, Zoo, search_step, source_step, with_found
from zoocast.experiment.searching import Searched
from zoocast.experiment.stages import evaluate_arm
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.search import SearchConfig, read_study
from zoocast.store.files import JOURNAL_FILE
from zoocast.tracking import read_entries
from zoocast.tracking.entries import Params
from zoocast.training import TrainingConfig
from zoocast.transfer import TargetConfig, Transfer, train_target
from zoocast.zoo import SourceConfig

PREDICTOR = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(4, 4))
DATA = DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=8, validation=4, test=2)
TRAINING = TrainingConfig(iterations=4, batch_size=4, validate_every=2, checkpoint_every=2, num_strips=1)
BUDGET = SearchConfig(num_trials=3, max_iterations=4, grace_cycles=2, max_concurrent=2)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Two sources that a lab has, for a small target."""
    sources = {}
    for number, name in enumerate(("one", "two")):
        torch.manual_seed(number)
        folder = tmp_path_factory.mktemp(name)
        save_predictor(Predictor(PREDICTOR, DATA.frame_shape()), folder)
        sources[name] = source_step(SourceConfig(name=name, model=str(folder)), observed=3)
    target = Target(config=TargetConfig(data=DATA, predictor=PREDICTOR, training=TRAINING), observed=3)
    return Zoo(target=target, sources=sources)


@pytest.fixture(scope="module")
def trial(zoo):
    """The training step that is searched."""
    method = Transfer()
    return zoo.target.train("trial", train_target, zoo.training("tmu", method, TRAINING), zoo.inputs(method))


@pytest.fixture(scope="module")
def searched(trial):
    return search_step(trial, BUDGET, "target", cycle=2)


def test_a_target_with_transfer_units_is_searched_and_trained_with_what_was_found(trial, searched, tmp_path):
    best = with_found(dataclasses.replace(trial, name="target.best.seed0"), searched)
    with connect(num_cpus=2):
        result = run([best], tmp_path, run_id="test")
    assert result.exit_code == 0, [outcome.error for outcome in result.outcomes.values()]
    study = read_study(final_path(tmp_path, searched))
    weights = [t.params[WEIGHT] for t in study.trials]
    assert weights == [0.0, 0.1, 0.1]  # the release as it runs and with its loss, and our units
    assert [t.state for t in study.trials] == ["done"] * 3
    found = load(Searched, read_record(final_path(tmp_path, searched)).result)
    assert (found.best, found.val_mse, found.trials_done) == (study.best()[0].id, study.best()[0].best_error, 3)
    assert f"{WEIGHT}={study.best()[0].params[WEIGHT]}" in found.settings
    # Same start, seed and settings: the training of the best trial is repeated to the last digit.
    assert read_record(final_path(tmp_path, best)).result["val_mse"] == study.best()[0].best_error
    logged = {
        k: v for params in read_entries(final_path(tmp_path, best) / JOURNAL_FILE, Params) for k, v in params.values.items()
    }
    assert logged["search.trial"] == found.best
    assert float(logged["distillation_weight"]) == study.best()[0].params[WEIGHT]


def test_what_is_searched_decides_what_the_search_reads_and_holds(trial, searched):
    assert searched.inputs == trial.inputs
    assert (searched.resources, searched.launches) == (Resources(0), (Resources(1),))
    found = with_found(trial, searched, place=1)
    assert found.inputs == {**trial.inputs, "search": searched}
    assert (found.name, found.resources, found.kind.name) == (trial.name, trial.resources, "train-found")
    assert [step.name for step in ordered([found])][-2:] == ["search", "trial"]


def test_where_the_code_of_a_training_stands_is_no_part_of_a_search(searched):
    assert "function" not in searched.canonical_config["step"]
    assert searched.canonical_config["step"]["kind"] == "train-target"
    assert dump(searched.config)["step"]["function"].endswith(":train_target")


def test_a_setting_that_was_found_can_be_taken_elsewhere(trial, searched):
    kept = with_found(trial, searched, take={"training.learning_rate": "training.learning_rate"})
    assert kept.key != with_found(trial, searched).key
    assert kept.config.take == {"training.learning_rate": "training.learning_rate"}


def test_a_step_that_trains_nothing_cannot_be_searched(trial):
    with pytest.raises(ConfigError, match=r"evaluate_arm cannot be searched: mark it with zoocast.training.trains_with"):
        search_step(dataclasses.replace(trial, fn=evaluate_arm), BUDGET, "target", cycle=2)
    with pytest.raises(ConfigError, match=r"there is no search space 'targets'"):
        search_step(trial, BUDGET, "targets", cycle=2)
