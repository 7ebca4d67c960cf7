"""Predictions on recordings of the user's own, beside the truth where there is one; an interrupted one leaves nothing.

A recording with enough frames is cut into clips one after another, of which the first frames are observed and the rest is the
truth; of a shorter one the last frames are observed. One batch of clips is in memory at a time, however long recordings are.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoocast.data.recordings import Recording, Window
from zoocast.data.splits import Progress
from zoocast.errors import ConfigError, DataError
from zoocast.evaluation import Scores, evaluate
from zoocast.metrics import SSIM_WINDOW
from zoocast.store.files import require_free_space, temporary_name, write_atomically, writing
from zoocast.trained.model import BATCH_SIZE, TrainedModel
from zoocast.trained.output import FORMATS, Batch, Sheet

__all__ = ["PredictConfig", "Predicted", "predict_recordings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is predicted and written.

    Attributes:
        horizon: frames to predict.
        observed: frames that are seen; None: as many as in training.
        formats: some of `zoocast.trained.output.FORMATS`.
        batch_size: clips that are predicted at once.
        strips: clips that are drawn, standing and moving, spread over all.
        at_end: what follows the last frame of every recording is predicted, also where it is long enough to have a truth.
    """

    horizon: int = 10
    observed: int | None = None
    formats: tuple[str, ...] = ("npy",)
    batch_size: int = BATCH_SIZE
    strips: int = 1
    at_end: bool = False

    def __post_init__(self) -> None:
        for field in ("horizon", "observed", "batch_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(field, f"must be at least 1, but got {value}")
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ConfigError("format", f"must be some of {', '.join(FORMATS)}, but got {', '.join(unknown) or 'none'}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """What was predicted.

    Attributes:
        clips: how many there are, `measured` with a truth.
        metrics: over the whole horizon, by protocol and name; empty without a truth.
    """

    folder: str
    clips: int
    measured: int
    observed: int
    horizon: int
    metrics: Mapping[str, float]


def predict_recordings(
    model: TrainedModel, recordings: Sequence[Recording], folder: Path, config: PredictConfig, progress: Progress
) -> Predicted:
    """Predict and write what `config` asks for into `folder`, which is made when all is written.

    ``clips.csv`` says which clip is which, and ``predictions.*`` holds them in this order, in the units of the data. With a truth
    there is ``metrics.json``; ``strips/`` shows some clips, standing and moving.

    Raises:
        ConfigError: the number of observed frames is not known, or `folder` holds something.
        DataError: recordings of another size, channels, unit or range than the network was trained on, or too short.
        InfrastructureError: the disk is full or cannot be written.
    """
    observed = config.observed or model.observed
    if observed is None:
        raise ConfigError("observed", f"must be given, for how many frames {model.name} saw in training is not known")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("out", f"{folder} holds something already; remove it, or choose another one")
    for recording in recordings:
        check_recording(model, recording)
    clips = clips_of(recordings, observed, config)
    sheet = Sheet(
        names=_names(recordings, clips),
        horizon=config.horizon,
        shape=model.frames,
        dtype=np.dtype(np.uint8) if recordings[0].dtype == np.uint8 and not model.units.factor else np.dtype(np.float32),
        units=model.units,
    )
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        require_free_space(folder.parent, int(np.prod(sheet.axes)) * sheet.dtype.itemsize, "the predictions")
        # Beside `folder`, so that it gets its name at once, when it is whole.
        partial = temporary_name(folder)
        partial.mkdir()
        try:
            predicted = _Job(model, recordings, clips, observed, config, sheet, partial).run(folder, progress)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return predicted


def check_recording(model: TrainedModel, recording: Recording) -> None:
    """Raise `DataError` where the headers say that a recording is not of what the network was trained on."""
    try:
        model.check_shape(dataclasses.astuple(recording.shape))
    except DataError as error:
        raise DataError(f"{recording.name}: {error}") from None
    for what, got, trained in (
        ("channels", recording.channels, model.units.channels),
        ("unit", recording.unit, model.units.unit),
    ):
        if got and trained and got != trained:
            found, wanted = (value if isinstance(value, str) else ", ".join(value) for value in (got, trained))
            raise DataError(
                f"{recording.name}: {model.name} was trained on the {what} {wanted}, but got {found}; convert it first"
            )


def clips_of(recordings: Sequence[Recording], observed: int, config: PredictConfig) -> list[Window]:
    """What is read of each recording: observed frames alone, or with the truth that follows.

    Raises:
        DataError: there is nothing, for all of them have too few frames.
    """
    clips, length = [], observed + config.horizon
    for index, recording in enumerate(recordings):
        for run in recording.runs or (range(recording.frames),):
            whole = range(run.start, run.stop - length + 1, length)
            if len(whole) and not config.at_end:
                clips += [Window(index, start, length) for start in whole]
            elif len(run) >= observed and (run.stop == recording.frames or not config.at_end):
                clips.append(Window(index, run.stop - observed, observed))
    if not clips:
        longest = max((recording.frames for recording in recordings), default=0)
        raise DataError(
            f"no recording has the {observed} frames that are to be observed one after another, the longest has {longest};"
            " observe fewer with --observed"
        )
    return clips


def _names(recordings: Sequence[Recording], clips: Sequence[Window]) -> list[str]:
    """A name for each clip that can be a file's: the recording's, and the first frame where there are several of one."""
    counts = [0] * len(recordings)
    for clip in clips:
        counts[clip.recording] += 1
    names = []
    for clip in clips:
        name = re.sub(r"[^\w.-]+", "-", recordings[clip.recording].name).strip(".-") or "clip"
        names.append(f"{name}-{clip.start + 1}" if counts[clip.recording] > 1 else name)
    # Recordings whose names become alike are still files of their own.
    return names if len(set(names)) == len(names) else [f"{number:06}-{name}" for number, name in enumerate(names)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Truth:
    """A batch of clips as evaluation sees it."""

    frames: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def clips(self, indices: Sequence[int]) -> Tensor:  # noqa: ARG002 -- numbers among all clips, of which this is one batch
        return self.frames


@dataclasses.dataclass
class _Job:
    """One call of `predict_recordings`, checked."""

    model: TrainedModel
    recordings: Sequence[Recording]
    clips: Sequence[Window]
    observed: int
    config: PredictConfig
    sheet: Sheet
    partial: Path

    def run(self, folder: Path, progress: Progress) -> Predicted:
        config, count = self.config, len(self.clips)
        # SSIM has no value on smaller frames; the errors alone are no protocol of ours.
        measurable = min(self.model.frames.height, self.model.frames.width) >= SSIM_WINDOW
        shown = set(np.linspace(0, count - 1, min(config.strips, count)).round().astype(int).tolist())
        scores, errors = Scores.zero(horizon=config.horizon), _Errors()
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(FORMATS[name](self.partial, self.sheet)) for name in config.formats]
            for start, batch in self._batches():
                frames = np.stack([self._read(clip) for clip in batch])
                values = self._for_network(frames, batch)
                network = self.model.run(values[:, : self.observed], config.horizon)
                predicted = self.model.units.of_network(network, self.sheet.dtype)
                for write in writers:
                    write(Batch(start, predicted, network))
                if self._has_truth(batch[0]):
                    errors.add(predicted, frames[:, self.observed :])
                    if measurable:
                        scores += self._measure(network, values, range(start, start + len(batch)))
                for number in shown & set(range(start, start + len(batch))):
                    self._draw(number, values[number - start], network[number - start])
                progress((start + len(batch)) / count, f"{start + len(batch):,} of {count:,} clips")
        self._write_clips()
        if errors.count:
            self._write_metrics(scores, errors)
        return Predicted(
            folder=str(folder),
            clips=count,
            measured=sum(map(self._has_truth, self.clips)),
            observed=self.observed,
            horizon=config.horizon,
            metrics=scores.means() if scores.count else {},
        )

    def _has_truth(self, clip: Window) -> bool:
        return clip.length > self.observed

    def _batches(self) -> Iterator[tuple[int, Sequence[Window]]]:
        """The number of its first clip, and a batch of which all have a truth or none has."""
        start = 0
        for _, same in itertools.groupby(self.clips, key=self._has_truth):
            while batch := list(itertools.islice(same, self.config.batch_size)):
                yield start, batch
                start += len(batch)

    def _read(self, clip: Window) -> np.ndarray:
        """(observed [+ horizon], C, H, W) in the user's units."""
        recording = self.recordings[clip.recording]
        frames = recording.read(clip.start, clip.start + clip.length)
        if len(frames) < clip.length:
            raise DataError(f"{recording.name} has fewer frames than before; was it changed? Give it whole, and predict again")
        if recording.missing is not None and (missing := np.count_nonzero(frames == recording.missing)):
            raise DataError(
                f"{recording.name}: {missing:,} values are missing in the frames from {clip.start + 1} on; fill them in"
            )
        if recording.factor != 1 or recording.offset:
            return np.asarray(recording.offset + recording.factor * frames.astype(np.float64), np.float32)
        return frames

    def _for_network(self, frames: np.ndarray, batch: Sequence[Window]) -> np.ndarray:
        try:
            return self.model.units.for_network(frames)
        except DataError as error:
            names = sorted({self.recordings[clip.recording].name for clip in batch})
            raise DataError(f"{', '.join(names[:3])}{', ...' * (len(names) > 3)}: {error}") from None

    def _measure(self, network: np.ndarray, values: np.ndarray, numbers: range) -> Scores:
        predicted = torch.from_numpy(network)
        return evaluate(
            lambda _: predicted,
            _Truth(frames=torch.from_numpy(values)),
            observed=self.observed,
            horizon=self.config.horizon,
            batch_size=len(values),
            indices=numbers,
        )

    def _draw(self, number: int, values: np.ndarray, predicted: np.ndarray) -> None:
        from zoocast.report.figures.pictures import moving_comparison, strip_comparison

        folder, name = self.partial / "strips", self.sheet.names[number]
        folder.mkdir(exist_ok=True)
        observed, truth = np.clip(values[: self.observed], 0, 1), np.clip(values[self.observed :], 0, 1)
        arms = {"prediction": np.clip(predicted, 0, 1)}
        known = truth if len(truth) else None
        write_atomically(folder / f"{name}.png", strip_comparison(observed, known, arms), durable=False)
        write_atomically(folder / f"{name}.moving.png", moving_comparison(observed, known, arms), durable=False)

    def _write_clips(self) -> None:
        with (self.partial / "clips.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["clip", "name", "recording", "first_observed", "first_predicted", "time", "has_truth"])
            for number, clip in enumerate(self.clips):
                recording, first = self.recordings[clip.recording], clip.start + self.observed
                time = str(recording.times[first]) if first < len(recording.times) else ""
                row = (
                    number,
                    self.sheet.names[number],
                    recording.name,
                    clip.start + 1,
                    first + 1,
                    time,
                    int(self._has_truth(clip)),
                )
                table.writerow(row)

    def _write_metrics(self, scores: Scores, errors: _Errors) -> None:
        units = self.model.units.unit or ("bytes" if self.sheet.dtype == np.uint8 else "")
        data: dict[str, Any] = {
            "model": self.model.name,
            "clips": sum(map(self._has_truth, self.clips)),
            "observed": self.observed,
            "horizon": self.config.horizon,
            "in_units": {"unit": units, "mae": errors.mae, "rmse": errors.rmse},
        }
        if scores.count:
            data["metrics"] = scores.means()
            data["per_frame"] = {name: list(scores.per_frame(name)) for name in scores.names}
        write_atomically(self.partial / "metrics.json", json.dumps(data, indent=1), durable=False)


@dataclasses.dataclass
class _Errors:
    """Sums of errors in the user's units."""

    count: int = 0
    absolute: float = 0.0
    squared: float = 0.0

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        difference = predicted.astype(np.float64) - truth
        self.count += difference.size
        self.absolute += float(np.abs(difference).sum())
        self.squared += float(np.square(difference).sum())

    @property
    def mae(self) -> float:
        return self.absolute / self.count

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squared / self.count))
