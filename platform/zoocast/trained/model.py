"""A trained network for those who use it: it reads and writes frames in the units of the data that it was trained on.

The network itself knows values from 0 to 1. What they mean stands in the manifest of the clips that it was trained on, beside the
step that trained it; a network without such a step, as an imported one, takes bytes of 0 to 255 or floats of 0 to 1.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, load_predictor
from zoocast.trained.card import ModelCard, card_of
from zoocast.trained.origin import Origin, model_folder
from zoocast.trained.units import Units

__all__ = ["BATCH_SIZE", "TrainedModel", "open_model"]

BATCH_SIZE = 16
"""Clips that are predicted at once unless another number is asked for."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TrainedModel:
    """A trained network, and what it knows of its data.

    Attributes:
        name: the step that trained it, or its folder.
        predictor: the network, in evaluation mode; its frames are float32 from 0 to 1.
        units: of the frames that `predict` reads and writes.
        observed: frames that it saw of every clip in training; None where that is not known.
        folder: the step that trained it, or the folder of the network.
        origin: what the step that trained it says; None for a network without one.
    """

    name: str
    predictor: Predictor
    units: Units
    observed: int | None
    folder: Path
    origin: Origin | None = None

    @property
    def frames(self) -> FrameShape:
        """Channels, height and width of its frames."""
        return self.predictor.frames

    @cached_property
    def card(self) -> ModelCard:
        """What it is, what it was trained on and how, how good it is, and where it comes from."""
        return card_of(self.name, self.predictor, model_folder(self.folder), self.origin)

    def predict(self, frames: np.ndarray, horizon: int = 10, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """The `horizon` frames that follow, in the units of the data, in batches, on the device of the network.

        Args:
            frames: what was observed, (T, C, H, W) or (B, T, C, H, W), any T from 1 on: bytes of 0 to 255 or floats of 0 to 1, or
                numbers in the unit that the data were scaled from.
            horizon: frames to predict; any number, whatever the network was trained on.

        Returns:
            (horizon, C, H, W) or (B, horizon, C, H, W): bytes where bytes were given, else float32.

        Raises:
            ConfigError: the horizon or the batch size is below 1.
            DataError: frames of another size, number of channels or range than those that it was trained on.
        """
        for field, value in (("horizon", horizon), ("batch_size", batch_size)):
            if value < 1:
                raise ConfigError(field, f"must be at least 1, but got {value}")
        clips = np.asarray(frames)
        if clips.ndim not in (4, 5):
            raise DataError(f"observed frames are (T, C, H, W) or (B, T, C, H, W), but got {list(clips.shape)}")
        self.check_shape(clips.shape[-3:])
        batch = clips if clips.ndim == 5 else clips[None]
        if not batch.shape[1]:
            raise DataError("at least 1 frame must be observed, but there is none")
        parts = [batch[i : i + batch_size] for i in range(0, len(batch), batch_size)]
        predicted = [self.units.of_network(self.run(self.units.for_network(part), horizon), part.dtype) for part in parts]
        out = np.concatenate(predicted) if predicted else np.empty((0, horizon, *clips.shape[-3:]), np.float32)
        return out if clips.ndim == 5 else out[0]

    def run(self, observed: np.ndarray, horizon: int) -> np.ndarray:
        """The network itself, on one batch: float32 (B, T, C, H, W) from 0 to 1 to (B, horizon, C, H, W), not clipped."""
        return self.predictor.predict(torch.from_numpy(observed), horizon).cpu().numpy()

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise `DataError` unless frames of this shape (C, H, W) are those that it was trained on."""
        trained = dataclasses.astuple(self.frames)
        if tuple(shape) != trained:
            got = "x".join(map(str, shape))
            last = (*shape[2:], *shape[:2]) == trained
            hint = "move the channels before the rows" if last else "crop, resize or choose channels first"
            raise DataError(f"{self.name} was trained on frames of {self.frames}, channels first, but got {got}; {hint}")


def open_model(folder: Path, device: str | torch.device | None = None) -> TrainedModel:
    """The network that a training step left in `folder`, or that was imported into it.

    Args:
        folder: of the step, or of the network itself.
        device: where it computes; left out, the GPU where there is one.

    Raises:
        DataError: there is no network.
        IntegrityError: a file is damaged or was changed.
    """
    folder = folder.absolute()
    predictor = load_predictor(model_folder(folder), device or ("cuda" if torch.cuda.is_available() else "cpu"))
    origin = Origin.of(folder)
    return TrainedModel(
        name=origin.record.name if origin else folder.name,
        predictor=predictor,
        units=Units.of(origin.recipe) if origin and origin.recipe else Units(),
        observed=origin.observed if origin else None,
        folder=folder,
        origin=origin,
    )
