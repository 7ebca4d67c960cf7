"""The options that the commands share, what the shell can complete in them, and several overrides after one ``-S``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from zoocast.cli.catalogue import DEFAULT_PRESET, configure, load, summaries
from zoocast.cli.streams import unguarded
from zoocast.config import settings
from zoocast.errors import Interrupted, ZoocastError, within
from zoocast.store.address import open_root, own_folder
from zoocast.store.typed import typed_path

__all__ = [
    "RUNS",
    "Address",
    "AsJson",
    "Command",
    "Commands",
    "Config",
    "Force",
    "From",
    "JobAddress",
    "JobId",
    "Like",
    "Name",
    "Only",
    "OnlyRun",
    "Overrides",
    "PipelineName",
    "Preset",
    "Root",
    "RunName",
    "TrackingUri",
    "Until",
    "examples",
    "typed",
]


RUNS = Path("runs")


def examples(*lines: str) -> str:
    """The end of a help text; typer takes a blank line for the end of a line."""
    return "\n\n".join(("[bold]Examples[/bold]", *lines))


class _Coloured:
    """Help in rich's colours, which are control characters that what else is printed must not have."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As the class that this stands before."""
        with contextlib.redirect_stdout(unguarded(sys.stdout)):
            super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Coloured, TyperCommand):
    """A command whose ``-S a=1 b=2`` means ``-S a=1 -S b=2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class, on the spread arguments."""
        if ctx.resilient_parsing and args and args[-1].startswith("-"):
            args = args[:-1]  # its value is being completed; without one, the parser would forget all other arguments
        return super().parse_args(ctx, spread(args))


class Commands(_Coloured, TyperGroup):
    """All commands. Ctrl-C is an error with a message; typer would end without any."""

    def invoke(self, ctx: Any) -> Any:
        """As the base class."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


def spread(args: Iterable[str]) -> list[str]:
    """``-S`` in front of every ``FIELD=VALUE`` that follows an override."""
    out: list[str] = []
    follows = value_next = False
    for arg in args:
        # The word behind -S is its value whatever it is, even one with a dash or without "=".
        if value_next:
            value_next = False
        elif arg in ("-S", "--set"):
            follows = value_next = True
        elif arg.startswith(("-S", "--set=")):
            follows = True
        # An ordinary argument ends the list, so that `-S a=1 NAME` still finds its NAME.
        elif follows and "=" in arg and not arg.startswith("-"):
            out.append("-S")
        else:
            follows = False
        out.append(arg)
    return out


# ---------------------------------------------------------------------------------------------------------------- completion


def _names(incomplete: str) -> Iterator[tuple[str, str]]:
    yield from ((name, summary) for name, summary in summaries().items() if name.startswith(incomplete))


def _presets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    try:
        # Imports the one pipeline that was typed; without a name there is nothing to complete from.
        docs = load(ctx.params.get("name") or "").preset_docs()
    except ZoocastError:
        return []
    return [(name, doc.partition("\n")[0]) for name, doc in docs.items() if name.startswith(incomplete)]


def _steps(ctx: typer.Context, incomplete: str) -> list[str]:
    configured = _configured(ctx)
    return [step.name for step in configured.steps if step.name.startswith(incomplete)] if configured else []


def _fields(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    configured = _configured(ctx)
    known = settings(configured.config) if configured else ()
    return [(f"{s.path}=", f"{s.help} (now {s.value})") for s in known if s.path.startswith(incomplete)]


def _configured(ctx: typer.Context) -> Any:
    # Completion is silent about everything: a message would land in the line that is being typed.
    try:
        return configure(load(ctx.params.get("name") or ""), ctx.params.get("preset") or DEFAULT_PRESET)
    except ZoocastError:
        return None


def _runs(ctx: typer.Context, incomplete: str) -> list[str]:
    from zoocast.cli.runs import read_all

    try:
        return [
            record.run
            for record in read_all(open_root(ctx.params.get("root") or "runs").folder)
            if record.run.startswith(incomplete)
        ]
    except ZoocastError:
        return []


# ---------------------------------------------------------------------------------------------------------------- options

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="a pipeline from `pipelines list`, or a module of your own (mylab.study)", autocompletion=_names
    ),
]
PipelineName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="a pipeline whose steps must have room", autocompletion=_names)
]
RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="a run, or a pipeline for its latest run; the latest of all when left out", autocompletion=_runs
    ),
]
OnlyRun = Annotated[
    str | None, typer.Argument(metavar="RUN", help="only this run, or this pipeline's latest", autocompletion=_runs)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-S",
        "--set",
        metavar="FIELD=VALUE",
        help="change a setting; several may follow, `*` means all of a group, a list A,B makes a grid",
        autocompletion=_fields,
    ),
]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="smoke|laptop|paper", help="the size of the work", autocompletion=_presets)
]


def _root(typed: str | Path) -> Path:
    """The folder, or this machine's copy of the object store, that was typed, or is the default."""
    text = str(typed)
    if not text.strip():
        raise typer.BadParameter("it is empty, which names no folder.")
    # In click's words for its own paths.
    if Path(text).is_file():
        raise typer.BadParameter(f"Directory '{text}' is a file.")
    with within("--root"):
        return open_root(text if own_folder(text) is None and not text.startswith("file:") else typed_path(text)).folder


def typed(option: str) -> Callable[[str | Path], Path]:
    """How the value of `option`, a path on this machine, is read; see `typed_path`."""

    def read(text: str | Path) -> Path:  # a default comes as the path that it is
        with within(option):
            return typed_path(str(text))

    return read


Root = Annotated[
    Path,
    typer.Option(
        "--root",
        metavar="FOLDER|URL",
        envvar="ZOOCAST_ROOT",
        parser=_root,
        help="where results are kept: a folder that all machines see, or s3://BUCKET/PREFIX",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", parser=typed("--config"), help="settings, as `show --toml` prints them; -S goes on top"
    ),
]
Like = Annotated[
    str | None,
    typer.Option("--like", metavar="RUN", help="the settings of an earlier run; -S goes on top", autocompletion=_runs),
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="a Ray cluster (auto, HOST:PORT); a local one is started when left out"),
]
JobAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="the dashboard of the cluster's head (http://HEAD:8265); else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS",
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="a job from `pipelines jobs`")]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="an MLflow server; else MLFLOW_TRACKING_URI, else SQLite under the root"),
]
Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STEP", help="do this step again (`*` matches)", autocompletion=_steps),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="STEP", help="only these steps (`*` matches)", autocompletion=_steps)
]
From = Annotated[
    str | None, typer.Option("--from", metavar="STEP", help="from here on: it and what needs it", autocompletion=_steps)
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="STEP", help="up to here: it and what it needs", autocompletion=_steps)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
