"""Sections that an experiment adds to its report: configs that turn the measured scores into sentences, a table and a picture.

`SourceMatrix` is one: which of several sources helped the target, from arms that each used a part of them. Another experiment can
have its own: any config with a `show` method is a `Section`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import numpy as np

from zoocast.config import setting
from zoocast.errors import ConfigError
from zoocast.report.compare import HEADLINE_METRIC, Difference, Measured, check_arms, decimals, difference, interval_ends, signed
from zoocast.report.figures import source_matrix
from zoocast.report.figures.curves import mean_interval

__all__ = ["Illustration", "Section", "SectionView", "SourceMatrix"]

# Where the arm without a source lost, the source helped.
_EFFECT: Mapping[str, Literal["helped", "harmed"]] = {"lost": "helped", "won": "harmed"}


@dataclasses.dataclass(frozen=True)
class Illustration:
    """One figure: SVG text or PNG bytes, the section it stands in, a caption, and a description for those who cannot see it.

    What is seen may also be shown in motion, by an animated PNG.
    """

    name: str
    section: str
    image: str | bytes
    caption: str
    description: str
    animation: bytes = b""

    @property
    def file(self) -> str:
        """A file name with the right ending."""
        ending = "svg" if isinstance(self.image, str) else "png"
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', self.name)}.{ending}"

    @property
    def files(self) -> dict[str, str | bytes]:
        """What is written below ``figures/``, by file name."""
        moving = {self.file.replace(".png", "-animation.png"): self.animation} if self.animation else {}
        return {self.file: self.image, **moving}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SectionView:
    """What the page, the table in Markdown and the terminal show of a section.

    Attributes:
        name: a word by which the page links to it; unique in a report.
        headline: one sentence for the top of the page; empty for none.
        sentences: what follows from the numbers.
        columns: the table's heads; the first is that of the rows' names.
        rows: cells as text, as many as columns.
    """

    name: str
    title: str
    headline: str = ""
    sentences: tuple[str, ...] = ()
    caption: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[Illustration, ...] = ()


class Section(Protocol):
    """A part of the report that an experiment asks for."""

    def check(self, arms: Collection[str]) -> None:
        """Raise `ConfigError` for an arm that is not among those of the report."""
        ...

    def show(self, measured: Measured, split: str, iterations: Mapping[str, int]) -> SectionView:
        """What is shown of the scores on `split`, by arm and seed, after so many iterations of each arm's shortest training."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceMatrix:
    """Which sources helped: arms that used some of them, each paired by seed with the arm that used all."""

    sources: tuple[str, ...] = setting(help="all sources")
    arms: Mapping[str, tuple[str, ...]] = setting(help="the sources that each arm used")
    reference: str = setting(help="the arm that used all of them")

    def __post_init__(self) -> None:
        if self.reference not in self.arms:
            raise ConfigError("reference", f"must be one of the arms {', '.join(self.arms)}, but got {self.reference}")
        if len(self.arms) < 2:
            raise ConfigError("arms", f"must hold an arm besides the reference {self.reference}, but got none")
        for arm, used in self.arms.items():
            if unknown := sorted({*used} - {*self.sources}):
                raise ConfigError("arms", f"must use the sources {', '.join(self.sources)}, but {arm} uses {', '.join(unknown)}")
            # Exactly one arm may have all sources, or it would not be clear what the others are compared with.
            if (arm == self.reference) != ({*used} == {*self.sources}):
                raise ConfigError(
                    "arms", f"must hold one arm with all sources, the reference {self.reference}, but {arm} uses {_listed(used)}"
                )

    def check(self, arms: Collection[str]) -> None:
        """Raise `ConfigError` for an arm that is not among those of the report."""
        check_arms("arms", self.arms, arms)

    def show(self, measured: Measured, split: str, iterations: Mapping[str, int]) -> SectionView:
        """The matrix of sources and arms, and what leaving sources out did to the error on `split`."""
        # The reference first, as what the others are read against; the others as the report has them.
        arms = [self.reference, *(arm for arm in measured if arm in self.arms and arm != self.reference)]
        found = {arm: difference(measured, arm, self.reference, iterations=iterations) for arm in arms[1:]}
        differences = {arm: d for arm, d in found.items() if d is not None}
        sentences = tuple(self._sentence(d) for d in differences.values())
        drawn = {arm: tuple(s.overall(HEADLINE_METRIC) for s in measured[arm].values()) for arm in arms}
        picture = Illustration(
            "source-matrix",
            "source-matrix",
            source_matrix(
                self.sources,
                {arm: self.arms[arm] for arm in arms},
                {arm: (d.mean, d.seeds, _EFFECT.get(d.verdict)) for arm, d in differences.items()},
                metric=HEADLINE_METRIC,
            ),
            f"Above: {HEADLINE_METRIC} of each arm minus that of {self.reference}, mean over seeds with its 95 % interval; above"
            " zero, leaving sources out does harm. Below: the sources that the arm used (filled) and did without (ring).",
            "Matrix of sources and arms. "
            + " ".join(f"{arm} uses {_listed(self.arms[arm])}." for arm in arms)
            + "".join(f" {sentence}" for sentence in sentences),
        )
        return SectionView(
            name="source-matrix",
            title="Sources",
            headline=self._headline(differences),
            sentences=sentences,
            caption=f"The sources that each arm used, its {HEADLINE_METRIC} on the {split} split, and the difference to"
            f" {self.reference}, which used all: paired by seed, so below zero the target is better without what was left out."
            " Intervals are 95 %, by Student’s t over seeds, each by itself: of twenty such intervals one misses by chance.",
            columns=("source", *arms),
            rows=self._rows(arms, drawn, differences),
            figures=(picture,),
        )

    def _rows(
        self, arms: list[str], errors: Mapping[str, tuple[float, ...]], differences: Mapping[str, Difference]
    ) -> tuple[tuple[str, ...], ...]:
        means = {arm: mean_interval(np.array(values)) for arm, values in errors.items()}
        # Digits are those that the differences need, so that a reader can subtract one column from another.
        changes = [abs(d.mean) / 10 for d in differences.values()]
        digits = decimals([mean for mean, _ in means.values()], changes)
        cells = {arm: [*("●" if s in self.arms[arm] else "–" for s in self.sources)] for arm in arms}
        for arm in arms:
            mean, half = means[arm]
            several = len(errors[arm]) > 1
            cells[arm] += [
                f"{mean:.{digits}f}",
                f"{mean - half:.{digits}f} to {mean + half:.{digits}f}" if several else "–",
                *_change(differences.get(arm), digits),
            ]
        heads = (
            *self.sources,
            HEADLINE_METRIC,
            "its interval",
            f"minus {self.reference}",
            "its interval",
            "seeds",
            "what was left out",
        )
        return tuple((head, *(cells[arm][row] for arm in arms)) for row, head in enumerate(heads))

    def _left_out(self, arm: str) -> str:
        return _listed(tuple(s for s in self.sources if s not in self.arms[arm]))

    def _sentence(self, d: Difference) -> str:
        without = self._left_out(d.arm)
        if d.verdict == "small" or d.seeds is None:
            return f"Too small to tell whether {without} helped. {d.too_small}".rstrip()
        digits = decimals([d.mean, *d.seeds], [abs(d.mean) / 10])
        # The arm that did without a source is the one that lost or won: where it lost, the source helped.
        meaning = {
            "lost": f": {without} helped",
            "won": f": {without} harmed, a negative transfer",
            "open": f", which contains zero, so whether {without} helped cannot be told",
        }[d.verdict]
        return (
            f"Without {without} {HEADLINE_METRIC} changes by {signed(d.mean, digits)} over {d.count} seeds, with an interval of"
            f" {interval_ends(d.seeds, digits)}{meaning}."
        )

    def _headline(self, differences: Mapping[str, Difference]) -> str:
        if all(d.verdict == "small" for d in differences.values()):
            return "Too small to tell which source helped."
        harmed, helped = (
            " or ".join(self._left_out(arm) for arm, d in differences.items() if d.verdict == verdict)
            for verdict in ("won", "lost")
        )
        sentences = [f"Negative transfer: the target is better off without {harmed}."] if harmed else []
        sentences += [f"The target is worse off without {helped}."] if helped else []
        return " ".join(sentences) or "Of no source can it be told whether it helped or harmed."


def _change(d: Difference | None, digits: int) -> tuple[str, str, str, str]:
    """Cells about a difference to the reference, which has none itself."""
    if d is None:
        return "–", "–", "–", "–"
    word = {**_EFFECT, "small": "too small"}.get(d.verdict, d.verdict)
    return signed(d.mean, digits), interval_ends(d.seeds, digits) if d.seeds else "–", str(d.count), word


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"
