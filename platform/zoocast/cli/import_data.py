"""`pipelines data import`: files of your own become a data set that every pipeline knows by name."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoocast.cli.options import AsJson, examples, typed
from zoocast.errors import ConfigError
from zoocast.words import duration

if TYPE_CHECKING:
    from zoocast.data.imported import ImportedConfig

__all__ = ["EXAMPLES", "LIST_EXAMPLES", "import_", "list_"]

EXAMPLES = examples(
    "pipelines data import frames/ --name walks --length 20 --size 64x64 --gray",
    "pipelines data import rain.nc --variable rainfall --name rain --split time --scaling min-max --missing drop",
    "pipelines data import clips.npy --layout NTHW --name own --dry-run",
)
LIST_EXAMPLES = examples("pipelines data list", "pipelines data list --json")

Cropped = Annotated[str, typer.Option("--crop", metavar="TOP,LEFT,HEIGHT,WIDTH", help="what is kept of a frame, pixels")]
Groups = Annotated[str, typer.Option(metavar="A,B", help="with --split column: the groups (folders, years) of this split")]


def import_(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="file or folder: png, jpg, tif, videos, npy, npz, HDF5, zarr, netCDF")
    ],
    name: Annotated[str, typer.Option("--name", help="of the data set; what the file or folder is called if left out")] = "",
    layout: Annotated[
        str, typer.Option(help="axes of an array: N clips, T time, C channels, H, W; guessed where one fits")
    ] = "auto",
    variable: Annotated[str, typer.Option(help="of files that hold several arrays: the one to read")] = "",
    gray: Annotated[bool, typer.Option("--gray", help="colours become grey")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="decode videos once more, and leave out what is damaged")] = False,
    time_pattern: Annotated[str, typer.Option(metavar="%Y%m%d%H%M", help="how names of pictures tell the time")] = "",
    length: Annotated[int, typer.Option(help="frames in each clip")] = 20,
    stride: Annotated[int, typer.Option(help="frames from one clip's start to the next one's; 0: one after another")] = 0,
    step: Annotated[int, typer.Option(help="every how many frames one is taken")] = 1,
    crop: Cropped = "",
    size: Annotated[str, typer.Option(metavar="HEIGHTxWIDTH", help="of the resized frames")] = "",
    channels: Annotated[str, typer.Option(metavar="0,2", help="which channels, counted from 0")] = "",
    scaling: Annotated[Literal["none", "divisor", "min-max", "z-score"], typer.Option(help="what becomes 0 to 1")] = "none",
    divisor: Annotated[float, typer.Option(help="of --scaling divisor")] = 1.0,
    deviations: Annotated[float, typer.Option(help="of --scaling z-score: how many from the mean are 0 and 1")] = 5.0,
    missing: Annotated[Literal["refuse", "drop", "fill"], typer.Option(help="clips with missing values")] = "refuse",
    fill_value: Annotated[float, typer.Option(help="of --missing fill, in the units of the files")] = 0.0,
    split: Annotated[
        Literal["sequence", "time", "column"], typer.Option(help="whole recordings, time with a gap, or named groups")
    ] = "sequence",
    gap: Annotated[int, typer.Option(help="of --split time: frames left out between splits; 0: a clip's span")] = 0,
    validation_groups: Groups = "",
    test_groups: Groups = "",
    train: Annotated[int, typer.Option(help="clips, spread evenly; 0: all")] = 0,
    validation: Annotated[int, typer.Option(help="clips, spread evenly; 0: all")] = 0,
    test: Annotated[int, typer.Option(help="clips, spread evenly; 0: all")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say how it would be read and cut, and write nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Read PATH and keep its clips as a data set, in ZOOCAST_DATA or ./data.

    What is guessed is said; nothing is written before files and settings are checked. Ctrl-C leaves nothing behind.
    """
    from zoocast.cli.views import print_json
    from zoocast.data.imported import NAME, folder

    height, width = _size(size)
    config = _config(
        path=str(typed("PATH")(path)),
        layout=layout,
        variable=variable,
        gray=gray,
        verify=verify,
        time_pattern=time_pattern,
        length=length,
        stride=stride,
        step=step,
        crop=_numbers("--crop", crop),
        height=height,
        width=width,
        channels=_numbers("--channels", channels),
        scaling=scaling,
        divisor=divisor,
        deviations=deviations,
        missing=missing,
        fill_value=fill_value,
        split=split,
        gap=gap,
        validation_groups=_words(validation_groups),
        test_groups=_words(test_groups),
        train=train,
        validation=validation,
        test=test,
    )
    called = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.absolute().name.partition(".")[0]).strip("-.")
    if not NAME.fullmatch(called):
        raise ConfigError("--name", f"must be of letters, digits, dots, dashes and underscores, but got {called!r}; give one")
    place = folder() / called
    if place.exists():
        raise ConfigError("--name", f"{called} is in {place.parent} already; remove that folder, or choose another name")
    with _as_options():
        config.check()
    facts: dict[str, Any] = {
        "name": called,
        "folder": str(place),
        "shape": dataclasses.asdict(config.frame_shape()),
        "length": config.length,
        "clips": config.counts(),
        "read": list(config.remarks()),
    }
    print("\n".join(facts["read"]), file=sys.stderr)
    if not dry_run:
        facts |= _written(config, place)
    if as_json:
        print_json(facts)
    elif dry_run:
        print("nothing was written (--dry-run)")
    else:
        print(
            f"{called}: {', '.join(f'{n:,} {s}' for s, n in facts['clips'].items())} clips of {config.frame_shape()} in {place}"
        )
        print(f"use it: -S target.data=imported target.data.name={called}")


