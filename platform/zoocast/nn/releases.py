"""Reads checkpoints of the papers' released code into our networks, so that a lab's existing models join the zoo.

Known: ConvLSTM and TMU of transferable-memory, PredRNN and PredRNN-V2 of predrnn-pytorch, and either direction of SeeMore, in
whatever a trainer has wrapped them (see `foreign`). What the network is follows from the names and shapes of its weights.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvLSTM
from zoocast.nn.foreign import KNOWN, Weights, read_weights
from zoocast.nn.predictor import Predictor, PredictorConfig, blueprint
from zoocast.nn.tmu import TmuConfig

__all__ = ["import_release"]
DIRECTIONS = {"forward": "rnn.", "reverse": "rnn_rev."}


def import_release(
    path: Path,
    *,
    frames: FrameShape | None = None,
    patch_size: int | None = None,
    direction: Literal["forward", "reverse"] = "forward",
) -> Predictor:
    """The released network in `path` as a `Predictor` in evaluation mode.

    Args:
        path: a checkpoint of transferable-memory, predrnn-pytorch or SeeMore, or of another trainer of these networks.
        frames: the shape of the frames that it was trained on; may be left out if it has a LayerNorm and `patch_size` is given.
        patch_size: in pixels; may be left out if `frames` is given.
        direction: which of SeeMore's two networks; all others have the forward one alone.

    Raises:
        DataError: the file cannot be read (see `read_weights`), or is none of the known networks.
        ConfigError: `frames` or `patch_size` is needed, or contradicts the weights; or there is no such direction.
    """
    weights = _one_direction(read_weights(path), direction, path)
    try:
        config = _recognise(weights)
        translated, unknown = _translate(weights)
        channels = translated["head.weight"].shape[0]
    except (ConfigError, KeyError, IndexError, RuntimeError) as error:
        raise DataError(f"{path} is not a checkpoint of {KNOWN}: {_reason(error)}; it holds {_names(weights)}") from None
    if unknown:
        raise DataError(f"{path} is not a checkpoint of {KNOWN}: it also holds {_names(unknown)}")
    frames, patch_size = _geometry(channels, _map_size(weights), frames, patch_size)
    config = dataclasses.replace(config, patch_size=patch_size)
    _check_shapes(config, frames, translated, path)
    predictor = Predictor(config, frames)
    predictor.load_state_dict(translated)
    return predictor.eval()


def _names(weights: Weights, limit: int = 8) -> str:
    names = sorted(weights)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def _reason(error: Exception) -> str:
    return f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error)


# ---------------------------------------------------------------------------------------------------------------- the network


def _one_direction(weights: Weights, direction: Literal["forward", "reverse"], path: Path) -> Weights:
    """SeeMore's network of this direction by the names of PredRNN-V2's; other weights as they are."""
    if not any(name.startswith("rnn.") for name in weights):
        if direction == "reverse":
            raise ConfigError("direction", f"{path} has no reverse network, as SeeMore's checkpoints have; use forward")
        return weights
    # With its dot "rnn." is no beginning of "rnn_rev.", so the two do not catch each other's names.
    wanted, other = DIRECTIONS[direction], DIRECTIONS["forward" if direction == "reverse" else "reverse"]
    return {name.removeprefix(wanted): value for name, value in weights.items() if not name.startswith(other)}


def _num_layers(weights: Weights) -> int:
    found = {m[1] for name in weights if (m := re.match(r"cell_list\.(\d+)\.", name))}
    # 1 where there is no cell at all: `_recognise` then says which name is missing, as for any other file of something else. It
    # also does where a number is left out: how many there are counts, for the largest could be any.
    return max(len(found), 1)


def _num_distillers(weights: Weights, layer: int) -> int:
    return sum(bool(re.fullmatch(rf"cell_list\.{layer}\.distiller\d+\.0\.weight", name)) for name in weights)


def _recognise(weights: Weights) -> PredictorConfig:
    """The configuration but for the patch size, from names and shapes. KeyError names what is not there."""
    layers = range(_num_layers(weights))
    # Only ST-LSTM has a convolution for X alone; ConvLSTM and TMU have one over [X_t ; H_{t-1}]. In each nn.Sequential of the
    # releases 0 is the convolution and 1, where there is one, its LayerNorm.
    if "cell_list.0.conv_x.0.weight" in weights:
        return PredictorConfig(
            cell=STLSTM(
                kernel_size=weights["cell_list.0.conv_x.0.weight"].shape[-1],
                layer_norm="cell_list.0.conv_x.1.weight" in weights,
                decouple="adapter.weight" in weights,
            ),
            hidden_channels=tuple(weights[f"cell_list.{i}.conv_h.0.weight"].shape[1] for i in layers),
        )
    sources = [_num_distillers(weights, i) for i in layers]
    gates = [weights[f"cell_list.{i}.conv.0.weight"] for i in layers]
    return PredictorConfig(
        cell=ConvLSTM(
            kernel_size=gates[0].shape[-1],
            # In a layer with units this LayerNorm is over their gates as well: TmuConfig's gate_norm.
            layer_norm=any(f"cell_list.{i}.conv.1.weight" in weights for i in layers if not sources[i]),
        ),
        # One convolution makes i, f, o, g and a transfer gate for each source.
        hidden_channels=tuple(gate.shape[0] // (4 + many) for gate, many in zip(gates, sources, strict=True)),
        # The release has units in the bottom layer only.
        tmu=TmuConfig.release() if sources[0] else None,
        num_sources=sources[0],
    )


def _translate(weights: Weights) -> tuple[Weights, Weights]:
    """The weights by our names, and those whose names mean nothing to us."""
    rest, out = dict(weights), {}
    for layer in range(_num_layers(weights)):
        many = _num_distillers(weights, layer)
        if many:
            out.update(_take_tmu(rest, f"cell_list.{layer}.", f"cells.{layer}.", many))
    for name in list(rest):
        ours = _our_name(name)
        if ours is not None:
            out[ours] = rest.pop(name)
    return out, rest


def _our_name(name: str) -> str | None:
    """cell_list.0.conv_x.0.weight -> cells.0.conv_x.weight; cell_list.0.conv_x.1.weight -> cells.0.norm_x.weight."""
    if name == "adapter.weight":
        return name
    if name == "conv_last.weight":
        return "head.weight"
    if match := re.fullmatch(r"cell_list\.(\d+)\.conv_last\.weight", name):
        return f"cells.{match[1]}.conv_last.weight"
    if match := re.fullmatch(r"cell_list\.(\d+)\.conv(|_x|_h|_m|_o)\.([01])\.(weight|bias)", name):
        layer, which, position, kind = match.groups()
        return f"cells.{layer}.{'norm' if position == '1' else 'conv'}{which}.{kind}"
    return None


def _take_tmu(rest: Weights, theirs: str, ours: str, many: int) -> Weights:
    """Takes a TMU cell's weights out of `rest`: one convolution for all gates there, numbered distillers."""
    out: Weights = {}
    numbers = range(1, many + 1)
    n = rest[f"{theirs}distiller1.0.weight"].shape[0]
    for kind in ("weight", "bias"):
        # The transfer gates' channels lie behind i, f, o, g. We keep them apart, so that the base is a plain network's cell.
        own, transfer = torch.split(rest.pop(f"{theirs}conv.0.{kind}"), [4 * n, many * n])
        out[f"{ours}base.conv.{kind}"], out[f"{ours}gate.{kind}"] = own, transfer
        out[f"{ours}norm_gates.{kind}"] = rest.pop(f"{theirs}conv.1.{kind}")
        out[f"{ours}norm_distilled.{kind}"] = torch.stack([rest.pop(f"{theirs}distiller{m}.1.{kind}") for m in numbers])
    out[f"{ours}distillers.weight"] = torch.cat([rest.pop(f"{theirs}distiller{m}.0.weight") for m in numbers])
    return out


