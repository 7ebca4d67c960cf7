"""Checkpoints of the papers' released code become models of ours: `pipelines import`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from zoocast.config import dump
from zoocast.errors import ConfigError, InfrastructureError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import save_predictor
from zoocast.nn.releases import import_release
from zoocast.zoo import SourceConfig

__all__ = ["import_checkpoint"]

# What a user types for the arguments of `import_release`.
OPTIONS = {"frames": "--image-size", "patch_size": "--patch-size", "direction": "--direction"}


def import_checkpoint(
    checkpoint: Path,
    name: str,
    folder: Path,
    image_size: str | None,
    channels: int,
    patch_size: int | None,
    direction: Literal["forward", "reverse"] = "forward",
) -> dict[str, Any]:
    """Read `checkpoint`, write it to ``folder/name`` as weights at rest, and describe it.

    Raises:
        DataError: the file cannot be read as a checkpoint of the releases.
        ConfigError: an option contradicts the weights, or the target exists.
        InfrastructureError: the target cannot be written.
    """
    try:
        # Made only for its checks: the name must be one that a pipeline's `sources` accepts afterwards.
        SourceConfig(name=name)
    except ConfigError as error:
        raise ConfigError("--as", error.message) from None
    directory = folder.absolute() / name
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError("--output", f"{directory} holds something already; remove it, or choose another name with --as")
    frames = None if image_size is None else _frames(image_size, channels)
    try:
        predictor = import_release(checkpoint, frames=frames, patch_size=patch_size, direction=direction)
    except ConfigError as error:
        raise ConfigError(OPTIONS.get(error.field, error.field), error.message) from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_predictor(predictor, directory)
    except OSError as error:
        raise InfrastructureError(f"{directory} cannot be written: {error.strerror or error}; choose another --output") from None
    config = predictor.config
    layers = ",".join(map(str, config.hidden_channels))
    sources = f", {config.num_sources} sources" if config.num_sources else ""
    return {
        "name": name,
        "directory": str(directory),
        "overrides": [f"sources.0.name={name}", f"sources.0.model={directory}"],
        "network": f"{config.cell.kind} of {layers} channels{sources}, frames {predictor.frames}, patch size {config.patch_size}",
        "config": dump(config),
        "frames": dump(predictor.frames),
    }


def _frames(image_size: str, channels: int) -> FrameShape:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", image_size)
    if match is None or not int(match[1]) or not int(match[2] or match[1]):
        raise ConfigError("--image-size", f"is written 64 or 64x96 (height x width), but got {image_size!r}")
    return FrameShape(channels=channels, height=int(match[1]), width=int(match[2] or match[1]))
