"""The `pipelines` command: what can be typed, and how each ending is told.

stdout is data, stderr is progress. Nothing heavy is imported before a command needs it, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from pipelines.catalogue import DEFAULT_PRESET, configure, load, summaries
from pipelines.options import (
    Address,
    AsJson,
    Command,
    Force,
    From,
    Name,
    Only,
    OnlyRun,
    Overrides,
    Preset,
    Root,
    RunName,
    TrackingUri,
    Until,
)
from zoocast.errors import ZoocastError

if TYPE_CHECKING:
    from pipelines.driver import Request

__all__ = ["invoke", "main"]

RUNS = Path("runs")

app = typer.Typer(
    name="pipelines",
    help="Experiments in transfer learning between spatiotemporal predictive networks, on Ray.",
    epilog="\n\n".join(
        (
            "[bold]Begin here[/bold]",
            "pipelines list",
            "pipelines run zoo-to-target --preset smoke",
            "pipelines ui",
            "Exit codes: 0 fine, 1 a step failed, 2 bad usage or configuration, 4 infrastructure, 5 integrity, 130 interrupted.",
        )
    ),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def examples(*lines: str) -> str:
    """The end of a help text; typer takes a blank line for the end of a line."""
    return "\n\n".join(("[bold]Examples[/bold]", *lines))


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Without a command: show what there is."""
    if context.invoked_subcommand is None:
        print(context.get_help())


# ---------------------------------------------------------------------------------------------------------------- reading


@app.command("list", cls=Command, epilog=examples("pipelines list", "pipelines list --json"))
def list_(as_json: AsJson = False) -> None:
    """What can be run."""
    from pipelines.console import print_table
    from pipelines.views import print_json

    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in summaries().items()])
    else:
        print_table(["pipeline", "what it does"], list(summaries().items()))


