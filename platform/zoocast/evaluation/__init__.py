"""From a predictor and a split to scores: every clip is predicted once, measured, and compared between arms and seeds.

Scores add up like the statistics inside them, survive JSON, and keep one number per clip, so that two arms can be compared on
the same clips and not only on the few seeds. An interval always says whether it covers seeds, clips, or both.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from zoocast.errors import ConfigError, DataError, IntegrityError, ZoocastError
from zoocast.evaluation.bootstrap import block_bootstrap
from zoocast.frames import FrameShape
from zoocast.metrics import METRICS, PROTOCOLS, SSIM_WINDOW, FramePairs, Metric, ProtocolName, Statistics, metrics_of

__all__ = [
    "CLIP_METRIC",
    "Clips",
    "PairedDifference",
    "Predict",
    "Scores",
    "check_evaluation",
    "copy_last",
    "evaluate",
    "paired_difference",
    "paired_over_blocks",
    "paired_over_both",
    "paired_over_clips",
    "predicted_and_true",
    "relative_difference",
    "validation_error",
]

CLIP_METRIC = "strict/mse"
"""The metric of which every clip's own number is kept."""

Predict = Callable[[Tensor], Tensor]
"""(B, observed, C, H, W) float32 in [0, 1] to (B, horizon, C, H, W)."""


