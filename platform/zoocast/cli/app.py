"""The `pipelines` command: what can be typed, and how each ending is shown.

stdout is data, stderr is progress. Nothing heavy is imported before a command needs it, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from zoocast.cli import cache, data, environment, predict, streams
from zoocast.cli.catalogue import DEFAULT_PRESET, configure, grid, labels, load, summaries
from zoocast.cli.options import (
    RUNS,
    Address,
    AsJson,
    Command,
    Commands,
    Config,
    Force,
    From,
    JobAddress,
    JobId,
    Like,
    Name,
    Only,
    OnlyRun,
    Overrides,
    PipelineName,
    Preset,
    Root,
    RunName,
    TrackingUri,
    Until,
    examples,
    typed,
)
from zoocast.config import overrides_between
from zoocast.dag.head import leave
from zoocast.errors import ConfigError, DataError, InfrastructureError, IntegrityError, ZoocastError
from zoocast.store.address import address, own_folder
from zoocast.store.files import keep_private
from zoocast.usercode import changed_place_of, described, place_of, require_nothing_hidden
from zoocast.words import redacted, visible

if TYPE_CHECKING:
    from zoocast.cli.catalogue import Configured
    from zoocast.cli.run import Request
    from zoocast.cli.studies import Study
    from zoocast.cluster.jobs import Job, Jobs, Log

__all__ = ["invoke", "main"]

app = typer.Typer(
    name="pipelines",
    cls=Commands,
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
    # `invoke` shows every ending itself, in one line.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cache.app, name="cache")


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="the version, the commit and Python's version")] = False,
) -> None:
    """Without a command: show what there is."""
    if version:
        from zoocast.provenance import git_state, package_version

        print(f"{package_version()}, {git_state()['commit']}, Python {sys.version.split()[0]}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


# ---------------------------------------------------------------------------------------------------------------- reading


@app.command("list", cls=Command, epilog=examples("pipelines list", "pipelines list --json"))
def list_(as_json: AsJson = False) -> None:
    """What can be run."""
    from zoocast.cli.console import print_table
    from zoocast.cli.views import print_json

    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in summaries().items()])
    else:
        print_table(["pipeline", "what it does"], list(summaries().items()))


@app.command(cls=Command, epilog=examples("pipelines show zoo-to-target", "pipelines show zoo-to-target --toml > study.toml"))
def show(
    name: Name = None,
    preset: Preset = None,
    overrides: Overrides = None,
    config: Config = None,
    as_json: AsJson = False,
    as_toml: Annotated[bool, typer.Option("--toml", help="the settings as a file for --config, on stdout")] = False,
) -> None:
    """What a pipeline does: its steps, presets and every setting."""
    from zoocast.cli.views import print_json, print_show, show_data

    (configured, *others) = _configured(_asked(name, preset, overrides, config), only_settings=True)
    if others:
        raise ConfigError(
            "", f"these lists make a grid of {1 + len(others)} runs, which `plan` shows; give one value of each here"
        )
    if as_toml:
        from zoocast.cli import studies

        print(studies.as_toml(configured), end="")
    else:
        print_json(show_data(configured)) if as_json else print_show(configured)


@app.command(
    cls=Command,
    epilog=examples("pipelines plan zoo-to-target", "pipelines plan zoo-to-target -S target.training.learning_rate=3e-4"),
)
def plan(
    name: Name = None,
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    like: Like = None,
    root: Root = RUNS,
    force: Force = None,
    only: Only = None,
    from_: From = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """What a run would do, step by step, and why. Starts nothing."""
    from zoocast.cli.run import summary
    from zoocast.cli.runs import steps_of_other_presets
    from zoocast.cli.views import print_json, print_plan

    configured = _configured(_asked(name, preset, overrides, config, like, root))
    others = steps_of_other_presets(root, configured[0].pipeline.name, configured[0].preset)
    plans = []
    for label, request in _requests(configured, root, force=force, only=only, from_=from_, until=until).items():
        the_plan = request.plan()
        plans.append({"run": request.run, **the_plan.to_json()})
        if not as_json:
            if label:
                print(f"{request.run}  {label}")
            print_plan(the_plan, others)
            print(summary(the_plan), file=sys.stderr)
    if as_json:
        print_json(plans if len(plans) > 1 else plans[0])


@app.command(cls=Command, epilog=examples("pipelines status", "pipelines status zoo-to-target", "pipelines status --json"))
def status(run: RunName = None, root: Root = RUNS, as_json: AsJson = False) -> int:
    """The runs under the root, or one run step by step. Exit code 5 if the record of a run is damaged."""
    from zoocast.cli.runs import find, require_root, survey
    from zoocast.cli.views import print_json, print_run, print_runs, record_data

    if run is None:
        require_root(root)
        records, damaged = survey(root)
        print_json([record_data(record) for record in records]) if as_json else print_runs(records)
        if not records and not damaged:
            print(f"no run is known under {address(root)}", file=sys.stderr)
        for error in damaged:
            print(f"error: {error}", file=sys.stderr)
        return IntegrityError.exit_code if damaged else 0
    record = find(root, run)
    print_json(record_data(record)) if as_json else print_run(record)
    return 0


@app.command(cls=Command, epilog=examples("pipelines report", "pipelines report zoo-to-target --open"))
def report(
    run: RunName = None,
    root: Root = RUNS,
    open_: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    as_json: AsJson = False,
) -> None:
    """Where the report of a finished run is, and its table."""
    from zoocast.cli.runs import find
    from zoocast.cli.views import print_json, print_result, read_result
    from zoocast.tracking.backend import relocate

    record = find(root, run)
    result = read_result(record, root)
    # Of a pipeline that writes no report the result is all there is; of one that is not done, this says so.
    path = record.report_path(root) if record.report or open_ or result is None else None
    with contextlib.suppress(InfrastructureError):  # a report is to be had without MLflow
        relocate(root)
    if as_json:
        print_json({"run": record.run, "report": str(path) if path else None, "result": result})
    else:
        print_result(result or {})
        if path:
            print(path)
    if open_ and path:
        typer.launch(path.as_uri())


@app.command(
    cls=Command,
    epilog=examples("pipelines doctor", "pipelines doctor zoo-to-target --root /data/runs --address HEAD:6379"),
)
def doctor(
    name: PipelineName = None,
    overrides: Overrides = None,
    preset: Preset = None,
    root: Root = RUNS,
    address: Address = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Whether this machine, Ray and MLflow are fit for work, or for that of one pipeline. Exit code 4 if something is not."""
    from zoocast.cli.doctor import examine
    from zoocast.cli.views import print_findings

    # Wrong settings are refused before anything is examined: starting Ray takes seconds.
    steps = configure(load(name), preset or DEFAULT_PRESET, overrides or ()).steps if name else ()
    findings = print_findings(examine(root, address, tracking_uri, steps), as_json=as_json)
    return 4 if any(finding.state == "fail" for finding in findings) else 0


