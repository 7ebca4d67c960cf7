"""Configs as values: their canonical form, digest, differences, dotted overrides, and JSON.

A config is a frozen keyword-only dataclass whose fields are plain values, tuples, other configs, or tuples of configs that have
a `name`. What only says where or how work runs is declared with ``setting(..., identity=False)`` and is never in a digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, Union, cast

from zoocast.errors import ConfigError, within

__all__ = [
    "Change",
    "Setting",
    "as_text",
    "canonical",
    "check_ranges",
    "combinations",
    "diff",
    "digest",
    "dump",
    "load",
    "override",
    "overrides_between",
    "parse_overrides",
    "setting",
    "settings",
]

T = TypeVar("T")
TYPE = "__type__"
MOST = 10**18 - 1  # of a whole number, either way: what numpy, Arrow and torch hold in 64 bits


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",  # noqa: A002
    *,
    identity: bool = True,
    added: bool = False,
    settable: bool = True,
    creates: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field with its explanation.

    Args:
        default: its value when none is given; left out, the field must be given.
        help: what people read beside it.
        identity: False keeps it out of every digest, for what says only where or how work runs.
        added: True for one that came when there were results already, and whose default is what was done before: at its default
            it is in no digest, so that these results are found again.
        settable: False hides it from people, for what code alone may set: no override, and not among the `settings`.
        creates: True lets an override of this field, under a name that its group does not have, make a member of that name.
        at_least, at_most, above, below: bounds of a number, or of each number in a tuple; `check_ranges` holds them.
    """
    bounds = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    given = {k: v for k, v in bounds.items() if v is not None}
    metadata = {"help": help, "identity": identity, "added": added, "settable": settable, "creates": creates, "bounds": given}
    return dataclasses.field(default=default, metadata=metadata)


def _settable(config: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(config) if field.metadata.get("settable", True)]


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}


def check_ranges(config: Any) -> None:
    """Raise `ConfigError` for the first number of `config` outside the bounds of its `setting`; call it in ``__post_init__``."""
    for field in dataclasses.fields(config):
        # Fields of users' own data sets may be plain dataclass fields, without our metadata.
        bounds, value = field.metadata.get("bounds") or {}, getattr(config, field.name)
        if not bounds or value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if not all(_HOLDS[name](number, limit) for name, limit in bounds.items()):
                rule = " and ".join(f"{name.replace('_', ' ')} {_short(limit)}" for name, limit in bounds.items())
                raise ConfigError(field.name, f"must be {rule}, but got {value!s:.80}")


def _short(number: float) -> str:
    # 4294967295, which :g would write as 4.29497e+09, but 1 for 1.0.
    return str(number) if isinstance(number, int) else f"{number:g}"


class Setting(NamedTuple):
    """One leaf of a config: its dotted path, type in words, value and explanation."""

    path: str
    type: str
    value: Any
    help: str