def list_(as_json: AsJson = False) -> None:
    """The data sets that were imported."""
    from zoocast.cli.console import print_table
    from zoocast.cli.views import print_json
    from zoocast.data.imported import folder, imported_names
    from zoocast.data.store import ClipStore

    stores = {name: ClipStore.open(folder() / name) for name in imported_names()}
    if as_json:
        print_json([_facts(name, store) for name, store in stores.items()])
    elif stores:
        rows = [[n, str(s.shape), s.length, *s.manifest.sizes.values(), s.recipe.dtype] for n, s in stores.items()]
        print_table(["name", "frame", "length", "train", "validation", "test", "values"], rows)
    else:
        print(f"nothing is imported in {folder()}", file=sys.stderr)


def _facts(name: str, store: Any) -> dict[str, Any]:
    return {
        "name": name,
        "folder": str(store.path),
        "shape": dataclasses.asdict(store.shape),
        "length": store.length,
        "clips": dict(store.manifest.sizes),
        "dtype": store.recipe.dtype,
        "digest": store.digest,
    }


@contextlib.contextmanager
def _as_options() -> Iterator[None]:
    """Let an error name the option that was typed, not the setting."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"--{error.field.replace('_', '-')}" if error.field else "", error.message) from None


def _config(**given: Any) -> ImportedConfig:
    from zoocast.data.imported import ImportedConfig

    with _as_options():
        return ImportedConfig(**given)


def _written(config: ImportedConfig, place: Path) -> dict[str, Any]:
    """Build the clips beside their place, and move them there when they are whole."""
    from zoocast.cli.console import progress_line
    from zoocast.store.files import human_bytes, require_free_space

    place.parent.mkdir(parents=True, exist_ok=True)
    require_free_space(place.parent, config.estimated_bytes(), f"the clips of {place.name}")
    # Hidden, and no data set before it is called by its name; what a killed import has left is replaced.
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        start = time.monotonic()
        with progress_line() as progress:
            store = config.build(part, progress)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    size = sum(file.stat().st_size for file in place.iterdir())
    print(f"{human_bytes(size)} in {duration(time.monotonic() - start)}", file=sys.stderr)
    return {"clips": dict(store.manifest.sizes), "digest": store.digest, "bytes": size}


def _size(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None or not int(found[1]) or not int(found[2] or found[1]):
        raise ConfigError("--size", f"is written 64 or 64x96 (height x width), but got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(option, f"is written as numbers with commas, but got {text!r}") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