# ---------------------------------------------------------------------------------------------------------------- doing


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines run zoo-to-target",
        "pipelines run zoo-to-target --preset smoke -S seeds=1 target.training.learning_rate=3e-4",
        "pipelines run zoo-to-target -S target.training.learning_rate=1e-3,3e-4      a run for each, and a table over them",
        "pipelines run --config study.toml                       what `show --toml` printed, and you changed",
        "pipelines run zoo-to-target --until 'source*'          only what the sources need",
        "pipelines run zoo-to-target --force report              make the report anew",
    ),
)
def run(
    name: Name = None,
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    like: Like = None,
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
    from zoocast.cli.run import execute, execute_grid
    from zoocast.cli.views import print_end, print_grid, print_json, run_data

    configured = _configured(_asked(name, preset, overrides, config, like, root))
    requests = _requests(configured, root, address, tracking_uri, force, only, from_, until)
    with streams.outlived():
        if len(requests) == 1:
            record = execute(*requests.values())
            data = run_data(record, root)
            print_json(data) if as_json else print_end(data)
            return record.exit_code or 0
        ends, table = execute_grid(requests)
        if as_json:
            print_json({"runs": [run_data(record, root) for record in ends.values()], "comparison": table})
        else:
            print_grid(ends, table)
    return max(record.exit_code or 0 for record in ends.values())


def _configured(asked: tuple[str, str, Sequence[str], Study | None], *, only_settings: bool = False) -> list[Configured]:
    """What is asked for: one configuration, or those of a grid."""
    name, preset, items, study = asked
    pipeline = load(name)
    try:
        made = [configure(pipeline, preset, chosen, only_settings=only_settings) for chosen in grid(pipeline, preset, items)]
    except ConfigError as error:
        raise (study.located(error) if study else error) from None
    if study is None:
        return made
    # A record or a command that holds every setting of a file would hide those that say something.
    return [dataclasses.replace(c, overrides=_short(c)) for c in made]


def _short(configured: Configured) -> tuple[str, ...]:
    return tuple(f"{path}={value}" for path, value in overrides_between(configured.preset_config, configured.config).items())


def _asked(
    name: str | None,
    preset: str | None,
    overrides: Sequence[str] | None,
    config: Path | None,
    like: str | None = None,
    root: Path = RUNS,
) -> tuple[str, str, Sequence[str], Study | None]:
    """The pipeline, the preset and all overrides, of which some may be lists, and where they come from if not from ``-S``."""
    from zoocast.cli import studies
    from zoocast.cli.runs import find

    if config is not None and like is not None:
        raise ConfigError("--like", "cannot be given together with --config; -S changes single settings of either")
    study = studies.read_study(config) if config else None
    if like is not None:
        record = find(root, like)
        study = studies.like_run(record.pipeline, record.preset, record.config)
    name = name or (study.pipeline if study else None)
    if name is None:
        raise ConfigError("NAME", f"is missing; name a pipeline ({', '.join(summaries())}), or a file of settings with --config")
    if study is None:
        return name, preset or DEFAULT_PRESET, overrides or (), None
    if study.pipeline not in (None, name):
        raise ConfigError("NAME", f"is {name}, but {config or like} is about {study.pipeline}; leave the name out")
    if like is not None and preset not in (None, study.preset):
        raise ConfigError("--preset", f"is {preset}, but {like} is a run of {study.preset}; leave it out")
    return name, preset or study.preset or DEFAULT_PRESET, study.overridden(overrides or ()), study


def _requests(
    configured: Sequence[Configured],
    root: Path,
    address: str | None = None,
    tracking_uri: str | None = None,
    force: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    from_: str | None = None,
    until: str | None = None,
) -> dict[str, Request]:
    """The runs that are asked for, by what sets each apart; a single one by an empty text."""
    from zoocast.cli.run import Request

    where = (root, address, tracking_uri, tuple(force or ()), tuple(only or ()), from_, until)
    return {label: Request(one, *where) for label, one in zip(labels(configured), configured, strict=True)}


# ---------------------------------------------------------------------------------------------------------------- on a cluster


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines submit zoo-to-target --root /mnt/shared/zoocast --address http://HEAD:8265",
        "pipelines submit zoo-to-target --preset smoke -S seeds=1 --root s3://lab/zoocast --detach",
        "pipelines logs -f ID                                    come back to it; `jobs` lists the ids, `cancel ID` stops it",
    ),
)
def submit(
    name: Name = None,
    overrides: Overrides = None,
    preset: Preset = None,
    config: Config = None,
    # Text, not the `Root` of the others: the place need not exist on this machine, and must not be made absolute here.
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            metavar="PATH|URL",
            envvar="ZOOCAST_ROOT",
            help="where results are kept: a place that every node sees (/mnt/..., s3://...)",
        ),
    ] = None,
    address: JobAddress = None,
    tracking_uri: TrackingUri = None,
    force: Force = None,
    only: Only = None,
    from_: From = None,
    until: Until = None,
    detach: Annotated[bool, typer.Option("--detach", "--no-wait", help="print the job's id and leave it to itself")] = False,
    as_json: AsJson = False,
) -> int:
    """Run a pipeline as a job of a Ray cluster, with the code of the current folder. Ctrl-C leaves it running."""
    from zoocast.cli.run import what_to_run
    from zoocast.cli.views import print_end, print_json
    from zoocast.cluster.jobs import Jobs, Log, Submission

    # The job has no file of this machine: what it says travels as overrides.
    name, preset, items, _ = _asked(name, preset, overrides, config)
    wanted = Submission(
        run=_run_name(name, preset, items, only, from_, until),
        what=tuple(what_to_run(name, preset, items, only or (), from_, until)),
        root=root or "",
        # The job runs in the environment of the cluster, where this variable need not be set.
        tracking_uri=tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"),
        force=tuple(force or ()),
    )
    jobs = Jobs.connect(address)
    job = jobs.send(wanted, Path.cwd())
    if detach:
        print_json({"job": job.id}) if as_json else print(job.id)
        return 0
    log = Log(sys.stderr)
    code = _follow(jobs, job, log)
    if log.result is not None:
        data = {**log.result, "job": job.id, "resume": job.command}
        print_json(data) if as_json else print_end(data)
    return code