class Change(NamedTuple):
    """One difference between two canonical configs; `before` or `after` is None where the path does not exist."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {json.dumps(self.before)} -> {json.dumps(self.after)}"


# Annotations are text here, which is slow to evaluate, and one command wants those of the same few classes again and again.
_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def _is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def dump(value: Any, *, identity_only: bool = False, added: bool = True) -> Any:
    """`value` as JSON data. Configs become objects that carry their class name under ``__type__``.

    Args:
        value: a config, or what one may hold.
        identity_only: without what only says where or how work runs.
        added: False leaves out settings declared as `added` that have their default.
    """
    inner = functools.partial(dump, identity_only=identity_only, added=added)
    if _is_config(value):
        out: dict[str, Any] = {TYPE: type(value).__name__}
        for field in dataclasses.fields(value):
            if identity_only and not field.metadata.get("identity", True):
                continue
            item = getattr(value, field.name)
            if not added and field.metadata.get("added") and item == field.default:
                continue
            # 1 and 1.0 are the same setting, and must have the same digest.
            hint = _hints(type(value))[field.name]
            if float in (hint, *typing.get_args(hint)) and type(item) is int:
                item = float(item)
            out[field.name] = inner(item)
        return out
    if isinstance(value, Mapping):
        return {str(k): inner(v) for k, v in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [inner(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # JSON has neither; what Python writes for them no other reader takes, and a NaN would not equal itself.
        if not math.isfinite(value):
            raise ConfigError("", f"a number in a config must be finite, but got {value}")
        return value
    raise TypeError(f"a config holds plain values, tuples and configs, but got {type(value).__name__}: {value!r}")


def canonical(value: Any) -> Any:
    """The part of `value` that says *what* is computed, as JSON data. Equal data means equal results."""
    return dump(value, identity_only=True, added=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, 64 hexadecimal digits."""
    # Sorted, without spaces and in ASCII: the text, and with it every step's key, depends on nothing but the values.
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def diff(before: Any, after: Any, path: str = "") -> list[Change]:
    """The leaves in which two canonical forms differ, in the order of their paths."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = list(after) + [k for k in before if k not in after]
        return [c for k in keys for c in diff(before.get(k), after.get(k), f"{path}.{k}" if path else str(k))]
    # Sources and other named configs are compared by name, so that one more at the front is not a change of all behind it.
    if isinstance(before, list) and isinstance(after, list) and any(isinstance(v, dict) for v in before + after):
        named_before, named_after = _by_name(before), _by_name(after)
        return diff(named_before, named_after, path)
    # The types as well: True == 1 in Python.
    return [] if before == after and type(before) is type(after) else [Change(path, before, after)]


def _by_name(items: list[Any]) -> dict[str, Any]:
    return {str(v.get("name", i)) if isinstance(v, dict) else str(i): v for i, v in enumerate(items)}


# ---------------------------------------------------------------------------------------------------------------- reading back


def load(cls: type[T], data: Any, path: str = "") -> T:
    """The config of class `cls` that `dump` turned into `data`. Unknown or missing fields raise `ConfigError`."""
    return cast(T, _load(cls, data, path))


def _load_config(cls: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict) or data.get(TYPE) != cls.__name__:
        raise ConfigError(path, f"expected {cls.__name__}, but got {data!r:.80}")
    hints, names = _hints(cls), {f.name for f in dataclasses.fields(cls)}
    for name in sorted(set(data) - names - {TYPE}):
        raise ConfigError(f"{path}.{name}" if path else name, f"unknown field; {cls.__name__} has {', '.join(sorted(names))}")
    kwargs = {k: _load(hints[k], v, f"{path}.{k}" if path else k) for k, v in data.items() if k != TYPE}
    try:
        return cls(**kwargs)
    # A field without a default is missing, which Python says well enough.
    except TypeError as error:
        raise ConfigError(path, str(error)) from None


def _load(hint: Any, data: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _load_config(hint, data, path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _load(_member(hint, data, path), data, path)
    if origin is tuple:
        if not isinstance(data, list):
            raise ConfigError(path, f"expected a list, but got {data!r:.80}")
        inner = [args[0]] * len(data) if len(args) == 2 and args[1] is Ellipsis else list(args)
        return tuple(_load(h, v, f"{path}.{i}") for i, (h, v) in enumerate(zip(inner, data, strict=True)))
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise ConfigError(path, f"expected an object, but got {data!r:.80}")
        return {key: _load(args[1], value, f"{path}.{key}") for key, value in data.items()}
    if origin is Literal:
        if data not in args:
            raise ConfigError(path, f"must be one of {', '.join(map(str, args))}, but got {data!r}")
        return data
    # A bool is an int to Python, but no number in a config.
    if hint in (int, float) and isinstance(data, (int, hint)) and not isinstance(data, bool):
        return _whole(data, path) if hint is int else _finite(data, path)
    if hint is Any or (hint in (int, str, bool) and type(data) is hint):
        return data
    if hint is type(None) and data is None:
        return None
    raise ConfigError(path, f"expected {_type_name(hint)}, but got {data!r:.80}")


def _finite(number: float, path: str) -> float:
    with contextlib.suppress(OverflowError):  # a whole number that no float can hold
        if math.isfinite(number := float(number)):
            return number
    raise ConfigError(path, f"expected a finite number, but got {number!s:.80}")


def _whole(number: int, path: str) -> int:
    if not -MOST <= number <= MOST:
        raise ConfigError(path, f"must be a whole number of at most 18 digits, but got {number!s:.40}")
    return number


def _member(hint: Any, data: Any, path: str) -> Any:
    args = typing.get_args(hint)
    if data is None:
        return type(None)
    if isinstance(data, dict):
        for arg in args:
            if dataclasses.is_dataclass(arg) and arg.__name__ == data.get(TYPE):  # type: ignore[union-attr]
                return arg
        raise ConfigError(path, f"expected one of {_type_name(hint)}, but got {data.get(TYPE)!r}")
    member = _plain_member(args, lambda literal: data in typing.get_args(literal))
    if member is None:
        raise ConfigError(path, f"expected one of {_type_name(hint)}, but got {data!r:.80}")
    return member


def _plain_member(args: tuple[Any, ...], is_of: Callable[[Any], bool]) -> Any:
    """Of a union's members that are no config: the Literal that `is_of` takes, else the plain type; None if there is none."""

    def order(member: Any) -> tuple[bool, bool]:
        return not is_of(member), typing.get_origin(member) is Literal

    plain = [a for a in args if a is not type(None) and not dataclasses.is_dataclass(a)]
    return min(plain, key=order, default=None)


