"""Which memories of which source layers a target distils from: the bank's settings, the layer map, and what cannot be distilled.

A ref is one memory of one layer of a frozen source, as the target's clips shape it. Everything here is known from configurations
alone, so whatever cannot work is refused before a source is loaded or a byte is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

from zoocast.config import check_ranges, setting
from zoocast.data.splits import Split
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, blueprint

__all__ = ["BankConfig", "MemoryRef", "bank_layers", "check_bank", "layer_map", "memory_refs", "target_layers"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankConfig:
    """Which memories of the frozen sources a target may distil from, what the sources are fed, and how the memories are kept."""

    policy: Literal["teacher_forced", "free_run", "shared"] = setting(
        "free_run",
        "what the sources see: true frames only; true frames for the observed part and then their own predictions; or what the"
        " target is fed in each iteration, which needs mode=online (release: shared)",
    )
    mode: Literal["stored", "online"] = setting(
        "stored",
        "stored runs the sources once and reads from disk; online runs them inside every training step (release: online)",
    )
    layers: Literal["first", "all"] = setting("all", "layers of the target that may distil (release: first)")
    source_layers: tuple[int, ...] = setting(
        (), "for each of these layers the layer of every source that it distils from; empty: by proportion of depth"
    )
    memory: str = setting(
        "auto", "which memory of the sources, by its name there (c, m, h, ...); auto is the first of a cell: C, or H without a C"
    )
    dtype: Literal["float16", "bfloat16", "float32"] = setting("float16", "of a stored bank; online memories are float32")
    frames: bool = setting(
        False,
        "also the frames that the sources predict, by which methods weigh them; pipelines add them where a method reads them",
        added=True,
    )
    reversed: bool = setting(False, "also the memories of time-flipped clips; needed when the trainer flips time")
    splits: tuple[Split, ...] = setting(("train",), "of the target's clips; only train is trained on")
    batch_size: int = setting(16, "clips that a source sees at once while a stored bank is built", at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.policy == "shared" and self.mode != "online":
            raise ConfigError(
                "policy",
                "shared feeds the sources the target's own random mask, which changes in every iteration and cannot be stored;"
                " set mode=online, or use teacher_forced or free_run",
            )
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError("splits", f"needs at least one split, each once, but got {self.splits}")


@dataclasses.dataclass(frozen=True, order=True)
class MemoryRef:
    """One memory of a source: its layer there, its name, and its (channels, height, width) on the target's clips."""

    layer: int
    memory: str
    shape: tuple[int, int, int]