def _run_name(
    name: str,
    preset: str,
    overrides: Sequence[str],
    only: Sequence[str] | None,
    from_: str | None,
    until: str | None,
) -> str:
    """The run's name, or one of our own where its data can only be seen on the cluster. Wrong settings are refused here."""
    from zoocast.cli.runs import run_name

    try:
        first, *_ = _requests(_configured((name, preset, overrides, None)), RUNS, only=only, from_=from_, until=until).values()
        return first.run
    except DataError as error:
        print(f"{error}\nthis is left to the job, which may see what this machine does not", file=sys.stderr)
        # A stand-in for the last step's key, which depends on the data; the job computes the name under which the run is kept.
        return run_name(name, json.dumps([preset, overrides, from_, until]), only or [])


@app.command("jobs", cls=Command, epilog=examples("pipelines jobs --address http://HEAD:8265", "pipelines jobs --json"))
def jobs_(address: JobAddress = None, as_json: AsJson = False) -> None:
    """The jobs of a Ray cluster, the latest first."""
    from zoocast.cli.views import print_jobs, print_json
    from zoocast.cluster.jobs import Jobs

    known = Jobs.connect(address).all()
    print_json([dataclasses.asdict(job) for job in known]) if as_json else print_jobs(known)


@app.command(
    cls=Command, epilog=examples("pipelines logs zoo-to-target-1f3a55c0-1", "pipelines logs -f zoo-to-target-1f3a55c0-1")
)
def logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="until the job ends, with its exit code; Ctrl-C leaves it")
    ] = False,
    address: JobAddress = None,
) -> int:
    """What a job has printed, and its table when it has come that far."""
    from zoocast.cli.views import print_end
    from zoocast.cluster.jobs import Jobs, Log

    jobs = Jobs.connect(address)
    job, log, code = jobs.find(job_id), Log(sys.stdout), 0
    if follow:
        code = _follow(jobs, job, log)
    else:
        jobs.read(job, log)
    if log.result is not None:
        print_end({**log.result, "resume": job.command or log.result["resume"]})
    return code


