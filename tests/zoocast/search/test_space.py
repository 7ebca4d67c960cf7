"""Search spaces: what exists when, what is drawn, and what is refused before any trial starts."""

import dataclasses
import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from zoocast.config import override
from zoocast.errors import ConfigError
from zoocast.search import SearchSpace, When


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1e-3
    cycle: int = 10
    mode: str = "plain"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.cycle < 1:
            raise ConfigError("cycle", f"must be at least 1, but got {self.cycle}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    adapter: Inner = Inner()


RATE = FloatDistribution(1e-5, 1e-1, log=True)
MODE = CategoricalDistribution(("plain", "chained"))
SPACE = SearchSpace(
    fields={
        "adapter.rate": RATE,
        "adapter.cycle": IntDistribution(10, 50, step=10),
        "adapter.mode": MODE,
        "adapter.weight": When("adapter.mode", ("chained",), FloatDistribution(0.0, 10.0)),
    },
    points=({"adapter.rate": 1e-3, "adapter.cycle": 20, "adapter.mode": "chained", "adapter.weight": 10},),
)


def test_what_is_drawn_lies_in_the_space_and_fits_the_config():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [SPACE.draw(study.ask()) for _ in range(40)]
    for params in drawn:
        config = override(Base(), params).adapter
        assert 1e-5 <= config.rate <= 1e-1
        assert config.cycle in (10, 20, 30, 40, 50)
        assert ("adapter.weight" in params) == (config.mode == "chained")
    assert {p["adapter.mode"] for p in drawn} == {"plain", "chained"}


def test_a_space_that_fits_its_config_passes_its_check_and_survives_as_json():
    SPACE.check(Base())
    again = SearchSpace.from_json(json.loads(json.dumps(SPACE.to_json())))
    assert again == SPACE
    assert again.digest == SPACE.digest != dataclasses.replace(SPACE, points=()).digest


def test_a_condition_on_a_condition_holds_for_both():
    space = SearchSpace(fields={"a": MODE, "b": When("a", ("chained",), MODE), "c": When("b", ("plain",), RATE)})
    assert list(space.distributions({"a": "chained", "b": "plain"})) == ["a", "b", "c"]
    assert list(space.distributions({"a": "plain", "b": "plain"})) == ["a"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adapter.rates": RATE}, r"adapter\.rates: unknown setting; did you mean rate\?"),
        ({"adapter.cycle": FloatDistribution(1.5, 2.5)}, r"adapter\.cycle: expected a whole number, but got 1\.5"),
        ({"adapter.cycle": IntDistribution(0, 5)}, r"adapter\.cycle: must be at least 1, but got 0"),
        ({"adapter.rate": CategoricalDistribution((1e-3, "fast"))}, r"adapter\.rate: must be a finite number, but got 'fast'"),
    ],
)
def test_a_field_that_the_config_does_not_know_or_cannot_hold_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        SearchSpace(fields=fields).check(Base())


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"adapter.rate": 1.0}, r"adapter\.rate: point 0 .* has 1\.0, which is not in FloatDistribution"),
        ({"adapter.cycle": 25}, r"adapter\.cycle: point 0 .* has 25, which is not in IntDistribution"),
        ({"adapter.mode": "plain"}, r"adapter\.weight: point 0 .* has a value, but no such field exists there"),
        ({"adapter.weight": None}, r"adapter\.weight: point 0 .* needs a value"),
        (
            {"adapter.wait": 1},
            r"adapter\.wait: point 0 .* no such field exists there; its fields are adapter\.rate, adapter\.cycle",
        ),
    ],
)
def test_a_first_point_outside_of_the_space_is_refused(point, message):
    wrong = {k: v for k, v in {**SPACE.points[0], **point}.items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SPACE, points=(wrong,)).check(Base())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"b": When("a", ("plain",), RATE)}, "b: depends on 'a', which must be a choice that is named before it"),
        ({"a": RATE, "b": When("a", (1e-3,), RATE)}, "b: depends on 'a', which must be a choice"),
        (
            {"a": MODE, "b": When("a", ("chain",), RATE)},
            r"b: exists while a is among \('chain',\), which must be of \('plain', 'chained'\)",
        ),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        SearchSpace(fields=fields)