# ---------------------------------------------------------------------------------------------------------------- overrides


def parse_overrides(items: Iterable[str]) -> dict[str, str]:
    """``["target.lr=3e-4"]`` as a mapping. Raises `ConfigError` for an item without ``=`` or a path given twice."""
    out: dict[str, str] = {}
    for item in items:
        path, sign, text = item.partition("=")
        path = path.strip()
        if not sign or not path:
            raise ConfigError("", f"an override is written FIELD=VALUE, but got {item!r}")
        if path in out and out[path] != text:
            raise ConfigError(path, f"given twice, as {out[path]!r} and {text!r}")
        out[path] = text.strip()
    return out


def override(config: T, items: Mapping[str, Any]) -> T:
    """`config` with dotted fields replaced; all at once, so that values that belong together are checked together.

    A value is text, parsed by the field's type, or a value of that type. One element of a tuple of configs is chosen by its
    `name` or position, all of them by ``*``: ``sources.*.training.iterations=100``. A field that may hold one of several
    configs is switched by the config's name: ``target.data=moving-mnist``. A tuple of configs is given as the names of its
    members, ``sources=a,b``; a new one is like the last, and is also made by a field that `creates`: ``sources.c.model=FOLDER``.

    Raises:
        ConfigError: an unknown field (with the nearest known ones) or a value that the field cannot hold.
    """
    # The paths as a tree, a value under the key "": a field can then be switched to another config and have fields of it set,
    # in whatever order both were given.
    tree: dict[str, Any] = {}
    for path, value in items.items():
        node = tree
        for part in path.split("."):
            node = node.setdefault(part, {})
        node[""] = value
    try:
        return cast(T, _apply(type(config), config, tree, ""))
    except _UnknownSettingError as error:
        typed = next((path for path in items if path == error.field or path.startswith(f"{error.field}.")), error.field)
        raise ConfigError(error.field, f"unknown setting; {_meant(config, typed)}{error.message}") from None


def _apply(hint: Any, value: Any, tree: dict[str, Any], path: str) -> Any:
    tree = dict(tree)
    if "" in tree:
        given = tree.pop("")
        names = isinstance(given, str) and _member_kind(hint) is not None
        value = _members(value, given, path) if names else _parse(hint, given, path)
    if not tree:
        return value
    if _is_config(value):
        hints = _hints(type(value))
        known = [f.name for f in _settable(value)]
        changes = {}
        for name, subtree in tree.items():
            full = f"{path}.{name}" if path else name
            if name not in known:
                raise _unknown(full, name, value, known, hint, path)
            changes[name] = _apply(hints[name], getattr(value, name), subtree, full)
        try:
            return dataclasses.replace(value, **changes)
        except ConfigError as error:
            # The config knows only its own field's name.
            raise (error.under(path) if path else error) from None
    if isinstance(value, tuple) and any(_is_config(v) for v in value):
        return _apply_to_tuple(value, tree, path)
    raise ConfigError(f"{path}.{next(iter(tree))}", f"{path} is {value!r} and has no fields")


