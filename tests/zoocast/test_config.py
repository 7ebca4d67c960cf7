import dataclasses
import math
from typing import ClassVar, Literal

import pytest

from zoocast.config import (
    canonical,
    check_ranges,
    combinations,
    diff,
    digest,
    dump,
    load,
    override,
    overrides_between,
    parse_overrides,
    setting,
    settings,
)
from zoocast.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Red:
    kind: ClassVar[str] = "red"
    depth: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blue:
    kind: ClassVar[str] = "blue"
    shade: Literal["dark", "light"] = "dark"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    rate: float = setting(1e-3, "step size")
    sizes: tuple[int, ...] = (8, 8)
    limit: float | None = None
    paint: Red | Blue = Red()
    threads: int = setting(1, "of the process", identity=False)
    found: str = setting("", "where it was found", creates=True)
    wired: int = setting(0, "known to the code alone", settable=False)

    def __post_init__(self):
        if self.rate <= 0:
            raise ConfigError("rate", f"must be positive, but got {self.rate}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    parts: tuple[Part, ...] = (Part(name="one"), Part(name="two"))
    main: Part = Part(name="main")
    quick: bool = False


def test_where_work_runs_is_no_part_of_what_it_is():
    assert digest(Part(name="a", threads=1)) == digest(Part(name="a", threads=8))
    assert digest(Part(name="a")) != digest(Part(name="b"))


def test_a_setting_that_came_later_changes_no_digest_until_it_is_set():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Before:
        rate: float = 1.0

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Now:
        rate: float = 1.0
        window: str = setting("all", "which steps", added=True)

    Now.__name__ = "Before"
    assert digest(Now()) == digest(Before())
    assert digest(Now(window="future")) != digest(Before())
    assert load(Now, canonical(Now())) == Now() == load(Now, dump(Now()))


def test_types_count_but_a_whole_number_in_a_float_field_is_a_float():
    assert digest(Part(name="a", rate=1)) == digest(Part(name="a", rate=1.0))
    assert digest(Part(name="a", paint=Red())) != digest(Part(name="a", paint=Blue()))


def test_json_there_and_back():
    whole = Whole(parts=(Part(name="one", paint=Blue(shade="light"), limit=2.5, sizes=(1,)),), quick=True)
    assert load(Whole, dump(whole)) == whole


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"__type__": "Red", "depth": 1, "colour": 2}, "colour: unknown field"),
        ({"__type__": "Red", "depth": "1"}, "depth: expected a whole number, but got '1'"),
        ({"__type__": "Blue"}, "expected Red"),
    ],
)
def test_json_that_is_something_else_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        load(Red, data)


@pytest.mark.parametrize("number", [math.inf, math.nan, 10**400])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(ConfigError, match="rate: expected a finite number, but got"):
        load(Part, {"__type__": "Part", "name": "a", "rate": number})


