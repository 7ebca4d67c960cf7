"""Finding pipelines by name and turning a preset and overrides into a checked configuration.

Names and summaries are read from the source text (`ast`), so that `pipelines list`, `--help` and completion import no pipeline
and with it neither torch nor Ray. A NAME with a dot is a module of the user's own: `pipelines run mylab.study`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoocast.config import override, parse_overrides
from zoocast.dag.step import ordered
from zoocast.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from zoocast.dag import Step

__all__ = ["DEFAULT_PRESET", "Configured", "Pipeline", "configure", "load", "summaries"]

DEFAULT_PRESET = "laptop"


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """One pipeline: its name, what it does, its presets, and the function that turns a config into steps."""

    name: str
    summary: str
    description: str
    presets: Mapping[str, Callable[[], Any]]
    steps: Callable[[Any], Sequence[Step]]

    def preset_docs(self) -> dict[str, str]:
        """Each preset with the result and the cost that its docstring states."""
        return {name: inspect.getdoc(function) or "" for name, function in self.presets.items()}


@dataclasses.dataclass(frozen=True)
class Configured:
    """A pipeline with one configuration: what `show`, `plan` and `run` work on. `preset_config` is it without overrides."""

    pipeline: Pipeline
    preset: str
    overrides: tuple[str, ...]
    preset_config: Any
    config: Any
    steps: tuple[Step, ...]


@functools.cache
def summaries() -> Mapping[str, str]:
    """Every pipeline of the package `pipelines` with its one-line summary, by name; imports none of them."""
    found = {}
    package = find_spec("pipelines")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        summary = _literal_summary(path.read_text(encoding="utf-8"))
        if summary is not None:
            found[path.stem.replace("_", "-")] = summary
    return found


def _literal_summary(source: str) -> str | None:
    # Most modules have none, and parsing costs more than this.
    if "\nSUMMARY" not in source:
        return None
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "SUMMARY" for target in targets):
            return str(ast.literal_eval(cast("ast.expr", node.value)))
    return None


def load(name: str) -> Pipeline:
    """The pipeline called `name`, or the one in the module `name` when it has a dot.

    Raises:
        ConfigError: there is no such pipeline; the message names the nearest and how to list all.
    """
    module = importlib.import_module(_module_name(name))
    missing = [part for part in ("SUMMARY", "PRESETS", "steps") if part not in vars(module)]
    if missing:
        raise ConfigError(
            "", f"module {name} is not a pipeline: it has no {' and no '.join(missing)}; see docs/extending.md on adding one"
        )
    return Pipeline(
        name=name,
        summary=module.SUMMARY,
        description=inspect.getdoc(module) or "",
        presets=module.PRESETS,
        steps=module.steps,
    )


def _module_name(name: str) -> str:
    if name in summaries():
        return f"pipelines.{name.replace('-', '_')}"
    try:
        # A bare name is no module: `pipelines run numpy` is a slip. find_spec imports a dotted one's parents, which may fail.
        known_module = "." in name and find_spec(name) is not None
    except (ImportError, ValueError):
        known_module = False
    if known_module:
        return name
    hint = did_you_mean(name, summaries())
    known = ", ".join(summaries()) or "none"
    raise ConfigError("", f"there is no pipeline {name!r}; {hint}known: {known}; a module of your own is written with its dots")


def configure(pipeline: Pipeline, preset: str = DEFAULT_PRESET, overrides: Sequence[str] = ()) -> Configured:
    """The preset's config with `overrides` (``field=value``) applied, and its steps.

    Raises:
        ConfigError: an unknown preset or setting (with the nearest known), or settings that cannot work together.
    """
    if preset not in pipeline.presets:
        hint = did_you_mean(preset, pipeline.presets)
        raise ConfigError("--preset", f"there is no preset {preset!r}; {hint}{pipeline.name} has {', '.join(pipeline.presets)}")
    preset_config = pipeline.presets[preset]()
    config = override(preset_config, parse_overrides(overrides))
    return Configured(pipeline, preset, tuple(overrides), preset_config, config, ordered(pipeline.steps(config)))
