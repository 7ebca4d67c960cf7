"""`pipelines data`: what clips are like and what is wrong with them, before anything is trained on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from zoocast.cli import import_data
from zoocast.cli.options import RUNS, AsJson, Command, Commands, Root, examples, typed

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    epilog=examples(
        "pipelines data import FOLDER --name radar --length 20 --split time",
        "pipelines data doctor data.target",
        "pipelines data preview data.target --out preview.html",
    ),
    rich_markup_mode="rich",
)
Clips = Annotated[
    str, typer.Argument(metavar="NAME|PATH", help="what was imported, a data step (data.target), or files of your own")
]


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Data of your own: pictures, videos, arrays and archives, what they are like, and what is wrong with them."""
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("import", cls=Command, epilog=import_data.EXAMPLES)(import_data.import_)
app.command("list", cls=Command, epilog=import_data.LIST_EXAMPLES)(import_data.list_)


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines data import FOLDER --name radar --length 20 --split time",
        "pipelines data doctor data.target",
        "pipelines data doctor /data/clips --json",
    ),
)
def doctor(clips: Clips, root: Root = RUNS, as_json: AsJson = False) -> int:
    """Ranges, missing and repeated frames, and leaks between splits. Exit code 1 if something is wrong."""
    from zoocast.cli.clips import cut_clips, print_diagnosis
    from zoocast.cli.console import progress_line
    from zoocast.cli.views import print_json
    from zoocast.data.doctor import examine

    with progress_line() as progress, cut_clips(clips, root, progress) as (store, wrong):
        diagnosis = examine(store, progress)
    diagnosis = dataclasses.replace(diagnosis, path=clips, findings=(*wrong, *diagnosis.findings))
    print_json(diagnosis.to_json()) if as_json else print_diagnosis(diagnosis)
    return 1 if any(finding.state == "fail" for finding in diagnosis.findings) else 0


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines data preview data.target --out preview.html", "pipelines data preview /data/clips --out strip.png"
    ),
)
def preview(
    clips: Clips,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", parser=typed("--out"), help="a page (.html), a strip (.png) or an animation (.gif)"
        ),
    ] = Path("preview.html"),
    root: Root = RUNS,
) -> None:
    """Some clips of each split, to be looked at."""
    from zoocast.cli.clips import cut_clips
    from zoocast.cli.console import progress_line
    from zoocast.report.preview import write_preview

    with progress_line() as progress, cut_clips(clips, root, progress) as (store, _):
        write_preview(store, out, clips)
    print(out)
