"""Weights by name from a checkpoint that somebody else's trainer wrote. Nothing in the file is executed.

Trainers wrap the weights of a network: in a dict, beside epoch and optimizer, and in names that begin with what DataParallel,
torch.compile or Lightning put around it. All that is looked through here. What is no tensor is never made: numbers of numpy and
settings of a trainer become objects that do nothing, and any other class is refused by its name.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoocast.errors import DataError
from zoocast.store.files import human_bytes

__all__ = ["KNOWN", "Weights", "read_weights"]

Weights = dict[str, Tensor]

KNOWN = "ConvLSTM or TMU of transferable-memory, PredRNN or PredRNN-V2 of predrnn-pytorch, SeeMore"

# Under what names trainers keep weights, the likelier first: where there are averaged ones as well, the trained ones count.
HOLDERS = (
    *("net_param", "state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "generator"),
    *("weights", "params", "parameters", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema"),
)
# What a module that holds another one puts before, or into, the names of its weights.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# The weights that all networks that we know have, and with them the place where a wrapper's own name ends.
OWN_NAME = re.compile(r"(?:^|(?<=\.))(?:rnn(?:_rev)?\.)?cell_list\.\d")
MAX_DEPTH = 8

# What lies beside weights in the files of common trainers: numbers of numpy, namespaces, paths, and configurations.
BESIDE = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *("numpy.dtype", "numpy.ndarray", "argparse.Namespace", "types.SimpleNamespace", "typing.Any", "datetime.datetime"),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata")),
    *(f"omegaconf.{name}" for name in ("base.Metadata", "base.Container", "base.Node")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Bytes", "Path", "Enum")),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"),
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
)

FAMILIES = {
    "a PredRNN++": r"gradient_highway\.|\.conv_c2m\.",
    "a MIM": r"(^|\.)stlstm_layer_diff\.",
    "a PhyDNet": r"(^|\.)phycell\.",
    "an E3D-LSTM": r"\.conv_new_gm\.",
    "a MAU": r"\.conv_t_next\.",
    "a SimVP or one of its kin": r"(^|\.)hid\.enc\.",
}
"""Networks that people try to import although they are none that we know, by a name that only they have."""


class _Inert:
    """Stands for an object beside the weights: takes what the file gives it, and does nothing."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


def read_weights(path: Path) -> Weights:
    """The weights of the network in `path`, by the names that they have in the network itself.

    Args:
        path: a file of torch.save in any of its formats, or of safetensors.

    Raises:
        DataError: it cannot be read, asks for a class, holds no weights, those of several networks or of a family that is not
            known, or weights that are no finite numbers or more than the file holds.
    """
    weights = _unwrapped(_find(_load(path), path), path)
    if (family := _family(weights)) is not None:
        raise DataError(f"{path} holds {family}, which cannot be imported; give a checkpoint of {KNOWN}, or pretrain a source")
    weights = _own_names(weights, path)
    for name, value in weights.items():
        if why := _fault(value):
            raise DataError(f"{path}: {name} {why}")
    return weights


def _load(path: Path) -> Any:
    try:
        _check_archive(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in BESIDE]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        whole = "; is it whole?" if path.is_file() else ""
        raise DataError(f"{path} cannot be read: {error.strerror or error}{whole}") from None
    except pickle.UnpicklingError as error:
        # Torch writes a page of advice; what people need is the class or function that the file asks for.
        found = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {found[1]}, but nothing except tensors is read" if found else "it is no checkpoint that torch wrote"
        raise DataError(
            f'{path} was refused: {why}; save it again as torch.save({{"net_param": network.state_dict()}}, path)'
        ) from None
    except DataError:
        raise
    except Exception as error:  # a damaged archive or pickle can fail in any way
        raise DataError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error!s:.300}); is it whole?") from None


def _check_archive(path: Path) -> None:
    """Raise `DataError` for a zip archive that would unpack to more than its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:  # torch stores its tensors as they are
        raise DataError(
            f"{path} has {human_bytes(path.stat().st_size)}, but unpacks to {human_bytes(claimed)}, as no checkpoint of torch"
            " does; save it again with torch.save"
        )


def _find(data: Any, path: Path) -> Weights:
    """The first dict of tensors in what was loaded, those under the names of `HOLDERS` first."""
    found = _tensors(data, set())
    if found:
        return found
    held = f"; it holds {', '.join(map(str, list(data)[:8])) or 'nothing'}" if isinstance(data, Mapping) else ""
    raise DataError(f'{path} holds no weights by name; expected {{"net_param": state_dict}} or a state_dict{held}')


def _tensors(data: Any, seen: set[int], depth: int = 0) -> Weights:
    if not isinstance(data, Mapping) or id(data) in seen or depth > MAX_DEPTH:
        return {}
    seen.add(id(data))  # one dict may be referred to a million times
    own = {key: value for key, value in data.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if own and len(own) == len(data):
        return own
    for key in HOLDERS:
        if found := _tensors(data.get(key), seen, depth + 1):
            return found
    others = [key for key in data if isinstance(key, str) and not re.search("optim|sched|^state$", key)]
    inside = [found for key in others if (found := _tensors(data[key], seen, depth + 1))]
    return inside[0] if len(inside) == 1 else own


def _unwrapped(weights: Weights, path: Path) -> Weights:
    out: Weights = {}
    for name, value in weights.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain in out:
            raise DataError(f"{path} holds {plain} twice, once as {name}; save one network's state_dict")
        out[plain] = value
    return out


def _family(weights: Weights) -> str | None:
    """What the network is by its names, if it is none that we know."""
    for family, pattern in FAMILIES.items():
        if any(re.search(pattern, name) for name in weights):
            return family
    # ST-LSTM has a convolution of its memory M beside these two, and the ConvLSTM that we know one for both.
    convolutions = {m[1] for name in weights if (m := re.search(r"cell_list\.\d+\.conv(_[xhm])\.", name))}
    return "a ConvLSTM as OpenSTL's, with a convolution of its own for the memory" if convolutions == {"_x", "_h"} else None


def _own_names(weights: Weights, path: Path) -> Weights:
    """The network's weights without what stands before its own names, such as Lightning's ``model.``, and nobody else's."""
    prefixes = {name[: match.start()] for name in weights if (match := OWN_NAME.search(name))}
    chosen = sorted(prefixes) if len(prefixes) < 2 else sorted(p for p in prefixes if "ema" not in p.lower())
    if len(chosen) > 1:
        raise DataError(
            f"{path} holds several networks, {', '.join(p or 'one without a name' for p in chosen)}; save one of them"
        )
    prefix = chosen[0] if chosen else ""
    others = tuple(prefixes - {prefix, ""})
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix) and not name.startswith(others)
    }


def _fault(value: Tensor) -> str | None:
    """Why `value` cannot be a weight, in words; None if it can."""
    if value.layout is not torch.strided or value.is_nested:
        return f"is stored as {value.layout}, but weights are plain tensors; save it with .to_dense()"
    if value.is_meta:
        return "has a shape and no numbers (it is on the device meta); save it from a network that was loaded"
    if value.is_quantized or not value.is_floating_point():
        return f"holds {value.dtype}, but weights are real numbers"
    wanted, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if wanted > held:
        return f"asks for {human_bytes(wanted)} of which the file holds {human_bytes(held)}; save it with .contiguous()"
    if not bool(torch.isfinite(value.float()).all()):
        return "holds values that are not finite; training had diverged, use an earlier checkpoint"
    return None
