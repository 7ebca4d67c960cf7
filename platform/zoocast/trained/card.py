"""The model card of a trained network: data, splits, metrics with their protocol, training, lineage, and a field for the licence.

What stands in it is read from the records of the step that trained the network, of those that it rests on, and of those that
evaluated it. An imported network has no such step, and a card that says so.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoocast.dag import read_record
from zoocast.dag.records import records_of, results
from zoocast.nn.predictor import Predictor, read_description
from zoocast.store.address import root_of
from zoocast.trained.origin import Origin

__all__ = ["ModelCard", "card_of"]

EVALUATE, SEEDS = "evaluate", "seeds/"
UNKNOWN = "Not known here."
UNKNOWN_LICENCE = "not stated; fill in under which terms the data and these weights may be used"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a network is, as JSON data.

    Attributes:
        model: name, run, date, digest of the weights.
        network: cell, layers, frames, number of weights.
        data: the clips that it was trained on: kind, settings, splits, digest, units; empty where they are not known.
        training: its step's kind and settings.
        evaluations: on which split, frames and protocols it was measured, and what came out.
        lineage: the steps that it rests on, sources and banks among them, each with its key and kind.
        versions: of Python, torch, Ray and zoocast.
        licence: for the user to fill in.
    """

    model: Mapping[str, Any]
    network: Mapping[str, Any]
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluations: tuple[Mapping[str, Any], ...] = ()
    lineage: tuple[Mapping[str, str], ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    licence: str = UNKNOWN_LICENCE

    def to_json(self) -> dict[str, Any]:
        """The card as JSON data."""
        return dataclasses.asdict(self)

    def markdown(self) -> str:
        """The card for people."""
        metrics = [line for each in self.evaluations for line in _measured(each)]
        lineage = [f"- {step['step']}: {step['kind']}, `{step['key']}`" for step in self.lineage]
        sections = {
            "Data": _rows(self.data),
            "Metrics": metrics,
            "Training": _rows(self.training),
            "Lineage": lineage,
            "Versions": _rows(self.versions),
            "Licence": [self.licence],
        }
        lines = [f"# {self.model['name']}", "", *_rows({**self.model, **self.network})]
        for title, content in sections.items():
            lines += ["", f"## {title}", "", *(content or [UNKNOWN])]
        return "\n".join(lines) + "\n"


def card_of(name: str, predictor: Predictor, folder: Path, origin: Origin | None) -> ModelCard:
    """The card of a network.

    Args:
        name: what it is called.
        predictor: the network.
        folder: in which it lies.
        origin: the step that trained it, if any.
    """
    config = predictor.config
    network = {
        "cell": config.cell.kind,
        "hidden_channels": list(config.hidden_channels),
        "patch_size": config.patch_size,
        "transfer_units_of_sources": config.num_sources,
        "frames": str(predictor.frames),
        "weights": sum(p.numel() for p in predictor.parameters()),
    }
    model: dict[str, Any] = {"name": name, "digest": read_description(folder).digest}
    if origin is None:
        return ModelCard(model=model, network=network)
    from zoocast.report.gather import lineage  # with matplotlib, for which nobody who predicts should wait

    record = origin.record
    above = [read_record(path) for path in lineage([origin.folder]).values()]
    return ModelCard(
        model={
            **model,
            "step": record.folder,
            "run": record.run,
            "trained": time.strftime("%Y-%m-%d", time.gmtime(record.finished)),
        },
        network=network,
        data=_data(origin),
        training={"kind": record.kind, "observed": origin.observed, "settings": record.config, "result": record.result},
        evaluations=tuple(_evaluations(origin)),
        lineage=tuple({"step": r.name, "key": r.key, "kind": r.kind} for r in above if r.key != record.key),
        versions=record.versions,
    )


def _data(origin: Origin) -> dict[str, Any]:
    if origin.clips is None or origin.recipe is None:
        return {}
    made = dict(origin.recipe.generator)
    return {
        "kind": made.pop("name", "unknown"),
        "frames": f"{origin.recipe.length} of {origin.recipe.shape}, {origin.recipe.dtype}",
        "splits": dict(origin.clips.sizes),
        "digest": origin.clips.digest,
        "settings": made,
    }


def _evaluations(origin: Origin) -> Iterator[dict[str, Any]]:
    """What the evaluations under the same root say of the network, the latest first."""
    from zoocast.report.files import read_scores

    own = (origin.record.name, origin.record.key)
    folders = [f for folders in results(root_of(origin.folder).folder).values() for f in folders if f.name.startswith(EVALUATE)]
    for record in records_of(folders):
        seed = next(
            (int(name.removeprefix(SEEDS)) for name, step in record.inputs.items() if step == own and SEEDS in name), None
        )
        if record.kind != EVALUATE or seed is None:
            continue
        split, scores = read_scores(origin.folder.parent / record.folder)
        if seed in scores:
            measured = scores[seed]
            yield {
                "step": record.folder,
                "split": split,
                "clips": measured.count,
                "observed": record.config["observed"],
                "horizon": len(measured.per_frame(measured.names[0])),
                "metrics": measured.means(),
            }


def _rows(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {_text(value)}" for name, value in values.items()]


def _text(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`" if isinstance(value, dict | list) else str(value)


def _measured(found: Mapping[str, Any]) -> list[str]:
    head = (
        f"{found['clips']} clips of the {found['split']} split, {found['observed']} frames observed, {found['horizon']} predicted"
    )
    rows = [f"| {name} | {value:.6g} |" for name, value in found["metrics"].items()]
    return [f"{head} (`{found['step']}`):", "", "| protocol/metric | value |", "|---|---|", *rows, ""]
