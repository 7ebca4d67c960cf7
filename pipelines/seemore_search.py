"""Train a target with SeeMore's first stage, then search the meta-adapter's settings for the second (Ma et al., SCIS 2024).

Stage 1 trains a forward and a reverse network that distil each other. Stage 2 goes on from there: with the meta-adapter, whose
settings Ray Tune searches on the validation split, and as controls with the release's settings and with plain Adam, all for
as many iterations. The best settings are trained again with several seeds; the report reads the test split once.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from zoocast.config import check_ranges, setting
from zoocast.dag import Step, ordered
from zoocast.data import DigitsConfig, MovingMnistConfig
from zoocast.errors import ConfigError, within
from zoocast.experiment import COPY_LAST, Arm, Comparison, EvaluationConfig, Target, report_step, search_step, with_found
from zoocast.nn.cells import STLSTM, ConvLSTM
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.sampling import ReverseScheduledSampling, Sampling, ScheduledSampling
from zoocast.search import SearchConfig, load_space
from zoocast.seemore.adapter import AdapterConfig
from zoocast.seemore.bidirectional import BidirectionalConfig
from zoocast.seemore.train import AdaptConfig, TrainBidirectionalConfig, adapt, train_bidirectional
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.transfer import TargetConfig

__all__ = ["PRESETS", "SUMMARY", "SecondStage", "SeemoreSearch", "release_training", "steps"]

SUMMARY = "SeeMore: two directions that distil each other, and a search of the meta-adapter's settings"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStage:
    """What stage 2 does otherwise than stage 1, whatever trains it. Its length is the search's `max_iterations`."""

    learning_rate: float = setting(1e-4, "of plain Adam, the control; the meta-adapter has rates of its own")
    validate_every: int = setting(20, "iterations between readings of the validation split, and between a trial's reports")
    checkpoint_every: int = setting(100, "iterations between full-state checkpoints")
    curriculum: Literal["continue", "restart"] = setting(
        "continue", "whether the sampling schedule goes on where stage 1 ended or starts anew; release: restart"
    )
    sampling: Sampling | None = setting(None, "its sampling schedule; none is that of stage 1; release: one of its own")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeemoreSearch:
    """The whole experiment."""

    target: TargetConfig = setting(TargetConfig(), "data and network, and the training of stage 1")
    bidirectional: BidirectionalConfig = setting(BidirectionalConfig(), "how the two directions distil each other")
    stage2: SecondStage = setting(SecondStage(), "the training of stage 2")
    adapter: AdapterConfig = setting(AdapterConfig(), "the control `paper`; what the search varies, it varies from here")
    space: str = setting("seemore-adapter", "the search space: a file of searchspaces/, or a module of your own with its dots")
    search: SearchConfig = setting(SearchConfig(), "how much is searched")
    observed: int = setting(10, "observed frames of every clip; the rest is the horizon")
    num_best: int = setting(3, "best settings that are trained again with all seeds", at_least=1)
    seeds: int = setting(
        3, "trainings of stage 2 for every arm, with seeds 0, 1, ..., from one stage 1", at_least=1, at_most=1000
    )
    num_strips: int = setting(4, "test clips whose predictions are kept as pictures", at_least=1)
    evaluation: EvaluationConfig = setting(
        EvaluationConfig(), "how arms are judged on the test split where that is otherwise than in training", added=True
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.num_best > self.search.num_trials:
            raise ConfigError("num_best", f"must be at most search.num_trials={self.search.num_trials}, but got {self.num_best}")
        if self.adapter.cycle % self.stage2.validate_every:
            raise ConfigError(
                "stage2.validate_every",
                f"must divide adapter.cycle, or ASHA's rungs fall between reports, but got {self.stage2.validate_every} for"
                f" cycles of {self.adapter.cycle}",
            )
        with within("stage2"):  # made once, so that a setting that cannot work is named under the field it was set in
            self.training(0)

    def target_steps(self) -> Target:
        """What all arms share, as steps."""
        return Target(config=self.target, observed=self.observed, num_strips=self.num_strips, evaluation=self.evaluation)

    def training(self, seed: int) -> TrainingConfig:
        """Of stage 2."""
        first, second = self.target.training, self.stage2
        return dataclasses.replace(
            first.with_seed(seed),
            iterations=self.search.max_iterations,
            learning_rate=second.learning_rate,
            sampling=second.sampling or first.sampling,
            validate_every=second.validate_every,
            checkpoint_every=second.checkpoint_every,
        )

    def check(self) -> None:
        """Raise `ConfigError` or `DataError` for what cannot work, before any work starts."""
        self.target_steps().check()
        with within("space"):
            load_space(self.space, self.adapt("search", 0, self.adapter))

    def adapt(self, arm: str, seed: int, adapter: AdapterConfig | None) -> AdaptConfig:
        """The second stage of an arm."""
        return AdaptConfig(
            target=self.target_steps().from_scratch(arm, self.training(seed)),
            bidirectional=self.bidirectional,
            adapter=adapter,
            curriculum=self.stage2.curriculum,
        )

    def first(self) -> TrainBidirectionalConfig:
        """The first stage."""
        target = self.target_steps().from_scratch("stage1", self.target.training)
        return TrainBidirectionalConfig(target=target, bidirectional=self.bidirectional)


def steps(config: SeemoreSearch) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    target, seeds = config.target_steps(), range(config.seeds)
    # One stage 1 for all arms and seeds: what is compared is stage 2, and its seeds are to vary nothing else.
    stage1 = target.train("target.stage1.seed0", train_bidirectional, config.first())
    # Never run as a step: it says what each trial does.
    trial = target.train("trial", adapt, config.adapt("search", 0, config.adapter), {"start": stage1})
    found = search_step(trial, config.search, config.space, cycle=config.adapter.cycle)

    def second(name: str, seed: int, adapter: AdapterConfig | None) -> Step:
        return target.train(f"target.{name}.seed{seed}", adapt, config.adapt(name, seed, adapter), {"start": stage1})

    def searched(place: int) -> Arm:
        name = f"searched.{place + 1}"
        return Arm(name, [with_found(second(name, k, config.adapter), found, place=place) for k in seeds], family="searched")

    # The meta-adapter's gain must not be that of a better learning rate, which plain Adam could have as well.
    rate = {"target.training.learning_rate": "adapter.initial_rate"}
    arms = (
        COPY_LAST,
        Arm("stage1", [stage1]),
        Arm("adam", [second("adam", k, None) for k in seeds], family="adam"),
        Arm("adam.found-rate", [with_found(second("adam.found-rate", k, None), found, take=rate) for k in seeds], family="adam"),
        Arm("paper", [second("paper", k, config.adapter) for k in seeds]),
        *(searched(place) for place in range(config.num_best)),
    )
    notes = (
        "All arms of stage 2 start from one stage 1 and train for as many iterations; seeds vary stage 2 alone. An iteration"
        " of the meta-adapter that moves learning rates moves no weight. adam.found-rate is plain Adam at the initial rate of"
        " the best trial: what the search of that rate alone is worth.",
    )
    comparison = Comparison(
        ours=tuple(arm.name for arm in arms if arm.family == "searched"),
        rival=("adam", "adam.found-rate"),
        ours_words="the searched meta-adapter",
        rival_words="the best plain Adam",
    )
    return ordered([report_step("SeeMore: search of the meta-adapter", config, target, arms, comparison, notes=notes)])


# --------------------------------------------------------------------------------------------------------------------- presets


def laptop() -> SeemoreSearch:
    """Real handwritten digits, two ConvLSTM layers: stage 1 of 300 iterations, 16 trials of 120 iterations of stage 2.

    About seven minutes on two CPU cores. The searched adapter and plain Adam cannot be told apart: strict/mse 0.0405 and 0.0406.
    """
    return SeemoreSearch(
        target=TargetConfig(
            data=DigitsConfig(num_digits=2, train=256, test=256, seed=3),
            predictor=PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(24, 24), patch_size=4),
            training=TrainingConfig(
                iterations=300,
                learning_rate=1e-3,
                sampling=ScheduledSampling(start=1.0, rate=1 / 300, stop_iteration=300),
                validate_every=50,
            ),
        ),
        # The release's quarter of learning-rate calls; a rung of ASHA after the first of three cycles.
        adapter=AdapterConfig(cycle=40, rate_iterations=10),
        search=SearchConfig(num_trials=16, max_iterations=120, num_startup=6),
    )


