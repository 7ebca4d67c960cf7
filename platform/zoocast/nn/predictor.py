"""A predictor: clips in, the next frame of every step out. Patches, the stack of cells and the head, and nothing about training.

What is peculiar to a kind of cell is asked of its configuration (`zoocast.nn.cells`), so that no cell is named here. Losses are
functions beside it; masks come from `sampling`. At rest a predictor is a safetensors file with a JSON file beside it,
written last, that holds its configuration and the checksums of both: whatever loads is whole and unchanged. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from zoocast.config import check_ranges, dump, load, setting
from zoocast.errors import ConfigError, IntegrityError
from zoocast.frames import FrameShape, patchify, unpatchify
from zoocast.nn.cells import CELLS, Cell, CellChoice, Codec, ConvLSTM, GatedCell, Place, Shape
from zoocast.nn.sampling import free_run
from zoocast.nn.stack import Unrolled, unroll
from zoocast.nn.tmu import TmuConfig, TransferableMemoryUnit
from zoocast.store.files import human_bytes, write_atomically
from zoocast.store.recorded import check_file
from zoocast.store.sealed import read_sealed, write_sealed

__all__ = [
    "DESCRIPTION",
    "WEIGHTS",
    "Description",
    "Prediction",
    "Predictor",
    "PredictorConfig",
    "blueprint",
    "check_predictor",
    "frame_mse",
    "load_predictor",
    "num_parameters",
    "read_description",
    "save_predictor",
    "warm_start",
]

Key = tuple[int, str]

WEIGHTS = "predictor.safetensors"
DESCRIPTION = "predictor.json"
SCHEMA = 2
MAX_LAYERS = 256
MAX_DESCRIPTION_BYTES = 2**20
REMEDY = "restore both files from a copy, or run their step with --force"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """A stack of recurrent cells on frames cut into patches."""

    cell: CellChoice = setting(ConvLSTM(), "kind of every layer's cells, with settings of its own; stlstm is PredRNN's")
    hidden_channels: tuple[int, ...] = setting(
        (32, 32), "channels of each layer's memories, from bottom to top", at_least=1, at_most=2**16
    )
    patch_size: int = setting(4, "pixels; frames are cut into patches of this size, which become channels", at_least=1)
    tmu: TmuConfig | None = setting(None, "Transferable Memory Units; none is the plain network", settable=False)
    num_sources: int = setting(0, "sources that the Transferable Memory Units distil", settable=False, at_least=0, at_most=2**16)

    def __post_init__(self) -> None:
        if not 1 <= len(self.hidden_channels) <= MAX_LAYERS:
            raise ConfigError(
                "hidden_channels",
                f"needs one number for each layer, and has 1 to {MAX_LAYERS} layers, but got {len(self.hidden_channels)}",
            )
        check_ranges(self)


def check_predictor(config: PredictorConfig, frames: FrameShape) -> None:
    """Raises `ConfigError` for whatever would stop `Predictor(config, frames)`, without building it."""
    patches = frames.patched(config.patch_size)
    config.cell.check((patches.channels, patches.height, patches.width), config.hidden_channels)
    if config.tmu is None:
        if config.num_sources:
            raise ConfigError("num_sources", f"a network without tmu distils no sources, but got {config.num_sources}")
        return
    if config.num_sources < 1:
        raise ConfigError("num_sources", f"a network with tmu needs at least 1 source, but got {config.num_sources}")
    if not config.cell.takes_tmu:
        able = " or ".join(cell.kind for cell in CELLS if cell.takes_tmu)
        raise ConfigError("tmu", f"needs a cell with a memory C, but got cell={config.cell.kind}; use {able}")


def num_parameters(config: PredictorConfig, frames: FrameShape) -> int:
    """How many numbers the weights of ``Predictor(config, frames)`` are.

    Raises:
        ConfigError: see `check_predictor`; or more than can be counted in 64 bits.
    """
    try:
        return sum(p.numel() for p in blueprint(config, frames).parameters())
    except RuntimeError:  # torch counts the bytes of a tensor in 63 bits, also of one that has none
        raise ConfigError(
            "hidden_channels", f"this network has more than 2^63 weights on frames {frames}; ask for less"
        ) from None


class Prediction(NamedTuple):
    """frames: (B, steps, C, H, W), where frames[:, t] predicts clips[:, t + 1]; the rest is keyed by (layer, name).

    memories: (B, steps, *shape) for each one asked for, with the shape that `Predictor.memory_shapes` gives.
    aux: what only losses and pictures read: "distilled" and "gates" of a Transferable Memory Unit, (B, steps, M, n, h, w),
        and what else the cells give, for example "delta_c" and "delta_m" of decoupled memories, (B, steps, n, h, w).
    """

    frames: Tensor
    memories: dict[Key, Tensor]
    aux: dict[Key, Tensor]


class Predictor(nn.Module):
    """Predicts each clip's next frames. Initialised as PyTorch does, from its global generator.

    Raises:
        ConfigError: see `check_predictor`.
    """

    def __init__(self, config: PredictorConfig, frames: FrameShape) -> None:
        super().__init__()
        check_predictor(config, frames)
        self.config, self.frames = config, frames
        self.patches = frames.patched(config.patch_size)
        patches: Shape = (self.patches.channels, self.patches.height, self.patches.width)
        channels, *size = config.cell.stack_shape(patches)
        self.map_size = (size[0], size[1])
        # The order of these lines is the order of random numbers, on which every published result hangs.
        inputs = (channels, *config.hidden_channels)
        self.cells = nn.ModuleList(self._cell(layer, inputs[layer]) for layer in range(len(config.hidden_channels)))
        self.head = cast(nn.Module, config.cell.codec(patches, config.hidden_channels))
        self.adapter = config.cell.adapter(config.hidden_channels)

    def _cell(self, layer: int, in_channels: int) -> Cell:
        config = self.config
        n, depth = config.hidden_channels[layer], len(config.hidden_channels)
        tmu = None if config.tmu is None or (layer > 0 and config.tmu.layers == "first") else config.tmu
        normed = tmu is not None and tmu.gate_norm
        # A unit with gate_norm normalises the cell's gates together with its own.
        base = config.cell.build(Place(layer, depth, in_channels, n, self.map_size, gates_are_normed=normed))
        # `check_predictor` has refused families without gates.
        return base if tmu is None else TransferableMemoryUnit(cast(GatedCell, base), tmu, config.num_sources, self.map_size)

    @property
    def layers(self) -> tuple[Cell, ...]:
        """The cells from bottom to top."""
        return tuple(cell for cell in self.cells if isinstance(cell, Cell))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def memory_shapes(self) -> dict[Key, tuple[int, int, int]]:
        """(channels, height, width) of each memory that can be collected, keyed by (layer, name)."""
        shapes = (cell.memory_shapes(*self.map_size) for cell in self.layers)
        return {(layer, name): shape for layer, exposed in enumerate(shapes) for name, shape in exposed.items()}

    def forward(
        self,
        clips: Tensor,
        feed: Tensor,
        collect: Mapping[int, tuple[str, ...]] | None = None,
        aux: Collection[str] | None = None,
    ) -> Prediction:
        """Predicts frame t + 1 at each step t.

        Args:
            clips: (B, T, C, H, W) in [0, 1].
            feed: (B, T - 1) of 0 and 1 from `sampling`: 1 feeds the true frame of this step, 0 the network's own prediction.
            collect: for each layer the memories to return, for example ``{0: ("c",)}``.
            aux: the names in aux to return; None returns all, ``()`` none.

        Raises:
            ConfigError: `collect` names a memory that the network does not have.
            ValueError: clips or feed of another shape.
        """
        if clips.shape[2:] != (self.frames.channels, self.frames.height, self.frames.width) or feed.shape != (
            clips.shape[0],
            clips.shape[1] - 1,
        ):
            raise ValueError(
                f"expected clips (B, T, {self.frames}) and feed (B, T-1), got {(*clips.shape,)} and {(*feed.shape,)}"
            )
        return self._unroll(clips, feed, collect or {}, aux)

    def predict(self, observed: Tensor, horizon: int) -> Tensor:
        """The `horizon` frames that follow: (B, To, C, H, W) to (B, horizon, C, H, W), not clipped, without gradients.

        Observed frames from any device are taken to the network's; the prediction stays there.

        Raises:
            ValueError: frames of another shape or type, or plainly of another scale than [0, 1].
        """
        if observed.ndim != 5 or observed.shape[2] != self.frames.channels or not observed.is_floating_point():
            raise ValueError(
                f"observed frames are (B, T, {self.frames.channels}, H, W), floating point from 0 to 1,"
                f" but got {observed.dtype} {tuple(observed.shape)}"
            )
        # Predictions are not clipped and may be given back as observed frames, so a little beyond is right; NaN is not.
        if not (observed.min() >= -1 and observed.max() <= 2):
            raise ValueError(f"observed frames go from 0 to 1, but got {observed.min():g} to {observed.max():g}; scale them")
        batch, seen = observed.shape[:2]
        observed = observed.to(self.device)
        # Not by `forward`, which wants a clip as long as the prediction. The last observed frame's step makes the first new one.
        with torch.no_grad():
            return self._unroll(observed, free_run(batch, seen, seen + horizon), {}, ()).frames[:, seen - 1 :]

    def _unroll(
        self, clips: Tensor, feed: Tensor, collect: Mapping[int, tuple[str, ...]], aux: Collection[str] | None
    ) -> Prediction:
        # Before the loop runs, in which a wrong name would be a KeyError without a word of what there is.
        known = self.memory_shapes()
        for key in [(layer, name) for layer, names in collect.items() for name in names]:
            if key not in known:
                raise ConfigError("collect", f"there is no memory {key}; available: {', '.join(map(str, known))}")
        p = self.config.patch_size
        run: Unrolled = unroll(self.layers, cast(Codec, self.head), patchify(clips, p), feed, collect=collect, aux=aux)
        return Prediction(unpatchify(run.outputs, p), run.memories, run.aux)

    @property
    def loss_aux(self) -> tuple[str, ...]:
        """The names in aux that `losses` reads."""
        return self.config.cell.loss_aux

    def losses(self, aux: Mapping[Key, Tensor]) -> dict[str, Tensor]:
        """The cells' own terms beside the error of the frames, scalars by name; see `CellConfig.losses`."""
        return self.config.cell.losses(self.layers, self.adapter, aux)


