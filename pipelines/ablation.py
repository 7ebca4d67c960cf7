"""What each part of both papers is worth: TMU, BDN and LMA, on or off, in every combination, from one zoo and its banks.

Every arm starts from the best source and trains twice: stage 1 in one direction or in two (BDN), stage 2 with plain Adam or with
the meta-adapter (LMA); with Transferable Memory Units or without. All have as many iterations, the same clips and seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

from pipelines.zoo_to_target import PRESETS as ZOO_PRESETS
from pipelines.zoo_to_target import Zoo, ZooToTarget, evaluation_step, training_step
from zoocast.config import setting
from zoocast.dag import Step, group, ordered
from zoocast.errors import ConfigError, within
from zoocast.experiment.stages import EvaluateConfig, ReportConfig, make_report
from zoocast.nn.sampling import ScheduledSampling
from zoocast.report import Comparison
from zoocast.seemore.adapter import AdapterConfig
from zoocast.seemore.bidirectional import BidirectionalConfig
from zoocast.seemore.train import AdaptConfig, TrainBidirectionalConfig, adapt, train_bidirectional
from zoocast.training import TrainingConfig
from zoocast.transfer import Finetune, Method, TrainTargetConfig, train_target

__all__ = ["ALL", "PRESETS", "SUMMARY", "Ablation", "steps"]

SUMMARY = "TMU, bidirectional distillation and the meta-adapter, on or off, in every combination"

PARTS = ("tmu", "bdn", "lma")
BASE = "base"
ALL = tuple(
    "-".join(part for part, on in zip(PARTS, chosen, strict=True) if on) or BASE
    for chosen in itertools.product((False, True), repeat=len(PARTS))
)
"""Every arm: base, lma, bdn, bdn-lma, tmu, tmu-lma, tmu-bdn, tmu-bdn-lma."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """The whole experiment."""

    zoo: ZooToTarget = setting(help="sources, bank, target with the training of stage 1, TMU, and how often all is trained")
    bidirectional: BidirectionalConfig = setting(BidirectionalConfig(), "BDN: how the two directions distil each other")
    stage2: TrainingConfig = setting(TrainingConfig(), "the training of stage 2; its learning rate is plain Adam's")
    adapter: AdapterConfig = setting(AdapterConfig(), "LMA: the meta-adapter of stage 2")
    curriculum: Literal["continue", "restart"] = setting(
        "continue", "whether the sampling schedule goes on where stage 1 ended or starts anew; release: restart"
    )
    arms: tuple[str, ...] = setting(ALL, f"what is compared: some of {', '.join(ALL)}")

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ALL]
        if unknown or not self.arms or len(set(self.arms)) < len(self.arms):
            got = repr(unknown[0]) if unknown else ", ".join(self.arms) or "none"
            raise ConfigError("arms", f"must be some of {', '.join(ALL)}, each once, but got {got}")
        if self._has("bdn") and self._has("tmu") and self.zoo.reads_bank and not self.zoo.bank.reversed:
            raise ConfigError("zoo.bank.reversed", "must be true, for BDN's reverse network distils as well, but got false")

    def _has(self, part: str) -> bool:
        return any(part in arm.split("-") for arm in self.arms)

    def check(self) -> None:
        """Raise `ConfigError`, `DataError` or `IntegrityError` for what cannot work, before any work starts."""
        with within("zoo"):
            self.zoo.check()
        if not self.zoo.startable:
            raise ConfigError("zoo.target.predictor", "no source has the target's network, from which every arm starts")
        with within("stage2"):
            self.zoo.target.workers.check(self.stage2)

    def method(self, arm: str) -> Method:
        """How an arm starts and what it distils."""
        return self.zoo.transfer if "tmu" in arm.split("-") else Finetune()

    def target(self, arm: str, training: TrainingConfig, seed: int) -> TrainTargetConfig:
        """One stage of an arm with one seed."""
        return self.zoo.training(arm, self.method(arm), training.with_seed(seed))


def steps(config: Ablation) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    zoo, workers = Zoo.of(config.zoo), config.zoo.target.workers
    firsts: dict[str, Step] = {}
    evaluations: dict[str, Step] = {}
    for arm in config.arms:
        first = arm.removesuffix("-lma") if arm != "lma" else BASE
        trained = {}
        for seed in range(config.zoo.seeds):
            name = f"stage1.{first}.seed{seed}"
            start = firsts[name] = firsts.get(name) or _first(config, first, seed, zoo)
            inputs = {**zoo.inputs(config.method(arm)), "start": start}
            second = AdaptConfig(
                target=config.target(arm, config.stage2, seed),
                bidirectional=config.bidirectional if "bdn" in arm.split("-") else None,
                adapter=config.adapter if "lma" in arm.split("-") else None,
                curriculum=config.curriculum,
            )
            trained[str(seed)] = training_step(f"target.{arm}.seed{seed}", adapt, second, inputs, workers)
        sources = tuple(zoo.sources) if config.method(arm).has_units else ()
        evaluate = EvaluateConfig(arm=arm, observed=config.zoo.observed, num_strips=config.zoo.num_strips, sources=sources)
        evaluations[arm] = evaluation_step(evaluate, zoo.data, trained, workers)
    return ordered([_report(config, evaluations)])


def _first(config: Ablation, arm: str, seed: int, zoo: Zoo) -> Step:
    """Stage 1, which arms with and without the meta-adapter share."""
    target = config.target(arm, config.zoo.target.training, seed)
    inputs, workers, name = zoo.inputs(config.method(arm)), config.zoo.target.workers, f"stage1.{arm}.seed{seed}"
    if "bdn" not in arm.split("-"):
        return training_step(name, train_target, target, inputs, workers)
    both = TrainBidirectionalConfig(target=target, bidirectional=config.bidirectional)
    return training_step(name, train_bidirectional, both, inputs, workers)


def _report(config: Ablation, evaluations: dict[str, Step]) -> Step:
    best = max(config.arms, key=lambda arm: (arm != BASE, arm.count("-")))
    page = ReportConfig(
        title="Ablation of TMU, BDN and LMA",
        pipeline=config,
        observed=config.zoo.observed,
        arms=tuple(evaluations),
        comparison=Comparison(
            ours=best, rival=BASE, ours_words=best.upper().replace("-", " + "), rival_words="finetuning with plain Adam"
        ),
        notes=(
            "tmu: Transferable Memory Units against the bank. bdn: a forward and a reverse network distil each other in both"
            " stages; only the forward one is evaluated. lma: the meta-adapter in stage 2, whose learning-rate iterations move no"
            " weight. base: finetuning from the best source, which all arms start from.",
        ),
    )
    return Step("report", make_report, page, group("arms", evaluations))


# --------------------------------------------------------------------------------------------------------------------- presets


def laptop() -> Ablation:
    """The zoo and the target of `zoo-to-target`, whose sources are used again; 200 and 120 iterations, 2 seeds.

    Six and a half minutes on two CPU cores once the sources are there. No part improves on finetuning at this size.
    """
    zoo = ZOO_PRESETS["laptop"]()
    training = dataclasses.replace(
        zoo.target.training, iterations=200, sampling=ScheduledSampling(start=1.0, rate=1 / 200, stop_iteration=200)
    )
    return Ablation(
        zoo=dataclasses.replace(
            zoo,
            target=dataclasses.replace(zoo.target, training=training),
            bank=dataclasses.replace(zoo.bank, reversed=True),
            seeds=2,
        ),
        stage2=dataclasses.replace(training, iterations=120, learning_rate=1e-4, validate_every=40),
        adapter=AdapterConfig(cycle=40, rate_iterations=10),
    )


def smoke() -> Ablation:
    """Every step in its smallest form: shows that all works, and nothing about what is better."""
    zoo = ZOO_PRESETS["smoke"]()
    return Ablation(
        zoo=dataclasses.replace(zoo, bank=dataclasses.replace(zoo.bank, reversed=True)),
        stage2=dataclasses.replace(zoo.target.training, learning_rate=1e-4),
        adapter=AdapterConfig(cycle=4, rate_iterations=1),
    )


def paper() -> Ablation:
    """The papers' scale with the releases' hyperparameters, as in `zoo-to-target`; 80,000 iterations of each stage. Not run."""
    zoo = ZOO_PRESETS["paper"]()
    return Ablation(zoo=zoo, stage2=dataclasses.replace(zoo.target.training, learning_rate=1e-4), curriculum="restart")


PRESETS = {"smoke": smoke, "laptop": laptop, "paper": paper}
