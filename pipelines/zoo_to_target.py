"""Pretrain a zoo in parallel, bank its frozen memories, and train a target against it (Yao et al., ICML 2020).

The same target network is trained from scratch, finetuned from every source that fits, anchored to the best source (L2-SP), and
with Transferable Memory Units that distil from the bank: on the same clips, for as many iterations, with the same seeds. The
report compares them on the test split, which nothing else reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from zoocast.bank.config import BankConfig, check_bank
from zoocast.config import setting
from zoocast.dag import Resources, Step, StepContext, group, ordered
from zoocast.data import DataConfig, DigitsConfig, MovingMnistConfig
from zoocast.errors import ConfigError, within
from zoocast.evaluation import check_evaluation
from zoocast.experiment.stages import (
    BuildBankConfig,
    BuildClipsConfig,
    EvaluateConfig,
    ReportConfig,
    build_clips,
    build_memories,
    evaluate_arm,
    make_report,
)
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import PredictorConfig, check_predictor, read_description
from zoocast.nn.sampling import ScheduledSampling
from zoocast.training import Trained, TrainingConfig, WorkerConfig
from zoocast.transfer import (
    L2SP,
    Finetune,
    Method,
    Scratch,
    TargetConfig,
    TrainTargetConfig,
    Transfer,
    train_target,
)
from zoocast.zoo import (
    AdoptConfig,
    PretrainConfig,
    RankConfig,
    SourceConfig,
    adopt,
    can_start,
    check_observed,
    pretrain,
    rank_sources,
)

__all__ = ["PRESETS", "SUMMARY", "ZooToTarget", "steps"]

SUMMARY = "a zoo of sources, their memory banks, and a target: scratch, finetuned, L2-SP and TMU compared"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooToTarget:
    """The whole experiment."""

    sources: tuple[SourceConfig, ...] = setting((), "the zoo")
    target: TargetConfig = setting(TargetConfig(), "what all arms share")
    transfer: Transfer = setting(Transfer(), "the arm with Transferable Memory Units")
    bank: BankConfig = setting(BankConfig(), "the zoo's memories of the target's clips")
    l2sp: L2SP = setting(L2SP(), "the arm that is anchored to the best source")
    observed: int = setting(10, "observed frames of every clip; the rest is the horizon")
    seeds: int = setting(3, "trainings of every arm, with seeds 0, 1, ...")
    num_strips: int = setting(4, "test clips whose predictions are kept as pictures")
    bank_workers: WorkerConfig = setting(WorkerConfig(num_workers=2), "where each bank is computed", identity=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("sources", "the zoo needs at least one source, but has none")
        names = [s.name for s in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError("sources", f"every source needs a name of its own, but got {', '.join(names)}")
        for name in ("seeds", "num_strips"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"must be at least 1, but got {getattr(self, name)}")
        if self.reads_bank and self.target.training.reverse_input and not self.bank.reversed:
            raise ConfigError("bank.reversed", "must be true when target.training.reverse_input flips time, but got false")
        if self.reads_bank and "train" not in self.bank.splits:
            raise ConfigError("bank.splits", f"must hold train, which the target distils from, but got {self.bank.splits}")

    @property
    def reads_bank(self) -> bool:
        """Whether any arm looks at the memories of the zoo."""
        return "banks" in self.transfer.needs

    @property
    def startable(self) -> tuple[str, ...]:
        """Sources whose weights fit the target, so that it can be finetuned from them."""
        target, frames = self.target.predictor, self.target.data.frame_shape()
        return tuple(s.name for s in self.sources if can_start(target, frames, *s.network()))

    def methods(self) -> dict[str, Method]:
        """Every arm that is trained, by name."""
        arms: dict[str, Method] = {"scratch": Scratch()}
        arms |= {f"finetune.{name}": Finetune(source=name) for name in self.startable}
        if self.startable:
            arms["l2-sp"] = self.l2sp
        return arms | {"tmu": self.transfer}

    def training(self, arm: str, method: Method, training: TrainingConfig) -> TrainTargetConfig:
        """What one training of an arm is."""
        return TrainTargetConfig(
            arm=arm,
            method=method,
            predictor=self.target.predictor,
            training=training,
            observed=self.observed,
            bank=self.bank if "banks" in method.needs else None,
            sources=tuple(s.name for s in self.sources) if method.has_units else (),
            workers=self.target.workers,
        )

    def check(self) -> None:
        """Raise `ConfigError`, `DataError` or `IntegrityError` for what cannot work, before any work starts."""
        for source in self.sources:
            with within(f"sources.{source.name}"):
                source.check()
            if not source.model:
                check_observed(self.observed, source.data.length, f"sources.{source.name}")
        with within("target"):
            self.target.check()
        check_horizon(self.observed, self.target.data)
        self._check_transfer()

    def _check_transfer(self) -> None:
        if self.transfer.warm_start == "best" and not self.startable:
            raise ConfigError(
                "transfer.warm_start",
                "no source has the target's network, so there are no weights to start from;"
                " set it to none, or give one source the target's predictor settings",
            )
        target, frames = self.transfer.network(self.target.predictor, len(self.sources)), self.target.data.frame_shape()
        with within("target.predictor"):
            check_predictor(target, frames)
        networks = {s.name: s.network() for s in self.sources}
        unfit = [name for name in self.startable if not can_start(target, frames, *networks[name])]
        if self.transfer.warm_start == "best" and unfit:
            raise ConfigError(
                "transfer.warm_start",
                f"with transfer.tmu.gate_norm the target has no LayerNorm of its own to start from {', '.join(unfit)};"
                " set warm_start to none, or gate_norm or the predictors' layer_norm to false",
            )
        with within("bank"):
            check_bank(self.bank, networks, frames, target)


@dataclasses.dataclass(frozen=True)
class Zoo:
    """The steps that arms stand on: the target's clips, every source by name, their ranking, and their banks if stored."""

    data: Step
    sources: dict[str, Step]
    rank: Step
    banks: dict[str, Step]

    @classmethod
    def of(cls, config: ZooToTarget) -> Zoo:
        """The steps of `config`, which has been checked."""
        data: dict[str, Step] = {}
        sources = {source.name: _source(source, config, data) for source in config.sources}
        clips = clips_of("target", config.target.data, data)
        ranking = RankConfig(observed=config.observed, target=config.target.predictor)
        rank = Step(
            "rank", rank_sources, ranking, {"data": clips, **group("sources", sources)}, resources=held_by(config.target.workers)
        )
        stored = config.reads_bank and config.bank.mode == "stored"
        banks = {name: _bank(name, config, clips, source) for name, source in sources.items()} if stored else {}
        return cls(clips, sources, rank, banks)

    def inputs(self, method: Method) -> dict[str, Step]:
        """What the training of an arm reads."""
        return {
            "data": self.data,
            **({"rank": self.rank} if "rank" in method.needs else {}),
            **group("sources", {name: self.sources[name] for name in method.reads(tuple(self.sources))}),
            **group("banks", self.banks if "banks" in method.needs else {}),
        }


