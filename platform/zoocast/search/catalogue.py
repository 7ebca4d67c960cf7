"""Finding search spaces by name: a module of the package `searchspaces`, or one of the user's own, written with its dots."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoocast.errors import ConfigError
from zoocast.search.space import SearchSpace

__all__ = ["load_space"]


def load_space(name: str, base: Any) -> SearchSpace:
    """The search space called `name`, held against the config `base` that it varies.

    Raises:
        ConfigError: there is no such space, or it does not fit `base`.
    """
    module = name if "." in name else f"searchspaces.{name.replace('-', '_')}"
    try:
        there = find_spec(module) is not None
    except (ImportError, ValueError):  # a package before the last dot is missing, for one
        there = False
    if not there:
        raise ConfigError(
            "", f"there is no search space {name!r}; known: {', '.join(_known())}; your own is written with its dots"
        )
    # An import error from here on is one inside the module, and must not read as a wrong name.
    space: SearchSpace = importlib.import_module(module).space(base)
    space.check(base)
    return space


def _known() -> list[str]:
    package = find_spec("searchspaces")
    folders = (package.submodule_search_locations or ()) if package else ()
    return sorted(path.stem.replace("_", "-") for folder in folders for path in Path(folder).glob("[a-z]*.py"))