def smoke() -> SeemoreSearch:
    """Every step in its smallest form, in about a minute: shows that all works, and nothing about what is better."""
    return SeemoreSearch(
        target=TargetConfig(
            data=DigitsConfig(num_digits=1, frame_size=16, digit_size=8, length=6, train=16, validation=8, test=8, seed=3),
            predictor=PredictorConfig(cell=STLSTM(kernel_size=3, decouple=True), hidden_channels=(4, 4)),
            training=TrainingConfig(iterations=8, batch_size=4, validate_every=4, checkpoint_every=4),
        ),
        adapter=AdapterConfig(cycle=4, rate_iterations=1),
        stage2=SecondStage(validate_every=2, checkpoint_every=4),
        search=SearchConfig(num_trials=5, max_iterations=12, num_startup=2, reduction_factor=2),
        observed=3,
        num_best=2,
        seeds=2,
        num_strips=2,
    )


def release_training(stage: Literal[1, 2]) -> TrainingConfig:
    """The training of a stage as DIG-Beihang/SeeMore's mnist_script/train_stage_1.sh and train_stage_2.sh set it.

    Their `test_interval` is `validate_every`. Stage 2 starts its schedule anew, and its `lr_beta` of 1e-7 and the rest of the
    meta-adapter are the defaults of `AdapterConfig`.
    """
    first = TrainingConfig(
        iterations=80_000,
        batch_size=8,
        learning_rate=1e-4,
        sampling=ReverseScheduledSampling(start_iteration=35_000, stop_iteration=70_000, decay=2_500.0),
        reverse_input=True,
        decouple_weight=0.1,
        validate_every=2_500,
        checkpoint_every=1_000,
    )
    if stage == 1:
        return first
    sampling = ReverseScheduledSampling(start_iteration=5_000, stop_iteration=10_000, decay=2_500.0)
    return dataclasses.replace(first, iterations=10_000, sampling=sampling, validate_every=200)