@app.command(cls=Command, epilog=examples("pipelines show zoo-to-target", "pipelines show zoo-to-target --preset paper --json"))
def show(name: Name, preset: Preset = DEFAULT_PRESET, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """What a pipeline does: its steps, presets and every setting."""
    from pipelines.views import print_json, print_show, show_data

    data = show_data(configure(load(name), preset, overrides or ()))
    print_json(data) if as_json else print_show(data)


@app.command(
    cls=Command,
    epilog=examples("pipelines plan zoo-to-target", "pipelines plan zoo-to-target -S target.training.learning_rate=3e-4"),
)
def plan(
    name: Name,
    overrides: Overrides = None,
    preset: Preset = DEFAULT_PRESET,
    root: Root = RUNS,
    force: Force = None,
    only: Only = None,
    from_: From = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """What a run would do, step by step, and why. Starts nothing."""
    from pipelines.driver import summary
    from pipelines.views import print_json, print_plan

    request = _request(name, preset, overrides, root, force=force, only=only, from_=from_, until=until)
    the_plan = request.plan()
    if as_json:
        print_json({"run": request.run, **the_plan.to_json()})
    else:
        print_plan(the_plan)
        print(summary(the_plan), file=sys.stderr)


@app.command(cls=Command, epilog=examples("pipelines status", "pipelines status zoo-to-target", "pipelines status --json"))
def status(run: RunName = None, root: Root = RUNS, as_json: AsJson = False) -> None:
    """The runs under the root, or one run step by step."""
    from pipelines.records import find, read_all
    from pipelines.views import print_json, print_run, print_runs, record_data

    if run is None:
        records = read_all(root)
        print_json([record_data(record) for record in records]) if as_json else print_runs(records)
        if not records:
            print(f"no run is known under {root}", file=sys.stderr)
        return
    record = find(root, run)
    print_json(record_data(record)) if as_json else print_run(record)


@app.command(cls=Command, epilog=examples("pipelines report", "pipelines report zoo-to-target --open"))
def report(
    run: RunName = None,
    root: Root = RUNS,
    open_: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    as_json: AsJson = False,
) -> None:
    """Where the report of a finished run is, and its table."""
    from pipelines.records import find
    from pipelines.views import print_json, print_result, read_result

    record = find(root, run)
    path = record.report_path()
    result = read_result(path.parent)
    if as_json:
        print_json({"run": record.run, "report": str(path), "result": result})
    else:
        print_result(result)
        print(path)
    if open_:
        typer.launch(path.as_uri())


@app.command(cls=Command, epilog=examples("pipelines doctor", "pipelines doctor --root /data/runs --address auto --json"))
def doctor(root: Root = RUNS, address: Address = None, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> int:
    """Whether this machine, Ray and MLflow are fit for work. Exit code 4 if something is not."""
    from pipelines.doctor import examine
    from pipelines.views import print_findings

    findings = print_findings(examine(root, address, tracking_uri), as_json=as_json)
    return 4 if any(finding.state == "fail" for finding in findings) else 0


# ---------------------------------------------------------------------------------------------------------------- doing


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines run zoo-to-target",
        "pipelines run zoo-to-target --preset smoke -S seeds=1 target.training.learning_rate=3e-4",
        "pipelines run zoo-to-target --until 'source*'          only what the sources need",
        "pipelines run zoo-to-target --force report              make the report anew",
    ),
)
def run(
    name: Name,
    overrides: Overrides = None,
    preset: Preset = DEFAULT_PRESET,
    root: Root = RUNS,
    address: Address = None,
    tracking_uri: TrackingUri = None,
    force: Force = None,
    only: Only = None,
    from_: From = None,
    until: Until = None,
    as_json: AsJson = False,
) -> int:
    """Run a pipeline; what is done already is not done again, what was interrupted goes on."""
    from pipelines.driver import execute
    from pipelines.views import print_end, print_json, run_data

    request = _request(name, preset, overrides, root, address, tracking_uri, force, only, from_, until)
    record = execute(request)
    print_json(run_data(record)) if as_json else print_end(record)
    return record.exit_code or 0


def _request(
    name: str,
    preset: str,
    overrides: Sequence[str] | None,
    root: Path,
    address: str | None = None,
    tracking_uri: str | None = None,
    force: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    from_: str | None = None,
    until: str | None = None,
) -> Request:
    from pipelines.driver import Request

    configured = configure(load(name), preset, overrides or ())
    return Request(configured, root, address, tracking_uri, tuple(force or ()), tuple(only or ()), from_, until)


@app.command(cls=Command, epilog=examples("pipelines ui", "pipelines ui toys.counting-d789a939 --port 5001"))
def ui(
    run: RunName = None,
    root: Root = RUNS,
    tracking_uri: TrackingUri = None,
    host: Annotated[str, typer.Option("--host", help="the address to listen on; 0.0.0.0 lets others in")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="the port to listen on")] = 5000,
    open_: Annotated[bool, typer.Option("--open", help="open the comparison in the browser")] = False,
) -> None:
    """MLflow's page on the runs under the root, with a link to the finished comparison. Ctrl-C ends it."""
    import signal

    from pipelines.records import find
    from zoocast.tracking import deliver_pending
    from zoocast.tracking.views import serve_ui, study_links

    chosen = find(root, run).run if run is not None else None
    late = deliver_pending(root, tracking_uri, timeout=60)
    if late.pending:
        print(f"{late.pending} entries wait to be delivered: {late.problem or 'the server is slow'}", file=sys.stderr)
    # Ctrl-C is how this ends, whenever it comes.
    with serve_ui(root, tracking_uri, host=host, port=port, run=chosen) as page, contextlib.suppress(KeyboardInterrupt):
        if page.moved:
            print(f"port {port} is taken; this is another one", file=sys.stderr)
        print(f"MLflow      {page.url}\ncomparison  {page.link}")
        for step, link in study_links(root, page.url, tracking_uri, chosen).items():
            print(f"{step:<10}  {link}")
        sys.stdout.flush()
        if open_:
            typer.launch(page.link)
        # A polite kill must end the server as well, which lives in a session of its own.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        page.wait()


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines sync",
        "pipelines sync zoo-to-target --tracking-uri http://mlflow.lab:5000          results move to another server",
    ),
)
def sync(run: OnlyRun = None, root: Root = RUNS, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> int:
    """Tell MLflow what it does not know yet, each thing once. Exit code 4 while something waits."""
    from pipelines.records import find
    from pipelines.sync import deliver, print_synced
    from pipelines.views import print_json

    synced = deliver(root, tracking_uri, find(root, run).run if run is not None else None)
    print_json(dataclasses.asdict(synced)) if as_json else print_synced(synced)
    return 4 if synced.waits else 0


@app.command(
    "import",
    cls=Command,
    epilog=examples(
        "pipelines import convlstm.ckpt --as digits1 --image-size 64 --patch-size 4",
        "pipelines import predrnn.ckpt --as kth --image-size 128 --patch-size 4 -o models",
    ),
)
def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="of transferable-memory, predrnn-pytorch or SeeMore")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="what the source is called in the zoo")],
    image_size: Annotated[
        str | None, typer.Option("--image-size", metavar="N|HxW", help="pixels of the frames; a LayerNorm tells it as well")
    ] = None,
    channels: Annotated[int, typer.Option("--channels", min=1, help="image channels")] = 1,
    patch_size: Annotated[int | None, typer.Option("--patch-size", min=1, help="pixels; else told by the weights")] = None,
    direction: Annotated[
        Literal["forward", "reverse"], typer.Option("--direction", help="which of SeeMore's two networks")
    ] = "forward",
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="the model is written to FOLDER/NAME")] = Path(
        "models"
    ),
    as_json: AsJson = False,
) -> None:
    """Read a checkpoint of the papers' released code, so that an existing model joins the zoo. Nothing in it is executed."""
    from pipelines.imports import import_checkpoint
    from pipelines.views import print_json

    imported = import_checkpoint(checkpoint, name, folder, image_size, channels, patch_size, direction)
    if as_json:
        print_json(imported)
    else:
        print(f"{imported['network']}\nwritten to {imported['directory']}")
        print(f"in place of the first source: pipelines run zoo-to-target -S {shlex.join(imported['overrides'])}")


# ---------------------------------------------------------------------------------------------------------------- endings


def main() -> None:
    """The console script."""
    # A module of the user's own is looked for where the command is called, as `python -m` does.
    sys.path.insert(0, "") if "" not in sys.path else None
    sys.exit(invoke(sys.argv[1:]))


def invoke(args: Sequence[str]) -> int:
    """Run the command with `args`; returns the exit code. Our own errors are one line on stderr, without a traceback."""
    try:
        return app(list(args), standalone_mode=False, prog_name="pipelines") or 0
    except ZoocastError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; `pipelines --help` explains", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`); what Python would flush on its way out has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; this is a fault of zoocast, see {_crash(args)}", 1
        )


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _crash(args: Sequence[str]) -> Path:
    """Write the current exception's traceback to a file, under the root if it can be written, and return the file."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    given = [value for option, value in itertools.pairwise(args) if option == "--root"]
    root = Path(given[0] if given else os.environ.get("ZOOCAST_ROOT", RUNS))
    for folder in (root / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            continue
        return folder / name
    return Path(os.devnull)
