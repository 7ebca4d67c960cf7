"""A small finished run on disk, as its steps would leave it: real moving digits, and predictions that blur with time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from zoocast.config import canonical, setting
from zoocast.dag import Record, read_record
from zoocast.dag.step import GROUP
from zoocast.evaluation import Scores
from zoocast.metrics import METRICS, FramePairs, Statistics
from zoocast.report.compare import Comparison
from zoocast.report.data import Listening, ReportData
from zoocast.report.files import save_gates, save_kinds, save_listening, save_scores, save_strips
from zoocast.report.gather import gather
from zoocast.search import SearchSpace, Study, TrialRecord, When
from zoocast.search.study import suggest
from zoocast.store.files import list_files
from zoocast.tracking.journal import Journal

OBSERVED, HORIZON, SIZE, CLIPS, SEEDS = 10, 10, 32, 12, 3
BLUR = {"scratch": 1.3, "finetune.two-digits": 1.0, "finetune.one-digit": 1.1, "l2-sp": 0.95, "tmu": 0.8}
SOURCES = ("two-digits", "one-digit")
KINDS = ("slow", "slow", "fast") * (CLIPS // 3)
WEIGHTS = np.float32([[2, 0], [2, 0], [0, 2], [0, 2]])
FINETUNED = ("finetune.two-digits", "finetune.one-digit")
COMPARISON = Comparison(ours=("tmu",), rival=FINETUNED, ours_words="TMU", rival_words="the best finetune")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    iterations: int = setting(400, "updates of the weights")
    learning_rate: float = setting(1e-3, "of Adam")
    hidden_channels: tuple[int, ...] = setting((32, 32), "channels of each layer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    name: str = setting("digits <b>&</b> co", "of the run")
    source: TrainingConfig = TrainingConfig(iterations=800)
    target: TrainingConfig = TrainingConfig()


class Run(NamedTuple):
    """The folders that the report step reads by arm, the configuration, and what was put into them."""

    evaluations: dict[str, Path]
    config: RunConfig
    comparison: Comparison
    families: dict[str, str]
    seeds: int = SEEDS
    observed: int = OBSERVED
    horizon: int = HORIZON
    num_clips: int = CLIPS

    def report(self, **changes: Any) -> ReportData:
        """The gathered report."""
        given = {"title": "Zoo to target", "config": self.config, "observed": self.observed}
        return gather(self.evaluations, **{**given, "comparison": self.comparison, "families": self.families, **changes})

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.evaluations)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build(tmp_path_factory.mktemp("run") / "steps")


def build(root: Path) -> Run:
    random = np.random.default_rng(0)
    clips = moving_digits(random)
    steps = Steps(root)
    for name in (*SOURCES, "target"):
        steps.add("build-clips", f"data.{name}", [], 2.0)
    for name in SOURCES:
        steps.add("pretrain-source", f"source.{name}", [f"data.{name}"], 55.0, at=4.0)
    steps.add("build-bank", "bank", ["data.target", *(f"source.{n}" for n in SOURCES)], 8.0)
    evaluations = {}
    for arm in ("copy-last", *BLUR):
        trained = [_train(steps, arm, seed, random) for seed in range(SEEDS)] if arm in BLUR else []
        evaluations[arm] = steps.evaluation(arm, trained)
        evaluate(evaluations[arm], BLUR.get(arm), SEEDS if arm in BLUR else 1, clips, random)
        save_kinds(evaluations[arm], KINDS)
        if arm == "tmu":
            save_gates(evaluations[arm], gates(random), SOURCES)
            save_listening(evaluations[arm], Listening(WEIGHTS, SOURCES, KINDS[:4], {0: clips[0], 2: clips[2]}))
    record_files(steps.root)
    return Run(evaluations, RunConfig(), COMPARISON, dict.fromkeys(FINETUNED, "finetune"))


class Steps:
    """Finished steps under a root, with a clock that advances by their durations."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, 1.7e9

    def evaluation(self, arm: str, trained: Sequence[str]) -> Path:
        """The folder of an arm's evaluation, whose seeds have been trained by these steps."""
        seeds = {f"seeds{GROUP}{seed}": name for seed, name in enumerate(trained)}
        return self.add("evaluate", f"evaluate.{arm}", {"data": "data.target", **seeds}, 3.0)

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str] | Mapping[str, str],
        seconds: float,
        at: float | None = None,
        config: Any = None,
        **result: Any,
    ) -> Path:
        """The folder of a new step; `at` starts it so many seconds after the first instead of after the last."""
        needs = inputs.items() if isinstance(inputs, Mapping) else [(n, n) for n in inputs]
        started = self.now if at is None else 1.7e9 + at
        self.now = max(self.now, started + seconds)
        record = Record(
            name=name, key="0" * 12, kind=kind, version=1, config=canonical(config), salt="",
            inputs={as_: (n, "0" * 12) for as_, n in needs},
            started=started, finished=started + seconds, seconds=seconds, result=result, host="laptop", run="toy",
            resources={}, versions={"python": "3.11.7", "torch": "2.13.0"}, files={},
        )  # fmt: skip
        directory = self.root / f"{name}-{record.key}"
        directory.mkdir(parents=True)
        record.write(directory)
        return directory


