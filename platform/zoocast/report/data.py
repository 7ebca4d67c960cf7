"""What a report says, as plain values: scores by arm and seed, differences, curves, pictures, steps and settings.

The sentences and tables made from it are here too, so that the page, the terminal and MLflow's note say the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from zoocast.config import Setting, setting
from zoocast.errors import ConfigError
from zoocast.metrics import METRICS
from zoocast.report.figures import FieldView, LineStyle, StepView, TrialView, family, line_styles
from zoocast.report.figures.curves import Curve, Curves

__all__ = [
    "HEADLINE_METRIC",
    "Cell",
    "Comparison",
    "Difference",
    "Gates",
    "Rates",
    "ReportData",
    "Search",
    "Strips",
    "cells",
    "table_markdown",
    "table_rows",
]

HEADLINE_METRIC = "strict/mse"
TERMINAL_METRICS = ("strict/mse", "strict/ssim", "strict/psnr", "predrnn/mse")
Verdict = Literal["won", "lost", "open"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whose comparison is the headline: two families of arms, and what they are called within a sentence.

    A family is the part of an arm's name before the first dot; the validation split chooses among its members.
    """

    ours: str = setting("tmu", "family of arms that the report is about")
    rival: str = setting("finetune", "family of arms that they are to beat")
    ours_words: str = setting("TMU", "what the first is called within a sentence")
    rival_words: str = setting("the best finetune", "what the other is called within a sentence")

    def __post_init__(self) -> None:
        for name in ("ours", "rival"):
            kind = getattr(self, name)
            if not kind or family(kind) != kind:
                raise ConfigError(name, f"must be the part of an arm's name before its first dot, but got {kind!r}")
        if self.ours == self.rival:
            raise ConfigError("rival", f"must be another family than ours, but both are {self.ours!r}")


class Strips(NamedTuple):
    """Some clips of the split as one arm's network of the first seed predicted them: (K, time, C, H, W), uint8."""

    observed: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    clips: tuple[int, ...]


class Gates(NamedTuple):
    """Gate values (M, T - 1, h, w) of one clip, averaged over channels, and the names of the M sources."""

    values: np.ndarray
    sources: tuple[str, ...]


