"""Settings from a file or from an earlier run: `--config study.toml`, as `show --toml` prints it, and `--like RUN`.

Both become what is typed after ``-S``, so that whatever knows overrides (records, resumption, jobs on a cluster) knows these too.

    pipeline = "zoo-to-target"
    preset = "smoke"
    seeds = 3

    [target.data]
    kind = "digits"         what `-S target.data=digits` says
    train = [16, 32]        a list where one value belongs makes a grid, as `-S target.data.train=16,32` does

    [[sources]]             all members of a group, in this order; [sources.NAME] changes one and leaves the others
    name = "digits-1"
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoocast.cli.catalogue import Configured, preset_config
from zoocast.cli.catalogue import load as load_pipeline
from zoocast.config import as_text, load, overrides_between, parse_overrides, settings
from zoocast.errors import ConfigError, DataError

__all__ = ["Study", "as_toml", "like_run", "read_study"]


@dataclasses.dataclass(frozen=True)
class Study:
    """A pipeline, a preset, and overrides by their dotted path; `file` is what they were read from, if it is a file."""

    pipeline: str | None
    preset: str | None
    items: Mapping[str, str]
    file: Path | None = None

    def overridden(self, overrides: Sequence[str]) -> list[str]:
        """The overrides of the study and then `overrides`; one of a whole group or kind replaces what the study says below it."""
        given = parse_overrides(overrides)
        kept = {k: v for k, v in self.items.items() if not any(k.startswith(f"{path}.") for path in given)}
        return [f"{path}={value}" for path, value in {**kept, **given}.items()]

    def located(self, error: ConfigError) -> ConfigError:
        """The same error with the line of the file in which its setting, or what holds it, is."""
        line = _line(self.file.read_text(encoding="utf-8"), error.field) if self.file else None
        return ConfigError(error.field, f"{error.message} ({self.file}, line {line})") if line else error


def read_study(path: Path) -> Study:
    """The study in a TOML file. Raises `DataError` for a file that cannot be read, naming the line."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(
            f"{path} cannot be read as settings: {why}; `pipelines show NAME --toml` prints a file to begin with"
        ) from None
    head = {name: data.pop(name, None) for name in ("pipeline", "preset")}
    for name, value in head.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(name, f"must be text, but got {value!r} ({path})")
    return Study(head["pipeline"], head["preset"], dict(_items(data, "")), path)


def _items(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        full = f"{path}.{key}" if path else key
        if key == "kind" and path:
            yield path, as_text(value)
        elif isinstance(value, Mapping):
            yield from _items(value, full)
        elif isinstance(value, list) and value and all(isinstance(member, Mapping) for member in value):
            names = [as_text(member.get("name", "")) for member in value]
            yield full, ",".join(names)
            for name, member in zip(names, value, strict=True):
                yield from _items({k: v for k, v in member.items() if k != "name"}, f"{full}.{name}")
        elif isinstance(value, list) and value and all(isinstance(member, list) for member in value):
            yield full, ";".join(map(as_text, value))
        else:
            yield full, as_text(value)


def _line(text: str, field: str) -> int | None:
    """The line of the setting `field` in a TOML file, or of the nearest thing that holds it."""
    found: dict[str, int] = {}
    above, member = "", ("", "")  # the table that is open, and the last [[group]] with the name of its member
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            above = header[2].replace(" ", "").replace('"', "")
            if header[1] == "[[":
                member = (above, "")
            elif member[0] and above.startswith(f"{member[0]}."):
                above = f"{member[0]}.{member[1]}{above.removeprefix(member[0])}"
            found[above] = number
        elif key := re.match(r"\s*([\w.\"-]+)\s*=\s*(.*)", line):
            name = key[1].replace('"', "")
            if name == "name" and above == member[0] != "":
                member = (above, key[2].split('"')[1] if '"' in key[2] else key[2])
                above = ".".join(member)
            found[f"{above}.{name}" if above else name] = number
    while field and field not in found:
        field = field.rpartition(".")[0]
    return found.get(field)


def like_run(pipeline: str, preset: str, config: Any) -> Study:
    """The settings of an earlier run, from its record.

    Raises:
        ConfigError: there is no such pipeline or preset any more, or the settings have changed since.
    """
    base = preset_config(load_pipeline(pipeline), preset)
    return Study(pipeline, preset, overrides_between(base, load(type(base), config)))


def as_toml(configured: Configured) -> str:
    """Every setting, in a file for `read_study`."""
    known = {s.path: s for s in settings(configured.config)}
    lines = [
        f"# {configured.pipeline.name}: {configured.pipeline.summary}",
        "# pipelines run --config THIS-FILE",
        f"pipeline = {json.dumps(configured.pipeline.name)}",
        f"preset = {json.dumps(configured.preset)}",
        *_table(configured.config, "", "", known),
    ]
    return "\n".join(lines) + "\n"


def _table(config: Any, path: str, header: str, known: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a config at `path`, whose table is called `header`: first its own settings, for TOML has no way back."""
    names = [field.name for field in dataclasses.fields(config) if field.metadata.get("settable", True)]
    tables = []
    for name in names:
        value = getattr(config, name)
        full, below = (f"{above}.{name}" if above else name for above in (path, header))
        if dataclasses.is_dataclass(value):
            tables.append((f"[{below}]", value, full, below))
        elif isinstance(value, tuple) and any(dataclasses.is_dataclass(member) for member in value):
            tables += [(f"[[{below}]]", member, f"{full}.{getattr(member, 'name', i)}", below) for i, member in enumerate(value)]
        else:
            yield f"{name} = {_toml(value)}  # {known[full].help}".removesuffix("  # ")
    for title, value, full, below in tables:
        yield from ("", title)
        if full in known:
            yield f"kind = {_toml(known[full].value)}  # {known[full].type}"
        yield from _table(value, full, below, known)


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return as_text(value)
    return json.dumps(as_text(value), ensure_ascii=False)
