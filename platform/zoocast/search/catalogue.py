"""Finding search spaces by name: a module of the package `searchspaces`, or one of the user's own, written with its dots."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoocast.errors import ConfigError
from zoocast.search.space import SearchSpace
from zoocast.usercode import import_module, user_code, where

__all__ = ["load_space"]


def load_space(name: str, base: Any) -> SearchSpace:
    """The search space called `name`, held against the config `base` that it varies.

    Raises:
        ConfigError: there is no such space, or it does not fit `base`.
    """
    module = import_module(name if "." in name else f"searchspaces.{name.replace('-', '_')}")
    if module is None:
        raise ConfigError(
            "", f"there is no search space {name!r}; known: {', '.join(_known())}; your own is written with its dots"
        )
    make = getattr(module, "space", None)
    if not callable(make):
        raise ConfigError("", f"{where(module)} is no search space: it has no function space(base); see docs/extending.md")
    with user_code(make):
        space = make(base)
        if not isinstance(space, SearchSpace):
            raise ConfigError("", f"{where(make)}: space must return a SearchSpace, but returned {type(space).__name__}")
        space.check(base)
        return space


def _known() -> list[str]:
    package = find_spec("searchspaces")
    folders = (package.submodule_search_locations or ()) if package else ()
    return sorted(path.stem.replace("_", "-") for folder in folders for path in Path(folder).glob("[a-z]*.py"))
