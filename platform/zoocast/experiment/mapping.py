"""The step that draws a map of when transfer helps, from the evaluations of all its cells' arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoocast.dag import Step, StepContext, group, step_kind
from zoocast.experiment.parts import Arm, Target
from zoocast.experiment.stages import Reported
from zoocast.report.made import command_of
from zoocast.report.transfer_map import CellResult, MapCell, TransferMap, gather_map, write_map

__all__ = ["Cell", "MapConfig", "draw_map", "map_step"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapConfig:
    """The step that draws a map; `pipeline` is the whole configuration, which the page lists."""

    title: str
    pipeline: Any
    observed: int
    map: TransferMap
    notes: tuple[str, ...] = ()


@step_kind("map")
def draw_map(context: StepContext) -> Reported:
    """Step: ``report.html``, its figures, ``table.csv`` and ``result.json`` from all that the arms of all cells left."""
    config: MapConfig = context.config
    data, results = gather_map(
        context.group("arms"),
        config.map,
        title=config.title,
        config=config.pipeline,
        observed=config.observed,
        notes=config.notes,
        command=command_of(context.root.folder, context.run_id),
    )
    write_map(data, results, context.directory)
    return Reported(headline=data.headline, metrics=_metrics(results))


def _metrics(results: Iterable[CellResult]) -> dict[str, float]:
    """What MLflow charts: every arm's error, and its gain over the best finetune with the interval's ends, by cell."""
    found = {}
    for r in results:
        for arm in r.against_rival:
            gain, ends = r.gain(arm)
            found[f"gain.{arm}/{r.cell.name}"] = gain
            if ends:
                found[f"gain_low.{arm}/{r.cell.name}"], found[f"gain_high.{arm}/{r.cell.name}"] = ends
    return found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One place on the map.

    Args:
        relation: what the zoo is to the target.
        clips: the target's training clips.
        target: that all arms share. The targets of all cells have as many frames and test clips.
        arms: by what they are called in this cell; one is ``tmu``.
        finetuned: of these, those of which validation chooses the best, with which the others are compared.
    """

    relation: str
    clips: int
    target: Target
    arms: Mapping[str, Arm]
    finetuned: tuple[str, ...]


def map_step(title: str, pipeline: Any, cells: Sequence[Cell], *, notes: Iterable[str] = (), name: str = "report") -> Step:
    """The step that compares the arms of every cell, from their evaluations, which are made here as well.

    Args:
        title: of the page.
        pipeline: the whole configuration, which the page lists.
        cells: in the order in which relations are shown.
        notes: sentences that a reader must know.
        name: of the step; another one for each report of an experiment with several.

    Raises:
        ConfigError: there is no cell, two are at one place, or one has no finetune or no arm ``tmu``.
    """
    places = {
        cell: MapCell(relation=cell.relation, clips=cell.clips, arms=tuple(cell.arms), finetuned=cell.finetuned) for cell in cells
    }
    drawn = TransferMap(cells=tuple(places.values()))
    evaluated = {place.full(name): cell.target.evaluate(arm) for cell, place in places.items() for name, arm in cell.arms.items()}
    target = cells[0].target
    config = MapConfig(title=title, pipeline=pipeline, observed=target.judged[0], map=drawn, notes=(*target.remarks(), *notes))
    return Step(name, draw_map, config, group("arms", evaluated))
