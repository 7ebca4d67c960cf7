"""What each part of both papers is worth: TMU, BDN and LMA, on or off, in every combination, from one zoo and its banks.

Every arm starts from the best source and trains twice: stage 1 in one direction or in two (BDN), stage 2 with plain Adam or with
the meta-adapter (LMA); with Transferable Memory Units or without. All have as many iterations, the same clips and seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

from pipelines.seemore_search import release_training
from pipelines.zoo_to_target import PRESETS as ZOO_PRESETS
from pipelines.zoo_to_target import ZooToTarget, check_arms
from zoocast.config import setting
from zoocast.dag import Step, ordered
from zoocast.errors import ConfigError, within
from zoocast.experiment import Arm, Comparison, Zoo, report_step
from zoocast.nn.sampling import ScheduledSampling
from zoocast.seemore.adapter import AdapterConfig
from zoocast.seemore.bidirectional import BidirectionalConfig
from zoocast.seemore.train import AdaptConfig, TrainBidirectionalConfig, adapt, train_bidirectional
from zoocast.training import TrainingConfig
from zoocast.transfer import Finetune, Method, train_target

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
        # By hand and not by a Literal: the eight names follow from PARTS.
        check_arms(self.arms, ALL)
        if self.zoo.tune:
            raise ConfigError("zoo.tune", "must be false, for an arm's two stages are not tuned together, but got true")
        if self._has("bdn") and self._has("tmu") and self.zoo.reads_bank and not self.zoo.bank.reversed:
            raise ConfigError("zoo.bank.reversed", "must be true, for BDN's reverse network distils as well, but got false")

    def _has(self, part: str) -> bool:
        return any(part in arm.split("-") for arm in self.arms)

    def check(self) -> None:
        """Raise `ConfigError`, `DataError` or `IntegrityError` for what cannot work, before any work starts."""
        with within("zoo"):
            self.zoo.check()
        if not self.zoo.startable:  # even the base is finetuned, so without a source that fits there is no arm
            raise ConfigError("zoo.target.predictor", "no source has the target's network, from which every arm starts")
        with within("stage2"):
            self.zoo.target.workers.check(self.stage2, self.zoo.target.data.counts()["train"])

    def method(self, arm: str) -> Method:
        """How an arm starts and what it distils."""
        return self.zoo.transfer if "tmu" in arm.split("-") else Finetune()


def steps(config: Ablation) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    zoo = config.zoo.zoo_steps()
    arms = [_arm(config, zoo, name) for name in config.arms]
    # The arm with the most parts, the first of several: dashes stand between parts, and none is in the name of a single one.
    best = max(config.arms, key=lambda arm: (arm != BASE, arm.count("-")))
    comparison = None
    if best != BASE and BASE in config.arms:
        words = best.upper().replace("-", " + ")
        comparison = Comparison(ours=(best,), rival=(BASE,), ours_words=words, rival_words="finetuning with plain Adam")
    notes = (
        "tmu: Transferable Memory Units against the bank. bdn: a forward and a reverse network distil each other in both"
        " stages; only the forward one is evaluated. lma: the meta-adapter in stage 2, whose learning-rate iterations move no"
        " weight. base: finetuning from the best source, which all arms start from.",
    )
    return ordered([report_step("Ablation of TMU, BDN and LMA", config, zoo.target, arms, comparison, notes=notes)])


def _arm(config: Ablation, zoo: Zoo, name: str) -> Arm:
    """Both stages with every seed."""
    method, trained = config.method(name), []
    zoo = zoo.continued if "tmu" in name.split("-") else zoo
    for seed in range(config.zoo.seeds):
        second = AdaptConfig(
            target=zoo.training(name, method, config.stage2.with_seed(seed)),
            bidirectional=config.bidirectional if "bdn" in name.split("-") else None,
            adapter=config.adapter if "lma" in name.split("-") else None,
            curriculum=config.curriculum,
        )
        inputs = {**zoo.inputs(method), "start": _first_stage(config, zoo, name, seed)}
        trained.append(zoo.target.train(f"target.{name}.seed{seed}", adapt, second, inputs))
    return Arm(name, trained, sources=zoo.gated(method))


def _first_stage(config: Ablation, zoo: Zoo, name: str, seed: int) -> Step:
    """Stage 1, which arms with and without the meta-adapter share."""
    # The meta-adapter acts in stage 2 alone, so its name is taken out and two arms ask for one step.
    first = "-".join(part for part in name.split("-") if part != "lma") or BASE
    method, step = config.method(first), f"stage1.{first}.seed{seed}"
    target = zoo.training(first, method, config.zoo.target.training.with_seed(seed))
    if "bdn" not in first.split("-"):
        return zoo.target.train(step, train_target, target, zoo.inputs(method))
    both = TrainBidirectionalConfig(target=target, bidirectional=config.bidirectional)
    return zoo.target.train(step, train_bidirectional, both, zoo.inputs(method))


# --------------------------------------------------------------------------------------------------------------------- presets


def laptop() -> Ablation:
    """The zoo and the target of `zoo-to-target`, whose sources are used again; 200 and 120 iterations, 3 seeds.

    Ten minutes on two CPU cores once the sources are there, by what 2 seeds took; these were too small to compare.
    """
    zoo = ZOO_PRESETS["nested"]()
    training = dataclasses.replace(
        zoo.target.training, iterations=200, sampling=ScheduledSampling(start=1.0, rate=1 / 200, stop_iteration=200)
    )
    return Ablation(
        zoo=dataclasses.replace(
            zoo,
            target=dataclasses.replace(zoo.target, training=training),
            bank=dataclasses.replace(zoo.bank, reversed=True),  # the arms with BDN and TMU distil in both directions
        ),
        stage2=dataclasses.replace(training, iterations=120, learning_rate=1e-4, validate_every=40),
        # The release's share of learning-rate calls, a quarter, in cycles of which three fit into the 120 iterations.
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
    """The papers' scale: network, data, sources and bank of TMU's release as in `zoo-to-target`, both stages as in SeeMore's.

    No release joins the two. The target is trained by SeeMore's scripts, whose values `seemore_search.release_training` holds:
    80,000 and 10,000 iterations. Not run by us.
    """
    zoo = ZOO_PRESETS["paper"]()
    target = dataclasses.replace(zoo.target, training=release_training(1))
    return Ablation(zoo=dataclasses.replace(zoo, target=target), stage2=release_training(2), curriculum="restart")


PRESETS = {"smoke": smoke, "laptop": laptop, "paper": paper}