def _apply_to_tuple(value: tuple[Any, ...], tree: dict[str, Any], path: str) -> tuple[Any, ...]:
    out = list(value)
    names = [_name_of(member, i) for i, member in enumerate(value)]
    for name, subtree in tree.items():
        chosen = [i for i, n in enumerate(names) if name in ("*", n, str(i))]
        creating = [f.name for f in dataclasses.fields(value[-1]) if f.metadata.get("creates")]
        if not chosen and any(field in subtree for field in creating):
            out.append(_new_member(value[-1], name, subtree, path))
        elif not chosen:
            new = f"; {path}.{name}.{creating[0]} would make it" if creating else ""
            raise ConfigError(f"{path}.{name}", f"there is no {name!r}; known: {', '.join(names)}, or * for all{new}")
        for i in chosen:
            out[i] = _apply(type(out[i]), out[i], subtree, f"{path}.{names[i]}")
    return tuple(out)


def _member_kind(hint: Any) -> Any:
    """The class of the members of a tuple of configs; None for any other type."""
    args = typing.get_args(hint)
    return args[0] if typing.get_origin(hint) is tuple and args and dataclasses.is_dataclass(args[0]) else None


def _name_of(member: Any, place: int) -> str:
    """How a member of a group is called: by its name, or by its place where it has none."""
    return str(getattr(member, "name", place))


def _members(value: tuple[Any, ...], text: str, path: str) -> tuple[Any, ...]:
    """The members with the names in `text`, in its order: those that are there, and for others new ones like the last."""
    known = {getattr(member, "name", None): member for member in value}
    if None in known or not value:
        raise ConfigError(path, "holds several settings without names; set one of them")
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(known.get(name) or _new_member(value[-1], name, {}, path) for name in names)


def _new_member(like: Any, name: str, tree: dict[str, Any], path: str) -> Any:
    return _apply(type(like), like, {**tree, "name": {"": name}}, f"{path}.{name}")


def combinations(cls: type, items: Mapping[str, str]) -> list[dict[str, str]]:
    """Every combination of the values in `items`, overrides of a config of class `cls`: a list makes a grid.

    The type of a field decides what a list is. Values of numbers, words and kinds are separated by commas. Where the field is
    itself a list, as ``hidden_channels=8,8;16,16``, its values are separated by semicolons. Text is never cut.
    """
    choices = [_choices(_hint_at(cls, path.split(".")), text) for path, text in items.items()]
    return [dict(zip(items, chosen, strict=True)) for chosen in itertools.product(*choices)]


def _choices(hint: Any, text: str) -> list[str]:
    held = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    if hint is None or str in held:
        return [text]
    separator = ";" if any(typing.get_origin(t) is tuple for t in held) else ","
    return [part.strip() for part in text.split(separator) if part.strip()] or [text]


def _hint_at(hint: Any, parts: Sequence[str]) -> Any:
    """The type of the field that a dotted path leads to; None when there is none."""
    if not parts:
        return hint
    if (kind := _member_kind(hint)) is not None:
        return _hint_at(kind, parts[1:]) if len(parts) > 1 else None
    configs = [c for c in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(c)]
    found = (_hint_at(_hints(c)[parts[0]], parts[1:]) for c in configs if parts[0] in _hints(c))
    return next((h for h in found if h is not None), None)


