"""Which memories are distilled, and what is refused before any work."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from zoocast.bank.config import BankConfig, MemoryRef, check_bank, layer_map, memory_refs, target_layers
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvGRU, ConvLSTM
from zoocast.nn.cells.base import LinearHead
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.tmu import TmuConfig

FRAMES = FrameShape(channels=1, height=32, width=32)
TARGET = PredictorConfig(hidden_channels=(32, 32))
LSTM = PredictorConfig(hidden_channels=(16, 24))
ALL = BankConfig(layers="all")
FIRST = BankConfig(layers="first")


def ref(config: BankConfig, source: PredictorConfig, trained_on: FrameShape = FRAMES) -> dict[int, MemoryRef]:
    return memory_refs(config, "digits", source, trained_on, FRAMES, len(TARGET.hidden_channels))


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        (1, 4, (0,)),
        (2, 4, (0, 3)),
        (3, 3, (0, 1, 2)),
        (4, 2, (0, 0, 1, 1)),  # 1/3 and 2/3 of the way to layer 1
        (3, 4, (0, 2, 3)),  # 1.5 rounds up
        (4, 3, (0, 1, 1, 2)),  # 2/3 and 4/3
        (4, 1, (0, 0, 0, 0)),
    ],
)
def test_layers_are_mapped_by_proportion_of_depth(target: int, source: int, expected: tuple[int, ...]) -> None:
    assert layer_map(target, source) == expected


def test_auto_takes_c_and_falls_back_to_h() -> None:
    # Frames of 32x32 in patches of 4x4 make maps of 8x8.
    assert ref(ALL, LSTM) == {0: MemoryRef(0, "c", (16, 8, 8)), 1: MemoryRef(1, "c", (24, 8, 8))}
    gru = PredictorConfig(cell=ConvGRU(), hidden_channels=(5, 6, 7), patch_size=2)
    assert ref(ALL, gru) == {0: MemoryRef(0, "h", (5, 16, 16)), 1: MemoryRef(2, "h", (7, 16, 16))}


def test_a_named_memory_and_chosen_source_layers_are_taken() -> None:
    config = BankConfig(layers="all", memory="m", source_layers=(2, 0))
    stlstm = PredictorConfig(cell=STLSTM(), hidden_channels=(4, 4, 4))
    assert ref(config, stlstm) == {0: MemoryRef(2, "m", (4, 8, 8)), 1: MemoryRef(0, "m", (4, 8, 8))}


def test_a_bank_holds_all_layers_by_default() -> None:
    assert list(ref(BankConfig(), LSTM)) == [0, 1]
    assert list(ref(FIRST, LSTM)) == [0]


def test_a_source_for_frames_of_another_size_has_the_maps_of_the_targets_clips() -> None:
    assert ref(FIRST, LSTM, FrameShape(channels=1, height=64, width=48)) == {0: MemoryRef(0, "c", (16, 8, 8))}


def test_a_target_with_transfer_units_can_be_a_source() -> None:
    taught = dataclasses.replace(LSTM, tmu=TmuConfig(), num_sources=2)
    assert ref(FIRST, taught) == {0: MemoryRef(0, "c", (16, 8, 8))}


@pytest.mark.parametrize(
    ("config", "source", "trained_on", "words"),
    [
        (BankConfig(), LSTM, FrameShape(channels=3, height=32, width=32), ["digits", "layer 0", "3 image channels", "1x32x32"]),
        (
            BankConfig(),
            dataclasses.replace(LSTM, patch_size=5),
            FrameShape(channels=1, height=40, width=40),
            ["digits", "layer 0", "5"],
        ),
        (
            BankConfig(),
            dataclasses.replace(LSTM, cell=ConvLSTM(layer_norm=True)),
            FrameShape(channels=1, height=64, width=64),
            ["digits", "layer 0", "LayerNorm", "16x16", "8x8"],
        ),
        (BankConfig(memory="m"), LSTM, FRAMES, ["memory", "digits", "layer 0", "convlstm", "c 16x8x8", "h 16x8x8"]),
        (BankConfig(layers="first", source_layers=(2,)), LSTM, FRAMES, ["source_layers", "digits", "layers 0 to 1", "2"]),
        (BankConfig(layers="first", source_layers=(0, 1)), LSTM, FRAMES, ["source_layers", "[0]", "[0, 1]"]),
    ],
)
def test_a_source_that_cannot_be_distilled_is_refused_by_name(
    config: BankConfig, source: PredictorConfig, trained_on: FrameShape, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        check_bank(config, {"digits": (source, trained_on)}, FRAMES, TARGET)
    for word in words:
        assert word in str(error.value)


class NormedHead(LinearHead):
    """Its outputs pass a LayerNorm over the patches."""

    def __init__(self, in_channels: int, patches: tuple[int, int, int]) -> None:
        super().__init__(in_channels, patches[0])
        self.norm = nn.LayerNorm(patches)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normed(ConvLSTM):
    """A ConvLSTM with a head that is tied to the size of its frames."""

    def codec(self, patches: tuple[int, int, int], hidden_channels: tuple[int, ...]) -> NormedHead:
        return NormedHead(hidden_channels[-1], patches)


def test_a_head_that_is_tied_to_its_frames_is_named_as_the_head() -> None:
    source = dataclasses.replace(LSTM, cell=Normed())
    with pytest.raises(ConfigError, match="source digits, the head has a LayerNorm tied to maps of 16x16, but the target"):
        check_bank(BankConfig(), {"digits": (source, FrameShape(channels=1, height=64, width=64))}, FRAMES, TARGET)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"policy": "shared"}, "policy"),
        ({"splits": ()}, "splits"),
        ({"splits": ("train", "train")}, "splits"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bank_settings_that_cannot_work_are_refused(values: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        BankConfig(**values)  # type: ignore[arg-type]
    assert error.value.field == field


def test_units_in_layers_that_the_bank_does_not_hold_are_refused() -> None:
    both = dataclasses.replace(TARGET, tmu=TmuConfig(layers="all"), num_sources=1)
    first = dataclasses.replace(TARGET, tmu=TmuConfig(layers="first"), num_sources=1)
    assert target_layers(ALL, both) == (0, 1)
    assert target_layers(ALL, first) == (0,)
    assert target_layers(ALL, TARGET) == (0, 1)
    with pytest.raises(ConfigError, match=r"layers \[1\]"):
        target_layers(FIRST, both)
