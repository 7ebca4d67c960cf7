"""A search space: dotted fields of a config, the distributions that they are drawn from, and the points to try first.

It is plain data, so it can be checked against a config before any trial starts, kept with a study, and read back by a report.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from zoocast.config import digest, override
from zoocast.errors import ConfigError

__all__ = ["SearchSpace", "When"]


@dataclasses.dataclass(frozen=True)
class When:
    """A field that exists only while another one, a choice that is named before it, has one of the values `among`."""

    field: str
    among: tuple[Any, ...]
    distribution: BaseDistribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a study varies.

    Args:
        fields: dotted config fields, each with its distribution, or `When` it exists and then its distribution.
        points: settings to try first, each with a value for every field that exists in it; papers' values belong here.

    Raises:
        ConfigError: a condition on a field that is not a choice named before, or on a value that is none of its choices.
    """

    fields: Mapping[str, BaseDistribution | When]
    points: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name, distribution in self.every().items():
            if not isinstance(distribution, CategoricalDistribution | FloatDistribution | IntDistribution):
                raise ConfigError(
                    name, f"must have a distribution of Optuna's (float, int or choice), but got {distribution!r:.80}"
                )
        distributions, names = self.every(), list(self.fields)
        for place, (name, field) in enumerate(self.fields.items()):
            if isinstance(field, When):
                other = distributions[field.field] if field.field in names[:place] else None
                if not isinstance(other, CategoricalDistribution):
                    raise ConfigError(name, f"depends on {field.field!r}, which must be a choice that is named before it")
                if not field.among or not set(field.among) <= set(other.choices):
                    raise ConfigError(
                        name, f"exists while {field.field} is among {field.among}, which must be of {other.choices}"
                    )

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that say what is searched. A step that searches carries them as its `salt`."""
        return digest(self.to_json())

    def every(self) -> dict[str, BaseDistribution]:
        """The distribution of each field, whenever it exists."""
        return {name: f.distribution if isinstance(f, When) else f for name, f in self.fields.items()}

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """The distributions of the fields that exist given `params`."""
        out: dict[str, BaseDistribution] = {}
        for name, distribution in self.every().items():
            field = self.fields[name]
            # `in out`: the field that it depends on must itself exist, which may hang on a third.
            if not isinstance(field, When) or (field.field in out and params.get(field.field) in field.among):
                out[name] = distribution
        return out

    def draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """Settings that Optuna suggests."""
        params: dict[str, Any] = {}
        for name in self.fields:  # one after the other, since what exists depends on what was drawn
            match self.distributions(params).get(name):  # None, for a field that does not exist, matches no case
                case FloatDistribution() as d:
                    params[name] = trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
                case IntDistribution() as d:
                    params[name] = trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
                case CategoricalDistribution() as d:
                    params[name] = trial.suggest_categorical(name, d.choices)
        return params

    def check(self, base: Any) -> None:
        """Hold the space against the config that it varies.

        Raises:
            ConfigError: an unknown field, an end of a range or a choice that the field cannot hold, or a first point that has
                too many fields, too few, or a value outside its distribution.
        """
        # A config that accepts both ends of a range is taken to accept what lies between.
        for name, distribution in self.every().items():
            for value in _ends(distribution):
                override(base, {**self._conditions(name), name: value})
        for i, point in enumerate(self.points):
            self._check_point(point, f"point {i}")
            override(base, point)

    def _conditions(self, name: str) -> dict[str, Any]:
        """What must hold so that the field exists."""
        field = self.fields[name]
        return {**self._conditions(field.field), field.field: field.among[0]} if isinstance(field, When) else {}

    def _check_point(self, point: Mapping[str, Any], where: str) -> None:
        exist = self.distributions(point)
        for name in sorted(set(exist) ^ set(point)):
            rule = "needs a value, for the field exists there" if name in exist else "has a value, but no such field exists there"
            raise ConfigError(name, f"{where} of the search space {rule}; its fields are {', '.join(exist)}")
        for name, value in point.items():
            # Optuna's own check that a value lies in its distribution; the trial itself is thrown away.
            try:
                optuna.trial.create_trial(params={name: value}, distributions={name: exist[name]}, value=0.0)
            except ValueError:
                raise ConfigError(name, f"{where} of the search space has {value!r}, which is not in {exist[name]}") from None

    def to_json(self) -> dict[str, Any]:
        """The space as JSON data."""
        fields = {}
        for name, distribution in self.every().items():
            field = self.fields[name]
            when = {"field": field.field, "among": list(field.among)} if isinstance(field, When) else None
            fields[name] = {"when": when, "distribution": json.loads(distribution_to_json(distribution))}
        return {"fields": fields, "points": [dict(p) for p in self.points]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that `to_json` turned into `data`."""
        fields: dict[str, BaseDistribution | When] = {}
        for name, field in data["fields"].items():
            distribution = json_to_distribution(json.dumps(field["distribution"]))
            when = field["when"]
            fields[name] = When(when["field"], tuple(when["among"]), distribution) if when else distribution
        return cls(fields=fields, points=tuple(data["points"]))


def _ends(distribution: BaseDistribution) -> Iterator[Any]:
    """The values of a distribution that a field may be unable to hold."""
    if isinstance(distribution, CategoricalDistribution):
        yield from distribution.choices
    elif isinstance(distribution, FloatDistribution | IntDistribution):
        yield from (distribution.low, distribution.high)