class Rates(NamedTuple):
    """(iterations, learning rates) of each level of one training, and the rate with which all began, where it is known."""

    levels: Mapping[str, Curve]
    initial: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A finished search for settings. Its errors are on the validation split.

    Attributes:
        trials: in the order of their numbers.
        fields: what was searched.
        ranking: the numbers of the trials that did not fail, the best first.
        num_given: of the first trials, whose settings (a paper's, say) were not chosen by the search.
        importance: the share of the error's variance that each field accounts for; of fields that all trials with their whole
            budget have, and in which these differ.
    """

    trials: tuple[TrialView, ...]
    fields: tuple[FieldView, ...]
    ranking: tuple[int, ...]
    num_given: int = 0
    importance: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def count(self, state: str) -> int:
        """How many trials ended so."""
        return sum(t.state == state for t in self.trials)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """`arm` minus `other` in the headline metric (lower is better), paired by seed, with two 95 % intervals.

    Attributes:
        seeds: the interval over seeds, None for fewer than two; `count` is their number.
        clips: the interval over test clips with the trained weights as they are, None where it is unknown.
        chosen: whether `other` is the rival of the comparison, chosen on the validation split.
    """

    arm: str
    other: str
    mean: float
    relative: float
    seeds: tuple[float, float] | None
    clips: tuple[float, float] | None
    count: int
    chosen: bool = False

    @property
    def verdict(self) -> Verdict:
        """Whether the interval over seeds lies below zero (won), above it (lost), or neither."""
        if self.seeds is None or self.seeds[0] <= 0 <= self.seeds[1]:
            return "open"
        return "won" if self.seeds[1] < 0 else "lost"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows.

    Attributes:
        facts: short lines under the title (run, preset, date), by name.
        arms: in the order in which they are shown.
        scores: for each metric and arm the values of its seeds.
        comparison: whose comparison is the headline.
        differences: the comparison's `ours` minus every other arm.
        curves: for ``val/mse`` and ``train/loss``, by arm and seed.
        horizons: for some metrics and each arm (seeds, frames).
        search: the search for settings, if there was one.
        rates: the learning rates of some trainings by level, under titles such as ``tmu, seed 0``.
        settings: every leaf of the configuration.
        notes: what a reader must know, in sentences.
    """

    title: str
    facts: Mapping[str, str]
    split: str
    num_clips: int
    observed: int
    horizon: int
    arms: tuple[str, ...]
    scores: Mapping[str, Mapping[str, tuple[float, ...]]]
    comparison: Comparison = Comparison()
    differences: tuple[Difference, ...] = ()
    curves: Mapping[str, Curves] = dataclasses.field(default_factory=dict)
    horizons: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    strips: Mapping[str, Strips] = dataclasses.field(default_factory=dict)
    gates: Mapping[str, Gates] = dataclasses.field(default_factory=dict)
    search: Search | None = None
    rates: Mapping[str, Rates] = dataclasses.field(default_factory=dict)
    steps: tuple[StepView, ...] = ()
    settings: tuple[Setting, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def styles(self) -> dict[str, LineStyle]:
        """How each arm is drawn."""
        return line_styles(self.arms, self.comparison.ours)

    @property
    def decisive(self) -> Difference | None:
        """The difference between the two sides of the comparison, if both are there."""
        return next((d for d in self.differences if d.chosen), None)

    @property
    def headline(self) -> str:
        """The result in one or two sentences, whichever way it went."""
        return " ".join(self.headline_parts)

    @property
    def headline_parts(self) -> tuple[str, str]:
        """The verdict in a few words, and what it rests on."""
        difference = self.decisive
        if difference is None:
            grounds = (
                f"The run has no arm of the family {self.comparison.ours}, or none of {self.comparison.rival} to compare it with."
            )
            return "No comparison.", grounds
        return self._verdict(difference), self._grounds(difference)

    def _verdict(self, difference: Difference) -> str:
        ours, rival = self.comparison.ours_words, self.comparison.rival_words
        if difference.seeds is None:
            return f"No verdict on {ours}."
        return {
            "won": f"{capitalised(ours)} beats {rival}.",
            "lost": f"{capitalised(ours)} loses to {rival}.",
            "open": f"{capitalised(ours)} and {rival} cannot be told apart.",
        }[difference.verdict]

    def _grounds(self, difference: Difference) -> str:
        ours, theirs = (float(np.mean(self.scores[HEADLINE_METRIC][a])) for a in (difference.arm, difference.other))
        digits = decimals([ours, theirs], [abs(difference.mean) / 10])
        told = "lower" if difference.mean <= 0 else "higher"
        grounds = (
            f"{HEADLINE_METRIC} of {difference.arm} on the {self.split} split is"
            f" {100 * abs(difference.relative):.1f}\N{NO-BREAK SPACE}% {told} than that of"
            f" {self.comparison.rival_words}, {difference.other}: {ours:.{digits}f} against {theirs:.{digits}f}."
        )
        if difference.seeds is None:
            return f"{grounds} One seed gives no interval, so nothing can be concluded."
        low, high = difference.seeds
        ends = {"won": "lies below zero", "lost": "lies above zero", "open": "contains zero"}[difference.verdict]
        return (
            f"{grounds} The paired difference over {difference.count} seeds is {signed(difference.mean, digits)} with a"
            f" 95\N{NO-BREAK SPACE}% interval of {signed(low, digits)} to {signed(high, digits)}, which {ends}."
        )


# ---------------------------------------------------------------------------------------------------------------- the table


class Cell(NamedTuple):
    """Mean and standard deviation over seeds as text with the digits of its column; `spread` is empty for one seed."""

    mean: str
    spread: str
    best: bool

    def __str__(self) -> str:
        return f"{self.mean} ± {self.spread}" if self.spread else self.mean


def cells(data: ReportData, metric: str) -> dict[str, Cell]:
    """The column of `metric`, by arm. All cells have the same number of decimals; the best mean is marked."""
    values = {arm: data.scores[metric][arm] for arm in data.arms if arm in data.scores[metric]}
    means = {arm: float(np.mean(v)) for arm, v in values.items()}
    spreads = {arm: float(np.std(v, ddof=1)) if len(v) > 1 else math.nan for arm, v in values.items()}
    digits = decimals(list(means.values()), list(spreads.values()))
    best = (min if METRICS[metric].better == "lower" else max)(means.values(), default=math.nan)
    return {
        arm: Cell(
            f"{mean:.{digits}f}", "" if math.isnan(spreads[arm]) else f"{spreads[arm]:.{digits}f}", mean == best
        )
        for arm, mean in means.items()
    }  # fmt: skip


def table_rows(data: ReportData, metrics: Sequence[str] = TERMINAL_METRICS) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of text for a terminal: arm, seeds, and mean ± standard deviation of some metrics."""
    shown = [m for m in metrics if m in data.scores]
    columns = {metric: cells(data, metric) for metric in shown}
    rows = [[arm, _seeds(data, arm), *(str(columns[m].get(arm, "")) for m in shown)] for arm in data.arms]
    return ["arm", "seeds", *shown], rows


def table_markdown(data: ReportData, metrics: Sequence[str] | None = None) -> str:
    """The headline and the table in Markdown, the best value of each column in bold; for a README or MLflow's note."""
    shown = [m for m in (metrics or tuple(data.scores)) if m in data.scores]
    columns = {metric: cells(data, metric) for metric in shown}
    arrows = {"lower": "↓", "higher": "↑"}
    verdict, grounds = data.headline_parts
    lines = [
        f"**{verdict}** {grounds}",
        "",
        "| arm | seeds | " + " | ".join(f"{m} {arrows[METRICS[m].better]}" for m in shown) + " |",
        "|---|---:|" + "---:|" * len(shown),
    ]
    for arm in data.arms:
        row = [columns[m].get(arm) for m in shown]
        told = ["" if cell is None else f"**{cell}**" if cell.best else str(cell) for cell in row]
        lines.append(f"| {arm.replace('|', chr(92) + '|')} | {_seeds(data, arm)} | " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def capitalised(words: str) -> str:
    """`words` as the beginning of a sentence."""
    return words[:1].upper() + words[1:]


def signed(value: float, digits: int) -> str:
    """A number that always carries its sign; zero has none."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def seeds_of(data: ReportData) -> int:
    """The largest number of seeds of any arm."""
    return max((len(v) for arms in data.scores.values() for v in arms.values()), default=0)


def is_trained(arm: str) -> bool:
    """Whether an arm has weights, and so seeds."""
    return family(arm) != "copy-last"


def _seeds(data: ReportData, arm: str) -> str:
    count = max((len(arms[arm]) for arms in data.scores.values() if arm in arms), default=0)
    return str(count) if is_trained(arm) else "–"


def decimals(values: Sequence[float], spreads: Sequence[float]) -> int:
    """Decimals that show two digits of the typical spread, but at most five of the largest value; four without a spread."""
    known = [s for s in spreads if s > 0 and math.isfinite(s)]
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    magnitude = _magnitude(largest) if largest > 0 else 0
    wanted = 1 - _magnitude(float(np.median(known))) if known else 3 - magnitude
    return max(0, min(wanted, 4 - magnitude, 8))


def _magnitude(value: float) -> int:
    """The power of ten of the first digit; a rounding error below a power counts as the power."""
    return math.floor(math.log10(value) + 1e-9)
