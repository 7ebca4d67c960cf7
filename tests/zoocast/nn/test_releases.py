import os
import shutil
from pathlib import Path

import pytest
import torch

from zoocast.errors import ConfigError, DataError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvLSTM
from zoocast.nn.predictor import PredictorConfig
from zoocast.nn.releases import import_release
from zoocast.nn.sampling import free_run
from zoocast.nn.tmu import TmuConfig

GOLDENS = Path(__file__).parents[2] / "goldens"
FRAMES = FrameShape(channels=1, height=16, width=16)
COMMON = {"hidden_channels": (8, 8), "patch_size": 2}


def weights(name="convlstm"):
    return torch.load(GOLDENS / f"{name}.ckpt", weights_only=True)["net_param"]


def saved(path, data):
    torch.save(data, path)
    return path


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("convlstm", PredictorConfig(**COMMON)),
        ("tmu_target", PredictorConfig(**COMMON, tmu=TmuConfig.release(), num_sources=2)),
        ("predrnn", PredictorConfig(cell=STLSTM(), **COMMON)),
        ("predrnn_layernorm", PredictorConfig(cell=STLSTM(layer_norm=True), **COMMON)),
        ("predrnn_v2", PredictorConfig(cell=STLSTM(decouple=True), **COMMON)),
        ("seemore_stage1", PredictorConfig(cell=STLSTM(decouple=True), **COMMON)),
        (
            "seemore_stage2",
            PredictorConfig(cell=STLSTM(kernel_size=3, decouple=True), hidden_channels=(6,) * 4, patch_size=2),
        ),
    ],
)
def test_each_released_network_is_recognised_from_its_weights(name, config):
    predictor = import_release(GOLDENS / f"{name}.ckpt", frames=FRAMES)
    assert (predictor.config, predictor.frames, predictor.training) == (config, FRAMES, False)


def test_either_direction_of_seemore_is_read():
    path = GOLDENS / "seemore_stage1.ckpt"
    forward, reverse = (import_release(path, frames=FRAMES, direction=direction) for direction in ("forward", "reverse"))
    held = weights("seemore_stage1")
    assert torch.equal(forward.head.weight, held["rnn.conv_last.weight"])
    assert torch.equal(reverse.head.weight, held["rnn_rev.conv_last.weight"])
    assert torch.equal(reverse.cells[1].conv_o.weight, held["rnn_rev.cell_list.1.conv_o.0.weight"])
    assert forward.config == reverse.config


def test_other_releases_have_one_direction(tmp_path):
    with pytest.raises(ConfigError, match=r"direction: .*predrnn_v2.ckpt has no reverse network"):
        import_release(GOLDENS / "predrnn_v2.ckpt", frames=FRAMES, direction="reverse")
    forward_alone = {k: v for k, v in weights("seemore_stage1").items() if k.startswith("rnn.")}
    path = saved(tmp_path / "half.ckpt", forward_alone)
    assert torch.equal(import_release(path, frames=FRAMES).head.weight, forward_alone["rnn.conv_last.weight"])
    with pytest.raises(DataError, match="is not a checkpoint of"):
        import_release(path, frames=FRAMES, direction="reverse")


@pytest.mark.parametrize("name", ["predrnn_layernorm", "tmu_target"])
def test_layer_norms_tell_the_frame_size(name):
    # 4 channels per patch of 2x2 pixels: 1 image channel; maps of 8x8: frames of 16x16.
    assert import_release(GOLDENS / f"{name}.ckpt", patch_size=2).frames == FRAMES
    # The same weights read as patches of one pixel of 4 channels.
    assert import_release(GOLDENS / f"{name}.ckpt", patch_size=1).frames == FrameShape(channels=4, height=8, width=8)


def test_a_bare_state_dict_is_read(tmp_path):
    predictor = import_release(saved(tmp_path / "bare.ckpt", weights()), frames=FRAMES)
    assert torch.equal(predictor.head.weight, weights()["conv_last.weight"])


