"""How a result was made, read off the records of the steps that it rests on: clips, sources by rank, banks, and what each arm is.

Only the kinds of steps that the library has are understood; a step of an experiment's own is in the graph and the time line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoocast.dag import Record
from zoocast.report.data import MadeTable, Routes
from zoocast.store.files import human_bytes
from zoocast.words import duration

__all__ = ["chosen_for", "command_of", "made_tables"]

SPLITS = ("train", "validation", "test")


def command_of(root: Path, run: str) -> str:
    """The command that started `run`, as the run's own record under `root` has it; empty where there is none, as in a test."""
    try:
        said = str(json.loads((root / "runs" / run / "run.json").read_text(encoding="utf-8"))["resume"])
    except (OSError, ValueError, KeyError, TypeError):  # it is a line on a page: nothing that a report should fail for
        return ""
    return re.sub(r"^.*?(?= run )", "pipelines", said)  # without the place of this machine's Python


def made_tables(
    records: Mapping[str, Record],
    trainings: Mapping[str, Mapping[int, Record]],
    evaluations: Mapping[str, Record],
    routes: Mapping[str, Routes],
    kinds: Sequence[str] = (),
) -> tuple[MadeTable, ...]:
    """The tables for which there is something to say.

    Args:
        records: of all steps that the report rests on, by name.
        trainings: of each arm by seed.
        evaluations: of each arm.
        routes: of each arm that chooses a network for every clip.
        kinds: of these clips, where the data set has kinds.
    """
    tables = (
        _clips(records),
        _ranking(records),
        _banks(records),
        _tuning(records, trainings),
        _arms(records, trainings),
        _inference(evaluations),
        _routes(routes, kinds),
    )
    return tuple(table for table in tables if table.rows)


def _of_kind(records: Mapping[str, Record], kind: str) -> Iterator[tuple[str, Record]]:
    return ((name, record) for name, record in records.items() if record.kind == kind and isinstance(record.config, dict))


def _clips(records: Mapping[str, Record]) -> MadeTable:
    rows = []
    for name, record in _of_kind(records, "build-clips"):
        data, made = record.config["data"], record.result
        shape = made["shape"]
        counts = [str(data.get(split, "–")) for split in SPLITS]
        frames = f"{made['length']} of {shape['channels']}x{shape['height']}x{shape['width']}"
        told = _scalars(data, without=(*SPLITS, "length"))
        rows.append((name, _name(data), *counts, frames, told, made["digest"][:12]))
    return MadeTable(
        "Clips. Frames are channels x height x width; the last column begins the digest of all that a store holds.",
        ("clips", "data set", *SPLITS, "frames", "settings", "digest"),
        rows,
    )


def _ranking(records: Mapping[str, Record]) -> MadeTable:
    rankings = [record for _, record in _of_kind(records, "rank-sources")]
    # Of an experiment that ranks parts of its zoo as well, the ranking of the whole.
    found: dict[str, Any] = max((r.result for r in rankings), key=lambda r: len(r["val_mse"]), default={"val_mse": {}})
    ranked = sorted(found["val_mse"].items(), key=lambda item: item[1])
    rows = [
        (
            str(place),
            source,
            f"{error:.5f}",
            "yes" if source in found["fitting"] else "no",
            "yes" if source == found["best"] else "",
        )
        for place, (source, error) in enumerate(ranked, start=1)
    ]
    return MadeTable(
        "Sources, ranked by strict/mse on the target's validation clips before any training on them. An arm that names no source"
        " starts from the best one whose weights fit the target's network.",
        ("place", "source", "validation strict/mse", "fits the target", "best"),
        rows,
    )


def _banks(records: Mapping[str, Record]) -> MadeTable:
    rows = []
    for name, record in _of_kind(records, "build-bank"):
        bank = record.config["bank"]
        rows.append(
            (name, record.inputs["source"][0], _scalars(bank, without=("batch_size",)), human_bytes(record.result["bytes"]))
        )
    return MadeTable("Banks: the memories that the sources have of the target's clips.", ("bank", "of", "settings", "size"), rows)


def chosen_for(records: Mapping[str, Record], trainings: Mapping[str, Mapping[int, Record]]) -> dict[str, dict[str, Any]]:
    """What the tuning of each arm that was tuned came to (`Chosen` of the experiment's steps), by arm."""
    names = {arm: seeds[min(seeds)].inputs.get("choose", ("",))[0] for arm, seeds in trainings.items() if seeds}
    return {arm: records[name].result for arm, name in names.items() if name in records}


