"""A step as inert data, its key, and the order of a pipeline's steps.

The key hashes *what* is computed: the function's name and version, the config, and the keys of the inputs. Where and how it runs
(resources, storage root, cluster) is never part of it, so the same work is found again on any machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoocast.errors import ConfigError
from zoocast.identity import canonical
from zoocast.storage import check_name

if TYPE_CHECKING:
    from zoocast.dag.context import StepContext

__all__ = ["Resources", "Step", "ordered"]

KEY_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one process asks of the cluster. Ray takes fractions of a GPU as well."""

    num_cpus: float = 1
    num_gpus: float = 0

    def __post_init__(self) -> None:
        for field, value in (("num_cpus", self.num_cpus), ("num_gpus", self.num_gpus)):
            if value < 0:
                raise ConfigError(field, f"must not be negative, but got {value}")

    def __str__(self) -> str:
        cpus = f"{self.num_cpus:g} CPU{'' if self.num_cpus == 1 else 's'}"
        gpus = f" and {self.num_gpus:g} GPU{'' if self.num_gpus == 1 else 's'}" if self.num_gpus else ""
        return cpus + gpus

    @property
    def threads(self) -> int:
        """How many threads a process with these resources may use."""
        return max(1, int(self.num_cpus))


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One cached piece of work.

    Args:
        name: unique in its pipeline; part of the folder's name, see `check_name`.
        fn: a module-level function that writes into `StepContext.directory` and returns a JSON-able dict.
        config: what `fn` computes, as a config, plain values, or None.
        inputs: the steps whose folders `fn` reads, by the name under which it knows them.
        version: raise it when `fn` computes something else from the same config.
        resources: what the step's own process holds while it runs.
        launches: what each worker holds that the step itself starts (Ray Train, actors). Such a step has ``num_cpus=0``.
        salt: further identity, such as the digest of a data file.
        estimated_bytes: what it writes at most, where that is known before it begins; else 0. Never part of the key.
    """

    name: str
    fn: Callable[[StepContext], dict[str, Any]]
    config: Any = None
    inputs: Mapping[str, Step] = dataclasses.field(default_factory=dict)
    version: int = 1
    resources: Resources = Resources()
    launches: tuple[Resources, ...] = ()
    salt: str = ""
    estimated_bytes: int = 0

    def __post_init__(self) -> None:
        check_name("a step", self.name)
        if "<" in self.function:
            raise ConfigError(self.name, f"a step's function must be at module level, but got {self.function}")

    @property
    def function(self) -> str:
        """``module:qualified_name`` of `fn`."""
        return f"{self.fn.__module__}:{self.fn.__qualname__}"

    @cached_property
    def canonical_config(self) -> Any:
        return canonical(self.config)

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits that say what the step computes."""
        identity = {
            "function": self.function,
            "version": self.version,
            "config": self.canonical_config,
            "salt": self.salt,
            "inputs": {name: step.key for name, step in self.inputs.items()},
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]

    @property
    def folder(self) -> str:
        """``NAME-KEY``, the name of the folder that holds the result."""
        return f"{self.name}-{self.key}"

    @property
    def demands(self) -> tuple[Resources, ...]:
        """Everything that is held while the step runs."""
        return (self.resources, *self.launches)


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """`steps` and all that they need, inputs first, always in the same order.

    Raises:
        ConfigError: two different steps carry the same name.
    """
    out: dict[str, Step] = {}

    def visit(step: Step) -> None:
        known = out.get(step.name)
        if known is None:
            for parent in step.inputs.values():
                visit(parent)
            out[step.name] = step
        elif known is not step:
            raise ConfigError(step.name, "two steps of a pipeline have this name; rename one, or use the same Step object twice")

    for step in steps:
        visit(step)
    return tuple(out.values())
