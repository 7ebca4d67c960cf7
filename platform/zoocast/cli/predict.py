"""Using trained networks from the command line: `pipelines predict` and `pipelines export`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoocast.cli.models import MODEL_FORMS, load
from zoocast.cli.options import RUNS, AsJson, Root, TrackingUri, examples, typed
from zoocast.cli.streams import unguarded
from zoocast.errors import ConfigError

if TYPE_CHECKING:
    from zoocast.data.splits import Progress

__all__ = ["EXPORT_EXAMPLES", "PREDICT_EXAMPLES", "export", "predict"]

PREDICT_EXAMPLES = examples(
    "pipelines predict @last:tmu clips.npy --horizon 10 --out predicted",
    "pipelines predict @last:tmu videos --out predicted --format npy,png,mp4",
    "pipelines predict models:/target-tmu@ready radar.nc --variable rain --at-end --out next-hour --format netcdf",
)
EXPORT_EXAMPLES = examples(
    "pipelines export @last:tmu --out exported",
    "pipelines export @last:tmu --out exported --horizon any       any number of frames, and of clips at once",
    "pipelines export models/kth --out exported --observed 10 --horizon 20 --batch 1",
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_FORMS)]


def predict(
    model: Model,
    path: Annotated[
        Path,
        typer.Argument(metavar="INPUT", parser=typed("INPUT"), help="a file or folder of any format that `data import` reads"),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", parser=typed("--out"), help="made for what is written")],
    horizon: Annotated[int, typer.Option("--horizon", min=1, help="frames to predict")] = 10,
    observed: Annotated[
        int | None, typer.Option("--observed", min=1, help="frames that are seen; else as many as in training")
    ] = None,
    formats: Annotated[str, typer.Option("--format", metavar="npy,netcdf,png,gif,mp4", help="what is written")] = "npy",
    strips: Annotated[int, typer.Option("--strips", min=0, help="clips that are drawn, standing and moving")] = 1,
    at_end: Annotated[
        bool, typer.Option("--at-end", help="predict what follows the last frame of every recording, which has no truth")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="clips that are predicted at once")] = 16,
    layout: Annotated[str, typer.Option("--layout", metavar="AXES", help="of an array: NTHW, TCHW, ...")] = "auto",
    variable: Annotated[str, typer.Option("--variable", help="of a file with several arrays")] = "",
    root: Root = RUNS,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Predict what follows in clips of your own, and measure it where they go on. Refuses other frames than were trained on."""
    from zoocast.cli.views import print_json
    from zoocast.data.formats import open_recordings
    from zoocast.trained.predict import PredictConfig, predict_recordings

    with _as_options():
        config = PredictConfig(
            horizon=horizon,
            observed=observed,
            formats=tuple(formats.split(",")),
            batch_size=batch,
            strips=strips,
            at_end=at_end,
        )
    # Before the network is loaded, which takes longer.
    opened = open_recordings(path, layout=layout, variable=variable)
    for remark in opened.remarks:
        print(remark, file=sys.stderr)
    network = load(model, root=root, tracking_uri=tracking_uri)
    with _as_options(), _progress("predicting") as progress:
        predicted = predict_recordings(network, opened.recordings, out, config, progress)
    if as_json:
        print_json(dataclasses.asdict(predicted))
        return
    print(f"{predicted.clips:,} clips, {predicted.observed} frames observed and {predicted.horizon} predicted each")
    for name in ("strict/mse", "strict/ssim"):
        if name in predicted.metrics:
            print(f"{name} {predicted.metrics[name]:.4g} over {predicted.measured:,} clips with a truth")
    print(predicted.folder)


def _number_or(word: str) -> Callable[[str | int], int | None]:
    """How a number is read for which `word`, which gives None, may stand as well."""

    def read(text: str | int) -> int | None:  # a default comes as the number that it is
        if text == word:
            return None
        if str(text).isdecimal():
            return int(text)
        raise typer.BadParameter(f"it is a number or {word}, but got {text!r}.")

    return read


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", parser=typed("--out"), help="made for what is written")],
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", metavar="N|any", parser=_number_or("any"), help="frames to predict; any: a step is exported"),
    ] = 10,
    observed: Annotated[
        int | None, typer.Option("--observed", min=1, help="frames that are seen; else as many as in training")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N|dynamic", parser=_number_or("dynamic"), help="clips at once; else any number"),
    ] = None,
    root: Root = RUNS,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Write a network as a program that PyTorch runs without zoocast, with its model card."""
    from zoocast.cli.views import print_json
    from zoocast.trained.export import ExportConfig, export_model

    network = load(model, root=root, tracking_uri=tracking_uri, device="cpu")
    with _as_options():
        takes = export_model(network, out, ExportConfig(batch=batch, horizon=horizon, observed=observed))
    if as_json:
        print_json({"folder": str(out), **takes})
        return
    frames = "x".join(map(str, takes["frames"]))
    print(f"clips at once: {takes['batch']}, observed: {takes['observed']}, predicted: {takes['horizon']}, frames {frames}")
    print(f"{out}: network.pt2, predict.py, MODEL_CARD.md, model_card.json")


@contextmanager
def _as_options() -> Iterator[None]:
    """Let a `ConfigError` raised inside name the option that sets its field."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"--{error.field.replace('_', '-')}" if error.field else "", error.message) from None


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A bar on a terminal, and nothing anywhere else."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(file=unguarded(sys.stderr)), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=1.0, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)
