"""The steps that experiments share: build clips, build banks, evaluate an arm, write the report.

Each is a function of a `StepContext`, named in a `Step`; `zoocast.experiment.parts` makes those steps. The steps of sources and
of searches have modules of their own, and training steps live with what they train.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoocast.bank.build import build_bank
from zoocast.bank.config import BankConfig
from zoocast.bank.frozen import load_frozen
from zoocast.bank.recipe import BankResult
from zoocast.config import setting
from zoocast.dag import StepContext, step_kind
from zoocast.data import DataConfig
from zoocast.data.store import ClipSplit, ClipStore
from zoocast.evaluation import Clips, Predict, Scores, copy_last, evaluate
from zoocast.evaluation.forecasts import climatology, forecast, quantity_of
from zoocast.experiment.ensemble import Combine, Routed, ensemble, multiply_adds
from zoocast.frames import FrameShape
from zoocast.metrics.forecast import ForecastConfig
from zoocast.nn.predictor import Predictor, load_predictor
from zoocast.report.compare import Comparison
from zoocast.report.data import Listening
from zoocast.report.files import (
    save_forecasts,
    save_gates,
    save_kinds,
    save_listening,
    save_routes,
    save_scores,
    save_sequences,
    save_strips,
)
from zoocast.report.gather import gather, write_report
from zoocast.report.made import command_of
from zoocast.report.sections import Section
from zoocast.store.files import require_free_space
from zoocast.store.recorded import check_file
from zoocast.tracking import Journal
from zoocast.training import MODEL_FOLDER, WorkerConfig, use_threads
from zoocast.transfer import BANK_FOLDER
from zoocast.transfer.tmu import RELEVANCE

__all__ = [
    "TEST",
    "BuildBankConfig",
    "BuildClipsConfig",
    "BuiltClips",
    "EvaluateConfig",
    "Evaluated",
    "ReportConfig",
    "Reported",
    "build_clips",
    "build_memories",
    "evaluate_arm",
    "make_report",
    "remarks_on",
]

TEST = "test"
"""The input of an evaluation with the clips that are judged on, where those of `data` are too short."""

MAX_EXAMPLES = 8
"""Training clips that are kept as pictures of whom they listened to."""

PAGE_METRICS = ("strict/mse", "strict/ssim")
"""Metrics of every arm that the pipeline run's own page in MLflow shows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildClipsConfig:
    """The step that makes a clip store."""

    data: DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltClips:
    """What a clip store holds: the digest of its content, the shape of a frame, and the frames of a clip."""

    digest: str
    shape: FrameShape
    length: int


def remarks_on(data: DataConfig) -> tuple[str, ...]:
    """How a data set reads the user's files, and what is doubtful about it; nothing for one that has no `remarks`."""
    remarks: Callable[[], tuple[str, ...]] | None = getattr(data, "remarks", None)
    return remarks() if remarks else ()


@step_kind("build-clips")
def build_clips(context: StepContext) -> BuiltClips:
    """Step: the clip store of one data set, in the step's folder."""
    config: BuildClipsConfig = context.config
    with Journal(context.journal_path) as journal:
        # A data set that fills the disk would take the other steps on this machine with it.
        require_free_space(context.directory, config.data.estimated_bytes(), f"the clips of {context.name}")
        store = config.data.build(context.directory, context.progress)
        journal.dataset(
            config.data.kind, store.digest, context="built", profile={"frames": store.length, "shape": str(store.shape)}
        )
        if remarks := remarks_on(config.data):
            journal.note("\n".join(f"- {remark}" for remark in remarks))
        return BuiltClips(digest=store.digest, shape=store.shape, length=store.length)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildBankConfig:
    """The step that stores the memories of one source for the target's clips.

    Of the target only its number of layers counts, which decides the layers of the source that are kept; the source is an input.
    """

    source: str = setting(identity=False)
    bank: BankConfig
    observed: int
    target_depth: int
    workers: WorkerConfig = setting(WorkerConfig(), identity=False)


