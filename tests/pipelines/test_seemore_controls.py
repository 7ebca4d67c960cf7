"""SeeMore against what costs as much: that it does cost as much, and what is refused."""

import re

import pytest

from pipelines.seemore_controls import PRESETS, steps
from zoocast.config import override, parse_overrides
from zoocast.errors import ConfigError

LAPTOP = PRESETS["laptop"]()


def changed(*items):
    return override(LAPTOP, parse_overrides(items))


def stages(config=LAPTOP):
    """The config of each arm's first training, by its name."""
    return {step.config.target.arm: step.config for step in steps(config) if step.name.endswith(".seed0")}


@pytest.mark.parametrize(("cycle", "rate_iterations"), [(20, 5), (10, 1)])
def test_every_arm_costs_as_many_passes_and_goes_through_the_whole_curriculum(cycle, rate_iterations):
    for arm, config in stages(changed(f"adapter.cycle={cycle}", f"adapter.rate_iterations={rate_iterations}")).items():
        iterations, passes = config.target.training.iterations, 2 if arm == "bdn" else 1
        if arm.startswith("meta"):  # a trial step and what comes of it
            passes += sum(config.adapter.moves_rates(i) for i in range(iterations)) / iterations
        assert passes * iterations == pytest.approx(200, abs=passes), arm
        assert config.target.training.sampling.stop_iteration == iterations


def test_all_from_one_rate_begin_with_it_and_learnt_ones_move_in_proportion():
    found = stages()
    assert len(found) == 4 * 3 + 1
    for rate in (3e-4, 3e-3, 3e-2):
        decay, meta, hyper = (found[f"{name}-{rate:g}"] for name in ("decay", "meta", "hypergradient"))
        assert found[f"adam-{rate:g}"].target.training.learning_rate == decay.target.training.learning_rate == rate
        assert decay.target.training.learning_rate_decay == "linear"
        assert meta.adapter.initial_rate == hyper.adapter.initial_rate == rate
        assert meta.adapter.meta_learning_rate == pytest.approx(0.1 * rate)
        assert hyper.adapter.meta_learning_rate == pytest.approx(0.1 * rate * 5 / 20)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("rates=[]", "rates: must be at least one, each once, but got none"),
        ("rates=[0.001,0.001]", "rates: must be at least one, each once, but got 0.001, 0.001"),
        ("rates=[0]", "rates: must be above 0"),
        ("adapter.method=hypergradient", "adapter.method: must be meta, for hypergradient is an arm of its own"),
        ("adapter.upper_bound=release", "adapter.lower_bound: 0 <= lower_bound * initial_rate <= 0.0002 must hold"),
        ("observed=14", "observed: must leave at least one of the 14 frames"),
    ],
)
def test_what_cannot_work_is_refused(item, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        steps(changed(item))