def test_override_parses_by_type():
    whole = override(
        Whole(),
        {
            "main.rate": "3e-4",
            "main.sizes": "16,32,64",
            "main.limit": "5",
            "main.paint": "blue",
            "main.paint.shade": "light",
            "parts.*.threads": "2",
            "parts.two.rate": "1",
            "quick": "yes",
        },
    )
    assert whole.main == Part(name="main", rate=3e-4, sizes=(16, 32, 64), limit=5.0, paint=Blue(shade="light"))
    assert [p.threads for p in whole.parts] == [2, 2]
    assert [p.rate for p in whole.parts] == [1e-3, 1.0]
    assert whole.quick is True
    assert override(whole, {"main.limit": "none"}).main.limit is None


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"main.rat": "1"}, r"main\.rat: unknown setting; did you mean rate\?"),
        ({"main.rate": "fast"}, r"main\.rate: must be a finite number, but got 'fast'"),
        ({"main.sizes": "1,1e308"}, r"main\.sizes: must be a whole number of at most 18 digits, but got 1"),
        ({"main.sizes": (10**18,)}, r"main\.sizes\.0: must be a whole number of at most 18 digits, but got 1000"),
        ({"main.rate": "nan"}, r"main\.rate: must be a finite number"),
        ({"main.rate": "-1"}, r"main\.rate: must be positive, but got -1\.0"),
        ({"parts.three.rate": "1"}, r"parts\.three: there is no 'three'; known: one, two"),
        ({"main.paint.shade": "dark"}, r"main\.paint\.shade: unknown setting; blue has it, with main\.paint=blue; Red has depth"),
        (
            {"main.depth": "2"},
            r"main\.depth: unknown setting; did you mean main\.paint\.depth or parts\.\*\.paint\.depth\? Part has",
        ),
        ({"main.shade": "dark"}, r"main\.shade: unknown setting; did you mean paint\.shade with main\.paint=blue\? Part has"),
        ({"rate": "1"}, r"rate: unknown setting; did you mean parts\.\*\.rate or main\.rate\?"),
        ({"main.paint": "green"}, r"main\.paint: must be one of red, blue, but got 'green'$"),
        ({"main.paint": "bleu"}, r"main\.paint: must be one of red, blue, but got 'bleu'; did you mean blue\?"),
        ({"main.wired": "1"}, r"main\.wired: unknown setting; .*Part has name, rate, sizes, limit, paint, threads, found$"),
        ({"main.sizes": "1,x"}, r"main\.sizes: must be a whole number, but got 'x'"),
        ({"main.rate.x": "1"}, r"main\.rate\.x: .* has no fields"),
        ({"quick": "maybe"}, r"quick: must be true or false, but got 'maybe'"),
        ({"main": "x"}, r"main: holds several settings"),
        ({"parts.one.threads": "1.5"}, r"parts\.one\.threads: must be a whole number, but got '1\.5'"),
    ],
)
def test_override_refuses_with_the_rule_and_the_value(items, message):
    with pytest.raises(ConfigError, match=message):
        override(Whole(), items)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    upper: float | Literal["release"] = 2.0
    order: Literal["up", "down"] | None = None


@pytest.mark.parametrize("upper", ["release", 3.0])
def test_a_word_may_stand_beside_numbers(upper):
    made = override(Bounds(), {"upper": str(upper)})
    assert made == Bounds(upper=upper) == load(Bounds, dump(made))
    assert [s.type for s in settings(made)] == ["a finite number | release", "up | down | none"]


def test_a_word_that_stands_for_nothing_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"upper: must be a finite number \| release, but got 'relase'"):
        override(Bounds(), {"upper": "relase"})
    with pytest.raises(ConfigError, match=r"order: must be up \| down \| none, but got 'left'"):
        override(Bounds(), {"order": "left"})


@pytest.mark.parametrize(("config", "whole"), [(Part(name="a", limit=5.0), Part(name="a", limit=5)), (Bounds(), Bounds(upper=2))])
def test_a_whole_number_has_the_digest_of_the_equal_float_beside_other_types_too(config, whole):
    assert digest(config) == digest(whole)


def test_overrides_on_the_command_line_are_field_equals_value():
    assert parse_overrides(["a.b=1", "c= x=y "]) == {"a.b": "1", "c": "x=y"}
    with pytest.raises(ConfigError, match="FIELD=VALUE, but got 'a'"):
        parse_overrides(["a"])
    with pytest.raises(ConfigError, match="a: given twice"):
        parse_overrides(["a=1", "a=2"])


def test_diff_names_parts_by_their_names():
    after = override(Whole(), {"parts.two.rate": "0.5", "main.paint": "blue"})
    changes = [str(c) for c in diff(canonical(Whole()), canonical(after))]
    assert "parts.two.rate: 0.001 -> 0.5" in changes
    assert 'main.paint.__type__: "Red" -> "Blue"' in changes
    assert diff(canonical(after), canonical(after)) == []


def test_settings_are_the_leaves_with_their_help():
    found = {s.path: s for s in settings(Whole())}
    assert found["parts.one.rate"].help == "step size"
    assert found["main.paint.depth"].type == "a whole number"
    assert (found["main.paint"].value, found["main.paint"].type) == ("red", "red | blue")
    assert "main.wired" not in found


