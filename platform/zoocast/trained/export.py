"""A trained network as a program of `torch.export`: a file that any PyTorch runs, without zoocast, with the same numbers.

There are two forms. With a fixed number of observed and predicted frames the whole prediction is one program. A program cannot
hold a loop whose length is not known, so for any number of frames one step is exported, and the loop around it, seven lines of
plain PyTorch, is written beside it as ``predict.py``; a fixed program is called by a file of that name as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from zoocast.errors import ConfigError
from zoocast.frames import patchify, unpatchify
from zoocast.nn.cells import Codec, State
from zoocast.nn.predictor import Predictor
from zoocast.nn.stack import begin, rising_of, step
from zoocast.store.files import temporary_name, writing
from zoocast.trained.model import TrainedModel

__all__ = ["ExportConfig", "Step", "Whole", "export_model"]

PROGRAM, SCRIPT, CARD, MARKDOWN = "network.pt2", "predict.py", "model_card.json", "MODEL_CARD.md"

EXAMPLE_BATCH = 2
"""Clips that a program with any batch is traced with; 1 would be taken for a constant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What the program takes.

    Attributes:
        batch: clips at once; None: any number.
        horizon: frames to predict; None: any number, also of observed frames, and a step is exported.
        observed: frames that are seen where the horizon is fixed; None: as many as in training.
    """

    batch: int | None = None
    horizon: int | None = 10
    observed: int | None = None

    def __post_init__(self) -> None:
        for field in ("batch", "horizon", "observed"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(field, f"must be at least 1, but got {value}")


class Slot(NamedTuple):
    """A tensor of the state: of which layer (-1: carried from the top to the bottom), its name, and (channels, height, width)."""

    layer: int
    name: str
    shape: tuple[int, int, int]


class Step(nn.Module):
    """One step of a network: a frame (B, C, H, W) and the state's tensors in, the next frame and the state's tensors out."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        states = begin(predictor.layers, 1, *predictor.map_size, torch.device("cpu"), torch.float32)
        slots = [Slot(layer, name, _shape(value)) for layer, state in enumerate(states) for name, value in state.items()]
        # Before the first step nothing is carried, and the lowest layer finds its own zeros: to begin with zeros is the same.
        carried = {
            name: _shape(state[name])
            for cell, state in reversed([*zip(predictor.layers, states, strict=True)])
            for name in cell.carried
        }
        self.slots = (*slots, *(Slot(-1, name, shape) for name, shape in carried.items()))

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        layers, patch = self.predictor.layers, self.predictor.config.patch_size
        before: dict[int, State] = {layer: {} for layer in range(-1, len(layers))}
        for slot, value in zip(self.slots, state, strict=True):
            before[slot.layer][slot.name] = value
        carried = before.pop(-1)
        zeros = [{name: torch.zeros_like(value) for name, value in each.items()} for each in before.values()]
        codec = cast(Codec, self.predictor.head)
        x, skips = codec.encode(patchify(frame, patch))
        x, states, carried, _ = step(layers, x, list(before.values()), carried, rising_of(layers, zeros))
        after: Mapping[int, State] = {**dict(enumerate(states)), -1: carried}
        return unpatchify(codec.decode(x, skips), patch), *(after[slot.layer][slot.name] for slot in self.slots)

    def zeros(self, frame: Tensor) -> list[Tensor]:
        """The state before the first frame (B, C, H, W)."""
        # Not by `len`, which would make the batch of the example a constant of the program.
        return [frame.new_zeros(frame.shape[0], *slot.shape) for slot in self.slots]


class Whole(nn.Module):
    """Observed frames (B, T, C, H, W) in, the `horizon` frames that follow out, as `Predictor.predict`."""

    def __init__(self, predictor: Predictor, horizon: int) -> None:
        super().__init__()
        self.step, self.horizon = Step(predictor), horizon

    def forward(self, observed: Tensor) -> Tensor:
        """See the class."""
        state, predicted, frame = self.step.zeros(observed[:, 0]), [], observed[:, 0]
        seen = observed.shape[1]
        for time in range(seen + self.horizon - 1):
            frame, *state = self.step(observed[:, time] if time < seen else frame, *state)
            if time >= seen - 1:
                predicted.append(frame)
        return torch.stack(predicted, dim=1)


