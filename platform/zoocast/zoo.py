"""The zoo: source networks, each pretrained without labels on data of its own, then frozen.

A source is its data, its network and its training, or a network that a lab has already. The steps that make one, and that rank
them, are in `zoocast.experiment.sources`; this module is what everything that reads a source needs to know of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from zoocast.config import setting
from zoocast.data import DataConfig, DigitsConfig
from zoocast.errors import ConfigError, within
from zoocast.frames import FrameShape
from zoocast.nn.predictor import (
    DESCRIPTION,
    Predictor,
    PredictorConfig,
    blueprint,
    check_predictor,
    load_predictor,
    read_description,
    warm_start,
)
from zoocast.store.files import check_name
from zoocast.store.typed import typed_path
from zoocast.training import MODEL_FOLDER, TrainingConfig, WorkerConfig

__all__ = ["Ranking", "SourceConfig", "can_see", "can_start", "check_observed", "load_source"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One member of the zoo."""

    name: str = setting("source", "of the source, in steps, tables and the registry")
    model: str = setting(
        "",
        "folder of a network, as `pipelines import` writes it, to be taken as it is instead of pretraining; data, predictor,"
        " training and workers are then not looked at",
        identity=False,
        creates=True,
    )
    data: DataConfig = setting(DigitsConfig(), "what it is pretrained on")
    predictor: PredictorConfig = setting(PredictorConfig(), "its network; may differ from the target's")
    training: TrainingConfig = setting(TrainingConfig(), "its pretraining")
    workers: WorkerConfig = setting(WorkerConfig(), "where it is pretrained", identity=False)

    def __post_init__(self) -> None:
        check_name("a source", self.name)
        if self.model:
            # Workers run in other folders than the command. By object's method, for the config is frozen.
            with within("model"):
                object.__setattr__(self, "model", str(typed_path(self.model).absolute()))

    def check(self) -> None:
        """Raise `ConfigError` for what cannot work, and `IntegrityError` for a damaged model, before any work starts."""
        if self.model:
            if not (Path(self.model) / DESCRIPTION).is_file():
                inside = Path(self.model) / MODEL_FOLDER  # of a step that trained it
                there = inside if (inside / DESCRIPTION).is_file() else "the folder that `pipelines import` wrote"
                raise ConfigError("model", f"{self.model} holds no network ({DESCRIPTION} is missing); give {there}")
            load_predictor(Path(self.model))  # for its checksums: hours later is too late to find a flipped bit
            return
        with within("data"):
            self.data.check()
        with within("predictor"):
            check_predictor(self.predictor, self.data.frame_shape())
        with within("training"):
            self.workers.check(self.training, self.data.counts()["train"])

    def network(self) -> tuple[PredictorConfig, FrameShape]:
        """The network and the frames that it is, or was, trained on. Raises `IntegrityError` for a damaged model."""
        if self.model:
            description = read_description(Path(self.model))
            return description.config, description.frames
        return self.predictor, self.data.frame_shape()


def check_observed(observed: int, length: int, whose: str) -> None:
    """Raise `ConfigError` unless the clips of `whose`, of `length` frames, have both observed and future frames."""
    if not 1 <= observed < length:
        raise ConfigError(
            "observed",
            f"must leave at least one of the {length} frames in the clips of {whose} to predict, but got {observed};"
            f" use 1 to {length - 1}, or longer clips",
        )


def load_source(directory: Path, device: str = "cpu") -> Predictor:
    """The frozen source that a step left in `directory`.

    Raises:
        IntegrityError: its files are missing or damaged.
    """
    predictor = load_predictor(directory / MODEL_FOLDER, device)
    return predictor.requires_grad_(False).eval()  # without it autograd would keep every step of a source that nobody trains


def can_start(target: PredictorConfig, frames: FrameShape, source: PredictorConfig, source_frames: FrameShape) -> bool:
    """Whether `warm_start` can give a source's weights to the target's network on `frames`; takes no memory for weights."""
    try:
        # The very code that will copy the weights decides, on tensors that have shapes and nothing else.
        warm_start(blueprint(target, frames), blueprint(source, source_frames))
    except ConfigError:
        return False
    return True


def can_see(source: PredictorConfig, source_frames: FrameShape, frames: FrameShape) -> bool:
    """Whether a trained network can be run on `frames`: convolutions do not mind their size, LayerNorms do."""
    return can_start(source, frames, source, source_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well sources predict a target's validation clips without any training.

    Attributes:
        val_mse: strict MSE by source; one that cannot see the target's frames has none.
        fitting: the sources whose weights the target's network can start from.
        best: the one of them with the lowest error; None when nothing fits.
    """

    val_mse: Mapping[str, float]
    fitting: tuple[str, ...]
    best: str | None