def _tuning(records: Mapping[str, Record], trainings: Mapping[str, Mapping[int, Record]]) -> MadeTable:
    rows = []
    for arm, chosen in chosen_for(records, trainings).items():
        settings = ", ".join(f"{field}={value:g}" for field, value in chosen["settings"].items())
        edges = ", ".join(chosen["edges"]) or "–"
        diverged = str(len(chosen["diverged"]))
        rows.append(
            (
                arm,
                str(chosen["trainings"]),
                diverged,
                duration(chosen["train_seconds"]),
                settings,
                f"{chosen['val_mse']:.5f}",
                edges,
            )
        )
    return MadeTable(
        "Tuning: for every arm as many trainings, with seeds that are not the report's, and the settings with the lowest error on"
        " the validation split, with which the arm was then trained. A value on the edge of its grid is the smallest or"
        " largest that was tried, of three or more: a better one may lie beyond.",
        ("arm", "trainings", "diverged points", "time", "chosen", "validation strict/mse", "on the edge"),
        rows,
    )


def _arms(records: Mapping[str, Record], trainings: Mapping[str, Mapping[int, Record]]) -> MadeTable:
    tuned = chosen_for(records, trainings)
    rows = []
    for arm, seeds in trainings.items():
        found = [record for record in seeds.values() if isinstance(record.config, dict)]
        if not found:
            continue
        first = found[0]
        settings = tuned.get(arm, {}).get("settings", {})
        method, training = (
            _within(first.config, part) | {f.removeprefix(f"{part}."): v for f, v in settings.items() if f.startswith(f"{part}.")}
            for part in ("method", "training")
        )
        errors = [float(r.result["val_mse"]) for r in found if "val_mse" in r.result]
        error = f"{sum(errors) / len(errors):.5f}" if errors else "–"
        told = f"{_name(method)} {_scalars(method)}".strip() if method else "–"
        iterations, rate = (str(training.get(field, "–")) for field in ("iterations", "learning_rate"))
        rows.append((arm, first.kind, told, ", ".join(map(str, seeds)), iterations, rate, error))
    return MadeTable(
        "Arms that are trained: what their trainings are, and the error on the validation split of the weights that were kept, as"
        " the mean over seeds. A choice between arms or settings rests on that column, and not on the test split.",
        ("arm", "training", "method", "seeds", "iterations", "learning rate", "validation strict/mse"),
        rows,
    )


def _inference(evaluations: Mapping[str, Record]) -> MadeTable:
    costs = ("networks", "parameters", "multiply_adds")
    rows = [
        (arm, *(f"{record.result[cost]:,}" for cost in costs))
        for arm, record in evaluations.items()
        if record.result.keys() >= {*costs}  # results of before do not say it
    ]
    return MadeTable(
        "What each arm keeps to predict with, and what the prediction of one clip costs in convolutions and matrix products.",
        ("arm", "networks", "parameters", "multiply-adds"),
        rows,
    )


def _routes(routes: Mapping[str, Routes], kinds: Sequence[str]) -> MadeTable:
    rows = []
    for arm, (errors, sources) in routes.items():
        asked = Counter(zip(kinds or ("all",) * len(errors), (sources[place] for place in errors.argmin(1)), strict=True))
        rows += [(arm, kind, source, str(count)) for (kind, source), count in sorted(asked.items())]
    return MadeTable(
        "Routes: the source that predicted each test clip's observed frames best, one step ahead, and so predicts the others.",
        ("arm", "kind of clip", "source", "clips"),
        rows,
    )


def _within(config: Any, field: str) -> dict[str, Any]:
    """The first config called `field` at any depth, for one training step may be wrapped in another; empty if there is none."""
    if not isinstance(config, dict):
        return {}
    if isinstance(config.get(field), dict):
        return dict(config[field])
    return next((found for value in config.values() if (found := _within(value, field))), {})


def _name(config: Mapping[str, Any]) -> str:
    """What kind of config it is: ``DigitsConfig`` is Digits."""
    return str(config.get("__type__", "")).removesuffix("Config")


def _scalars(config: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """The settings that are one value each, or a list of such, as ``name=value`` and ``name=value,value``."""
    told = {name: _told(value) for name, value in config.items() if name not in ("__type__", *without)}
    return ", ".join(f"{name}={text}" for name, text in told.items() if text)


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_told, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""