def overrides_between(before: Any, after: Any, path: str = "") -> dict[str, str]:
    """The overrides that make `after` of `before`, another config of its class."""
    out: dict[str, str] = {}
    for field in _settable(after):
        old, new = getattr(before, field.name), getattr(after, field.name)
        full = f"{path}.{field.name}" if path else field.name
        if _is_config(new):
            if type(old) is not type(new):
                out[full] = new.kind
                old = type(new)()  # as the override will make it
            out |= overrides_between(old, new, full)
        elif isinstance(new, tuple) and any(_is_config(member) for member in new):
            known, wanted = ({_name_of(member, i): member for i, member in enumerate(group)} for group in (old, new))
            if list(known) != list(wanted):
                out[full] = ",".join(wanted)
            for name, member in wanted.items():
                like = known.get(name) or dataclasses.replace(old[-1], name=name)
                out |= overrides_between(like, member, f"{full}.{name}")
        elif old != new or type(old) is not type(new):
            out[full] = as_text(new)
    return out


def as_text(value: Any) -> str:
    """A plain value, or several, as an override writes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


class _UnknownSettingError(ConfigError):
    """Nothing near the place has a setting of this name; the message lists what is there."""


def _unknown(full: str, name: str, value: Any, known: Sequence[str], hint: Any, path: str) -> ConfigError:
    """What to raise for a setting `name` that `value`, at `path` and of type `hint`, does not have."""
    listed = f"{type(value).__name__} has {', '.join(known)}"
    # Another kind of config in this place may have it, as cell=stlstm has decouple ...
    if kinds := [kind for kind, config in _kinds(hint).items() if name in [f.name for f in _settable(config)]]:
        verb = "has" if len(kinds) == 1 else "have"
        return ConfigError(full, f"unknown setting; {' and '.join(kinds)} {verb} it, with {path}={kinds[0]}; {listed}")
    # ... or one that lies deeper, of a kind that is not chosen.
    below = [
        f"{field}.{name} with {path}{'.' if path else ''}{field}={kind}"
        for field in known
        for kind, config in _kinds(_hints(type(value))[field]).items()
        if name in [f.name for f in _settable(config)]
    ]
    if below and not any(s.path.endswith(f".{name}") for s in settings(value)):
        return ConfigError(full, f"unknown setting; did you mean {' or '.join(below[:3])}? {listed}")
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.7):
        return ConfigError(full, f"unknown setting; did you mean {' or '.join(near)}? {listed}")
    return _UnknownSettingError(full, listed)


def _meant(config: Any, typed: str) -> str:
    """``did you mean X? `` with settings anywhere in `config` that are called as `typed` ends, or nearly so."""
    paths = list(dict.fromkeys(_starred(config)))
    first, last = typed.partition(".")[0], typed.rpartition(".")[2]
    # The whole of what was typed, below something that was left out, before its last part alone.
    found = [p for p in paths if p.endswith(f".{typed}")] or [p for p in paths if p.rpartition(".")[2] == last]
    if not found:
        near = difflib.get_close_matches(last, {p.rpartition(".")[2] for p in paths}, n=1, cutoff=0.7)
        found = [p for p in paths if p.rpartition(".")[2] in near]
    found.sort(key=lambda p: p.partition(".")[0] != first)
    return f"did you mean {' or '.join(found[:3])}? " if found else ""


def _starred(config: Any, path: str = "") -> Iterator[str]:
    """The paths of all `settings`, with ``*`` for the members of a tuple of configs."""
    for field in _settable(config):
        value = getattr(config, field.name)
        full = f"{path}{field.name}"
        if _is_config(value):
            yield full
            yield from _starred(value, f"{full}.")
        elif isinstance(value, tuple) and any(_is_config(v) for v in value):
            for item in value:
                yield from _starred(item, f"{full}.*.")
        else:
            yield full


def _kinds(hint: Any) -> dict[str, Any]:
    """The kinds of config that a field of this type may hold, by name; none unless there are several."""
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return {}
    kinds = {arg.kind: arg for arg in typing.get_args(hint) if dataclasses.is_dataclass(arg) and hasattr(arg, "kind")}
    return kinds if len(kinds) > 1 else {}


def _parse(hint: Any, value: Any, path: str) -> Any:
    if not isinstance(value, str):
        # By way of JSON, so that a value from a program is held to the same types as one from a file.
        return _load(hint, dump(value), path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _parse_union(hint, value, path)
    if dataclasses.is_dataclass(hint):
        raise ConfigError(
            path, f"holds several settings ({', '.join(f.name for f in dataclasses.fields(hint))}); set one of them"
        )
    if origin is Literal:
        for arg in args:
            if str(arg) == value:
                return arg
        raise ConfigError(
            path, f"must be one of {', '.join(map(str, args))}, but got {value!r}{_nearest(value, [str(a) for a in args])}"
        )
    if origin is tuple:
        items = [v.strip() for v in value.strip("()[] ").split(",") if v.strip()]
        inner = [args[0]] * len(items) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(items):
            raise ConfigError(path, f"needs {len(inner)} values separated by commas, but got {value!r}")
        return tuple(_parse(h, v, path) for h, v in zip(inner, items, strict=True))
    return _parse_scalar(hint, value, path)


def _nearest(value: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _parse_union(hint: Any, value: str, path: str) -> Any:
    args = typing.get_args(hint)
    if type(None) in args and value.lower() in ("none", "null"):
        return None
    configs: dict[str, Any] = {getattr(a, "kind", str(a)): a for a in args if dataclasses.is_dataclass(a)}
    # As papers and people spell them: ConvLSTM, ST-LSTM, moving_mnist.
    spelled = {_plainly(name): kind for kind, config in configs.items() for name in (kind, *getattr(config, "also", ()))}
    if _plainly(value) in spelled:
        return configs[spelled[_plainly(value)]]()
    # A union has one plain type at most, and perhaps words that stand for a value of it.
    plain = _plain_member(args, lambda literal: value in map(str, typing.get_args(literal)))
    if plain is None:
        # A kind may know itself by more than its name: data by the path where they lie.
        for config in configs.values():
            with within(path):
                if (found := config.of_text(value) if hasattr(config, "of_text") else None) is not None:
                    return found
        raise ConfigError(path, f"must be one of {', '.join(configs)}, but got {value!r}{_nearest(value, list(configs))}")
    try:
        return _parse(plain, value, path)
    except ConfigError:
        raise ConfigError(path, f"must be {_type_name(hint)}, but got {value!r}") from None


def _plainly(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


def _parse_scalar(hint: Any, value: str, path: str) -> Any:
    try:
        if hint is bool:
            return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}[
                value.lower()
            ]
        if hint is int:
            # 1e4 and 2.0 are whole numbers to people; a long one goes through int, for a float would round it.
            number = float(value)
            return _whole(int(value) if "." not in value and "e" not in value.lower() else _integer(number), path)
        if hint is float:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
        if hint is str:
            return value
    except (KeyError, ValueError, OverflowError):
        pass
    raise ConfigError(path, f"must be {_type_name(hint)}, but got {value!r}")


def _integer(number: float) -> int:
    if not number.is_integer():
        raise ValueError
    return int(number)


def _type_name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " | ".join("none" if a is type(None) else getattr(a, "kind", _type_name(a)) for a in args)
    if origin is tuple:
        return f"{_type_name(args[0])}, ..." if len(args) == 2 and args[1] is Ellipsis else ", ".join(map(_type_name, args))
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def settings(config: Any, path: str = "") -> Iterator[Setting]:
    """Every leaf of `config` with its dotted path, in the order of declaration; before a config of several kinds, its kind."""
    hints = _hints(type(config))
    for field in _settable(config):
        value = getattr(config, field.name)
        full = f"{path}.{field.name}" if path else field.name
        if _is_config(value):
            if _kinds(hints[field.name]):
                yield Setting(full, _type_name(hints[field.name]), value.kind, field.metadata.get("help", ""))
            yield from settings(value, full)
        elif isinstance(value, tuple) and any(_is_config(v) for v in value):
            for i, item in enumerate(value):
                yield from settings(item, f"{full}.{getattr(item, 'name', i)}")
        else:
            yield Setting(full, _type_name(hints[field.name]), value, field.metadata.get("help", ""))