@app.command(cls=Command, epilog=examples("pipelines cancel zoo-to-target-1f3a55c0-1 --address http://HEAD:8265"))
def cancel(job_id: JobId, address: JobAddress = None) -> None:
    """Stop a job as Ctrl-C stops a run, at its next checkpoint (in five minutes at most), and wait until it has ended."""
    from zoocast.cluster.jobs import Jobs

    jobs = Jobs.connect(address)
    job = jobs.find(job_id)
    if job.ended:
        print(f"{job.id} has ended before: {job.state}", file=sys.stderr)
        return
    print(f"{job.id} stops at its next checkpoint", file=sys.stderr)
    job = jobs.cancel(job)
    print(f"{job.id} is {job.state}; finished steps and checkpoints are kept", file=sys.stderr)
    if job.command:
        print(f"resume  {job.command}", flush=True)


def _follow(jobs: Jobs, job: Job, log: Log) -> int:
    """Pass the log on; returns the job's exit code, 130 when the user has left it."""
    try:
        job = jobs.follow(job, log)
    except KeyboardInterrupt:
        print(f"\nleft {job.id} to itself; it goes on", file=sys.stderr)
        print(f"rejoin  {jobs.hint('logs', '-f', job.id)}\nstop    {jobs.hint('cancel', job.id)}", file=sys.stderr)
        return 130
    return job.ending()