def export_model(model: TrainedModel, folder: Path, config: ExportConfig) -> dict[str, Any]:
    """Write the program, a script that uses it, and the model card into `folder`, which is made when all is written.

    Returns:
        What the program takes and gives, as it stands in the card.

    Raises:
        ConfigError: the number of observed frames is not known, or `folder` holds something.
        InfrastructureError: the disk is full or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("out", f"{folder} holds something already; remove it, or choose another one")
    observed = config.observed or model.observed
    if config.horizon is not None and observed is None:
        raise ConfigError("observed", f"must be given, for how many frames {model.name} saw in training is not known")
    predictor, frames = model.predictor.cpu(), dataclasses.astuple(model.frames)
    program, state = _program(predictor, config, observed)
    batch = "any" if config.batch is None else config.batch
    takes: dict[str, Any] = {
        "program": PROGRAM,
        "batch": batch,
        "observed": "any" if config.horizon is None else observed,
        "horizon": "any" if config.horizon is None else config.horizon,
        "frames": list(frames),
        "dtype": "float32",
        "range": [0, 1],
        "user_values": model.units.in_words,
        "state": state,
    }
    card = {**model.card.to_json(), "export": takes}
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_name(folder)
        partial.mkdir()
        try:
            torch.export.save(program, partial / PROGRAM)
            (partial / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
            (partial / MARKDOWN).write_text(model.card.markdown(), encoding="utf-8")
            (partial / SCRIPT).write_text(STEPS_SCRIPT if config.horizon is None else WHOLE_SCRIPT, encoding="utf-8")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return takes


def _program(
    predictor: Predictor, config: ExportConfig, observed: int | None
) -> tuple[torch.export.ExportedProgram, list[list[int]]]:
    """The program, and the shapes of its state, which a whole prediction has none of."""
    shape, count = dataclasses.astuple(predictor.frames), config.batch or EXAMPLE_BATCH
    batch = {0: torch.export.Dim("batch")} if config.batch is None else {}
    module: nn.Module
    inputs: tuple[Tensor, ...]
    if config.horizon is None:
        module, frame = Step(predictor), torch.zeros(count, *shape)
        inputs, state = (frame, *module.zeros(frame)), [list(slot.shape) for slot in module.slots]
        dims: Any = (batch, tuple(batch for _ in module.slots))
    else:
        module, state = Whole(predictor, config.horizon), []
        inputs, dims = (torch.zeros(count, cast(int, observed), *shape),), (batch,)
    # Without gradients the program holds no detach of every weight, and is what predicts.
    with torch.no_grad(), _quiet():
        return torch.export.export(module.eval(), inputs, dynamic_shapes=dims), state


@contextlib.contextmanager
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _shape(value: Tensor) -> tuple[int, int, int]:
    channels, height, width = value.shape[1:]
    return channels, height, width


HEAD = '''"""Predicts the frames that follow, with PyTorch alone: python predict.py OBSERVED.npy PREDICTED.npy

OBSERVED is float32 (batch, time, channels, height, width) from 0 to 1; see MODEL_CARD.md and model_card.json.
"""

import json
import pathlib
import sys

import torch

FOLDER = pathlib.Path(__file__).parent
NETWORK = torch.export.load(FOLDER / "network.pt2").module()
'''

WHOLE_SCRIPT = (
    HEAD
    + """

def predict(observed):
    with torch.no_grad():
        return NETWORK(observed)


if __name__ == "__main__":
    import numpy

    numpy.save(sys.argv[2], predict(torch.from_numpy(numpy.load(sys.argv[1]))).numpy())
"""
).replace("import json\n", "")

STEPS_SCRIPT = (
    HEAD
    + """STATE = json.loads((FOLDER / "model_card.json").read_text(encoding="utf-8"))["export"]["state"]


def predict(observed, horizon):
    state = [observed.new_zeros(len(observed), *shape) for shape in STATE]
    predicted = []
    with torch.no_grad():
        for time in range(observed.shape[1] + horizon - 1):
            frame = observed[:, time] if time < observed.shape[1] else predicted[-1]
            frame, *state = NETWORK(frame, *state)
            predicted.append(frame)
    return torch.stack(predicted[observed.shape[1] - 1 :], dim=1)


if __name__ == "__main__":
    import numpy

    numpy.save(sys.argv[2], predict(torch.from_numpy(numpy.load(sys.argv[1])), int(sys.argv[3])).numpy())
"""
).replace("PREDICTED.npy\n", "PREDICTED.npy HORIZON\n")
