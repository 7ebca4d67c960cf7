"""The search space of the meta-adapter, against a stand-in for its config, and how spaces are found."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import optuna
import pytest

from zoocast.config import override
from zoocast.errors import ConfigError
from zoocast.search import load_space as load


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    initial_rate: float = 1e-4
    meta_learning_rate: float = 1e-7
    chain_ratio: float = 2.0
    chain_weight: float = 10.0
    cycle: int = 200
    rate_iterations: int = 50
    parametrisation: Literal["linear", "logarithmic"] = "linear"
    meta_batch: Literal["same", "held-out"] = "same"
    moments: Literal["private", "shared"] = "private"

    def __post_init__(self) -> None:
        if not self.rate_iterations < self.cycle:
            raise ConfigError("rate_iterations", f"must be less than cycle, but got {self.rate_iterations} and {self.cycle}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    adapter: Adapter = Adapter()


def test_the_first_point_is_the_release() -> None:
    space = load("seemore-adapter", Stage())
    assert override(Stage(), space.points[0]) == Stage()


@pytest.mark.parametrize("cycle", [4, 20, 200])
def test_all_that_is_drawn_fits_cycles_of_any_length(cycle: int) -> None:
    base = Stage(adapter=Adapter(cycle=cycle, rate_iterations=1))
    space = load("seemore-adapter", base)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        params = space.draw(study.ask())
        assert override(base, params).adapter.rate_iterations < cycle
        assert ("adapter.chain_ratio" in params) == (params["adapter.chain_weight"] > 0)


def test_a_space_of_ones_own_is_found_by_its_module_and_an_unknown_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "rates.py").write_text(
        "from optuna.distributions import FloatDistribution\nfrom zoocast.search import SearchSpace\n"
        "def space(base): return SearchSpace(fields={'adapter.rate': FloatDistribution(0.1, 0.2)})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"adapter\.rate: unknown setting"):  # it was found, and held against the config
        load("mylab.rates", Stage())
    for name in ("seemore-adaptor", "mylab.rate"):
        with pytest.raises(ConfigError, match=f"there is no search space '{name}'; known: seemore-adapter, target;"):
            load(name, Stage())
    sys.modules.pop("mylab.rates", None)