def steps(config: ZooToTarget) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    zoo = Zoo.of(config)
    workers = config.target.workers
    evaluate = EvaluateConfig(arm="copy-last", observed=config.observed, num_strips=config.num_strips)
    evaluations = {"copy-last": evaluation_step(evaluate, zoo.data, {}, workers)}
    for arm, method in config.methods().items():
        trained = {}
        for k in range(config.seeds):
            train = config.training(arm, method, config.target.training.with_seed(k))
            trained[str(k)] = training_step(f"target.{arm}.seed{k}", train_target, train, zoo.inputs(method), workers)
        sources = tuple(zoo.sources) if method.has_units else ()
        evaluate = dataclasses.replace(evaluate, arm=arm, sources=sources)
        evaluations[arm] = evaluation_step(evaluate, zoo.data, trained, workers)
    return ordered([_report(config, evaluations)])


def check_horizon(observed: int, data: DataConfig) -> None:
    """Raise `ConfigError` unless the target's clips have observed and future frames, which metrics can judge."""
    check_observed(observed, data.length, "target")
    with within("target.data"):
        check_evaluation(observed=observed, horizon=data.length - observed, length=data.length, frames=data.frame_shape())


def clips_of(name: str, data: DataConfig, known: dict[str, Step]) -> Step:
    """The step that builds `data`; equal data, from equal files, are built once."""
    build = BuildClipsConfig(data=data)
    step = Step(f"data.{name}", build_clips, build, salt=data.source_digest(), estimated_bytes=data.estimated_bytes())
    return known.setdefault(step.key, step)


def held_by(workers: WorkerConfig) -> Resources:
    return Resources(workers.cpus_per_worker, workers.gpus_per_worker)


def _source(source: SourceConfig, config: ZooToTarget, data: dict[str, Step]) -> Step:
    if source.model:
        found = AdoptConfig(name=source.name, digest=read_description(Path(source.model)).digest, model=source.model)
        return Step(f"source.{source.name}", adopt, found)
    return Step(
        f"source.{source.name}",
        pretrain,
        PretrainConfig(source=source, observed=config.observed),
        {"data": clips_of(source.name, source.data, data)},
        resources=Resources(0),
        launches=(held_by(source.workers),) * source.workers.num_workers,
    )


def _bank(name: str, config: ZooToTarget, data: Step, source: Step) -> Step:
    build = BuildBankConfig(
        bank=config.bank,
        observed=config.observed,
        target_depth=len(config.target.predictor.hidden_channels),
        workers=config.bank_workers,
    )
    # It begins as soon as one of its actors has room, and the others join when they have.
    held = (held_by(config.bank_workers),)
    inputs = {"data": data, "source": source}
    return Step(f"bank.{name}", build_memories, build, inputs, resources=Resources(0), launches=held)