def layer_map(target_depth: int, source_depth: int) -> tuple[int, ...]:
    """For each layer of the target the source's layer in proportion of depth: first to first, last to last, halves rounded up."""
    if target_depth == 1:
        return (0,)
    # round(layer * last / steps) in whole numbers, since Python's round takes halves to the even neighbour.
    last, steps = source_depth - 1, target_depth - 1
    return tuple((2 * layer * last + steps) // (2 * steps) for layer in range(target_depth))


def bank_layers(config: BankConfig, target_depth: int) -> tuple[int, ...]:
    """The layers, of a target with `target_depth` of them, for which the bank holds memories."""
    return tuple(range(1 if config.layers == "first" else target_depth))


def target_layers(config: BankConfig, target: PredictorConfig) -> tuple[int, ...]:
    """The target's layers that distil: those with Transferable Memory Units, or all in the bank for a network without any.

    Raises:
        ConfigError: a unit in a layer for which the bank holds nothing.
    """
    held = bank_layers(config, len(target.hidden_channels))
    if target.tmu is None:
        return held
    wanted = (0,) if target.tmu.layers == "first" else tuple(range(len(target.hidden_channels)))
    if missing := sorted(set(wanted) - set(held)):
        raise ConfigError(
            "layers", f"the target has transfer units in layers {missing} for which layers={config.layers} holds nothing; use all"
        )
    return wanted


def memory_refs(
    config: BankConfig, name: str, source: PredictorConfig, trained_on: FrameShape, clips: FrameShape, target_depth: int
) -> dict[int, MemoryRef]:
    """For each layer of the target in the bank, what it distils from the source `name`.

    Of the target only its number of layers matters, so targets that differ in everything else read one bank.

    Args:
        config: of the bank.
        name: of the source, for messages.
        source: its network, which was built for frames of `trained_on`.
        clips: the target's frames, which the source will see.
        target_depth: layers of the network that distils.

    Raises:
        ConfigError: the source cannot see these clips, or lacks the layer or memory; names the source, the layer and the shapes.
    """
    shapes = _on_clips(name, source, trained_on, clips).memory_shapes()
    depth = len(source.hidden_channels)
    layers = bank_layers(config, target_depth)
    # With layers=first the map is still that of the whole target: its bottom layer distils from the source's bottom layer.
    chosen = config.source_layers or layer_map(target_depth, depth)[: len(layers)]
    if len(chosen) != len(layers):
        raise ConfigError(
            "source_layers", f"needs a source layer for each of the target's layers {list(layers)}, but got {list(chosen)}"
        )
    refs = {}
    for target_layer, layer in zip(layers, chosen, strict=True):
        if not 0 <= layer < depth:
            raise ConfigError(
                "source_layers",
                f"source {name} has layers 0 to {depth - 1}, but layer {target_layer} of the target asks for {layer}",
            )
        exposed = {memory: shape for (at, memory), shape in shapes.items() if at == layer}
        # auto is the first that a cell declares, which is its most informative one.
        memory = config.memory if config.memory != "auto" else next(iter(exposed))
        if memory not in exposed:
            known = ", ".join(f"{m} {_shape(s)}" for m, s in exposed.items())
            raise ConfigError(
                "memory",
                f"source {name}, layer {layer} ({source.cell.kind}) has no memory {memory!r}; it has {known}; use memory=auto",
            )
        refs[target_layer] = MemoryRef(layer, memory, exposed[memory])
    return refs


def _on_clips(name: str, source: PredictorConfig, trained_on: FrameShape, clips: FrameShape) -> Predictor:
    """The source as it would see the target's clips, without memory for its weights."""
    if trained_on.channels != clips.channels:
        raise ConfigError(
            "",
            f"source {name}, layer 0 was trained on frames with {trained_on.channels} image channels ({trained_on}), but the"
            f" target's clips have {clips.channels} ({clips}); choose a source trained on {clips.channels}",
        )
    try:
        built, seen = blueprint(source, trained_on), blueprint(source, clips)
    except ConfigError as error:
        raise ConfigError("", f"source {name}, layer 0 cannot see the target's clips ({clips}): {error}") from None
    # Convolutions have the same weights for maps of any size, so a shape that differs is a LayerNorm's: (channels, h, w).
    for (key, ours), theirs in zip(seen.named_parameters(), built.parameters(), strict=True):
        if ours.shape != theirs.shape:
            raise ConfigError(
                "",
                f"source {name}, {_part(key)} has a LayerNorm tied to maps of {_shape(theirs.shape[-2:])}, but the"
                f" target's clips ({clips}) make maps of {_shape(ours.shape[-2:])}; use clips of {trained_on}, or a source"
                " without LayerNorm",
            )
    return seen


def _part(parameter: str) -> str:
    """Of a network, the part with this parameter: ``cells.1.norm.weight`` is in layer 1, ``head.norm.weight`` in the head."""
    part, rest = parameter.split(".", 1)
    return f"layer {rest.split('.')[0]}" if part == "cells" else f"the {part}"


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def check_bank(
    config: BankConfig, sources: Mapping[str, tuple[PredictorConfig, FrameShape]], clips: FrameShape, target: PredictorConfig
) -> None:
    """Raise `ConfigError` for what keeps the target from distilling from these sources, before any of them is trained.

    Args:
        config: of the bank.
        sources: for each name its network and the frames it is trained on.
        clips: the target's frames.
        target: its network, with transfer units.
    """
    target_layers(config, target)
    for name, (source, trained_on) in sources.items():
        memory_refs(config, name, source, trained_on, clips, len(target.hidden_channels))