def test_any_number_of_distillers_and_normalised_convlstm_layers_are_read(tmp_path):
    # What a lab makes of the release: a third source, and the LayerNorm switched back on in the upper layer.
    data = weights("tmu_target")
    for kind in ("weight", "bias"):
        data[f"cell_list.0.conv.0.{kind}"] = torch.cat(
            [data[f"cell_list.0.conv.0.{kind}"], torch.zeros_like(data[f"cell_list.0.conv.0.{kind}"][:8])]
        )
        data[f"cell_list.0.conv.1.{kind}"] = torch.cat([data[f"cell_list.0.conv.1.{kind}"], torch.zeros(8, 8, 8)])
        data[f"cell_list.0.distiller3.1.{kind}"] = data[f"cell_list.0.distiller2.1.{kind}"]
        data[f"cell_list.1.conv.1.{kind}"] = torch.ones(32, 8, 8)
    data["cell_list.0.distiller3.0.weight"] = data["cell_list.0.distiller2.0.weight"]
    predictor = import_release(saved(tmp_path / "three.ckpt", {"net_param": data}), patch_size=2)
    assert predictor.config == PredictorConfig(cell=ConvLSTM(layer_norm=True), **COMMON, tmu=TmuConfig.release(), num_sources=3)
    out = predictor(torch.rand(1, 4, 1, 16, 16), free_run(1, 2, 4), aux=("distilled",))
    distilled = out.aux[0, "distilled"]
    assert torch.equal(distilled[:, :, 1], distilled[:, :, 2])
    assert not torch.equal(distilled[:, :, 0], distilled[:, :, 1])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("convlstm", {"patch_size": 2}, "frames: this network has no LayerNorm that tells its frame size"),
        ("convlstm", {}, "frames: this network has no LayerNorm"),
        ("predrnn_layernorm", {}, "patch_size: patches of 4 channels may be cut in several ways"),
        (
            "predrnn_layernorm",
            {"patch_size": 3},
            "patch_size: the weights belong to patches of 4 channels on maps of 8x8, .* 3x3 pixels",
        ),
        (
            "predrnn_layernorm",
            {"frames": FrameShape(channels=1, height=32, width=32)},
            "frames: the weights belong to patches of 4 channels on maps of 8x8, but frames 1x32x32 .* 16x16",
        ),
        ("convlstm", {"frames": FrameShape(channels=3, height=16, width=16)}, "frames: .* 4 channels, but frames 3x16x16"),
        ("convlstm", {"frames": FRAMES, "patch_size": 4}, "frames: .* 4x4 pixels have 16 channels"),
        ("convlstm", {"frames": FRAMES, "patch_size": 0}, "patch_size: must be 1 or more, but got 0"),
        ("convlstm", {"frames": FrameShape(channels=1, height=15, width=16)}, "frames: .* 1x15x16 cannot be cut .* 2x2 pixels"),
        ("predrnn_layernorm", {"patch_size": 0}, "patch_size: must be 1 or more, but got 0"),
        ("convlstm", {"frames": FrameShape(channels=8, height=16, width=16)}, "frames: .* 4 channels, but frames 8x16x16"),
    ],
)
def test_a_missing_or_contradictory_geometry_is_refused(name, given, message):
    with pytest.raises(ConfigError, match=message):
        import_release(GOLDENS / f"{name}.ckpt", **given)


class Hostile:
    """Would make a folder if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path):
    path = saved(tmp_path / "hostile.ckpt", {"net_param": weights(), "extra": Hostile(tmp_path / "owned")})
    with pytest.raises(DataError) as refused:
        import_release(path, frames=FRAMES)
    assert str(refused.value) == (
        f"{path} was refused: it asks for {os.mkdir.__module__}.mkdir, but nothing except tensors is read;"
        ' save it again as torch.save({"net_param": network.state_dict()}, path)'
    )
    assert not (tmp_path / "owned").exists()


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.ckpt cannot be read: No such file"):
        import_release(tmp_path / "nowhere.ckpt")
    whole = (GOLDENS / "convlstm.ckpt").read_bytes()
    for name, data in [("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"hello"), ("noise", bytes(range(256)) * 40)]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"{name} (cannot be read|was refused)"):
            import_release(tmp_path / name, frames=FRAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update({"cell_list.0.attention.weight": torch.zeros(3)}), "it also holds cell_list.0.attention.weight"),
        (lambda w: w.pop("conv_last.weight"), "there is no head.weight; it holds cell_list.0.conv.0.bias"),
        (lambda w: w.pop("cell_list.1.conv.0.bias"), "cells.1.conv.bias is missing, needed 32"),
        (lambda w: w.pop("cell_list.0.conv.0.weight"), "there is no cell_list.0.conv.0.weight"),
        (lambda w: w.clear(), "holds no weights by name; .* it holds net_param"),
        (
            lambda w: w.update({"cell_list.1.conv.0.weight": torch.zeros(32, 9, 3, 3)}),
            "cells.1.conv.weight is 32x9x3x3, needed 32x16x3x3",
        ),
        (lambda w: w["conv_last.weight"].fill_(float("nan")), "conv_last.weight holds values that are not finite"),
        (lambda w: w.update({"cell_list.0.conv.0.weight": torch.zeros(())}), "is not a checkpoint of"),
        (
            lambda w: w.update({f"cell_list.{i}.conv.0.weight": torch.zeros(32, c, 2, 2) for i, c in ((0, 12), (1, 16))}),
            "kernel_size: must be odd",
        ),
        (
            lambda w: w.update({"cell_list.1000000000.conv.0.weight": torch.zeros(32, 16, 3, 3)}),
            "there is no cell_list.2.conv.0.weight",
        ),
        (
            # No number at all, and a shape that would make a network of 10^9 channels.
            lambda w: w.update({"cell_list.0.conv.0.weight": torch.zeros(4 * 10**9, 0, 3, 3)}),
            "hidden_channels: must be at least 1 and at most 65536",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, message, tmp_path):
    data = weights()
    change(data)
    with pytest.raises(DataError, match=message):
        import_release(saved(tmp_path / "other.ckpt", {"net_param": data}), frames=FRAMES)


def test_a_list_is_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match=r'holds no weights by name; expected \{"net_param": state_dict\}'):
        import_release(saved(tmp_path / "list.ckpt", [torch.zeros(2)]), frames=FRAMES)


def test_a_damaged_archive_is_refused(tmp_path):
    path = shutil.copy(GOLDENS / "convlstm.ckpt", tmp_path / "damaged.ckpt")
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged.ckpt (cannot be read|was refused)"):
        import_release(path, frames=FRAMES)