@step_kind("build-bank")
def build_memories(context: StepContext) -> BankResult:
    """Step ``bank.SOURCE``: a stored memory bank. Inputs: the target's ``data``, and ``source``."""
    config: BuildBankConfig = context.config
    with Journal(context.journal_path) as journal:
        manifest = build_bank(
            config.bank,
            name=config.source,
            source=context.inputs["source"] / MODEL_FOLDER,
            clips=context.inputs["data"],
            observed=config.observed,
            target_depth=config.target_depth,
            directory=context.directory / BANK_FOLDER,
            num_actors=config.workers.num_workers,
            cpus_per_actor=config.workers.cpus_per_worker,
            gpus_per_actor=config.workers.gpus_per_worker,
            max_failures=config.workers.max_failures,
            progress=context.progress,
            should_stop=context.should_stop,
        )
        journal.params({"policy": config.bank.policy, "dtype": config.bank.dtype, "source": config.source})
        journal.tags({"zoocast.bank_digest": manifest.digest})
        return BankResult(digest=manifest.digest, bytes=manifest.bytes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The step that reads the test split for one arm: all its seeds, and the strips of `num_strips` clips.

    The arm's name is a label: what is the same work under two names is one step.
    """

    arm: str = setting(identity=False)
    observed: int
    horizon: int = setting(0, "frames that are predicted; 0: the rest of every clip", added=True)
    num_strips: int
    sources: tuple[str, ...] = ()
    combine: Combine | None = setting(None, "how the sources predict where nothing is trained", added=True)
    forecast: ForecastConfig = setting(ForecastConfig(), "what is measured besides the protocols", added=True)
    batch_size: int = setting(32, identity=False)  # scores add up over batches, whatever their size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was measured on the test split, and what a prediction costs.

    Attributes:
        means: every metric over the whole horizon and as the mean over seeds; none that is infinite (see `Metric`).
        networks: that are kept to predict with.
        parameters: of all of these together.
        multiply_adds: in the prediction of one clip.
    """

    means: Mapping[str, float]
    networks: int = 0
    parameters: int = 0
    multiply_adds: int = 0


@step_kind("evaluate", version=2)
def evaluate_arm(context: StepContext) -> Evaluated:
    """Step: scores of every seed on the whole test split, prediction strips, and what the transfer gates let through.

    Inputs: ``data``, ``test`` where its clips are too short to be judged on, and the group ``seeds``, a training for each seed by
    its number. An arm without training has the group ``sources`` where they predict as `EvaluateConfig.combine` says; else it is
    the baseline that repeats the last frame.
    """
    config: EvaluateConfig = context.config
    use_threads(context.resources.num_cpus)
    device = "cuda" if context.resources.num_gpus else "cpu"
    store = ClipStore.open(context.inputs["data"])
    tested = ClipStore.open(context.inputs.get(TEST, store.path))
    test = _InScaleOf(store, tested.split("test"))
    horizon = config.horizon or store.length - config.observed
    seeds = {int(seed): folder for seed, folder in context.group("seeds").items()}
    networks = _sources(context, store.shape, device)
    scores: dict[int, Scores] = {}
    predicts: dict[int, Predict] = {}
    with Journal(context.journal_path) as journal:
        journal.params({"arm": config.arm, "seeds": len(seeds), "observed": config.observed, "horizon": horizon})
        journal.dataset("target", tested.digest, context="test")
        for seed in sorted(seeds) or [0]:  # the baseline has no training, and one score
            predictor = load_predictor(seeds[seed] / MODEL_FOLDER, device) if seeds else None
            predict: Predict = _untrained(config, networks, horizon)
            if predictor is not None:
                networks, predict = {config.arm: predictor}, functools.partial(predictor.predict, horizon=horizon)
            if config.forecast.asked:  # else the networks of the other seeds need not be held
                predicts[seed] = predict
            scores[seed] = evaluate(predict, test, observed=config.observed, horizon=horizon, batch_size=config.batch_size)
            if predictor is not None:
                # For the training's own page; what the other protocols say is on the page of this step.
                strict = [name for name in scores[seed].names if name.startswith("strict/")]
                journal.scores(seeds[seed], {f"test/{name}": scores[seed].overall(name) for name in strict})
            if len(scores) == 1:  # of the first seed only, once all that it predicts is known to be finite
                _keep_pictures(context, predict, predictor, test, horizon)
                if seeds:
                    _keep_listening(context, seeds[seed], store.split("train"))
                clip = test.clips([0])[:, : config.observed]
                cost = multiply_adds(predict, clip)
            context.progress(len(scores) / max(len(seeds), 1), f"seed {seed}")
        save_scores(context.directory, "test", scores)
        if kinds := tested.split("test").kinds:
            save_kinds(context.directory, kinds)
        if sequences := tested.split("test").sequences:
            save_sequences(context.directory, sequences)
        if predicts:
            _keep_forecasts(context, predicts, store, test, journal)
        if isinstance(predict, Routed):
            _keep_routes(context, predict, test)
        means = {name: sum(s.overall(name) for s in scores.values()) / len(scores) for name in scores[min(scores)].names}
        means = {name: mean for name, mean in means.items() if math.isfinite(mean)}  # JSON has no infinite PSNR
        journal.metrics({f"test/{name}": value for name, value in means.items()}, step=0)
    return Evaluated(
        means=means,
        networks=len(networks),
        parameters=sum(p.numel() for network in networks.values() for p in network.parameters()),
        multiply_adds=cost,
    )


def _sources(context: StepContext, frames: FrameShape, device: str) -> dict[str, Predictor]:
    """The sources among the inputs, in the order of the config."""
    config, folders = context.config, context.group("sources")
    return {name: load_frozen(folders[name] / MODEL_FOLDER, frames, (), device).predictor for name in config.sources if folders}


def _untrained(config: EvaluateConfig, networks: Mapping[str, Predictor], horizon: int) -> Predict:
    """How an arm without training predicts."""
    if config.combine == "routed":
        return Routed(networks, horizon)
    return ensemble(networks, horizon) if config.combine == "ensemble" else copy_last(horizon)


def _keep_forecasts(
    context: StepContext, predicts: Mapping[int, Predict], store: ClipStore, test: Clips, journal: Journal
) -> None:
    """What `EvaluateConfig.forecast` asks for, of every seed and of all together."""
    config: EvaluateConfig = context.config
    measured = config.forecast
    found = forecast(
        predicts,
        test,
        measured,
        quantity_of(measured, store.recipe.channels),
        observed=config.observed,
        horizon=config.horizon or store.length - config.observed,
        mean_frame=climatology(store.split("train"), measured.channel) if measured.latitudes else None,
        distance=measured.distance(store.shape),
        batch_size=config.batch_size,
    )
    save_forecasts(context.directory, found)
    means = {name: float(np.mean(values)) for name, values in found.scores().items()}
    # A journal takes neither commas nor a unit's signs in a name, and no score that is not a number.
    known = {re.sub(r"[^\w./: -]", "", name, flags=re.ASCII): mean for name, mean in means.items() if math.isfinite(mean)}
    journal.metrics({f"test/forecast/{name}": mean for name, mean in known.items()}, step=0)


@dataclasses.dataclass(frozen=True)
class _InScaleOf:
    """Test clips in the scale of `store`, which networks were trained in; longer clips are scaled by their own training split."""

    store: ClipStore
    split: ClipSplit

    def __len__(self) -> int:
        return len(self.split)

    def clips(self, indices: Sequence[int]) -> Tensor:
        """See `zoocast.evaluation.Clips`."""
        clips, own = self.split.clips(indices), self.split.store.recipe.channels
        wanted = self.store.recipe.channels
        if own == wanted:
            return clips
        factor = torch.tensor([mine.factor / theirs.factor for mine, theirs in zip(own, wanted, strict=True)])
        offset = torch.tensor([(mine.offset - theirs.offset) / theirs.factor for mine, theirs in zip(own, wanted, strict=True)])
        return (offset[:, None, None] + factor[:, None, None] * clips).clamp(0, 1)  # as the clips of the store are


def _keep_routes(context: StepContext, predict: Routed, split: Clips) -> None:
    """Which source every clip was routed to."""
    config: EvaluateConfig = context.config
    starts = range(0, len(split), config.batch_size)
    batches = (range(start, min(start + config.batch_size, len(split))) for start in starts)
    errors = torch.cat([predict.errors(split.clips(batch)[:, : config.observed]).cpu() for batch in batches])
    save_routes(context.directory, errors.numpy(), config.sources)


def _keep_listening(context: StepContext, training: Path, split: ClipSplit) -> None:
    """What each source counted for each training clip, where the training left it, and the first clip of each kind and source."""
    path = check_file(training / RELEVANCE)
    if not path.exists():
        return
    with np.load(path, allow_pickle=False) as arrays:
        # Continued clips stand behind the target's own, and were not asked about.
        weights, sources = arrays["relevance"][: len(split)], tuple(map(str, arrays["sources"]))
    kinds = split.kinds
    pairs = list(zip(kinds or [""] * len(split), weights.argmax(axis=1).tolist(), strict=True))
    firsts = [pairs.index(pair) for pair in sorted(set(pairs))][:MAX_EXAMPLES]
    examples = dict(zip(firsts, split.clips(firsts).numpy(), strict=True))
    save_listening(context.directory, Listening(weights, sources, kinds, examples))


def _keep_pictures(context: StepContext, predict: Predict, predictor: Predictor | None, test: Clips, horizon: int) -> None:
    """Strips of clips spread over the test split, and for a network with transfer units the gates of the first one."""
    config: EvaluateConfig = context.config
    # Ends included, and a function of the numbers alone: all arms show the same clips.
    chosen = torch.linspace(0, len(test) - 1, min(config.num_strips, len(test))).round().long()
    clips = test.clips(chosen.tolist())[:, : config.observed + horizon]
    observed, truth = clips[:, : config.observed], clips[:, config.observed :]
    with torch.inference_mode():
        prediction = predict(observed)
        save_strips(context.directory, observed.numpy(), truth.numpy(), prediction.cpu().numpy(), chosen.tolist())
        if predictor is not None and predictor.config.tmu is not None:
            # True frames while they are observed, then its own predictions, as in `predict`, which returns no gates.
            feed = torch.ones(1, clips.shape[1] - 1)
            feed[:, config.observed :] = 0
            aux = predictor(clips[:1].to(predictor.device), feed, aux=("gates",)).aux
            first_unit = aux[min(aux)][0].cpu()  # keys are (layer, "gates"): the lowest layer; (steps, M, n, h, w)
            # To (M, steps, h, w), the mean over channels: one picture for each source and step.
            save_gates(context.directory, first_unit.mean(2).transpose(0, 1).numpy(), config.sources)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The step that writes the page; `pipeline` is the whole configuration, which the page lists."""

    title: str
    pipeline: Any
    observed: int
    arms: tuple[str, ...]
    comparison: Comparison | None = setting(None, "whose comparison is the headline")
    families: Mapping[str, str] | None = setting(None, "the family of arms that share a colour")
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()

    def __post_init__(self) -> None:
        # What a report would refuse at its end is refused before anything is trained.
        for named in (self.comparison, *self.sections):
            if named is not None:
                named.check(self.arms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """The result in one or two sentences, and the numbers that the run's own page in MLflow shows."""

    headline: str
    metrics: Mapping[str, float]


@step_kind("report")
def make_report(context: StepContext) -> Reported:
    """Step: ``report.html``, its figures and ``result.json`` from all that the arms left."""
    config: ReportConfig = context.config
    data = gather(
        {arm: context.group("arms")[arm] for arm in config.arms},
        title=config.title,
        config=config.pipeline,
        observed=config.observed,
        step=context.name,
        comparison=config.comparison,
        families=config.families,
        notes=config.notes,
        sections=config.sections,
        command=command_of(context.root.folder, context.run_id),
    )
    write_report(data, context.directory)
    # MLflow groups charts by what stands before the slash, here the metric, and draws its arms side by side.
    means = {
        f"{name.replace('/', '_')}/{arm}": float(np.mean(v)) for name in PAGE_METRICS for arm, v in data.scores[name].items()
    }
    families = config.families or {}
    against = {f"{families.get(d.arm, d.arm)}_minus/{d.other}": d.mean for d in data.differences}
    return Reported(headline=data.headline, metrics={**means, **against})
