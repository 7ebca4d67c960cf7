"""SeeMore's two parts against what costs as much: bidirectional distillation and learnt learning rates (Ma et al., SCIS 2024).

Everything is trained from scratch by as many passes through one network: two directions are two passes for an iteration, and a
learning-rate call of the meta-adapter is two, by which no weight moves. From every initial rate, good or off by ten, start plain
Adam, Adam whose rate falls linearly, the meta-adapter, and hypergradient descent (Baydin et al., ICLR 2018).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.seemore_search import PRESETS as SEARCHES
from zoocast.config import check_ranges, setting
from zoocast.dag import Step, ordered
from zoocast.data import DigitsConfig
from zoocast.errors import ConfigError, within
from zoocast.experiment import COPY_LAST, Arm, Comparison, EvaluationConfig, Target, report_step
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.sampling import ScheduledSampling
from zoocast.seemore.adapter import AdapterConfig
from zoocast.seemore.bidirectional import BidirectionalConfig
from zoocast.seemore.train import AdaptConfig, TrainBidirectionalConfig, adapt, train_bidirectional
from zoocast.training import TrainingConfig
from zoocast.transfer import TargetConfig

__all__ = ["PRESETS", "SUMMARY", "SeemoreControls", "steps"]

SUMMARY = "SeeMore's two parts against what costs as much: BDN, and learnt learning rates from good and bad initial ones"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeemoreControls:
    """The whole experiment."""

    target: TargetConfig = setting(
        TargetConfig(), "data, network and training: its iterations are passes, its rate that of `bdn`"
    )
    rates: tuple[float, ...] = setting((3e-4, 3e-3, 3e-2), "initial learning rates of every other arm", above=0)
    adapter: AdapterConfig = setting(AdapterConfig(), "the meta-adapter; its rates scale with the initial one")
    bidirectional: BidirectionalConfig = setting(BidirectionalConfig(), "how the two directions distil each other")
    observed: int = setting(6, "observed frames of every clip; the rest is the horizon")
    seeds: int = setting(5, "trainings of every arm, with seeds 0, 1, ...", at_least=1, at_most=1000)
    num_strips: int = setting(4, "test clips whose predictions are kept as pictures", at_least=1)
    evaluation: EvaluationConfig = setting(
        EvaluationConfig(), "how arms are judged on the test split where that is otherwise than in training", added=True
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        named = [f"{rate:g}" for rate in self.rates]  # as in the arms' names
        if not named or len(set(named)) < len(named):
            raise ConfigError("rates", f"must be at least one, each once, but got {', '.join(named) or 'none'}")
        if self.adapter.method != "meta":
            raise ConfigError(
                "adapter.method", f"must be meta, for hypergradient is an arm of its own, but got {self.adapter.method}"
            )
        for rate in self.rates:
            with within("adapter"):
                self.scaled(rate)

    def scaled(self, rate: float) -> AdapterConfig:
        """The meta-adapter from another initial rate, with everything in proportion."""
        moved = self.adapter.meta_learning_rate * rate / self.adapter.initial_rate
        return dataclasses.replace(self.adapter, initial_rate=rate, meta_learning_rate=moved)

    def training(self, passes: float = 1.0, **changes: Any) -> TrainingConfig:
        """The target's training where an iteration is that many passes, with fewer of them."""
        whole = dataclasses.replace(self.target.training, **changes)
        return dataclasses.replace(
            whole, iterations=max(1, round(whole.iterations / passes)), sampling=whole.sampling.scaled(1 / passes)
        )

    def target_steps(self) -> Target:
        """What all arms share, as steps."""
        return Target(config=self.target, observed=self.observed, num_strips=self.num_strips, evaluation=self.evaluation)

    def check(self) -> None:
        """Raise `ConfigError` or `DataError` for what cannot work, before any work starts."""
        self.target_steps().check()


def steps(config: SeemoreControls) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    target, arms = config.target_steps(), [COPY_LAST]

    def add(
        name: str, family: str, training: TrainingConfig, adapter: AdapterConfig | None = None, *, both: bool = False
    ) -> None:
        def train(seed: int) -> Step:
            one, step = target.from_scratch(name, training.with_seed(seed)), f"target.{name}.seed{seed}"
            if both:
                bidirectional = TrainBidirectionalConfig(target=one, bidirectional=config.bidirectional)
                return target.train(step, train_bidirectional, bidirectional)
            return target.train(step, adapt, AdaptConfig(target=one, bidirectional=None, adapter=adapter))

        arms.append(Arm(name, [train(seed) for seed in range(config.seeds)], family=family))

    for rate in config.rates:
        meta = config.scaled(rate)
        share = meta.rate_iterations / meta.cycle  # of the iterations, which cost two passes
        # As far in a cycle, though it moves in every iteration.
        hyper = dataclasses.replace(meta, method="hypergradient", meta_learning_rate=meta.meta_learning_rate * share)
        fixed: dict[str, Any] = {"learning_rate": rate, "learning_rate_decay": "none"}
        add(f"adam-{rate:g}", "adam", config.training(**fixed))
        add(f"decay-{rate:g}", "decay", config.training(**{**fixed, "learning_rate_decay": "linear"}))
        add(f"meta-{rate:g}", "meta", config.training(1 + share, **fixed), meta)
        add(f"hypergradient-{rate:g}", "hypergradient", config.training(**fixed), hyper)
    add("bdn", "bdn", config.training(2), both=True)
    notes = (
        "All arms are trained from scratch by as many passes through one network. meta: one learning rate for each level, moved"
        " in a part of the iterations, which cost two passes and move no weight. hypergradient: the same rates, moved in every"
        " iteration by the gradient that is there anyway. decay: plain Adam whose rate falls linearly. bdn: two directions, half"
        " as many iterations.",
    )
    comparison = Comparison(
        ours=tuple(arm.name for arm in arms if arm.family == "meta"),
        rival=tuple(arm.name for arm in arms if arm.family == "adam"),
        ours_words="the best meta-adapter",
        rival_words="plain Adam at its best rate",
    )
    return ordered([report_step("SeeMore against what costs as much", config, target, arms, comparison, notes=notes)])


# --------------------------------------------------------------------------------------------------------------------- presets


def laptop() -> SeemoreControls:
    """One digit that falls and bounces, 64 clips, two ConvLSTM layers, 200 passes, rates that fit and such as are off by ten."""
    return SeemoreControls(
        target=TargetConfig(
            data=DigitsConfig(
                num_digits=1, motions=("gravity",), min_speed=0.5, max_speed=1.5, length=14, train=64, test=256, seed=3
            ),
            predictor=PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(16, 16), patch_size=4),
            training=TrainingConfig(
                iterations=200,
                learning_rate=3e-3,
                learning_rate_decay="linear",
                sampling=ScheduledSampling(start=1.0, rate=1 / 200, stop_iteration=200),
                validate_every=20,
            ),
        ),
        adapter=AdapterConfig(
            meta_learning_rate=1e-5,  # a tenth of a rate, in logarithms: within wide bounds rates can correct what is off by ten
            lower_bound=0.01,
            upper_bound=100.0,
            parametrisation="logarithmic",
            chain_weight=0.0,
            cycle=20,
            rate_iterations=5,
        ),
    )


def smoke() -> SeemoreControls:
    """Every step in its smallest form: shows that all works, and nothing about what is better."""
    search = SEARCHES["smoke"]()
    return SeemoreControls(
        target=search.target,
        adapter=search.adapter,
        rates=(1e-3,),
        observed=search.observed,
        seeds=1,
        num_strips=search.num_strips,
    )


PRESETS = {"smoke": smoke, "laptop": laptop}
