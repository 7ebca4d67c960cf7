"""What a report says, as plain values: scores by arm and seed, differences, curves, pictures, steps and settings.

The sentences and tables made from it are here too, so that the page, the terminal and MLflow's note say the same.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoocast.config import Setting
from zoocast.metrics import METRICS
from zoocast.report.compare import HEADLINE_METRIC, Comparison, Difference, decimals, interval_ends, percents
from zoocast.report.figures import FieldView, LineStyle, StepView, TrialView, line_styles
from zoocast.report.figures.curves import Curve, Curves
from zoocast.report.sections import SectionView

__all__ = [
    "Cell",
    "Gates",
    "Listening",
    "MadeTable",
    "Rates",
    "ReportData",
    "Routes",
    "Search",
    "Strips",
    "cells",
    "markdown_table",
    "seeds_in_words",
    "table_csv",
    "table_latex",
    "table_markdown",
    "table_rows",
]

# An error, two measures of likeness, and the error as the papers' tables for Moving MNIST count it.
TERMINAL_METRICS = ("strict/mse", "strict/ssim", "strict/psnr", "predrnn/mse")


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


class Routes(NamedTuple):
    """The error (clips, M) by which each clip is routed to one of the M sources, that with the lowest, and their names."""

    errors: np.ndarray
    sources: tuple[str, ...]


class Listening(NamedTuple):
    """What each of the M sources counted for each of the N training clips, (N, M), and some of these clips.

    Attributes:
        kinds: of the N clips; empty where nothing is known of kinds.
        examples: the frames (T, C, H, W) of some clips, uint8, by index.
    """

    weights: np.ndarray
    sources: tuple[str, ...]
    kinds: tuple[str, ...]
    examples: Mapping[int, np.ndarray]


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


class MadeTable(NamedTuple):
    """A table about how a result was made; the first cell of a row is its name."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows.

    Attributes:
        facts: short lines under the title (run, preset, date), by name.
        command: that started the run; empty where it is not known.
        num_recordings: that the clips of the split are of; 0 where that is not known.
        made: what the result was made of and how: clips, sources by rank, banks, arms.
        arms: in the order in which they are shown.
        scores: for each metric and arm the values of its seeds.
        comparison: whose comparison is the headline; None for a report that compares nobody in particular.
        families: of arms that share a colour.
        untrained: arms without weights, and so without seeds.
        differences: the comparison's `ours` minus every other arm.
        curves: for ``val/mse`` and ``train/loss``, by arm and seed.
        horizons: for some metrics and each arm (seeds, frames).
        last_frames: the comparison on the last frames of the horizon, in a sentence.
        search: the search for settings, if there was one.
        rates: the learning rates of some trainings by level, under titles such as ``tmu, seed 0``.
        sections: what the experiment adds to the page.
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
    command: str = ""
    num_recordings: int = 0
    made: tuple[MadeTable, ...] = ()
    comparison: Comparison | None = None
    families: Mapping[str, str] = dataclasses.field(default_factory=dict)
    untrained: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    curves: Mapping[str, Curves] = dataclasses.field(default_factory=dict)
    horizons: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    last_frames: str = ""
    strips: Mapping[str, Strips] = dataclasses.field(default_factory=dict)
    listening: Mapping[str, Listening] = dataclasses.field(default_factory=dict)
    gates: Mapping[str, Gates] = dataclasses.field(default_factory=dict)
    search: Search | None = None
    rates: Mapping[str, Rates] = dataclasses.field(default_factory=dict)
    sections: tuple[SectionView, ...] = ()
    steps: tuple[StepView, ...] = ()
    settings: tuple[Setting, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def styles(self) -> dict[str, LineStyle]:
        """How each arm is drawn."""
        ours = self.comparison.ours if self.comparison else ()
        # Of all arms at once: an arm keeps its colour in a figure that shows only some of them.
        return line_styles(self.arms, families=self.families, ours=ours, untrained=self.untrained)

    @property
    def decisive(self) -> Difference | None:
        """The difference between the two sides of the comparison, if both are there."""
        return next((d for d in self.differences if d.chosen), None)

    @property
    def too_small(self) -> bool:
        """Whether the two sides of the comparison cannot be compared, so that no value of a column is the best."""
        return self.decisive is not None and self.decisive.verdict == "small"

    @property
    def headline(self) -> str:
        """The result in a few sentences, whichever way it went."""
        return " ".join(filter(None, self.headline_parts))

    @property
    def headline_parts(self) -> tuple[str, str]:
        """The verdict in a few words, and what it rests on with what sections have to say."""
        headlines = [section.headline for section in self.sections if section.headline]
        if self.comparison is None:
            # The first section's sentence then stands for the verdict.
            short, *rest = headlines or ["No comparison.", "The report names no arms that are to be compared."]
        elif (difference := self.decisive) is None:
            ours, rival = self.comparison.ours_words, self.comparison.rival_words
            short, rest = "No comparison.", [f"{capitalised(ours)} and {rival} have no seed in common.", *headlines]
        else:
            short, rest = self._verdict(difference, self.comparison), [self._grounds(difference, self.comparison), *headlines]
        return short, " ".join(rest)

    def _verdict(self, difference: Difference, comparison: Comparison) -> str:
        ours, rival = comparison.ours_words, comparison.rival_words
        return {
            "won": f"{capitalised(ours)} beats {rival}.",
            "lost": f"{capitalised(ours)} loses to {rival}.",
            "open": f"{capitalised(ours)} and {rival} cannot be told apart.",
            "small": f"Too small to compare {ours} with {rival}.",
        }[difference.verdict]

    def _grounds(self, difference: Difference, comparison: Comparison) -> str:
        ours, theirs = (float(np.mean(self.scores[HEADLINE_METRIC][a])) for a in (difference.arm, difference.other))
        digits = decimals([ours, theirs], [abs(difference.mean) / 10])  # three digits of the difference
        direction = "lower" if difference.mean <= 0 else "higher"
        grounds = (
            f"{HEADLINE_METRIC} of {difference.arm} on the {self.split} split is"
            f" {100 * abs(difference.relative):.1f}\N{NO-BREAK SPACE}% {direction} than that of"
            f" {comparison.rival_words}, {difference.other}: {ours:.{digits}f} against {theirs:.{digits}f}"
        )
        if difference.verdict == "small" or difference.seeds is None:
            return f"{grounds}. Nothing follows from that. {difference.too_small}".rstrip()
        where = {"won": "lies below zero", "lost": "lies above zero", "open": "contains zero"}[difference.verdict]
        relative = f" ({percents(difference.relative_seeds)})" if difference.relative_seeds else ""
        wider = f"; over other test clips as well it is {interval_ends(difference.both, digits)}" if difference.both else ""
        return (
            f"{grounds}, and lower in {difference.better} of {difference.count} seeds. The 95\N{NO-BREAK SPACE}% interval of the"
            f" paired difference over seeds, {interval_ends(difference.seeds, digits)}{relative}, {where}{wider}."
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
    """The column of `metric`, by arm. All cells have the same number of decimals.

    The best mean is marked, unless the experiment is too small to compare.
    """
    values = {arm: data.scores[metric][arm] for arm in data.arms if arm in data.scores[metric]}
    means = {arm: float(np.mean(v)) for arm, v in values.items()}
    spreads = {arm: float(np.std(v, ddof=1)) if len(v) > 1 and np.isfinite(v).all() else math.nan for arm, v in values.items()}
    digits = decimals(list(means.values()), list(spreads.values()))
    # Compared before rounding: two means that look alike are not both bold.
    best = (min if METRICS[metric].better == "lower" else max)(means.values(), default=math.nan)
    best = math.nan if data.too_small else best  # equal to no mean
    return {
        arm: Cell(_decimal(mean, digits), "" if math.isnan(spreads[arm]) else _decimal(spreads[arm], digits), mean == best)
        for arm, mean in means.items()
    }


def _decimal(value: float, digits: int) -> str:
    """A number with so many decimals; the PSNR of a split that was predicted without any error is infinite."""
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def table_rows(data: ReportData) -> tuple[list[str], list[list[str]], list[tuple[int, int]]]:
    """Column names and rows of text for a terminal: arm, seeds, and mean ± standard deviation of some metrics.

    Last the cells, by row and column, with the best value of a metric.
    """
    shown = [m for m in TERMINAL_METRICS if m in data.scores]
    columns = {metric: cells(data, metric) for metric in shown}
    rows = [[arm, seeds_in_words(data, arm), *(str(columns[m].get(arm, "")) for m in shown)] for arm in data.arms]
    found = ((i, j, columns[m].get(arm)) for i, arm in enumerate(data.arms) for j, m in enumerate(shown, 2))
    return ["arm", "seeds", *shown], rows, [(i, j) for i, j, cell in found if cell is not None and cell.best]


def table_markdown(data: ReportData) -> str:
    """The headline and the table in Markdown, the best value of each column in bold; for a README or MLflow's note."""
    columns = {metric: cells(data, metric) for metric in data.scores}
    verdict, grounds = data.headline_parts
    rows = []
    for arm in data.arms:
        row = [column.get(arm) for column in columns.values()]
        texts = ["" if cell is None else f"**{cell}**" if cell.best else str(cell) for cell in row]
        rows.append((arm, seeds_in_words(data, arm), *texts))
    heads = ("arm", "seeds", *(f"{metric} {METRICS[metric].arrow}" for metric in columns))
    parts = [f"**{verdict}** {grounds}", markdown_table(heads, rows)]
    for section in data.sections:
        parts += [
            f"**{section.title}**",
            *section.sentences,
            *([markdown_table(section.columns, section.rows)] if section.rows else []),
        ]
    return "\n\n".join(parts) + "\n"


def table_csv(data: ReportData) -> str:
    """The table as CSV with all digits: a line per arm, and for each metric the mean and the standard deviation over seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seeds", *(f"{metric} {what}" for metric in data.scores for what in ("mean", "sd"))])
    for arm in data.arms:
        values = [arms.get(arm, ()) for arms in data.scores.values()]
        numbers = [(float(np.mean(v)) if v else "", float(np.std(v, ddof=1)) if len(v) > 1 else "") for v in values]
        writer.writerow(
            [arm, "" if arm in data.untrained else seeds_in_words(data, arm), *(number for both in numbers for number in both)]
        )
    return text.getvalue()


def table_latex(data: ReportData) -> str:
    """The table for a paper, with the rules of the package `booktabs`; the best value of each column in bold."""
    columns = {metric: cells(data, metric) for metric in data.scores}
    better = {"lower": r"$\downarrow$", "higher": r"$\uparrow$"}
    lines = [
        f"% {data.split} split, {data.num_clips} clips; mean and standard deviation over seeds. {data.headline_parts[0]}",
        rf"\begin{{tabular}}{{lr{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(("arm", "seeds", *(f"{_latex(m)} {better[METRICS[m].better]}" for m in columns))) + r" \\",
        r"\midrule",
    ]
    for arm in data.arms:
        row = [_latex_cell(column.get(arm)) for column in columns.values()]
        lines.append(" & ".join((_latex(arm), seeds_in_words(data, arm).replace("–", "--"), *row)) + r" \\")
    return "\n".join((*lines, r"\bottomrule", r"\end{tabular}", ""))


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    mean = cell.mean.replace("∞", r"\infty").replace("−", "-")
    text = rf"\mathbf{{{mean}}}" if cell.best else mean
    return f"${text}$" + (rf" $\pm$ {cell.spread}" if cell.spread else "")


def _latex(text: str) -> str:
    """Text as LaTeX shows it: what is a command there is escaped."""
    return re.sub(r"[&%$#_{}]", r"\\\g<0>", text.replace("\\", "/").replace("~", "-").replace("^", "-"))


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; numbers, which stand in all columns but the first, are set to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join((lines[0], "|---|" + "---:|" * (len(heads) - 1), *lines[1:]))


def capitalised(words: str) -> str:
    """`words` as the beginning of a sentence."""
    return words[:1].upper() + words[1:]


def seeds_of(data: ReportData) -> int:
    """The largest number of seeds of any arm."""
    return max((len(v) for arms in data.scores.values() for v in arms.values()), default=0)


def seeds_in_words(data: ReportData, arm: str) -> str:
    """How many trainings an arm has; a dash for one without weights."""
    count = max((len(arms[arm]) for arms in data.scores.values() if arm in arms), default=0)
    return "–" if arm in data.untrained else str(count)
