"""Using trained networks from the command line: `pipelines predict`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
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

__all__ = ["PREDICT_EXAMPLES", "predict"]

PREDICT_EXAMPLES = examples(
    "pipelines predict @last:tmu clips.npy --horizon 10 --out predicted",
    "pipelines predict @last:tmu videos --out predicted --format npy,png,mp4",
    "pipelines predict models:/target-tmu@ready radar.nc --variable rain --at-end --out next-hour --format netcdf",
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

    config = PredictConfig(horizon=horizon, observed=observed, formats=tuple(formats.split(",")), batch_size=batch, at_end=at_end)
    # Before the network is loaded, which takes longer.
    opened = open_recordings(path, layout=layout, variable=variable)
    for remark in opened.remarks:
        print(remark, file=sys.stderr)
    network = load(model, root=root, tracking_uri=tracking_uri)
    try:
        with _progress("predicting") as progress:
            predicted = predict_recordings(network, opened.recordings, out, config, progress)
    except ConfigError as error:
        raise ConfigError(f"--{error.field.replace('_', '-')}", error.message) from None
    if as_json:
        print_json(dataclasses.asdict(predicted))
        return
    print(f"{predicted.clips:,} clips, {predicted.observed} frames observed and {predicted.horizon} predicted each")
    for name in ("strict/mse", "strict/ssim"):
        if name in predicted.metrics:
            print(f"{name} {predicted.metrics[name]:.4g} over {predicted.measured:,} clips with a truth")
    print(predicted.folder)


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
