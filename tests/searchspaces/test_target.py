"""The search space of a target with transfer units, against the configs that it varies."""

import dataclasses

import optuna
import pytest

from zoocast.bank.config import BankConfig
from zoocast.config import override
from zoocast.errors import ConfigError
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.tmu import TmuConfig
from zoocast.search import load_space
from zoocast.training import TrainingConfig
from zoocast.transfer import Scratch, TrainTargetConfig, Transfer

BASE = TrainTargetConfig(
    arm="tmu",
    method=Transfer(),
    predictor=PredictorConfig(),
    training=TrainingConfig(),
    observed=10,
    bank=BankConfig(),
    sources=("one", "two"),
)


def test_the_first_points_are_the_release_as_it_runs_the_release_with_its_loss_and_our_units() -> None:
    release, paper, ours = (override(BASE, point) for point in load_space("target", BASE).points)
    for config in (release, paper):
        assert isinstance(config.method, Transfer)
        assert config.method.tmu.combine == TmuConfig.release().combine
        assert config.method.tmu.gate_bias == TmuConfig.release().gate_bias
    assert (release.method.distillation_weight, paper.method.distillation_weight) == (0.0, 0.1)
    assert (paper.method.source_memories, paper.method.reduction) == ("raw", "release")
    assert ours.method == Transfer()  # our defaults


def test_all_that_is_drawn_is_a_training_and_a_loss_that_is_not_there_has_no_settings() -> None:
    space = load_space("target", BASE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.draw(study.ask()) for _ in range(60)]
    for params in drawn:
        config = override(BASE, params)
        assert config.bank == BASE.bank  # all trials read one bank
        assert ("method.reduction" in params) == (config.method.distillation_weight > 0)
    assert {params["method.tmu.combine"] for params in drawn} == {"sum", "mean", "residual"}


def test_a_target_without_gates_has_no_bias_of_gates() -> None:
    ungated = dataclasses.replace(BASE, method=Transfer(tmu=TmuConfig(gate="none")))
    space = load_space("target", ungated)
    assert "method.tmu.gate_bias" not in space.fields
    assert all(override(ungated, point).method.tmu.gate == "none" for point in space.points)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": Scratch()}, "method: must be tmu, whose settings are searched, but got scratch"),
        ({"bank": None}, "method.distillation_weight: must be above 0, for the space compares weights against a bank"),
    ],
)
def test_a_training_that_distils_nothing_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_space("target", dataclasses.replace(BASE, **change))  # type: ignore[arg-type]