@functools.lru_cache(maxsize=256)
def blueprint(config: PredictorConfig, frames: FrameShape) -> Predictor:
    """The network with the shapes of its weights and no numbers: it takes no memory and draws nothing. Shared by all who ask.

    Raises:
        ConfigError: see `check_predictor`.
    """
    with torch.device("meta"):
        return Predictor(config, frames)


def frame_mse(prediction: Prediction, clips: Tensor) -> Tensor:
    """The mean squared error of all predicted frames, against clips (B, T, C, H, W) from the second frame on."""
    return F.mse_loss(prediction.frames, clips[:, 1:])


def warm_start(target: Predictor, source: Predictor) -> list[str]:
    """Copies the plain network's weights: cells (in a TMU its base), head, and the adapter if both have one. Returns their names.

    What the target has beyond these (distillers, transfer gates) keeps its initial values.

    Raises:
        ConfigError: the two differ in patches or in the name or shape of a weight.
    """
    if target.config.patch_size != source.config.patch_size:
        raise ConfigError(
            "patch_size", f"target and source must agree, but got {target.config.patch_size} and {source.config.patch_size}"
        )
    ours, theirs = _base_parameters(target), _base_parameters(source)
    if target.adapter is None or source.adapter is None:
        # It serves the losses alone, so that a target without them starts as well from a source with them.
        ours, theirs = ({n: p for n, p in weights.items() if not n.startswith("adapter.")} for weights in (ours, theirs))
    differ = [
        f"{name} (target {_shape(ours.get(name))}, source {_shape(theirs.get(name))})"
        for name in sorted(ours.keys() | theirs.keys())
        if _shape(ours.get(name)) != _shape(theirs.get(name))
    ]
    if differ:
        raise ConfigError("", f"cannot start the target from this source, for they differ in {'; '.join(differ)}")
    # Copied, not shared: training the target must leave the source as it is.
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(theirs[name])
    return list(ours)


