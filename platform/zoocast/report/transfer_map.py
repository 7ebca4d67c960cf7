"""When transfer pays: a map of cells, each a target with so many training clips and a zoo that is related to it in some way.

In every cell each arm is compared with the best finetune, which the validation split chose, and with training from scratch; both
are paired by seed, and judged by the rules of `zoocast.report.compare`. Cells have targets of their own, so nothing is compared
between cells but such differences.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zoocast.config import setting, settings
from zoocast.dag import read_record
from zoocast.errors import ConfigError
from zoocast.report.compare import (
    HEADLINE_METRIC,
    Difference,
    Interval,
    Measured,
    best_arm,
    check_arms,
    decimals,
    difference,
    interval_ends,
    signed,
)
from zoocast.report.data import ReportData, markdown_table
from zoocast.report.figures import gain_curves, line_styles, verdict_matrix
from zoocast.report.files import read_scores
from zoocast.report.gather import (
    environment_of,
    iterations_of,
    lineage,
    other_machines,
    provenance,
    trainings_of,
    validation_of,
    write_page,
)
from zoocast.report.made import made_tables
from zoocast.report.sections import Illustration, SectionView
from zoocast.store.files import write_atomically
from zoocast.words import some

__all__ = ["CellResult", "MapCell", "TransferMap", "gather_map", "measure_cells", "write_map"]

WORDS: Mapping[str, str] = {"won": "better", "lost": "worse", "open": "open", "small": "too small"}
"""What a cell says of our arm against the best finetune."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapCell:
    """A place on the map, and the arms that were trained there; in a report an arm of it is called ``RELATION.CLIPS.ARM``."""

    relation: str = setting(help="what the zoo is to the target")
    clips: int = setting(help="the target's training clips")
    arms: tuple[str, ...] = setting(help="what was trained")
    finetuned: tuple[str, ...] = setting(help="of these arms, the finetunes, of which validation chooses the best")

    def __post_init__(self) -> None:
        if not self.finetuned:
            raise ConfigError("finetuned", f"must name an arm to compare with in {self.name}, but got none")
        check_arms("finetuned", self.finetuned, self.arms)

    @property
    def name(self) -> str:
        """The cell's own: ``RELATION.CLIPS``."""
        return f"{self.relation}.{self.clips}"

    def full(self, arm: str) -> str:
        """What the report calls an arm of this cell."""
        return f"{self.name}.{arm}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferMap:
    """The map: its cells, the arm that it is about, and the one that transfers nothing."""

    cells: tuple[MapCell, ...] = setting(help="one for each relation and number of clips")
    ours: str = setting("tmu", "the arm that is to beat the best finetune")
    scratch: str = setting("scratch", "the arm that transfers nothing; left out of a cell, negative transfer is not looked for")
    ours_words: str = setting("TMU", "what the first is called within a sentence")

    def __post_init__(self) -> None:
        if not self.cells:
            raise ConfigError("cells", "a map needs at least one cell, but got none")
        names = [cell.name for cell in self.cells]
        if len(set(names)) < len(names):
            raise ConfigError(
                "cells", f"every cell needs a relation and a number of clips of its own, but got {', '.join(names)}"
            )
        for cell in self.cells:
            check_arms("ours", (self.ours,), cell.arms)

    @cached_property
    def relations(self) -> tuple[str, ...]:
        """In the order of the cells."""
        return tuple(dict.fromkeys(cell.relation for cell in self.cells))

    @cached_property
    def clips(self) -> tuple[int, ...]:
        """In rising order."""
        return tuple(sorted({cell.clips for cell in self.cells}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """What was measured in a cell.

    Attributes:
        rival: the finetune with the lowest error on the validation split.
        validation: the error of each arm there, mean over seeds.
        errors: of each arm on the test split, by seed, in `HEADLINE_METRIC`.
        against_rival: each other arm minus the rival.
        against_scratch: each arm that transfers minus training from scratch; empty where that was not done.
    """

    cell: MapCell
    rival: str
    validation: Mapping[str, float]
    errors: Mapping[str, Mapping[int, float]]
    against_rival: Mapping[str, Difference]
    against_scratch: Mapping[str, Difference]

    def gain(self, arm: str) -> tuple[float, Interval | None]:
        """By how much of the rival's error that of `arm` is lower, with its 95 % interval over seeds; below zero it is higher."""
        d = self.against_rival[arm]
        return -d.relative, (-d.relative_seeds[1], -d.relative_seeds[0]) if d.relative_seeds else None

    @property
    def harmful(self) -> tuple[str, ...]:
        """Arms whose transfer was negative: worse than from scratch, and not by chance."""
        return tuple(arm for arm, d in self.against_scratch.items() if d.verdict == "lost")


def measure_cells(
    config: TransferMap, measured: Measured, validation: Mapping[str, float], iterations: Mapping[str, int]
) -> tuple[CellResult, ...]:
    """Every cell's comparisons; all mappings are by the arms' full names (see `MapCell.full`).

    Args:
        measured: scores on the test split by seed.
        validation: mean error on the validation split, which chooses each cell's rival.
        iterations: of each arm's shortest training, where they are known.
    """
    return tuple(_measure(config, cell, measured, validation, iterations) for cell in config.cells)


def _measure(
    config: TransferMap,
    cell: MapCell,
    measured: Measured,
    validation: Mapping[str, float],
    iterations: Mapping[str, int],
) -> CellResult:
    own = {arm: measured[cell.full(arm)] for arm in cell.arms}
    known = {arm: validation[cell.full(arm)] for arm in cell.arms if cell.full(arm) in validation}
    lengths = {arm: iterations[cell.full(arm)] for arm in cell.arms if cell.full(arm) in iterations}
    rival = best_arm("finetuned", cell.finetuned, known)

    def minus(other: str, without: Collection[str]) -> dict[str, Difference]:
        pairs = ((arm, difference(own, arm, other, iterations=lengths)) for arm in own if arm not in without)
        return {arm: d for arm, d in pairs if d is not None}

    return CellResult(
        cell=cell,
        rival=rival,
        validation=known,
        errors={arm: {k: s.overall(HEADLINE_METRIC) for k, s in seeds.items()} for arm, seeds in own.items()},
        against_rival=minus(rival, (rival,)),
        against_scratch=minus(config.scratch, (config.scratch,)) if config.scratch in own else {},
    )


# ---------------------------------------------------------------------------------------------------------------- what is shown


def map_view(config: TransferMap, results: Sequence[CellResult], split: str) -> SectionView:
    """The map as a table of words and as figures, with the result in a sentence or two."""
    found = {(r.cell.relation, r.cell.clips): r for r in results}
    rows = tuple(
        (relation, *(_word(config, found[relation, n]) if (relation, n) in found else "–" for n in config.clips))
        for relation in config.relations
    )
    return SectionView(
        name="map",
        title="Map",
        headline=_headline(config, results)[0],
        sentences=_negative(results),
        caption=f"{config.ours_words} against the best finetune by relation of the zoo to the target (rows) and by the target's"
        f" training clips (columns): the verdict, and by how much of the finetune's {HEADLINE_METRIC} on the {split} split it is"
        " better (+) or worse (−). Open: the 95 % interval over paired seeds contains zero. Each interval is by itself: of twenty"
        " one misses by chance.",
        columns=("relation", *(str(n) for n in config.clips)),
        rows=rows,
        figures=(_matrix(config, found), _curves(config, results, split)),
    )


def _word(config: TransferMap, result: CellResult) -> str:
    if config.ours not in result.against_rival:
        return "no seed in common"
    return f"{WORDS[result.against_rival[config.ours].verdict]} {_percent(result.gain(config.ours)[0])}"


def _percent(part: float) -> str:
    return f"{signed(100 * part, 1)}\N{NO-BREAK SPACE}%"


def _headline(config: TransferMap, results: Sequence[CellResult]) -> tuple[str, str]:
    """Where ours is better than the best finetune; and where it is worse, or neither."""
    ours, found = config.ours_words, {r.cell: r.against_rival[config.ours] for r in results if config.ours in r.against_rival}
    places = {verdict: [cell for cell, d in found.items() if d.verdict == verdict] for verdict in WORDS}
    if len(places["small"]) == len(found):
        reason = next((d.too_small for d in found.values()), "")
        return f"Too small to compare {ours} with the best finetune.", reason
    sentences = []
    if places["lost"]:
        sentences.append(f"It loses in {_counted(places['lost'])}.")
    if places["open"]:
        sentences.append(f"In {len(places['open'])} the two cannot be told apart.")
    if places["small"]:
        sentences.append(f"Too small to compare: {_listed(places['small'])}.")
    return f"{ours} beats the best finetune in {_counted(places['won'], of=len(results))}.", " ".join(sentences)


def _counted(cells: Sequence[MapCell], of: int = 0) -> str:
    number = f"{len(cells) or 'none'} of {of} cells" if of else str(len(cells))
    return f"{number}: {_listed(cells)}" if cells else number


def _listed(cells: Sequence[MapCell]) -> str:
    """Cells by their relation: ``nested with 16 and 64 clips; mixed with 16 clips``."""
    numbers: dict[str, list[str]] = {}
    for cell in cells:
        numbers.setdefault(cell.relation, []).append(str(cell.clips))
    return "; ".join(f"{relation} with {_joined(clips)} clips" for relation, clips in numbers.items())


def _joined(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)


def _negative(results: Sequence[CellResult]) -> tuple[str, ...]:
    """In which cells arms are worse than without transfer, and which arms; nothing where none is."""
    harmed = [r for r in results if r.harmful]
    if not harmed:
        return ()
    return (
        f"Negative transfer, an arm that is worse than training from scratch, in {_counted([r.cell for r in harmed])}.",
        *(
            f"In {r.cell.name} these are "
            + _joined([f"{arm} (by {100 * r.against_scratch[arm].relative:.1f}\N{NO-BREAK SPACE}%)" for arm in r.harmful])
            + "."
            for r in harmed
        ),
    )


def _matrix(config: TransferMap, found: Mapping[tuple[str, int], CellResult]) -> Illustration:
    drawn = {
        place: (
            r.against_rival[config.ours].verdict,
            (_word(config, r), _gain_ends(r, config.ours), _harm(config, r)),
        )
        for place, r in found.items()
        if config.ours in r.against_rival
    }
    return Illustration(
        "transfer-map",
        "map",
        verdict_matrix(config.relations, config.clips, drawn),
        f"Where {config.ours_words} is better than the best finetune (green), worse (red), or cannot be told apart from it"
        " (grey). Below the verdict the gain's 95 % interval over seeds, in percent. White: too small to compare. Harm: negative"
        " transfer, arms that are worse than training from scratch.",
        "Matrix of verdicts. "
        + " ".join(f"{relation} with {clips} clips: {texts[0]}." for (relation, clips), (_, texts) in drawn.items()),
    )


def _harm(config: TransferMap, result: CellResult) -> str:
    """A line for the cell: ours first, for whether it harmed is what one looks for."""
    names = sorted(result.harmful, key=lambda arm: arm != config.ours)
    return f"harm: {some(names, 1)}" if names else ""


def _gain_ends(result: CellResult, arm: str) -> str:
    _, ends = result.gain(arm)
    return interval_ends((100 * ends[0], 100 * ends[1]), 1) if ends else ""


def _curves(config: TransferMap, results: Sequence[CellResult], split: str) -> Illustration:
    """One panel per relation: the gain of every arm over the best finetune, by clips."""
    lines: dict[str, dict[str, dict[int, tuple[float, Interval | None]]]] = {relation: {} for relation in config.relations}
    for r in sorted(results, key=lambda r: r.cell.clips):
        for arm in r.against_rival:
            if arm not in r.cell.finetuned:  # the best of them is the line at zero
                lines[r.cell.relation].setdefault(arm, {})[r.cell.clips] = r.gain(arm)
    arms = dict.fromkeys(arm for panel in lines.values() for arm in panel)
    return Illustration(
        "gain",
        "map",
        gain_curves(lines, line_styles(arms, ours=(config.ours,))),
        f"By how much of the best finetune's {HEADLINE_METRIC} on the {split} split that of each arm is lower, with the 95 %"
        " interval over paired seeds, for each relation of the zoo to the target. Above zero an arm is better than the best"
        " finetune. An interval beyond the panel ends at its edge.",
        "Line plots of the gain by training clips. "
        + " ".join(
            f"{relation}, {arm}: " + ", ".join(f"{_percent(gain)} with {n}" for n, (gain, _) in points.items()) + "."
            for relation, panel in lines.items()
            for arm, points in panel.items()
        ),
    )


def numbers_view(config: TransferMap, results: Sequence[CellResult], split: str) -> SectionView:
    """Every arm of every cell by its numbers."""
    return SectionView(
        name="cells",
        title="Cells",
        # On the page it stands below the map's, which is the verdict in a few words.
        headline=_headline(config, results)[1],
        caption=f"Every arm of every cell: {HEADLINE_METRIC} on the {split} split as mean ± standard deviation over seeds, and on"
        " the validation split, which chose the best finetune; what it gains over that one, with the 95 % interval over paired"
        " seeds; and how it stands to training from scratch.",
        columns=(
            "cell",
            "arm",
            "seeds",
            HEADLINE_METRIC,
            "on validation",
            "gain over the best finetune",
            "its interval",
            "verdict",
            "against scratch",
        ),
        rows=tuple(row for r in results for row in _number_rows(r)),
    )


def _number_rows(r: CellResult) -> Iterable[tuple[str, ...]]:
    means = {arm: float(np.mean([*seeds.values()])) for arm, seeds in r.errors.items()}
    spreads = {arm: float(np.std([*seeds.values()], ddof=1)) for arm, seeds in r.errors.items() if len(seeds) > 1}
    digits = decimals([*means.values()], [*spreads.values()])
    for arm, mean in means.items():
        against = r.against_rival.get(arm)
        scratch = r.against_scratch.get(arm)
        yield (
            r.cell.name,
            arm,
            str(len(r.errors[arm])),
            f"{mean:.{digits}f}" + (f" ± {spreads[arm]:.{digits}f}" if arm in spreads else ""),
            f"{r.validation[arm]:.{digits}f}" if arm in r.validation else "–",
            "best finetune" if arm == r.rival else _percent(r.gain(arm)[0]) if against else "–",
            _gain_ends(r, arm) or "–" if against else "–",
            WORDS[against.verdict] if against else "–",
            WORDS[scratch.verdict] if scratch else "–",
        )


# ---------------------------------------------------------------------------------------------------------------- reading


def gather_map(
    arms: Mapping[str, Path],
    map_config: TransferMap,
    *,
    title: str,
    config: Any,
    observed: int,
    notes: Iterable[str] = (),
    command: str = "",
) -> tuple[ReportData, tuple[CellResult, ...]]:
    """Read everything that a map's report shows, and what was measured in its cells.

    Args:
        arms: the folder of each arm's finished evaluation, by its full name.
        map_config: what is compared.
        title: of the page.
        config: of the pipeline; all its settings are listed.
        observed: number of observed frames of a clip.
        notes: sentences to be shown besides those that follow from the results.
        command: that started the run.

    Raises:
        IntegrityError: a step's folder is damaged.
    """
    records = {name: read_record(path) for name, path in lineage(arms.values()).items()}
    # Results that nothing needs any more may have been removed.
    trainings = {arm: {k: p for k, p in trainings_of(path).items() if p.exists()} for arm, path in arms.items()}
    read = {arm: read_scores(path) for arm, path in arms.items()}
    split, measured = next(split for split, _ in read.values()), {arm: scores for arm, (_, scores) in read.items()}
    results = measure_cells(map_config, measured, validation_of(trainings), iterations_of(trainings))
    first = next(iter(measured[map_config.cells[0].full(map_config.ours)].values()))
    made = {arm: {k: read_record(p) for k, p in seeds.items()} for arm, seeds in trainings.items()}
    data = ReportData(
        title=title,
        facts=provenance(),
        command=command,
        # Every cell ranks for itself, and a table of one ranking would be that of one cell.
        made=made_tables({name: r for name, r in records.items() if r.kind != "rank-sources"}, made, {}, {}),
        split=split,
        num_clips=first.count,
        observed=observed,
        horizon=len(first.per_frame(HEADLINE_METRIC)),
        arms=(),
        scores={},
        sections=(map_view(map_config, results, split), numbers_view(map_config, results, split)),
        settings=tuple(settings(config)),
        environment=environment_of(records.values()),
        notes=(*other_machines(records.values()), *notes),
    )
    return data, results


def write_map(data: ReportData, results: Sequence[CellResult], directory: Path) -> None:
    """Write ``report.html`` with its figures, ``table.md``, ``table.csv`` with every cell's numbers, and ``result.json``."""
    write_page(data, directory)
    shown, numbers = data.sections
    parts = [f"**{shown.headline}** {numbers.headline}".rstrip(), markdown_table(shown.columns, shown.rows), *shown.sentences]
    write_atomically(directory / "table.md", "\n\n".join((*parts, markdown_table(numbers.columns, numbers.rows))) + "\n")
    write_atomically(directory / "table.csv", cells_csv(results))
    best = [(i, j) for i, row in enumerate(shown.rows) for j, cell in enumerate(row) if cell.startswith(WORDS["won"])]
    result = {
        "headline": data.headline,
        "columns": shown.columns,
        "rows": shown.rows,
        "best": best,
        "notes": [*data.notes, *shown.sentences],
    }
    write_atomically(directory / "result.json", json.dumps(result, indent=1, ensure_ascii=False))


def cells_csv(results: Sequence[CellResult]) -> str:
    """A line per arm of each cell with all digits, its error by seed included; gains are parts of the best finetune's error."""
    seeds = sorted({seed for r in results for by_seed in r.errors.values() for seed in by_seed})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ("relation", "clips", "arm", "mean", "sd", "validation", "gain", "low", "high", "verdict", "against scratch")
    writer.writerow([*heads, *(f"seed {seed}" for seed in seeds)])
    for r in results:
        for arm, errors in r.errors.items():
            values = [*errors.values()]
            gain, ends = r.gain(arm) if arm in r.against_rival else ("", None)
            writer.writerow(
                [
                    *(r.cell.relation, r.cell.clips, arm, float(np.mean(values))),
                    float(np.std(values, ddof=1)) if len(values) > 1 else "",
                    r.validation.get(arm, ""),
                    gain,
                    *(ends or ("", "")),
                    WORDS[r.against_rival[arm].verdict] if arm in r.against_rival else "best finetune",
                    WORDS[r.against_scratch[arm].verdict] if arm in r.against_scratch else "",
                    *(errors.get(seed, "") for seed in seeds),
                ]
            )
    return text.getvalue()