def paper() -> SeemoreSearch:
    """SeeMore's Moving MNIST scale with the release's hyperparameters: four layers of 128 channels, stages of 80,000 and 10,000.

    All values are those of the release's scripts (see `release_training`) but for the search, which the release does not have.
    Set `target.data.path` to MNIST's `train-images-idx3-ubyte.gz`. Not run by us: we have no such machine. Every trial that is
    not ended early is a whole second stage, so expect weeks on one GPU.
    """
    second = release_training(2)
    return SeemoreSearch(
        target=TargetConfig(
            data=MovingMnistConfig(frame_size=64, length=20, train=10_000, validation=1_000, test=1_000),
            predictor=PredictorConfig(
                cell=STLSTM(kernel_size=5, decouple=True), hidden_channels=(128, 128, 128, 128), patch_size=4
            ),
            training=release_training(1),
            workers=WorkerConfig(cpus_per_worker=4, gpus_per_worker=1),
        ),
        stage2=SecondStage(
            learning_rate=second.learning_rate,
            validate_every=second.validate_every,
            checkpoint_every=second.checkpoint_every,
            curriculum="restart",
            sampling=second.sampling,
        ),
        search=SearchConfig(num_trials=32, max_iterations=second.iterations, grace_cycles=5, cpus_per_trial=4, gpus_per_trial=1),
    )


PRESETS = {"smoke": smoke, "laptop": laptop, "paper": paper}
