"""Whatever is wrong in a user's module is told with its file, its line and its own words, and with exit code 2."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoocast.cli.app import invoke, unforeseen
from zoocast.errors import ConfigError
from zoocast.search import load_space
from zoocast.usercode import described, require_nothing_hidden

GOOD = """\
import dataclasses

from zoocast.config import setting
from zoocast.dag import Step

SUMMARY = "one step"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    n: int = setting(1, "a number")


def laptop():
    return Config()


PRESETS = {"laptop": laptop}


def count(context):
    return {"n": context.config.n}


def steps(config):
    return (Step("count", count, config),)
"""

# What stands in the module instead of what, and what is said of it after the module's name.
FAULTS = {
    "syntax": ("def steps(config):", "def steps(config)", ":25: SyntaxError: expected ':'"),
    "indentation": ('SUMMARY = "one step"', '  SUMMARY = "one step"', ":6: IndentationError: unexpected indent"),
    "null_byte": ("import dataclasses", "import\0dataclasses", "null_byte: SyntaxError: source code string cannot"),
    "import_": ("import dataclasses", "import nosuchpackage", ":1: ModuleNotFoundError: No module named 'nosuchpackage'"),
    "from_": ("import Step", "import Stepp", ":4: ImportError: cannot import name 'Stepp' from 'zoocast.dag'"),
    "circular": ("import dataclasses", "from {module} import laptop", ":1: ImportError: cannot import name 'laptop'"),
    "relative": ("import dataclasses", "from . import nothing", ":1: ImportError: cannot import name 'nothing' from 'bad'"),
    "raises": ("PRESETS = {", "1 / 0; PRESETS = {", ":18: ZeroDivisionError: division by zero"),
    "two_lines": ("PRESETS = {", r"raise ValueError('one\ntwo'); PRESETS = {", ":18: ValueError: one two"),
    "exits": ("PRESETS = {", "raise SystemExit(3); PRESETS = {", ":18: it ends Python, with sys.exit(3)"),
    "no_exception": ("PRESETS = {", "raise BaseException('odd'); PRESETS = {", ":18: BaseException: odd"),
    "mute": (
        "PRESETS = {",
        "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E\nPRESETS = {",
        ":20: E",
    ),
    "summary_number": ('"one step"', "1", ": SUMMARY must be text, but is 1 (int)"),
    "presets_list": ('PRESETS = {"laptop": laptop}', "PRESETS = [laptop]", ": PRESETS must be a dict of functions"),
    "presets_called": ('PRESETS = {"laptop": laptop}', 'PRESETS = {"laptop": laptop()}', ": PRESETS must hold functions"),
    "preset_raises": ("return Config()", "return undefined_name", ":15: NameError: name 'undefined_name' is not defined"),
    "preset_wants": ("def laptop():", "def laptop(size):", ":14: TypeError: laptop() missing 1 required positional argument"),
    "preset_none": ("return Config()", "Config()", ":14: preset 'laptop' must return a config"),
    "preset_dict": ("return Config()", "return {'n': 1}", ":14: preset 'laptop' must return a config"),
    "preset_class": ("return Config()", "return Config", ":14: preset 'laptop' must return a config"),
    "config_set": ("n: int = setting(1,", "n: object = setting(frozenset(),", ":14: TypeError: a config holds plain values"),
    "config_hint": ("n: int", "n: 'Unknown'", ":14: NameError: name 'Unknown' is not defined"),
    "config_check": ("    n: int", "    def __post_init__(self):\n        self.x\n    n: int", ":12: AttributeError: "),
    "steps_value": ("def steps(config):", "steps = 1\ndef others(config):", ": steps must be a function that takes the config"),
    "steps_wants": ("def steps(config):", "def steps():", ":25: TypeError: steps() takes 0 positional arguments"),
    "steps_raises": ("return (Step", "config.rate; return (Step", ":26: AttributeError: 'Config' object has no attribute 'rate'"),
    "steps_deep": ("return (Step", "steps(config); return (Step", ":26: RecursionError: maximum recursion depth exceeded"),
    "steps_exit": ("return (Step", "raise SystemExit; return (Step", ":26: it ends Python"),
    "steps_none": ("return (Step", "(Step", ":25: steps must return a tuple of Step, but returned None"),
    "steps_empty": ('return (Step("count", count, config),)', "return ()", ":25: steps must return a tuple of Step"),
    "steps_names": ('return (Step("count", count, config),)', "return ['count']", ":25: steps must return a tuple of Step, but"),
    "step_lambda": ("count, config),)", "lambda context: {}, config),)", "count: a step's function must be at module level"),
    "step_partial": ("count, config),)", "__import__('functools').partial(count), config),)", "must be at module level, but got"),
    "step_inputs": ("count, config),)", "count, config, inputs=['x']),)", "count: its inputs must be steps by names"),
    "step_config": ("count, config),)", "count, object()),)", ":25: TypeError: a config holds plain values"),
}  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package ``bad`` in the current folder, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "__init__.py").touch()
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "bad"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_module_is_exit_code_2_with_its_line_and_its_own_words(
    package: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before, after, said = FAULTS[name]
    assert before in GOOD
    (package / f"{name}.py").write_text(
        GOOD.replace(before, after.format(module=f"bad.{name}") if "{module}" in after else after)
    )
    code = invoke(["plan", f"bad.{name}"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: bad/{name}.py{said}" if said.startswith(":") else "error: ")
    assert said in err
    assert "fault of zoocast" not in err


def test_an_error_in_a_module_that_a_pipeline_imports_names_that_module(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (package / "__init__.py").write_text("import bad.helper\n")
    (package / "helper.py").write_text("\n\nint('x')\n")
    assert invoke(["plan", "bad.study"]) == 2
    assert capsys.readouterr().err == "error: bad/helper.py:3: ValueError: invalid literal for int() with base 10: 'x'\n"


@pytest.mark.parametrize("name", ["bad.nothing", "bad.", "bad..x", ".bad", "..", "bad/study.py", "bad.study.deeper"])
def test_a_name_of_no_module_is_no_error_of_a_module(package: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (package / "study.py").write_text(GOOD)
    assert invoke(["plan", name]) == 2
    assert f"there is no pipeline {name!r}" in capsys.readouterr().err


def test_a_name_that_mlflow_has_no_room_for_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "lab." + "x" * 250]) == 2
    assert "NAME: a module's name may have at most 250 characters, but this one has 254" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def space(base)", "bad/rates.py:1: SyntaxError"),
        ("SPACE = 1", "bad/rates.py is no search space: it has no function space(base)"),
        ("def space(base): return {}", "bad/rates.py:1: space must return a SearchSpace, but returned dict"),
        ("def space(): ...", "bad/rates.py:1: TypeError: space() takes 0 positional arguments"),
        ("def space(base):\n    return base.rate", "bad/rates.py:2: AttributeError: 'str' object has no attribute 'rate'"),
        (
            "from zoocast.search import SearchSpace\ndef space(base): return SearchSpace(fields={'rate': (0, 1)})",
            "rate: must have a distribution of Optuna's",
        ),
    ],
)
def test_a_bad_search_space_is_named_with_its_line(package: Path, text: str, said: str) -> None:
    (package / "rates.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_space("bad.rates", "a config")
    assert str(error.value).startswith(said)


def test_a_module_that_cannot_be_read_keeps_no_other_from_being_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline of the user's own in the package `pipelines`, of which the list reads the text alone."""
    import pipelines
    from zoocast.cli.catalogue import summaries

    for name, text in {"syntax": b"\nSUMMARY = (", "latin": b"\nSUMMARY = '\xe9'", "computed": b"\nSUMMARY = 1 + x"}.items():
        (tmp_path / f"{name}.py").write_bytes(text)
    monkeypatch.setattr(pipelines.__spec__, "submodule_search_locations", [*pipelines.__path__, str(tmp_path)])
    summaries.cache_clear()
    assert invoke(["list"]) == 0
    summaries.cache_clear()
    out = capsys.readouterr().out
    assert "zoo-to-target" in out
    assert out.count("cannot be read: ") == 3


def test_a_module_that_hides_a_needed_one_is_named_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for harmless in ("test.py", "mine.py", "time.py"):  # Python has `time` built in, and looks for it nowhere
        (tmp_path / harmless).touch()
    (tmp_path / "platform").mkdir()
    require_nothing_hidden()
    for name in ("torch.py", "random.py", "pipelines/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        importlib.invalidate_caches()
        with pytest.raises(ConfigError, match=f"{name} hides the module {name.partition('.')[0].partition('/')[0]} "):
            require_nothing_hidden()
        (tmp_path / name).unlink()


def test_an_error_of_zoocasts_own_is_called_one_with_its_traceback_in_a_file(tmp_path: Path) -> None:
    message, code = unforeseen(TypeError("a number was wanted"), ["plan", "--root", str(tmp_path)])
    (crash,) = (tmp_path / "crashes").iterdir()
    assert (message, code) == (f"TypeError: a number was wanted; this is a fault of zoocast, see {crash}", 1)
    assert "TypeError: a number was wanted" in crash.read_text()


def test_colours_in_what_ray_says_are_left_out():
    assert described(RuntimeError("\x1b[36mray::train\x1b[39m() (pid=7)\n  died")) == "RuntimeError: ray::train() (pid=7) died"