def training_step(
    name: str,
    fn: Callable[[StepContext], Trained],
    train: object,
    inputs: Mapping[str, Step],
    workers: WorkerConfig,
) -> Step:
    """A step that trains where `workers` says: in its own process, or in a group of Ray Train workers."""
    several = workers.num_workers > 1
    return Step(
        name,
        fn,
        train,
        inputs,
        resources=Resources(0) if several else held_by(workers),
        launches=(held_by(workers),) * workers.num_workers if several else (),
    )


def evaluation_step(evaluate: EvaluateConfig, data: Step, trained: Mapping[str, Step], workers: WorkerConfig) -> Step:
    """The step that reads the test split for one arm, where its seeds were trained."""
    held = held_by(workers) if trained else Resources()
    return Step(f"evaluate.{evaluate.arm}", evaluate_arm, evaluate, {"data": data, **group("seeds", trained)}, resources=held)


def _report(config: ZooToTarget, evaluations: dict[str, Step]) -> Step:
    other = [s.name for s in config.sources if s.name not in config.startable]
    notes = (f"Not finetuned from {', '.join(other)}: another network than the target's.",) if other else ()
    page = ReportConfig(title="zoo to target", pipeline=config, observed=config.observed, arms=tuple(evaluations), notes=notes)
    return Step("report", make_report, page, group("arms", evaluations))


# --------------------------------------------------------------------------------------------------------------------- presets


def laptop() -> ZooToTarget:
    """Real handwritten digits: sources with one and two digits, a target with three and 64 training clips.

    About six minutes on two CPU cores. TMU and the best finetune end level, at a strict/mse of 0.0446 and 0.0444.
    """
    predictor = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(24, 24), patch_size=4)

    def sampling(iterations: int) -> ScheduledSampling:
        return ScheduledSampling(start=1.0, rate=1 / iterations, stop_iteration=iterations)

    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=f"digits-{n}",
                data=DigitsConfig(num_digits=n, train=2000, seed=n),
                predictor=predictor,
                training=TrainingConfig(iterations=1000, learning_rate=2e-3, sampling=sampling(400), validate_every=100, seed=n),
            )
            for n in (1, 2)
        ),
        target=TargetConfig(
            data=DigitsConfig(num_digits=3, train=64, test=256, seed=3),
            predictor=predictor,
            training=TrainingConfig(iterations=300, learning_rate=3e-4, sampling=sampling(300), validate_every=50),
        ),
    )


def smoke() -> ZooToTarget:
    """Every step in its smallest form, in under a minute: shows that all works, and nothing about which arm is better."""
    predictor = PredictorConfig(hidden_channels=(8, 8))
    small = DigitsConfig(frame_size=16, digit_size=8, length=6, train=32, validation=8, test=8)
    training = TrainingConfig(iterations=10, batch_size=4, validate_every=5, checkpoint_every=5)
    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=f"digits-{n}",
                data=dataclasses.replace(small, num_digits=n, seed=n),
                predictor=predictor,
                training=training,
            )
            for n in (1, 2)
        ),
        target=TargetConfig(
            data=dataclasses.replace(small, num_digits=2, train=16, seed=3), predictor=predictor, training=training
        ),
        observed=3,
        seeds=2,
        num_strips=2,
    )


def paper() -> ZooToTarget:
    """The paper's Moving MNIST scale with the releases' hyperparameters: four layers of 64 channels, 80,000 iterations, GPUs.

    Set `sources.*.data.path` and `target.data.path` to MNIST's `train-images-idx3-ubyte.gz`. The transfer units are ours, which
    do not diverge; `-S transfer.tmu.combine=sum` and the other release values that `pipelines show` lists give the released ones.
    Not run by us: we have no such machine. Expect days on one GPU and a bank of tens of gigabytes.
    """
    predictor = PredictorConfig(cell=ConvLSTM(kernel_size=5), hidden_channels=(64, 64, 64, 64), patch_size=4)
    training = TrainingConfig(
        iterations=80_000,
        batch_size=8,
        learning_rate=3e-4,
        sampling=ScheduledSampling(start=1.0, rate=2e-5, stop_iteration=50_000),
        reverse_input=True,
        validate_every=1_000,
        checkpoint_every=1_000,
    )
    workers = WorkerConfig(cpus_per_worker=4, gpus_per_worker=1)
    clips = MovingMnistConfig(frame_size=64, length=20, train=10_000, validation=1_000, test=1_000)
    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=f"mnist-{n}",
                data=dataclasses.replace(clips, num_digits=n, seed=n),
                predictor=predictor,
                training=dataclasses.replace(training, learning_rate=1e-4, seed=n),
                workers=workers,
            )
            for n in (1, 2)
        ),
        target=TargetConfig(
            data=dataclasses.replace(clips, num_digits=3, train=1_000, seed=3),
            predictor=predictor,
            training=training,
            workers=workers,
        ),
        bank=BankConfig(reversed=True),
        bank_workers=dataclasses.replace(workers, num_workers=2),
    )


PRESETS = {"smoke": smoke, "laptop": laptop, "paper": paper}