def _base_parameters(predictor: Predictor) -> dict[str, nn.Parameter]:
    """The weights of the plain network, by the names that they have there."""
    out = {}
    for layer, cell in enumerate(predictor.layers):
        # The name inside a unit, cells.0.base.conv.weight, is the plain network's cells.0.conv.weight.
        base = cell.base if isinstance(cell, TransferableMemoryUnit) else cell
        out.update({f"cells.{layer}.{name}": parameter for name, parameter in base.named_parameters()})
    return out | {name: p for name, p in predictor.named_parameters() if not name.startswith("cells.")}


def _shape(parameter: nn.Parameter | None) -> str:
    return "none" if parameter is None else "x".join(map(str, parameter.shape))


# ------------------------------------------------------------------------------------------------------------ weights at rest


def save_predictor(predictor: Predictor, directory: Path) -> None:
    """Writes `predictor.safetensors` and then `predictor.json` into `directory`; equal predictors give equal bytes."""
    # safetensors takes no tensor whose numbers do not lie one after another.
    tensors = {name: value.detach().cpu().contiguous() for name, value in predictor.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    description = {
        "schema": SCHEMA,
        "config": dump(predictor.config),
        "frames": dump(predictor.frames),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    # The description vouches for the weights by their checksum, so it comes second: after a crash between the two lines the
    # folder holds no predictor, or one whose checksum does not fit, and never one that is silently another.
    write_atomically(directory / WEIGHTS, weights)
    write_sealed(directory / DESCRIPTION, description)


def load_predictor(directory: Path, device: str | torch.device = "cpu") -> Predictor:
    """The predictor that `save_predictor` wrote, in evaluation mode.

    Raises:
        IntegrityError: a file is missing, damaged or was changed, or another version of zoocast wrote it.
    """
    description = read_description(directory)
    path = directory / WEIGHTS
    # Read once: what is compared with the checksum are the very bytes that become weights.
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    if hashlib.sha256(weights).hexdigest() != description.weights_sha256:
        raise _damaged(path, f"its checksum is not the one in {DESCRIPTION}")
    # Its random weights are all replaced, but drawing them moves PyTorch's generator; `bank.frozen` says whom that concerns.
    predictor = Predictor(description.config, description.frames)
    try:
        predictor.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise _damaged(path, f"it does not fit its configuration ({error})") from None
    return predictor.to(device).eval()


class Description(NamedTuple):
    """A predictor at rest without its weights; equal digests mean equal networks with equal weights."""

    config: PredictorConfig
    frames: FrameShape
    weights_sha256: str
    digest: str


def read_description(directory: Path) -> Description:
    """What `save_predictor` wrote beside the weights in `directory`.

    Raises:
        IntegrityError: it is missing, damaged or was changed, another version of zoocast wrote it, or it asks for other weights
            than could be in the file beside it.
    """
    # Models may be links into a team's storage: both files are read once and compared with their checksums in memory.
    path = check_file(directory / DESCRIPTION)
    description = read_sealed(path, _parse, remedy=REMEDY, follow_links=True, max_bytes=MAX_DESCRIPTION_BYTES)
    _check_weights_size(directory, description)
    return description


def _parse(data: dict[str, Any]) -> Description:
    if data["schema"] != SCHEMA:
        raise ValueError(f"it has schema {data['schema']}, this version of zoocast reads {SCHEMA}")
    config, frames = load(PredictorConfig, data["config"]), load(FrameShape, data["frames"])
    return Description(config, frames, str(data["weights_sha256"]), str(data["digest"]))


def _check_weights_size(directory: Path, description: Description) -> None:
    """Raise `IntegrityError` unless the weights, if they are there, are about as many as the configuration asks for.

    Before a network is built or a byte of them is read: a few bytes of configuration can ask for more memory than there is.
    """
    path = directory / WEIGHTS
    try:
        size = path.stat().st_size
    except OSError:
        return  # who reads them will say so
    try:
        count = num_parameters(description.config, description.frames)
    except ConfigError as error:
        raise _damaged(directory / DESCRIPTION, str(error)) from None
    # From one to eight bytes each, and a header with their names.
    if not count <= size <= 8 * count + 2**20:
        raise _damaged(path, f"it has {human_bytes(size)}, but {DESCRIPTION} describes a network of {count} weights")


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path} cannot be used: {why}; {REMEDY}")
