"""The commands that texts show: which there are, and what in them does not exist."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ray.scripts.scripts import cli as ray_cli
from typer.main import get_command

from zoocast.cli.app import app
from zoocast.cli.catalogue import load
from zoocast.config import combinations, override, parse_overrides
from zoocast.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
TAKES_A_PIPELINE = ("run", "show", "plan", "submit", "doctor")
YOURS = "mylab."  # a module that only the reader has


def commands(text: str) -> list[list[str]]:
    """The words of each indented command line, without its comment and what it is piped into.

    A `\\` joins two lines, `--` divides a command from the one that it starts, and ``python -m pipelines`` is ``pipelines``.
    """
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.startswith("    ")]
    return [command for line in lines for command in _divided(list(words_of(line)))]


def _divided(words: list[str]) -> list[list[str]]:
    place = words.index("--") if "--" in words else len(words)
    parts = [words[:place], words[place + 1 :]]
    return [part[2:] if part[:3] == ["python", "-m", "pipelines"] else part for part in parts if part]


def inline_commands(text: str) -> list[list[str]]:
    """The words of each `pipelines ...` and `make ...` between backticks in the running text."""
    return [list(words_of(line)) for line in re.findall(r"`((?:pipelines|make) [^`]+)`", text.replace("\n", " "))]


def words_of(line: str) -> Iterator[str]:
    """Words up to a pipe or a redirection; none of what is no command line at all, such as a piece of a file."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    for word in words:
        if word in ("|", ">", ">>"):
            return
        yield word


def program_of(words: Sequence[str]) -> str:
    """`pipelines` for `.venv/bin/pipelines`; nothing for a folder, `pipelines/`."""
    return words[0].rpartition("/")[2]


def unknown_words(words: Sequence[str], program: Any) -> list[str]:
    """The options of a command line that the click command does not have; the subcommand itself when there is none."""
    words = list(words)
    while hasattr(program, "commands"):
        name = words.pop(0)
        if name not in program.commands:
            return [name]
        program = program.commands[name]
    known = {flag for option in program.params for flag in (*option.opts, *option.secondary_opts)}
    return [word for word in words if re.match(r"--?[A-Za-z]", word) and word.partition("=")[0] not in known]


def unknown(shown: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """(program, what it does not know) for the commands of ours and of Ray's among `shown`."""
    programs = {"ray": ray_cli, "pipelines": get_command(app)}
    called = [(program_of(words), words[1:]) for words in shown]
    return [(name, what) for name, words in called if name in programs for what in unknown_words(words, programs[name])]


def wrong_settings(shown: Sequence[Sequence[str]]) -> list[str]:
    """What is wrong with the pipelines, presets and settings that commands name; files that they name need not be there."""
    named = [words[1:] for words in shown if program_of(words) == "pipelines" and words[1:2] and words[1] in TAKES_A_PIPELINE]
    return [problem for words in named for problem in _wrong(words)]


def _wrong(words: Sequence[str]) -> Iterator[str]:
    if len(words) < 2 or words[1].startswith(("-", YOURS)):
        return
    preset = words[words.index("--preset") + 1] if "--preset" in words else "laptop"
    changed = [value for option, value in itertools.pairwise(words) if option in ("-S", "--set")]
    try:
        presets = load(words[1]).presets
        if preset not in presets:
            yield f"{words[1]} has no preset {preset}"
        else:
            config = presets[preset]()
            for chosen in combinations(type(config), parse_overrides(changed)):
                override(config, chosen)
    except ConfigError as error:
        yield f"{' '.join(words)}: {error}"


def missing_files(shown: Sequence[Sequence[str]]) -> list[str]:
    """Files of this repository that commands name and that are not there; a name in capitals is the reader's."""
    files = [word for words in shown for word in words if re.fullmatch(r"(benchmarks|cluster|docs|tests)/[\w./-]+\.\w+", word)]
    return [name for name in files if not (REPOSITORY / name).exists()]


def missing_targets(shown: Sequence[Sequence[str]]) -> list[str]:
    """What `make` is asked for and cannot make."""
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = {".venv/.installed", *re.findall(r"^([a-z]+):", makefile, re.MULTILINE)}
    asked = [word for words in shown if words[0] == "make" for word in words[1:] if "=" not in word]
    return [name for name in asked if name not in targets]
