"""What a journal can hold: one class per kind of entry, and the JSON line that each of them is on disk.

A line is ``{"kind": ..., "time": ..., ...}``. Readers match on the classes; `encode` and `decode` alone know the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from zoocast.store.files import parse_json

__all__ = [
    "Artifact",
    "Child",
    "Compare",
    "Dataset",
    "Entry",
    "Group",
    "Header",
    "Image",
    "Metrics",
    "Model",
    "Note",
    "Params",
    "Rewind",
    "Scalar",
    "Scores",
    "Status",
    "StatusChange",
    "Tags",
    "decode",
    "encode",
]

Status = Literal["running", "finished", "failed", "killed"]
Scalar = str | int | float | bool | None


@dataclasses.dataclass(frozen=True)
class Entry:
    """Anything that a step reports. By itself it stands for a kind that this version of zoocast does not know.

    `time` in milliseconds since the epoch, as MLflow counts.
    """

    kind: ClassVar[str] = ""
    time: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Header(Entry):
    """The first line of every journal. A step that is done all over again has a journal with another `id`."""

    kind: ClassVar[str] = "journal"
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


@dataclasses.dataclass(frozen=True)
class Metrics(Entry):
    """Numbers at a training step, non-finite ones included."""

    kind: ClassVar[str] = "metrics"
    step: int
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Params(Entry):
    """Settings; of a repeated name the first value counts."""

    kind: ClassVar[str] = "params"
    values: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Tags(Entry):
    """Labels; of a repeated name the last value counts."""

    kind: ClassVar[str] = "tags"
    values: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Rewind(Entry):
    """Work goes on from a checkpoint at `step`, and repeats the metrics of later steps."""

    kind: ClassVar[str] = "rewind"
    step: int


@dataclasses.dataclass(frozen=True)
class Image(Entry):
    """A picture of the series `key`. `file` is relative to the journal's directory when it lies inside."""

    kind: ClassVar[str] = "image"
    key: str
    step: int
    file: str


@dataclasses.dataclass(frozen=True)
class Artifact(Entry):
    """A file or directory to be kept in `folder` of the run's artifacts."""

    kind: ClassVar[str] = "artifact"
    file: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Dataset(Entry):
    """A data set that the step reads: `context` says what for, `source` where it lies."""

    kind: ClassVar[str] = "dataset"
    name: str
    digest: str
    source: str
    context: str
    profile: Mapping[str, Scalar]


@dataclasses.dataclass(frozen=True)
class Model(Entry):
    """A directory with weights (`file`) that becomes a version of the registered model `name`."""

    kind: ClassVar[str] = "model"
    file: str
    name: str
    alias: str | None
    step: int


@dataclasses.dataclass(frozen=True)
class Child(Entry):
    """A part of the step that is a run of its own, with a journal in the directory `file`."""

    kind: ClassVar[str] = "child"
    name: str
    file: str


@dataclasses.dataclass(frozen=True)
class Compare(Entry):
    """How the children are best compared: by the lowest `metric`, over `params`."""

    kind: ClassVar[str] = "compare"
    metric: str
    params: list[str]


@dataclasses.dataclass(frozen=True)
class Scores(Entry):
    """Finite numbers that this step has found out about another one, a training of the key `of`."""

    kind: ClassVar[str] = "scores"
    of: str
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Group(Entry):
    """How steps whose names begin with `steps` are best compared: by the lowest `metric`, one group per value of `param`."""

    kind: ClassVar[str] = "group"
    metric: str
    param: str
    steps: str


@dataclasses.dataclass(frozen=True)
class Note(Entry):
    """The run's description, in Markdown; the last one counts."""

    kind: ClassVar[str] = "note"
    text: str


@dataclasses.dataclass(frozen=True)
class StatusChange(Entry):
    """Where the step stands from now on."""

    kind: ClassVar[str] = "status"
    status: Status


# By direct subclasses, so a kind that is added above is read and written without being listed here.
KINDS: Mapping[str, type[Entry]] = {cls.kind: cls for cls in Entry.__subclasses__()}
KNOWN: tuple[type[Entry], ...] = (Entry, *KINDS.values())
FIELDS = {cls: {name: hint for name, hint in typing.get_type_hints(cls).items() if name != "kind"} for cls in KNOWN}


def encode(entry: Entry) -> bytes:
    """The line of `entry`, newline included."""
    data = {"kind": entry.kind, **vars(entry)}
    if isinstance(entry, Metrics):  # JSON has no word for NaN and infinities
        data["values"] = {name: value if math.isfinite(value) else str(value) for name, value in entry.values.items()}
    # One line per entry is what the file rests on: json.dumps escapes every newline inside a text.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Entry | None:
    """The entry in `line`; None when it was torn by a kill, or is no entry or one with a value of a wrong type.

    What a later version added to it is left out.
    """
    try:
        data = parse_json(line)
        # A journal may be written by a later zoocast than the one that exports it: a new kind becomes a bare `Entry`, not damage.
        cls = KINDS.get(data["kind"], Entry)
        # Only the fields known here; one that is missing is a KeyError, so a damaged line.
        fields: dict[str, Any] = {name: data[name] for name in FIELDS[cls]}
        if cls in (Metrics, Scores):
            fields["values"] = {name: float(value) for name, value in fields["values"].items()}
        # Here rather than in MLflow, whose answer to such a value does not tell it from a server in trouble.
        return cls(**fields) if all(_fits(value, FIELDS[cls][name]) for name, value in fields.items()) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON is what the type `hint` of a field says."""
    parts = typing.get_args(hint)
    match typing.get_origin(hint):
        case types.UnionType:
            return any(_fits(value, part) for part in parts)
        case typing.Literal:
            return value in parts
        case builtin if builtin is list:
            return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
        case None if hint is int:  # MLflow keeps 64 bits
            return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case None:
            return isinstance(value, hint)
    return isinstance(value, dict) and all(_fits(each, parts[1]) for each in value.values())