# ---------------------------------------------------------------------------------------------------------------- showing


@app.command(cls=Command, epilog=examples("pipelines ui", "pipelines ui toys.counting-d789a939 --port 5001"))
def ui(
    run: RunName = None,
    root: Root = RUNS,
    tracking_uri: TrackingUri = None,
    host: Annotated[str, typer.Option("--host", help="the name or address to listen on; 0.0.0.0 lets others in")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="the port to listen on")] = 5000,
    open_: Annotated[bool, typer.Option("--open", help="open the comparison in the browser")] = False,
) -> None:
    """MLflow's page on the runs under the root, with a link to the finished comparison. Ctrl-C ends it."""
    from zoocast.cli.runs import find, require_root
    from zoocast.tracking import sync_pending
    from zoocast.tracking.ui import serve_ui, study_links

    require_root(root)
    chosen = find(root, run).run if run is not None else None
    # What earlier runs could not export is to be seen on the page as well.
    left = sync_pending(root, tracking_uri, timeout=60)
    if left.pending or left.problem:
        print(f"MLflow may not know all of it: {left.problem or f'{left.pending} entries wait'}", file=sys.stderr)
    # Ctrl-C is how this ends, whenever it comes.
    with serve_ui(root, tracking_uri, host=host, port=port, run=chosen) as page, contextlib.suppress(KeyboardInterrupt):
        if page.moved:
            print(f"{page.moved}; this is another one", file=sys.stderr)
        print(f"MLflow      {page.url}\ncomparison  {page.link}")
        for step, link in study_links(root, page.url, tracking_uri, chosen).items():
            print(f"{step:<10}  {link}")
        # The page may stay open for days; a pipe must not hold its address back until then.
        sys.stdout.flush()
        if open_:
            typer.launch(page.link)
        page.wait()


@app.command(
    cls=Command,
    epilog=examples(
        "pipelines sync",
        "pipelines sync zoo-to-target --tracking-uri http://mlflow.lab:5000          results move to another server",
    ),
)
def sync(run: OnlyRun = None, root: Root = RUNS, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> int:
    """Send MLflow what it does not have yet, each entry once. Exit code 4 while something waits or is refused."""
    from zoocast.cli.runs import find, require_root
    from zoocast.cli.sync import print_synced, sync_runs
    from zoocast.cli.views import print_json

    require_root(root)
    synced = sync_runs(root, tracking_uri, find(root, run).run if run is not None else None)
    print_json(dataclasses.asdict(synced)) if as_json else print_synced(synced)
    return 4 if synced.lacks else 0


@app.command(
    "import",
    cls=Command,
    epilog=examples(
        "pipelines import convlstm.ckpt --as digits1 --image-size 64 --patch-size 4",
        "pipelines import predrnn.ckpt --as kth --image-size 128 --patch-size 4 -o models",
    ),
)
def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", parser=typed("CHECKPOINT"), help="of transferable-memory, predrnn-pytorch or SeeMore"
        ),
    ],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="what the source is called in the zoo")],
    image_size: Annotated[
        str | None, typer.Option("--image-size", metavar="N|HxW", help="pixels of the frames; a LayerNorm holds it as well")
    ] = None,
    channels: Annotated[int, typer.Option("--channels", min=1, help="image channels")] = 1,
    patch_size: Annotated[int | None, typer.Option("--patch-size", min=1, help="pixels; else read from the weights")] = None,
    direction: Annotated[
        Literal["forward", "reverse"], typer.Option("--direction", help="which of SeeMore's two networks")
    ] = "forward",
    folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", parser=typed("--output"), help="the model is written to FOLDER/NAME"),
    ] = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Read a checkpoint of the papers' released code, so that an existing model joins the zoo. Nothing in it is executed."""
    from zoocast.cli.imports import import_checkpoint
    from zoocast.cli.views import print_json

    imported = import_checkpoint(checkpoint, name, folder, image_size, channels, patch_size, direction)
    if as_json:
        print_json(imported)
    else:
        print(f"{imported['network']}\nwritten to {imported['directory']}")
        name, model = imported["name"], shlex.quote(imported["directory"])
        print(f"as one more source: pipelines run zoo-to-target -S sources.{name}.model={model}")
        print(f"in place of the first source: pipelines run zoo-to-target -S {shlex.join(imported['overrides'])}")


