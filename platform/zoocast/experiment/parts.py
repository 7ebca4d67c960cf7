"""The parts that pipelines put together: a `Target`, a `Zoo`, `Arm`s, and the report that compares them.

They are values that make `Step`s and hold no state. Steps of equal key are one step, so parts need not know of each other: two
zoos with a source in common, or two arms that do the same work, share it without a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from zoocast.bank.config import BankConfig
from zoocast.config import check_ranges, override, setting
from zoocast.dag import Resources, Step, StepContext, group
from zoocast.data import DataConfig
from zoocast.errors import ConfigError, within
from zoocast.evaluation import check_evaluation
from zoocast.experiment.continuing import ContinuationConfig, ContinueClipsConfig, continue_clips
from zoocast.experiment.ensemble import Combine
from zoocast.experiment.searching import FoundConfig, SearchTrainingConfig, search_training, searched_step, train_found
from zoocast.experiment.sources import AdoptConfig, PretrainConfig, RankConfig, adopt, pretrain, rank_sources
from zoocast.experiment.stages import (
    TEST,
    BuildBankConfig,
    BuildClipsConfig,
    EvaluateConfig,
    ReportConfig,
    build_clips,
    build_memories,
    evaluate_arm,
    make_report,
    remarks_on,
)
from zoocast.experiment.tuning import (
    FIRST_SEED,
    ChooseConfig,
    ChosenConfig,
    TuningConfig,
    choose_point,
    train_chosen,
    try_point,
)
from zoocast.metrics.forecast import ForecastConfig
from zoocast.nn.predictor import PredictorConfig, num_parameters, read_description
from zoocast.report.compare import Comparison
from zoocast.report.sections import Section
from zoocast.search import SearchConfig, load_space
from zoocast.training import TrainingConfig, WorkerConfig
from zoocast.transfer import Method, Scratch, TargetConfig, TrainTargetConfig, train_target
from zoocast.zoo import SourceConfig, check_observed

__all__ = [
    "COPY_LAST",
    "Arm",
    "EvaluationConfig",
    "Target",
    "Zoo",
    "choose_step",
    "clips_step",
    "leave_one_out",
    "report_step",
    "search_step",
    "source_step",
    "with_chosen",
    "with_found",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Arm:
    """One line of the comparison: finished trainings with seeds 0, 1, ..., or none for a baseline without weights.

    Args:
        name: what the report calls it; ``evaluate.NAME`` reads the test split.
        seeds: the trainings, in the order of their seeds.
        family: arms of one family are drawn alike; left out, the arm is one by itself.
        sources: whose memories its transfer gates let through, in the gates' order; for the pictures of the gates.
        networks: the sources' steps, by name, where these predict and nothing is trained.
        combine: how they do; see `EvaluateConfig`.
    """

    name: str
    seeds: Sequence[Step] = ()
    family: str = ""
    sources: tuple[str, ...] = ()
    networks: Mapping[str, Step] = dataclasses.field(default_factory=dict)
    combine: Combine | None = None


COPY_LAST = Arm("copy-last")
"""The baseline that repeats the last observed frame."""


def clips_step(name: str, data: DataConfig) -> Step:
    """The step ``data.NAME`` that builds `data`."""
    build = BuildClipsConfig(data=data)
    return Step(
        f"data.{name}",
        build_clips,
        build,
        # The files that are read belong to what is built: their path says nothing, and the same one may hold others tomorrow.
        salt=data.source_digest(),
        estimated_bytes=data.estimated_bytes(),
        notes=remarks_on(data),
    )


def source_step(config: SourceConfig, *, observed: int) -> Step:
    """The step ``source.NAME`` that pretrains a source, or adopts a network that is there already."""
    name = f"source.{config.name}"
    if config.model:
        # Read when the steps are made, so that another network in the same folder is another step.
        digest = read_description(Path(config.model)).digest
        return Step(name, adopt, AdoptConfig(name=config.name, digest=digest, model=config.model))
    train = PretrainConfig(
        name=config.name,
        data=config.data,
        predictor=config.predictor,
        training=config.training,
        observed=observed,
        workers=config.workers,
    )
    return Step(
        name,
        pretrain,
        train,
        {"data": clips_step(config.name, config.data)},
        # It only waits for its workers. Had it a CPU, steps that wait could hold all of them, and no worker would ever start.
        resources=Resources(0),
        launches=(_held_by(config.workers),) * config.workers.num_workers,
        least_memory=_least_memory(config.predictor, config.data, config.workers),
    )


def _least_memory(predictor: PredictorConfig, data: DataConfig, workers: WorkerConfig) -> int:
    """Bytes of the weights, which begin on the CPU, and where they stay there of their gradients and Adam's two moments."""
    copies = 1 if workers.gpus_per_worker else 4
    return copies * 4 * num_parameters(predictor, data.frame_shape())


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How arms are judged on the test split where that is otherwise than they were trained."""

    observed: int = setting(0, "frames that are seen of every test clip; 0: as many as in training", at_least=0)
    horizon: int = setting(0, "frames that are predicted of every test clip; 0: as many as in training", at_least=0)
    forecast: ForecastConfig = setting(ForecastConfig(), "what forecasts are measured by besides", added=True)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What all arms of an experiment share: the target's clips and network, how it is trained, and how it is judged.

    Args:
        config: the target.
        observed: observed frames of every clip; the rest is the horizon.
        num_strips: test clips whose predictions are kept as pictures.
        name: of its clips, ``data.NAME``; another one for each target of an experiment with several.
        trains_on: the step of the clips that are trained on, where they are not `data`; it has the validation and test clips of
            `data` as well.
        evaluation: on how many frames it is judged; longer clips are built where `data`'s have too few.
    """

    config: TargetConfig
    observed: int
    num_strips: int = 4
    name: str = "target"
    trains_on: Step | None = None
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def judged(self) -> tuple[int, int]:
        """Observed and predicted frames of every test clip."""
        trained = self.config.data.length - self.observed
        return self.evaluation.observed or self.observed, self.evaluation.horizon or trained

    @cached_property
    def tested(self) -> DataConfig:
        """The data set whose test clips arms are judged on: the target's own, or the same with clips that are long enough."""
        data, length = self.config.data, sum(self.judged)
        return data if length <= data.length else dataclasses.replace(data, length=length)

    def check(self) -> None:
        """Raise `ConfigError` or `DataError`, under the field ``target`` or ``observed``, for what cannot work."""
        data = self.config.data
        with within("target"):
            self.config.check()
        check_observed(self.observed, data.length, "target")
        observed, horizon = self.judged
        try:
            tested = self.tested
            if tested is not data:
                tested.check()
        except ConfigError as error:
            raise ConfigError(
                "evaluation.horizon",
                f"asks for test clips of {observed} + {horizon} frames, which the target's data cannot give ({error});"
                " ask for fewer frames, or give it longer clips",
            ) from None
        with within("target.data"):
            check_evaluation(observed=observed, horizon=horizon, length=tested.length, frames=data.frame_shape())
        with within("evaluation.forecast"):
            self.evaluation.forecast.check(data.frame_shape())

    def remarks(self) -> tuple[str, ...]:
        """What a reader of the report must know of how arms are judged."""
        trained = self.observed, self.config.data.length - self.observed
        if self.judged == trained:
            return ()
        judged, frames = (f"{observed} observed and {horizon} predicted" for observed, horizon in (self.judged, trained))
        return (f"Judged on {judged} frames of every test clip, and trained on {frames} ones.",)

    @cached_property  # made once, for clips that are read from files are hashed for it
    def data(self) -> Step:
        """The target's clips."""
        return clips_step(self.name, self.config.data)

    def from_scratch(self, arm: str, training: TrainingConfig) -> TrainTargetConfig:
        """What one training of an arm without a zoo is; see `Zoo.training`."""
        return TrainTargetConfig(
            arm=arm,
            method=Scratch(),
            predictor=self.config.predictor,
            training=training,
            observed=self.observed,
            workers=self.config.workers,
        )

    def train(
        self, name: str, fn: Callable[[StepContext], Any], config: object, inputs: Mapping[str, Step] | None = None
    ) -> Step:
        """A step that trains on the target's clips, where the target's workers are: in its own process, or in Ray Train's.

        Args:
            name: of the step.
            fn: its function, such as `train_target`, or `adapt` for a second stage.
            config: of the function.
            inputs: besides ``data``: those that `Zoo.inputs` gives a method, ``start`` for a second stage.
        """
        workers = self.config.workers
        several = workers.num_workers > 1
        return Step(
            name,
            fn,
            config,
            {"data": self.trains_on or self.data, **(inputs or {})},
            # As in `source_step`: what only waits for its workers holds nothing.
            resources=Resources(0) if several else _held_by(workers),
            launches=(_held_by(workers),) * workers.num_workers if several else (),
            # At least: a method may put more into the network, or train two of them.
            least_memory=_least_memory(self.config.predictor, self.config.data, workers),
        )

    def evaluate(self, arm: Arm) -> Step:
        """The step ``evaluate.ARM``, the only one that reads the test split; it runs where the arm was trained."""
        observed, horizon = self.judged
        config = EvaluateConfig(
            arm=arm.name,
            observed=observed,
            horizon=0 if observed + horizon == self.config.data.length else horizon,
            num_strips=self.num_strips,
            sources=arm.sources,
            combine=arm.combine,
            forecast=self.evaluation.forecast,
        )
        # A mapping by number, and not a list: inputs are known by name, and one more seed leaves the others theirs.
        seeds = {str(seed): step for seed, step in enumerate(arm.seeds)}
        held = _held_by(self.config.workers) if seeds or arm.networks else Resources()  # copying a frame needs no GPU
        longer = {} if self.tested is self.config.data else {TEST: clips_step(f"{self.name}.{TEST}", self.tested)}
        inputs = {"data": self.data, **longer, **group("seeds", seeds), **group("sources", arm.networks)}
        return Step(f"evaluate.{arm.name}", evaluate_arm, config, inputs, resources=held)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Zoo:
    """Sources and what arms want to know of them: how they rank on the target, and the memories that they have of its clips.

    Args:
        target: whom the zoo is to help.
        sources: by name, the steps that leave a network in ``model/``; `source_step` makes them.
        bank: how the memories of the target's clips are made and kept.
        bank_workers: where they are computed.
        continuation: how `continued` makes more training clips of the target's.
        scope: a name for this zoo where an experiment has several: their steps are then called ``rank.SCOPE`` and so on.
    """

    target: Target
    sources: Mapping[str, Step]
    bank: BankConfig = BankConfig()
    bank_workers: WorkerConfig = WorkerConfig(num_workers=2)
    continuation: ContinuationConfig = ContinuationConfig()
    scope: str = ""

    def only(self, sources: Iterable[str], *, scope: str) -> Zoo:
        """The zoo of some of these sources, in this order. What is done for one source is done once for both."""
        return dataclasses.replace(self, sources={name: self.sources[name] for name in sources}, scope=scope)

    @cached_property
    def continued(self) -> Zoo:
        """The zoo for a target that also trains on what its sources add to its clips; itself without a `continuation`.

        Arms of both are judged on the same clips.
        """
        if not self.continuation.frames:
            return self
        target = self.target
        step = Step(
            self._scoped(f"data.{target.name}.continued"),
            continue_clips,
            ContinueClipsConfig(continuation=self.continuation, observed=target.observed),
            {"data": target.data, **group("sources", self.sources)},
            resources=_held_by(target.config.workers),
            estimated_bytes=(1 + len(self.continuation.offsets)) * target.data.estimated_bytes,
        )
        target = dataclasses.replace(target, trains_on=step)
        return dataclasses.replace(self, target=target, continuation=ContinuationConfig())

    @cached_property
    def rank(self) -> Step:
        """The step that says which source predicts the target's validation clips best."""
        config = RankConfig(observed=self.target.observed, target=self.target.config.predictor)
        inputs = {"data": self.target.data, **group("sources", self.sources)}
        return Step(self._scoped("rank"), rank_sources, config, inputs, resources=_held_by(self.target.config.workers))

    @cached_property
    def banks(self) -> dict[str, Step]:
        """The stored memories of each source, by its name; none when they are computed online."""
        return {name: self._bank(name) for name in self.sources} if self.bank.mode == "stored" else {}

    def _bank(self, name: str) -> Step:
        build = BuildBankConfig(
            source=name,
            bank=self.bank,
            observed=self.target.observed,
            # Not the target's whole config: another width or cell of the target leaves the banks as they are.
            target_depth=len(self.target.config.predictor.hidden_channels),
            workers=self.bank_workers,
        )
        inputs = {"data": self.target.trains_on or self.target.data, "source": self.sources[name]}
        # It begins as soon as one of its actors has room, and the others join when they have.
        held = (_held_by(self.bank_workers),)
        step = f"bank.{name}.continued" if self.target.trains_on else f"bank.{name}"
        return Step(self._scoped(step), build_memories, build, inputs, resources=Resources(0), launches=held)

    def inputs(self, method: Method) -> dict[str, Step]:
        """What a training with `method` reads, besides the target's clips."""
        return {
            **({"rank": self.rank} if "rank" in method.needs else {}),
            **group("sources", {name: self.sources[name] for name in method.reads(tuple(self.sources))}),
            # Of a source that was pretrained here; of an adopted one nobody has the clips.
            **group("clips", {n: s.inputs["data"] for n, s in self.sources.items()} if "clips" in method.needs else {}),
            **group("banks", self.banks if "banks" in method.needs else {}),
        }

    def training(self, arm: str, method: Method, training: TrainingConfig) -> TrainTargetConfig:
        """What one training of an arm is; for `train_target`, or within the config of a stage of another kind."""
        return TrainTargetConfig(
            arm=arm,
            method=dataclasses.replace(method, learning_rate=None),  # what is trained with stands in `training` alone
            predictor=self.target.config.predictor,
            training=training,
            observed=self.target.observed,
            # Only where it is read: an arm without distillation must not train anew because the bank has changed.
            bank=self.bank if "banks" in method.needs else None,
            sources=self.gated(method),
            workers=self.target.config.workers,
        )

    def arm(self, name: str, method: Method, seeds: int, tuning: TuningConfig | None = None) -> Arm:
        """An arm that trains in one stage, with the target's training, as the steps ``target.NAME.seedK``.

        Its family is its method, and its learning rate the method's if that has one. With `tuning` this rate, and the method's
        weight, are those that `choose_step` takes.
        """

        shared = self.target.config.training
        own = dataclasses.replace(shared, learning_rate=method.learning_rate or shared.learning_rate)

        def training(seed: int) -> Step:
            config = self.training(name, method, own.with_seed(seed))
            return self.target.train(f"target.{name}.seed{seed}", train_target, config, self.inputs(method))

        made = [training(seed) for seed in range(seeds)]
        if tuning is not None:
            chosen = choose_step(name, training, tuning)
            made = [with_chosen(step, chosen) for step in made]
        return Arm(name, made, family=method.kind, sources=self.gated(method))

    def together(self, combine: Combine) -> Arm:
        """An upper reference without training: all sources of this zoo predict, and are kept to predict with."""
        return Arm(combine, sources=tuple(self.sources), networks=self.sources, combine=combine)

    def gated(self, method: Method) -> tuple[str, ...]:
        """The sources between which the gates of `method` choose, in the gates' order; none for one without gates."""
        return tuple(self.sources) if method.has_units else ()

    def _scoped(self, name: str) -> str:
        return f"{name}.{self.scope}" if self.scope else name


