"""What Ray Tune may vary: one module per search space, each with a function ``space(base)`` that gives a `SearchSpace`.

`base` is the config that is searched, so a range may depend on what is not varied. A name with a dot is a module of your own.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoocast.errors import ConfigError
from zoocast.tuning import SearchSpace

__all__ = ["load"]


def load(name: str, base: Any) -> SearchSpace:
    """The search space called `name`, held against the config `base` that it varies.

    Raises:
        ConfigError: there is no such space, or it does not fit `base`.
    """
    known = sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[a-z]*.py"))
    module = name if "." in name else f"{__name__}.{name.replace('-', '_')}"
    try:
        there = find_spec(module) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise ConfigError("", f"there is no search space {name!r}; known: {', '.join(known)}; your own is written with its dots")
    space: SearchSpace = importlib.import_module(module).space(base)
    space.check(base)
    return space
