"""A step as inert data, its key, and the order of a pipeline's steps.

The key hashes *what* is computed: the kind of the work and its version, the config, and the keys of the inputs. Where and how it
runs (resources, storage root, cluster) is never part of it, nor where its function stands in the code or what the step is called:
the same work is found again on any machine, after any rearrangement.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zoocast.config import canonical
from zoocast.errors import ConfigError
from zoocast.store.files import check_name
from zoocast.store.layout import KEY_DIGITS

if TYPE_CHECKING:
    from zoocast.dag.context import StepContext

__all__ = ["GROUP", "Kind", "Resources", "Step", "group", "ordered", "step_kind"]

GROUP = "/"  # between the name of a group and that of a member; the name of a step cannot hold it

F = TypeVar("F", bound=Callable[..., Any])


class Kind(NamedTuple):
    """What a step's function does, under a name that outlives its place in the code. Another version gives other results."""

    name: str
    version: int


def step_kind(name: str, *, version: int = 1) -> Callable[[F], F]:
    """Mark a step's function: ``@step_kind("train-target")``. Raise `version` when the same config gives other results.

    A function without this is known by its ``module:qualified_name``, so that moving it repeats its work.
    """

    def mark(fn: F) -> F:
        # On the function itself, which travels to workers by its module and name: no registry that each process must fill.
        fn.step_kind = Kind(name, version)  # type: ignore[attr-defined]
        return fn

    return mark


def group(name: str, steps: Mapping[str, Step]) -> dict[str, Step]:
    """Inputs that belong together, as part of a step's `inputs`; read by `StepContext.group` with the same name.

    >>> Step("rank", rank_sources, inputs={"data": clips, **group("sources", zoo)})  # doctest: +SKIP
    """
    return {f"{name}{GROUP}{member}": step for member, step in steps.items()}


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


# Compared and hashed by identity: comparing fields would walk the graph above, along all of its paths.
@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One cached piece of work.

    Args:
        name: unique in its pipeline; part of the folder's name, see `check_name`.
        fn: a module-level function, marked by `step_kind`, that writes into `StepContext.directory` and returns what is to be
            known of the result: a dataclass of plain values, or a dict that JSON can hold.
        config: what `fn` computes, as a config, plain values, or None.
        inputs: the steps whose folders `fn` reads, by the name under which it knows them; several of a sort as a `group`.
        resources: what the step's own process holds while it runs.
        launches: what each worker holds that the step itself starts (Ray Train, actors). Such a step has ``num_cpus=0``.
        salt: further identity, such as the digest of a data file.
        estimated_bytes: what it writes at most, where that is known before it begins; else 0. Never part of the key.
        least_memory: bytes that a process of it holds at the very least, where that is known; else 0. Never part of the key.
        notes: what people should see of it before it runs, such as how a file of theirs is read. Never part of the key.
    """

    name: str
    fn: Callable[[StepContext], Any]
    config: Any = None
    inputs: Mapping[str, Step] = dataclasses.field(default_factory=dict)
    resources: Resources = Resources()
    launches: tuple[Resources, ...] = ()
    salt: str = ""
    estimated_bytes: int = 0
    least_memory: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("a step", self.name)
        if not isinstance(self.inputs, Mapping) or not all(isinstance(step, Step) for step in self.inputs.values()):
            raise ConfigError(self.name, f"its inputs must be steps by names, but got {self.inputs!r:.80}")
        # `<lambda>` or `<locals>`: all lambdas of a module share one name, so two that differ would have equal keys.
        qualified_name = getattr(self.fn, "__qualname__", "<none>")
        if "<" in qualified_name:
            function = f"{self.fn.__module__}:{qualified_name}" if callable(self.fn) else repr(self.fn)
            raise ConfigError(self.name, f"a step's function must be at module level, but got {function}")

    @property
    def kind(self) -> Kind:
        """What `fn` does; see `step_kind`."""
        unmarked = Kind(f"{self.fn.__module__}:{self.fn.__qualname__}", 1)
        kind: Kind = getattr(self.fn, "step_kind", unmarked)
        return kind

    @cached_property
    def canonical_config(self) -> Any:
        return canonical(self.config)

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits that say what the step computes."""
        identity = {
            "kind": self.kind.name,
            "version": self.kind.version,
            "config": self.canonical_config,
            "salt": self.salt,
            # Keys of keys: a change far upstream reaches this one, and equal work has equal keys under any name.
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

    Steps with equal keys are one step, wherever they were made: the first one stands for all, under its name.

    Raises:
        ConfigError: two different steps carry the same name.
    """
    by_key: dict[str, Step] = {}
    by_name: dict[str, Step] = {}

    def visit(step: Step) -> Step:
        if step.key in by_key:
            return by_key[step.key]
        inputs = {name: visit(parent) for name, parent in step.inputs.items()}
        if any(inputs[name] is not parent for name, parent in step.inputs.items()):
            # An equal input was met before under another name, and that is where its folder and its outcome are.
            step = dataclasses.replace(step, inputs=inputs)
        # Of equal keys but another name it would have been found above, so this is other work.
        if step.name in by_name:
            raise ConfigError(step.name, "two different steps of a pipeline have this name; rename one")
        by_key[step.key] = by_name[step.name] = step
        return step

    for step in steps:
        visit(step)
    return tuple(by_key.values())