def leave_one_out(sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Subsets of `sources` by a name for each: every one left out (``without.X``), then every one alone (``only.X``).

    Each subset once: of two sources, the one without the first is the second alone.

    Raises:
        ConfigError: there are fewer than two.
    """
    whole = tuple(sources)
    if len(whole) < 2:
        raise ConfigError("sources", f"must be at least two, or none can be left out, but got {', '.join(whole) or 'none'}")
    without = {f"without.{name}": tuple(n for n in whole if n != name) for name in whole if len(whole) > 2}
    return without | {f"only.{name}": (name,) for name in whole}


def report_step(
    title: str,
    pipeline: Any,
    target: Target,
    arms: Sequence[Arm],
    comparison: Comparison | None,
    *,
    notes: Iterable[str] = (),
    sections: Iterable[Section] = (),
    name: str = "report",
) -> Step:
    """The step that compares `arms` on a page, from their evaluations, which are made here as well.

    Args:
        title: of the page.
        pipeline: the whole configuration, which the page lists.
        target: on which the arms were trained, and are judged.
        arms: in the order in which they are shown.
        comparison: whose comparison is the headline; none where nothing is to be compared.
        notes: sentences that a reader must know.
        sections: what the page shows besides, such as a `SourceMatrix`.
        name: of the step; another one for each report of an experiment with several.

    Raises:
        ConfigError: two arms have one name, or the comparison or a section names an arm that is not there.
    """
    names = tuple(arm.name for arm in arms)
    # Before `group` makes a mapping of them, in which the second would replace the first without a word.
    if len(set(names)) < len(names):
        raise ConfigError("arms", f"every arm needs a name of its own, but got {', '.join(names)}")
    config = ReportConfig(
        title=title,
        pipeline=pipeline,
        observed=target.judged[0],
        arms=names,
        comparison=comparison,
        families={arm.name: arm.family for arm in arms if arm.family},
        notes=(*target.remarks(), *notes),
        sections=tuple(sections),
    )
    return Step(name, make_report, config, group("arms", {arm.name: target.evaluate(arm) for arm in arms}))


def search_step(training: Step, budget: SearchConfig, space: str, *, cycle: int, name: str = "search") -> Step:
    """The step that searches the settings of a training step; `with_found` trains with what was found.

    Args:
        training: what each trial does, in its own process; only its function, config and inputs are looked at. It should train
            for `budget.max_iterations`.
        budget: how much is searched.
        space: what is varied: a name of `searchspaces`, or a module of the user's own with its dots.
        cycle: ASHA compares trials after whole cycles of so many iterations, at which the training must validate.
        name: of the step; another one for each search of an experiment with several.

    Raises:
        ConfigError: there is no such space, it does not fit the training's config, or the training cannot be searched.
    """
    config = SearchTrainingConfig(step=searched_step(training.fn, training.config), search=budget, space=space, cycle=cycle)
    return Step(
        name,
        search_training,
        config,
        training.inputs,
        resources=Resources(0),
        launches=(budget.resources,),
        # The config holds the space's name alone; what its module says now is part of what is computed.
        salt=load_space(space, training.config).digest,
    )


def with_found(training: Step, found: Step, *, place: int = 0, take: Mapping[str, str] | None = None) -> Step:
    """The training step with the settings that the step `found`, a `search_step`, came to in place of its own.

    Args:
        training: of the same kind as was searched, or of another one with `take`.
        found: the search.
        place: which of its trials, 0 for the best.
        take: by field of the training's config, the field of the search whose value it gets; left out, each found setting goes
            where it was found.
    """
    config = FoundConfig(step=searched_step(training.fn, training.config), place=place, take=take)
    # Its place and resources stay the training's, whatever was searched.
    return dataclasses.replace(training, fn=train_found, config=config, inputs={**training.inputs, "search": found})


def choose_step(arm: str, training: Callable[[int], Step], tuning: TuningConfig) -> Step:
    """The step ``choose.ARM`` that tunes a training by grid; `with_chosen` trains with what it takes.

    Args:
        arm: which is tuned; its points are the steps ``tune.ARM.POINT.seedK``.
        training: the arm's training step with a seed. Each point trains by it in one process, as a trial of a search does.
        tuning: the grid.

    Raises:
        ConfigError: the training cannot be searched.
    """
    seeds = range(FIRST_SEED, FIRST_SEED + tuning.seeds)
    points = tuning.points(training(FIRST_SEED).config)

    def trial(point: str, seed: int) -> Step:
        step = training(seed)
        return dataclasses.replace(
            step,
            name=f"tune.{arm}.{point}.seed{seed}",
            fn=try_point,
            config=searched_step(step.fn, override(step.config, points[point])),
            resources=(*step.launches, step.resources)[0],
            launches=(),
        )

    inputs = {name: step for point in points for name, step in group(point, {str(k): trial(point, k) for k in seeds}).items()}
    note = f"{len(inputs)} trainings with seeds from {FIRST_SEED} on: {', '.join(points)}"
    return Step(f"choose.{arm}", choose_point, ChooseConfig(points=points), inputs, notes=(note,))


def with_chosen(training: Step, chosen: Step) -> Step:
    """The training step with the settings that the step `chosen`, a `choose_step`, takes in place of its own."""
    config = ChosenConfig(step=searched_step(training.fn, training.config))
    return dataclasses.replace(training, fn=train_chosen, config=config, inputs={**training.inputs, "choose": chosen})


def _held_by(workers: WorkerConfig) -> Resources:
    return Resources(workers.cpus_per_worker, workers.gpus_per_worker)