# Last, for `--help` lists the commands in this order.
app.command("predict", cls=Command, epilog=predict.PREDICT_EXAMPLES)(predict.predict)
app.command("export", cls=Command, epilog=predict.EXPORT_EXAMPLES)(predict.export)
app.add_typer(data.app, name="data")


# ---------------------------------------------------------------------------------------------------------------- endings


def main() -> None:
    """The console script."""
    streams.secure()
    # A module of the user's own is looked for where the command is called, as `python -m` does.
    sys.path.insert(0, "") if "" not in sys.path else None
    # A polite kill, as of a job that is cancelled, ends what Ctrl-C ends, and as cleanly.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        keep_private()
        environment.prepare()
        require_nothing_hidden()
    except ZoocastError as error:
        sys.exit(_fail(str(error), error.exit_code))
    code = invoke(sys.argv[1:])
    # All is done and said; a signal that comes while Python takes itself apart would only spoil the exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    leave(code)


def invoke(args: Sequence[str]) -> int:
    """Run the command with `args`; returns the exit code. Our own errors are one line on stderr, without a traceback."""
    try:
        # Standalone, typer would print errors its own way and exit with codes of its own.
        code = app(list(args), standalone_mode=False, prog_name="pipelines") or 0
        sys.stdout.flush()  # here, where it may fail in words
        return code
    except streams.OutputLost as error:
        return error.exit_code if error.quiet else _fail(str(error), error.exit_code)
    except ZoocastError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; `pipelines --help` explains", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except Exception as error:
        return _fail(*unforeseen(error, args))


def unforeseen(error: Exception, args: Sequence[str]) -> tuple[str, int]:
    """What to say of an error that nothing has given words to, and the exit code that tells whose fault it is."""
    if place := place_of(error) or changed_place_of(error):
        return f"{place}: {described(error)}", ConfigError.exit_code
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename is not None else ""
        return f"{about}{error.strerror or described(error)}; this comes from the machine, its disk or its network", 4
    if isinstance(error, ImportError):
        return f"{described(error)}; zoocast is not wholly installed here, install it again", 4
    if isinstance(error, MemoryError):
        return "this machine has too little memory for the command", 4
    return f"{described(error)}; this is a fault of zoocast, see {_crash(args, error)}", 1


def _fail(message: str, code: int) -> int:
    # Lines of ours are a list, and indented; every other line break comes from a name of other people's.
    print("error:", "\n  ".join(visible(line) for line in message.split("\n  ")), file=sys.stderr)
    return code


def _crash(args: Sequence[str], error: Exception) -> Path:
    """Write the traceback of `error` to a file, under the root if it can be written, and return the file."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    # From the raw arguments: the fault may lie in what reads them.
    given = [value for option, value in itertools.pairwise(args) if option == "--root"]
    given += [word.removeprefix("--root=") for word in args if word.startswith("--root=")]
    root = given[0] if given else os.environ.get("ZOOCAST_ROOT", RUNS)
    folders = [folder / "crashes" for folder in [own_folder(root)] if folder]
    with contextlib.suppress(OSError):  # there is none that can be written
        folders.append(Path(tempfile.gettempdir()))
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open(
                "x", encoding="utf-8", errors="backslashreplace"
            ) as file:  # never into what somebody else has put there
                file.write(redacted("".join(traceback.format_exception(error))))
        except OSError:
            continue
        return folder / name
    return Path(os.devnull)