def record_files(root: Path) -> None:
    """List in the record of each step under `root` what was left in its folder since."""
    for directory in root.iterdir():
        files = list_files(directory, skip=("done.json",))
        dataclasses.replace(read_record(directory), files=files).write(directory)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    """No steps yet, under a new root."""
    return Steps(tmp_path / "steps")


def _train(steps: Steps, arm: str, seed: int, random: np.random.Generator) -> str:
    name, blur = f"target.{arm}.seed{seed}", BLUR[arm]
    needs = [
        "data.target",
        *(["bank"] if arm == "tmu" else [f"source.{arm.partition('.')[2] or SOURCES[0]}"] if arm != "scratch" else []),
    ]
    iterations = np.arange(20, 401, 20)
    errors = (
        (0.02 + 0.012 * blur) * (1 + 2.5 * np.exp(-iterations / (70 * blur))) * (1 + random.normal(0, 0.025, len(iterations)))
    )
    directory = steps.add(
        "train-target", name, needs, 18.0, at=70.0 + 11 * len(list(steps.root.glob("target.*"))), val_mse=float(errors.min())
    )
    journal = Journal(directory / "journal.jsonl")
    for step, error in zip(iterations, errors, strict=True):
        journal.metrics({"val/mse": error, "train/loss": 0.8 * error * random.normal(1, 0.05)}, step=int(step))
    journal.close()
    return name


def evaluate(directory: Path, blur: float | None, seeds: int, clips: np.ndarray, random: np.random.Generator) -> None:
    """What an arm that blurs so much leaves; None repeats the last frame."""
    observed, truth = clips[:, :OBSERVED], clips[:, OBSERVED:]
    scores, first = {}, None
    for seed in range(seeds):
        scale = random.normal(1, 0.015)
        predicted = np.repeat(observed[:, -1:], HORIZON, axis=1) if blur is None else predict(truth, blur * scale)
        first = predicted if first is None else first
        scores[seed] = score(predicted, truth)
    save_scores(directory, "test", scores)
    assert first is not None
    save_strips(directory, observed[:3], truth[:3], first[:3], (0, 1, 2))


def moving_digits(random: np.random.Generator) -> np.ndarray:
    """(CLIPS, OBSERVED + HORIZON, 1, SIZE, SIZE) float32: two digits that bounce."""
    images = load_digits().images / 16
    out = np.zeros((CLIPS, OBSERVED + HORIZON, 1, SIZE, SIZE), np.float32)
    for clip in out:
        for _ in range(2):
            image = np.kron(images[random.integers(len(images))], np.ones((2, 2)))
            place, speed = random.uniform(0, SIZE - 16, 2), random.uniform(-2, 2, 2)
            for frame in clip[:, 0]:
                y, x = np.abs((SIZE - 16) - np.abs((SIZE - 16) - place % (2 * (SIZE - 16)))).round().astype(int)
                np.maximum(frame[y : y + 16, x : x + 16], image, out=frame[y : y + 16, x : x + 16])
                place += speed
    return out


def predict(truth: np.ndarray, blur: float) -> np.ndarray:
    sigma = blur * (0.45 + 0.2 * np.arange(HORIZON))
    return np.stack([gaussian_filter(truth[:, t], (0, 0, s, s)) for t, s in enumerate(sigma)], axis=1)


def score(predicted: np.ndarray, truth: np.ndarray) -> Scores:
    pairs = FramePairs(predicted.astype(np.float32), truth.astype(np.float32))
    values = {name: metric.per_frame(pairs) for name, metric in METRICS.items()}
    return Scores(Statistics.of(values), dict(enumerate(values["strict/mse"].mean(1).tolist())))


def gates(random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:8, :8]
    maps = [
        [
            0.45 + 0.3 * np.exp(-((y - 4 - 3 * np.sin(t / 3 + m)) ** 2 + (x - 4 - 3 * np.cos(t / 3 + m)) ** 2) / 6) - 0.01 * t * m
            for t in range(19)
        ]
        for m in range(len(SOURCES))
    ]
    return np.array(maps) + random.normal(0, 0.008, (len(SOURCES), 19, 8, 8))


# ---------------------------------------------------------------------------------------------------------------- a search