def _map_size(weights: Weights) -> tuple[int, int] | None:
    """(height, width) of the maps, from a LayerNorm if there is one: its weights are the only ones with three dimensions."""
    return next(((value.shape[1], value.shape[2]) for value in weights.values() if value.dim() == 3), None)


def _geometry(
    channels: int, size: tuple[int, int] | None, frames: FrameShape | None, patch_size: int | None
) -> tuple[FrameShape, int]:
    """The frame shape and patch size that agree with `channels` per patch and with maps of `size`, if that is known."""
    if patch_size is not None and patch_size < 1:
        raise ConfigError("patch_size", f"must be 1 or more, but got {patch_size}")
    if frames is None:
        if size is None:
            raise ConfigError("frames", "this network has no LayerNorm that tells its frame size; say the shape of its frames")
        if patch_size is None:
            raise ConfigError("patch_size", f"patches of {channels} channels may be cut in several ways; say the patch size")
        given, patch = "patch_size", patch_size
        # A guess where the division does not come out even; the comparison below then refuses it in words. So for isqrt.
        shape = FrameShape(channels=max(1, channels // patch**2), height=size[0] * patch, width=size[1] * patch)
    else:
        given, shape = "frames", frames
        patch = patch_size or max(1, math.isqrt(channels // shape.channels))
    wanted = f"the weights belong to patches of {channels} channels" + (f" on maps of {size[0]}x{size[1]}" if size else "")
    if shape.height % patch or shape.width % patch:
        raise ConfigError(given, f"{wanted}, but frames {shape} cannot be cut into patches of {patch}x{patch} pixels")
    patches = shape.patched(patch)
    if patches.channels != channels or (size is not None and size != (patches.height, patches.width)):
        raise ConfigError(
            given,
            f"{wanted}, but frames {shape} in patches of {patch}x{patch} pixels have {patches.channels} channels on maps of"
            f" {patches.height}x{patches.width}",
        )
    return shape, patch


def _check_shapes(config: PredictorConfig, frames: FrameShape, weights: Weights, path: Path) -> None:
    """Raise `DataError` unless these are the weights of that network, which takes no memory until then."""
    expected = blueprint(config, frames).state_dict()
    wrong = [
        f"{name} is {_shape(weights.get(name))}, needed {_shape(expected.get(name))}"
        for name in sorted(expected.keys() | weights.keys())
        if _shape(weights.get(name)) != _shape(expected.get(name))
    ]
    if wrong:
        raise DataError(f"{path} is not a checkpoint of {KNOWN}: {'; '.join(wrong[:8])}")


def _shape(value: Tensor | None) -> str:
    return "missing" if value is None else "x".join(map(str, value.shape))