def test_what_is_no_config_value_is_refused():
    with pytest.raises(TypeError, match="plain values"):
        canonical({"a": object()})
    with pytest.raises(ConfigError, match="finite"):
        canonical(float("inf"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded:
    seed: int = setting(0, at_least=0, at_most=2**32 - 1)
    share: float = setting(0.5, above=0.0, below=1.0)
    sizes: tuple[int, ...] = setting((8,), at_least=1)
    limit: float | None = setting(None, above=0)

    def __post_init__(self):
        check_ranges(self)


def test_values_on_the_bounds_are_fine():
    Bounded(seed=0, share=1e-9, sizes=(1, 2), limit=None)
    Bounded(seed=2**32 - 1, share=0.999)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": -1}, "seed: must be at least 0 and at most 4294967295, but got -1"),
        ({"share": 1.0}, "share: must be above 0 and below 1, but got 1.0"),
        ({"sizes": (8, 0)}, "sizes: must be at least 1, but got (8, 0)"),
        ({"limit": 0.0}, "limit: must be above 0, but got 0.0"),
    ],
)
def test_a_number_outside_its_bounds_is_refused_with_the_rule_and_the_value(changed, message):
    with pytest.raises(ConfigError) as raised:
        Bounded(**changed)
    assert str(raised.value) == message


# ------------------------------------------------------------------------------------------------------------- groups and grids


def test_a_group_is_given_by_names_and_a_new_member_is_like_the_last():
    two = Part(name="two", rate=0.5)
    whole = Whole(parts=(Part(name="one"), two))
    assert override(whole, {"parts": "two"}).parts == (two,)
    assert override(whole, {"parts": "two,new"}).parts == (two, dataclasses.replace(two, name="new"))
    made = override(whole, {"parts.new.found": "shelf", "parts.new.rate": "2", "parts.*.threads": "3"})
    assert [part.name for part in made.parts] == ["one", "two", "new"]
    assert (made.parts[2].found, made.parts[2].rate) == ("shelf", 2.0)
    with pytest.raises(
        ConfigError, match=r"^parts\.tow: there is no 'tow'; known: one, two, or \* for all; parts\.tow\.found would"
    ):
        override(whole, {"parts.tow.rate": "1"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("main.rate=1e-3,3e-4", ["1e-3", "3e-4"]),
        ("parts.*.rate=1,2,3", ["1", "2", "3"]),
        ("main.limit=none,1", ["none", "1"]),
        ("quick=true,false", ["true", "false"]),
        ("main.paint=red,blue", ["red", "blue"]),
        ("main.paint.shade=dark,light", ["dark", "light"]),  # of the kind that is not there yet
        ("main.sizes=8,8", ["8,8"]),
        ("main.sizes=8,8;16,16", ["8,8", "16,16"]),
        ("parts=one,two", ["one,two"]),
        ("parts=one;one,two", ["one", "one,two"]),
        ("main.found=a,b;c", ["a,b;c"]),
        ("no.such.thing=1,2", ["1,2"]),
        ("main.rate=", [""]),
    ],
)
def test_the_type_of_a_field_says_what_a_list_of_values_is(text, values):
    items = parse_overrides([text])
    (path,) = items
    assert combinations(Whole, items) == [{path: value} for value in values]


def test_a_grid_has_every_combination():
    made = combinations(Whole, {"main.rate": "1,2", "quick": "true", "main.paint": "red,blue"})
    assert made == [{"main.rate": rate, "quick": "true", "main.paint": paint} for rate in ("1", "2") for paint in ("red", "blue")]


def test_the_overrides_between_two_configs_lead_from_one_to_the_other():
    whole = Whole()
    assert overrides_between(whole, whole) == {}
    other = override(
        whole,
        {"parts": "two,new", "parts.new.paint": "blue", "parts.new.paint.shade": "light", "main.limit": "0.1", "main.sizes": "1"},
    )
    found = overrides_between(whole, other)
    assert found == {
        "parts": "two,new",
        "parts.new.paint": "blue",
        "parts.new.paint.shade": "light",
        "main.sizes": "1",
        "main.limit": "0.1",
    }
    assert override(whole, found) == other
    assert override(other, overrides_between(other, whole)) == whole
