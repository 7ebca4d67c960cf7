"""Finding pipelines by name and turning a preset and overrides into a checked configuration.

Names and summaries are read from the source text (`ast`), so that `pipelines list`, `--help` and completion import no pipeline
and with it neither torch nor Ray. A NAME with a dot is a module of the user's own: `pipelines run mylab.study`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from zoocast.config import as_text, combinations, dump, override, parse_overrides, settings
from zoocast.dag.step import Step, ordered
from zoocast.errors import ConfigError, DataError, did_you_mean
from zoocast.usercode import described, import_module, user_code, where

__all__ = ["DEFAULT_PRESET", "Configured", "Pipeline", "configure", "grid", "labels", "load", "preset_config", "summaries"]

DEFAULT_PRESET = "laptop"
MOST_RUNS = 1000  # of one grid
LONGEST_NAME = 250  # of an experiment in MLflow, which is named like the pipeline


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
    """A pipeline with one configuration: what `show`, `plan` and `run` work on. `preset_config` is it without overrides.

    `incomplete` says why there are no steps, as long as a file is missing that they are made from.
    """

    pipeline: Pipeline
    preset: str
    overrides: tuple[str, ...]
    preset_config: Any
    config: Any
    steps: tuple[Step, ...]
    incomplete: str = ""


@functools.cache
def summaries() -> Mapping[str, str]:
    """Every pipeline of the package `pipelines` with its one-line summary, by name; imports none of them."""
    found = {}
    package = find_spec("pipelines")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        try:
            summary = _literal_summary(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError) as error:  # one module that cannot be read keeps no other from being listed
            summary = f"cannot be read: {described(error)}"
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
        ConfigError: there is no such pipeline (the message names the nearest and how to list all), or its module cannot be
            imported or is no pipeline.
    """
    if len(name) > LONGEST_NAME:
        raise ConfigError("NAME", f"a module's name may have at most {LONGEST_NAME} characters, but this one has {len(name)}")
    # A bare name is no module: `pipelines run numpy` is a slip.
    known = name in summaries()
    module = import_module(f"pipelines.{name.replace('-', '_')}" if known else name) if known or "." in name else None
    if module is None:
        raise ConfigError("", _no_pipeline(name))
    missing = [part for part in ("SUMMARY", "PRESETS", "steps") if part not in vars(module)]
    if missing:
        raise ConfigError(
            "", f"module {name} is not a pipeline: it has no {' and no '.join(missing)}; see docs/extending.md on adding one"
        )
    _check_types(module)
    return Pipeline(
        name=name,
        summary=module.SUMMARY,
        description=inspect.getdoc(module) or "",
        presets=module.PRESETS,
        steps=module.steps,
    )


def _no_pipeline(name: str) -> str:
    if name.endswith(".py"):
        return f"there is no pipeline {name!r}; a module is written with dots: {name.removesuffix('.py').replace('/', '.')}"
    hint = did_you_mean(name, summaries())
    known = ", ".join(summaries()) or "none"
    return f"there is no pipeline {name!r}; {hint}known: {known}; a module of your own is written with its dots"


def _check_types(module: ModuleType) -> None:
    """Raise `ConfigError` for a part of a pipeline's module that is not what docs/extending.md says."""
    summary, presets, steps = module.SUMMARY, module.PRESETS, module.steps
    if not isinstance(summary, str):
        raise _wrong(module, f"SUMMARY must be text, but is {_kind_of(summary)}")
    if not isinstance(presets, Mapping) or not presets:
        raise _wrong(module, f"PRESETS must be a dict of functions by the presets' names, but is {_kind_of(presets)}")
    for preset, function in presets.items():
        if not isinstance(preset, str) or not callable(function):
            raise _wrong(
                module, f"PRESETS must hold functions without arguments by names, but {preset!r} is {_kind_of(function)}"
            )
    if not callable(steps):
        raise _wrong(module, f"steps must be a function that takes the config, but is {_kind_of(steps)}")


def _wrong(called: Any, rule: str) -> ConfigError:
    return ConfigError("", f"{where(called)}: {rule}; see docs/extending.md")


def _kind_of(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"


def preset_config(pipeline: Pipeline, preset: str) -> Any:
    """The config of a preset. Raises `ConfigError` for an unknown one, or for an error in the pipeline's own code."""
    if preset not in pipeline.presets:
        hint = did_you_mean(preset, pipeline.presets)
        raise ConfigError("--preset", f"there is no preset {preset!r}; {hint}{pipeline.name} has {', '.join(pipeline.presets)}")
    function = pipeline.presets[preset]
    with user_code(function):
        config = function()
        if not dataclasses.is_dataclass(config) or isinstance(config, type):
            raise _wrong(function, f"preset {preset!r} must return a config, a frozen dataclass, but returned {_kind_of(config)}")
    return config


def configure(
    pipeline: Pipeline, preset: str = DEFAULT_PRESET, overrides: Sequence[str] = (), *, only_settings: bool = False
) -> Configured:
    """The preset's config with `overrides` (``field=value``) applied, and its steps.

    Args:
        only_settings: steps that cannot be made are left out, such as those whose data are not there.

    Raises:
        ConfigError: an unknown preset or setting (with the nearest known), settings that cannot work together, or an error in the
            pipeline's own code.
    """
    before = preset_config(pipeline, preset)
    with user_code(pipeline.presets[preset]):
        config = override(before, parse_overrides(overrides))
        dump(config)  # what no digest can be taken of is refused here, where it was made
    with user_code(pipeline.steps):
        try:
            made = pipeline.steps(config)
        except (ConfigError, DataError) as error:
            if not only_settings:
                raise
            return Configured(pipeline, preset, tuple(overrides), before, config, (), incomplete=str(error))
        return Configured(pipeline, preset, tuple(overrides), before, config, ordered(_steps(pipeline, made)))


def grid(pipeline: Pipeline, preset: str, overrides: Sequence[str]) -> list[list[str]]:
    """`overrides` for each run that they ask for: one, or every combination where some are lists; see `combinations`."""
    made = combinations(type(preset_config(pipeline, preset)), parse_overrides(overrides))
    if len(made) > MOST_RUNS:
        raise ConfigError("", f"these lists make a grid of {len(made):,} runs; at most {MOST_RUNS} are done at once")
    return [[f"{path}={value}" for path, value in items.items()] for items in made] if len(made) > 1 else [list(overrides)]


def labels(configured: Sequence[Configured]) -> list[str]:
    """What sets each of several configurations apart, ``learning_rate=1e-3``; nothing for a single one."""
    # What an override does not say, because it is the preset's, the configuration does.
    given = [{s.path: as_text(s.value) for s in settings(one.config)} | parse_overrides(one.overrides) for one in configured]
    paths = dict.fromkeys(path for one in configured for path in parse_overrides(one.overrides))
    varied = [path for path in paths if len({items.get(path) for items in given}) > 1]
    last = [path.rpartition(".")[2] for path in varied]
    # The last part of a path says it, unless two paths end alike.
    short = {path: name if last.count(name) == 1 else path for path, name in zip(varied, last, strict=True)}
    return [", ".join(f"{short[path]}={items[path]}" for path in varied) for items in given]


def _steps(pipeline: Pipeline, made: Any) -> tuple[Step, ...]:
    steps = tuple(made) if isinstance(made, Iterable) else ()
    strange = [step for step in steps if not isinstance(step, Step)]
    if strange or not steps:
        raise _wrong(
            pipeline.steps, f"steps must return a tuple of Step, but returned {_kind_of(strange[0] if strange else made)}"
        )
    return steps