PAPER = {
    "adapter.initial_rate": 1e-4,
    "adapter.meta_learning_rate": 1e-7,
    "adapter.rate_iterations": 10,
    "adapter.chain_weight": 10.0,
    "adapter.chain_ratio": 2.0,
    "adapter.moments": "private",
}
SPACE = SearchSpace(
    fields={
        "adapter.initial_rate": FloatDistribution(2e-5, 1e-3, log=True),
        "adapter.meta_learning_rate": FloatDistribution(1e-8, 1e-5, log=True),
        "adapter.rate_iterations": IntDistribution(2, 30),
        "adapter.chain_weight": CategoricalDistribution((0.0, 1.0, 10.0)),
        "adapter.chain_ratio": When("adapter.chain_weight", (1.0, 10.0), FloatDistribution(1.0, 4.0)),
        "adapter.moments": CategoricalDistribution(("private", "shared")),
    },
    points=(PAPER,),
)
LEVELS = [f"{d}.{level}" for d in ("forward", "reverse") for level in (*(f"cells.{i}" for i in range(4)), "head", "adapter")]
SEARCHED = ("searched.1", "searched.2")
ADAPTED = {"adam": 1.0, "paper": 0.98, "searched.1": 0.9, "searched.2": 0.92}


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose arms are SeeMore's second stage: a search, its best two settings, the paper's, and plain Adam."""
    random = np.random.default_rng(0)
    clips = moving_digits(random)
    steps = Steps(tmp_path_factory.mktemp("searched") / "steps")
    steps.add("build-clips", "data.target", [], 2.0)
    steps.add("train-bidirectional", "target.stage1.seed0", ["data.target"], 40.0, val_mse=0.05)
    study(random).save(steps.add("search", "the-search", ["data.target", "target.stage1.seed0"], 120.0))
    evaluations = {}
    for arm, blur in ADAPTED.items():
        needs = ["data.target", "target.stage1.seed0", *(["the-search"] if arm in SEARCHED else [])]
        trained = []
        for seed in range(SEEDS):
            trained.append(f"target.{arm}.seed{seed}")
            directory = steps.add("adapt", trained[-1], needs, 15.0, val_mse=0.05 * blur + 0.0001 * seed)
            write_journal(directory, seed, {"adam": None, "searched.1": 3.1e-4}.get(arm, 1e-4))
        evaluations[arm] = steps.evaluation(arm, trained)
        evaluate(evaluations[arm], blur, SEEDS, clips, random)
    comparison = Comparison(ours=SEARCHED, rival=("adam",), ours_words="the searched meta-adapter", rival_words="plain Adam")
    record_files(steps.root)
    return Run(evaluations, RunConfig(), comparison, dict.fromkeys(SEARCHED, "searched"))


def study(random: np.random.Generator) -> Study:
    """16 trials: the paper's settings and 15 drawn ones; half of the worse ones are stopped, one has diverged."""
    trials = []
    for number in range(16):
        params = suggest(SPACE, trials, number, seed=3, num_startup=20)
        distance = abs(np.log10(params["adapter.initial_rate"]) + 3.6)
        goal = 0.0405 + 0.004 * distance + 0.0006 * (params["adapter.moments"] == "shared") + random.normal(0, 0.0003)
        curve = tuple((i, float(goal + 0.012 * np.exp(-i / 45))) for i in range(20, 121, 20))
        trials.append(TrialRecord(number, params, "done", curve, {"iterations": 120}))
        if number == 9:
            diverged = ((20, 0.0519), (40, float("nan")))
            trials[-1] = TrialRecord(number, params, "failed", diverged, message="diverged: its error is nan at iteration 40")
        elif number > 2 and goal > 0.0425:
            trials[-1] = TrialRecord(number, params, "stopped", curve[: 2 + 2 * (number % 2)])
    return Study({"num_trials": len(trials)}, SPACE, tuple(trials))


def write_journal(directory: Path, seed: int, initial: float | None) -> None:
    """A journal, with rates that grow towards the head unless `initial` is None; the adapter's stays."""
    journal = Journal(directory / "journal.jsonl")
    journal.params({"adapter.initial_rate": initial} if initial else {})
    for iteration in range(20, 121, 20):
        pull = (np.tile([-0.9, -0.4, 0.1, 0.5, 0.9, 0.0], 2) + 0.05 * seed) * iteration / 120
        rates = (initial or 0.0) * np.clip(1 + pull, 0, 2)
        by_level = {f"rate/{level}": float(rate) for level, rate in zip(LEVELS, rates, strict=True)} if initial else {}
        journal.metrics({"val/mse": 0.05 - 1e-5 * iteration, "train/loss": 0.04, **by_level}, step=iteration)
    journal.close()