class Clips(Protocol):
    """A split as evaluation sees it; `zoocast.data`'s splits are such."""

    def __len__(self) -> int: ...

    def clips(self, indices: Sequence[int]) -> Tensor:
        """(B, T, C, H, W) float32 in [0, 1]."""
        ...


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a predictor reached on a set of clips. Scores of different clips add up to the scores of all of them.

    Attributes:
        statistics: the sums behind the numbers of all protocols.
        clip_mse: `strict/mse` of each clip over the whole horizon, by the clip's index in its split.
    """

    statistics: Statistics
    clip_mse: Mapping[int, float]

    def __post_init__(self) -> None:
        if len(self.clip_mse) != self.statistics.count:
            raise ValueError(
                f"every clip counts once, but the sums hold {self.statistics.count} clips and {len(self.clip_mse)} are different"
            )

    @classmethod
    def zero(cls, *, horizon: int, protocols: Sequence[ProtocolName] = PROTOCOLS) -> Scores:
        """The scores of no clip, from which a sum can start."""
        return cls(Statistics.zero(metrics_of(protocols), horizon), {})

    def __add__(self, other: Scores) -> Scores:
        # A sharded evaluation that gave one clip to two workers would weigh it twice, and no number would show it.
        twice = sorted(self.clip_mse.keys() & other.clip_mse.keys())
        if twice:
            raise ValueError(f"only scores of different clips add up, but clip {twice[0]} is in both ({len(twice)} clips are)")
        return Scores(self.statistics + other.statistics, dict(sorted({**self.clip_mse, **other.clip_mse}.items())))

    @property
    def count(self) -> int:
        """Number of clips."""
        return self.statistics.count

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics measured, each with its protocol."""
        return tuple(self.statistics.sums)

    def per_frame(self, name: str) -> tuple[float, ...]:
        """The metric `name` for each frame of the horizon. Raises `ConfigError` if it was not measured."""
        return self.statistics.per_frame(name)

    def overall(self, name: str) -> float:
        """The metric `name` over the whole horizon. Raises `ConfigError` if it was not measured."""
        return self.statistics.overall(name)

    def means(self) -> dict[str, float]:
        """Every metric over the whole horizon, by name."""
        return {name: self.overall(name) for name in self.names}

    def to_json(self) -> dict[str, Any]:
        """The state as JSON data, from which `from_json` restores every bit."""
        return {
            # Sums and not means: they add up, and Python writes a float's shortest digits that give it back exactly.
            "count": self.count,
            "sums": {name: list(sums) for name, sums in self.statistics.sums.items()},
            "clip_mse": {str(index): value for index, value in self.clip_mse.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Scores:
        """The scores that `to_json` turned into `data`. Raises `IntegrityError` for anything else."""
        try:
            sums = {str(name): tuple(float(v) for v in sums) for name, sums in data["sums"].items()}
            scores = cls(Statistics(int(data["count"]), sums), {int(k): float(v) for k, v in data["clip_mse"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"scores must hold count, sums and clip_mse, but got {data!r:.80} ({error})") from None
        if not all(math.isfinite(v) for group in (*sums.values(), scores.clip_mse.values()) for v in group):
            raise IntegrityError("scores must be finite numbers, but some are not; evaluate again")
        return scores


# ---------------------------------------------------------------------------------------------------------------- evaluating


def check_evaluation(*, observed: int, horizon: int, length: int, frames: FrameShape) -> None:
    """Raises `ConfigError` unless clips of `length` frames can be evaluated; needs no data, so call it before work starts."""
    for field, value in (("observed", observed), ("horizon", horizon)):
        if value < 1:
            raise ConfigError(field, f"must be at least 1, but got {value}")
    if observed + horizon > length:
        raise ConfigError(
            "horizon",
            f"observed + horizon must not exceed a clip's length, but got {observed} + {horizon} for clips of {length} frames;"
            f" use a horizon of at most {max(length - observed, 0)} or longer clips",
        )
    if min(frames.height, frames.width) < SSIM_WINDOW:
        raise ConfigError(
            "", f"SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, but got {frames}; use larger frames"
        )


def evaluate(
    predict: Predict,
    split: Clips,
    *,
    observed: int,
    horizon: int,
    batch_size: int,
    protocols: Sequence[ProtocolName] = PROTOCOLS,
    indices: Sequence[int] | None = None,
) -> Scores:
    """The scores of `predict` on every clip of `split`, or on those of `indices` (one shard of it).

    Runs in inference mode; the number of threads stays as it is. The predictor must be in evaluation mode already. Only one
    batch is held at a time, and the last one may be smaller.

    Raises:
        ConfigError: an impossible geometry (see `check_evaluation`), batch size or protocol, or no clip at all.
        DataError: a clip of the split holds a value that is not finite.
        ZoocastError: a prediction holds a value that is not finite; the message names the clip and the frame. A diverged
            network has no score: counting it as a number, or leaving the clip out, would hide that.
    """
    if batch_size < 1:
        raise ConfigError("batch_size", f"must be at least 1, but got {batch_size}")
    metrics = metrics_of(protocols)
    chosen = range(len(split)) if indices is None else indices
    if not len(chosen):
        raise ConfigError("", "there is no clip to evaluate; give the split at least one clip")
    statistics, clip_mse = Statistics.zero(metrics, horizon), dict[int, float]()
    with torch.inference_mode():
        for start in range(0, len(chosen), batch_size):
            batch = [int(i) for i in chosen[start : start + batch_size]]
            values = _measure(predicted_and_true(predict, split.clips(batch), batch, observed, horizon), metrics)
            # (B, T) to one number per clip, the mean over its horizon.
            clip_mse.update(zip(batch, values[CLIP_METRIC].mean(1).tolist(), strict=True))
            statistics += Statistics.of({metric.name: values[metric.name] for metric in metrics})
    return Scores(statistics, dict(sorted(clip_mse.items())))  # by index, so that the order of evaluation leaves no trace


def validation_error(predict: Predict, split: Clips, *, observed: int, horizon: int, batch_size: int = 32) -> float:
    """`strict/mse` over the whole split and nothing else: cheap enough to select weights by while they are trained.

    A diverged network gets the infinite error: it is not selected, and training says why it diverged.
    """
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            clips = split.clips(range(start, min(start + batch_size, len(split))))
            predicted = predict(clips[:, :observed]).to("cpu", torch.float32)
            if not bool(predicted.isfinite().all()):  # before it is clipped, for then -inf is black and +inf is white
                return math.inf
            # Clipped as in `strict/mse`; a network whose output overshoots is selected by what it will be judged by.
            errors = (predicted.clamp(0, 1) - clips[:, observed : observed + horizon]).square()
            # Sums over clips in double precision: the batch size must not decide which weights are best.
            total += float(errors.flatten(1).mean(1).double().sum())
    return total / len(split) if math.isfinite(total) else math.inf


def _measure(pairs: FramePairs, metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    # Every clip's own number is kept under any protocol, for arms are compared by it.
    return {name: METRICS[name].per_frame(pairs) for name in {CLIP_METRIC, *(metric.name for metric in metrics)}}


def predicted_and_true(predict: Predict, clips: Tensor, batch: Sequence[int], observed: int, horizon: int) -> FramePairs:
    """What is predicted of clips (B, T, C, H, W), whose indices are `batch`, and what followed. Raises as `evaluate` does."""
    _, length, channels, height, width = clips.shape
    frames = FrameShape(channels=channels, height=height, width=width)
    check_evaluation(observed=observed, horizon=horizon, length=length, frames=frames)
    clips = clips[:, : observed + horizon].to("cpu", torch.float32)
    bad = _first_not_finite(clips)  # the data first, so that a network is not blamed for them
    if bad:
        raise DataError(
            f"clip {batch[bad[0]]} holds a value that is not finite in its frame {bad[1] + 1}; build the data set again"
        )
    truth = clips[:, observed:]
    predicted = predict(clips[:, :observed]).to("cpu", torch.float32)
    if predicted.shape != truth.shape:
        raise ValueError(f"a predictor must return frames of shape {tuple(truth.shape)}, but got {tuple(predicted.shape)}")
    bad = _first_not_finite(predicted)
    if bad:
        raise ZoocastError(
            f"the prediction for clip {batch[bad[0]]} holds a value that is not finite in frame {bad[1] + 1} of the horizon:"
            " the network has diverged; lower its learning rate or clip its gradients"
        )
    return FramePairs(predicted.numpy(), truth.numpy())


def _first_not_finite(frames: Tensor) -> tuple[int, int] | None:
    # (B, T, C, H, W) to the rows (clip, frame) that hold such a value.
    bad = (~frames.isfinite()).flatten(2).any(2).nonzero()
    return (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None


def _repeat_last(observed: Tensor, horizon: int) -> Tensor:
    return observed[:, -1:].repeat(1, horizon, 1, 1, 1)


def copy_last(horizon: int) -> Predict:
    """The baseline that repeats the last observed frame `horizon` times."""
    return functools.partial(_repeat_last, horizon=horizon)


# ---------------------------------------------------------------------------------------------------------------- comparing


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """The mean of the differences a - b between pairs, with the interval that covers the true mean with `confidence`.

    Attributes:
        low, high: the ends of Student's t interval; None for fewer than two pairs.
        count: number of pairs.
        over: what a pair is, and so what the interval speaks about. "seeds": training again with other seeds, on the same test
            clips. "clips": other test clips, with the same trained weights. "both": other seeds and other test clips. "blocks":
            other seeds and other recordings.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    over: Literal["seeds", "clips", "both", "blocks"] = "seeds"
    confidence: float = 0.95


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, over: Literal["seeds", "clips"] = "seeds", confidence: float = 0.95
) -> PairedDifference:
    """The mean of a[i] - b[i] with Student's t interval; pair i shares its seed (or its clip, see `over`)."""
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired values must be equally many and at least one, but got {len(a)} and {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not np.isfinite(differences).all():  # an interval from NaN to NaN does not contain zero either
        raise ValueError("paired values must be finite, but some are not")
    mean, count = float(differences.mean()), len(differences)
    if count < 2:  # one difference says nothing of how differences vary
        return PairedDifference(mean, None, None, count, over, confidence)
    half = _quantile(confidence, count - 1) * float(differences.std(ddof=1)) / math.sqrt(count)
    return PairedDifference(mean, mean - half, mean + half, count, over, confidence)


def relative_difference(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> PairedDifference:
    """The mean of a[i] - b[i] as a part of the mean of b, with Fieller's interval; pair i shares its seed.

    The interval holds every part r at which a[i] - (1 + r) b[i] cannot be told from zero by Student's t (Fieller, Journal of the
    Royal Statistical Society B 16, 1954). So it knows that the mean of b is uncertain too, and it contains zero exactly when the
    interval of `paired_difference` does. Its ends are None for fewer than two pairs, and where that mean is itself not told from
    zero.
    """
    plain = paired_difference(a, b, confidence=confidence)
    other = np.asarray(b, np.float64)
    mean = float(other.mean())
    relative = PairedDifference(plain.mean / mean if mean else 0.0, None, None, plain.count, "seeds", confidence)
    if plain.count < 2:
        return relative
    (own, shared), (_, theirs) = np.cov(np.asarray(a, np.float64) - other, other)
    scale = _quantile(confidence, plain.count - 1) ** 2 / plain.count
    # The ends solve  square r^2 - 2 middle r + rest = 0.
    square, middle, rest = mean**2 - scale * theirs, plain.mean * mean - scale * shared, plain.mean**2 - scale * own
    if square <= 0:
        return relative
    half = math.sqrt(max(middle**2 - square * rest, 0.0))
    return dataclasses.replace(relative, low=float((middle - half) / square), high=float((middle + half) / square))


def paired_over_clips(a: Sequence[Scores], b: Sequence[Scores], *, confidence: float = 0.95) -> PairedDifference:
    """The difference a - b in `strict/mse` paired by clip, each arm averaged over its seeds first.

    The interval covers the choice of test clips, taken as independent, and says nothing about other seeds: report it beside the
    one over seeds, never in its place.
    """
    # Over seeds first, for one clip's seeds are no independent pairs: each would narrow the interval without new clips.
    of_a, of_b = (arm.mean(axis=0).tolist() for arm in _clip_errors(a, b))
    return paired_difference(of_a, of_b, over="clips", confidence=confidence)


def paired_over_both(a: Sequence[Scores], b: Sequence[Scores], *, confidence: float = 0.95) -> PairedDifference:
    """The difference a[i] - b[i] in `strict/mse`, with an interval that covers other seeds and other test clips at once.

    Every seed is measured on every clip, so a difference is taken as mean + seed + clip + rest with random effects (a crossed
    design without replication). The variance of the mean is that of its parts by the method of moments, a negative one counted as
    zero: (MS_seed + max(MS_clip - MS_rest, 0)) / (seeds clips). The quantile of Student's t has the degrees of freedom of
    Satterthwaite (Biometrics Bulletin 2, 1946). In studies of several readers and cases this is the method of Dorfman, Berbaum
    and Metz (Hillis, Statistics in Medicine 26, 2007); readers are our seeds, and cases our clips.

    `count` is the number of seeds. There is no interval for fewer than two of them or of clips.
    """
    if len(a) != len(b):
        raise ValueError(f"seeds must be paired, but got {len(a)} and {len(b)}")
    of_a, of_b = _clip_errors(a, b)
    differences = of_a - of_b
    seeds, clips = differences.shape
    mean = float(differences.mean())
    if min(seeds, clips) < 2:
        return PairedDifference(mean, None, None, seeds, "both", confidence)
    by_seed, by_clip = differences.mean(1, keepdims=True), differences.mean(0, keepdims=True)
    # Mean squares and their degrees of freedom.
    seed, clip = clips * by_seed.var(ddof=1), seeds * by_clip.var(ddof=1)
    rest = float(((differences - by_seed - by_clip + mean) ** 2).sum()) / ((seeds - 1) * (clips - 1))
    terms = [(seed, seeds - 1)]
    if clip > rest:
        terms += [(clip, clips - 1), (-rest, (seeds - 1) * (clips - 1))]
    total = sum(value for value, _ in terms)
    if not total:  # all differences are equal
        return PairedDifference(mean, mean, mean, seeds, "both", confidence)
    freedom = total**2 / sum(value**2 / degrees for value, degrees in terms)
    half = _quantile(confidence, freedom) * math.sqrt(total / (seeds * clips))
    return PairedDifference(mean, mean - half, mean + half, seeds, "both", confidence)


def paired_over_blocks(
    a: Sequence[Scores], b: Sequence[Scores], blocks: Sequence[Hashable] = (), *, confidence: float = 0.95
) -> PairedDifference:
    """The difference a[i] - b[i] in `strict/mse`, with the interval of a bootstrap over seeds and blocks of test clips.

    Args:
        blocks: what each clip was cut from, in the order of their indices; empty where that is not known: each clip is a block.
    """
    if len(a) != len(b):
        raise ValueError(f"seeds must be paired, but got {len(a)} and {len(b)}")
    of_a, of_b = _clip_errors(a, b)
    differences = of_a - of_b
    seeds, clips = differences.shape
    if blocks and len(blocks) != clips:
        raise ValueError(f"each of {clips} clips must have a block, but got {len(blocks)}")
    ends = block_bootstrap(differences, blocks or range(clips), confidence=confidence)
    low, high = ends or (None, None)
    return PairedDifference(float(differences.mean()), low, high, seeds, "blocks", confidence)


def _clip_errors(a: Sequence[Scores], b: Sequence[Scores]) -> tuple[np.ndarray, np.ndarray]:
    """The errors of both arms, (seeds, clips) each, in the same order of clips."""
    if not a or not b:
        raise ValueError("a paired difference needs the scores of at least one seed of each arm")
    clips = a[0].clip_mse.keys()
    if any(scores.clip_mse.keys() != clips for scores in (*a, *b)):
        raise ValueError("only scores of the same clips can be paired; evaluate every arm and seed on the same split")
    of_a, of_b = (np.array([[scores.clip_mse[i] for i in sorted(clips)] for scores in arm]) for arm in (a, b))
    return of_a, of_b


def _quantile(confidence: float, freedom: float) -> float:
    """How many standard errors an interval reaches to each side, by Student's t."""
    from scipy import stats  # here, for training imports this module and would pay a second for it

    return float(stats.t.ppf((1 + confidence) / 2, freedom))
