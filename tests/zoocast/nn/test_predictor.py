import dataclasses
import json

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from zoocast.config import override
from zoocast.errors import ConfigError, IntegrityError
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvGRU, ConvLSTM
from zoocast.nn.cells.convlstm import ConvLSTMCell
from zoocast.nn.predictor import (
    DESCRIPTION,
    WEIGHTS,
    Predictor,
    PredictorConfig,
    blueprint,
    check_predictor,
    frame_mse,
    load_predictor,
    num_parameters,
    read_description,
    save_predictor,
    warm_start,
)
from zoocast.nn.sampling import free_run, teacher_forced
from zoocast.nn.tmu import TmuConfig, TransferableMemoryUnit
from zoocast.store.sealed import seal

FRAMES = FrameShape(channels=1, height=16, width=8)
PLAIN = PredictorConfig(hidden_channels=(4, 4), patch_size=4)
KINDS = {
    "convlstm": PLAIN,
    "convgru": dataclasses.replace(PLAIN, cell=ConvGRU(layer_norm=True), hidden_channels=(4, 6)),
    "stlstm": dataclasses.replace(PLAIN, cell=STLSTM()),
    "predrnn-v2": dataclasses.replace(PLAIN, cell=STLSTM(layer_norm=True, decouple=True)),
    "tmu": dataclasses.replace(PLAIN, tmu=TmuConfig(), num_sources=2),
    "tmu-release": dataclasses.replace(PLAIN, cell=ConvLSTM(layer_norm=True), tmu=TmuConfig.release(), num_sources=2),
    "tmu-stlstm": dataclasses.replace(
        PLAIN, cell=STLSTM(decouple=True), tmu=TmuConfig(layers="all", combine="residual", gate="softmax"), num_sources=3
    ),
}
each_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())


def make(config, seed=0):
    torch.manual_seed(seed)
    return Predictor(config, FRAMES)


def clips(batch=2, length=6, seed=0):
    return torch.rand(batch, length, 1, 16, 8, generator=torch.Generator().manual_seed(seed))


def objective(predictor, prediction, batch):
    """Every loss term that the network knows."""
    loss = frame_mse(prediction, batch)
    loss = loss + sum(value.square().mean() for (_, name), value in prediction.aux.items() if name == "distilled")
    return loss + sum(predictor.losses(prediction.aux).values())


@each_kind
def test_predictions_memories_and_aux_have_the_documented_shapes(config):
    predictor = make(config)
    shapes = predictor.memory_shapes()
    collect = {layer: tuple(name for known, name in shapes if known == layer) for layer in (0, 1)}
    out = predictor(clips(), teacher_forced(2, 6), collect)
    assert out.frames.shape == (2, 5, 1, 16, 8)
    assert {key: tuple(value.shape) for key, value in out.memories.items()} == {k: (2, 5, *shape) for k, shape in shapes.items()}
    expected = {(layer, name) for layer in (0, 1) if getattr(config.cell, "decouple", False) for name in ("delta_c", "delta_m")}
    expected |= {(layer, name) for layer in _tmu_layers(config) for name in ("distilled", "gates")}
    assert set(out.aux) == expected
    for layer in _tmu_layers(config):
        assert out.aux[layer, "gates"].shape == (2, 5, config.num_sources, 4, 4, 2)


def _tmu_layers(config):
    return () if config.tmu is None else (0, 1) if config.tmu.layers == "all" else (0,)


@each_kind
def test_a_prediction_sees_no_later_frame(config):
    predictor, batch = make(config), clips()
    changed = batch.clone()
    changed[:, 3:] = 0.5
    with torch.no_grad():
        before, after = (predictor(b, teacher_forced(2, 6)).frames for b in (batch, changed))
    # The input of step t is frame t: steps 0-2 cannot know frame 3, steps 3 and 4 must.
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


@each_kind
def test_predict_is_a_free_run(config):
    predictor, batch = make(config), clips()
    with torch.no_grad():
        expected = predictor(batch, free_run(2, 4, 6)).frames[:, 3:]
    predicted = predictor.predict(batch[:, :4], horizon=2)
    assert predicted.shape == (2, 2, 1, 16, 8)
    assert torch.equal(predicted, expected)
    assert not predicted.requires_grad


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (
            torch.zeros(2, 4, 16, 8, 1),
            r"are \(B, T, 1, H, W\), floating point from 0 to 1, but got torch.float32 \(2, 4, 16, 8, 1\)",
        ),
        (torch.zeros(2, 4, 16, 8), r"\(B, T, 1, H, W\)"),
        (torch.zeros(2, 4, 1, 16, 8, dtype=torch.uint8), "but got torch.uint8"),
        (torch.full((2, 4, 1, 16, 8), 200.0), "go from 0 to 1, but got 200 to 200; scale them"),
        (torch.full((2, 4, 1, 16, 8), torch.nan), "go from 0 to 1, but got nan to nan"),
    ],
)
def test_predict_refuses_frames_of_another_order_or_scale(observed, message):
    with pytest.raises(ValueError, match=message):
        make(PredictorConfig(hidden_channels=(4,))).predict(observed, 2)


@each_kind
def test_every_weight_gets_a_gradient(config):
    predictor, batch = make(config), clips()
    if config.tmu is not None:
        # Identity distillers and zero scales have gates without a gradient at the start; move away from there.
        for parameter in predictor.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    objective(predictor, predictor(batch, free_run(2, 4, 6)), batch).backward()
    assert [name for name, p in predictor.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@each_kind
def test_weights_are_counted_without_being_made(config):
    before = torch.random.get_rng_state()
    assert num_parameters(config, FRAMES) == sum(p.numel() for p in make(config).parameters())
    torch.random.set_rng_state(before)
    blueprint.cache_clear()
    num_parameters(config, FRAMES)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_that_no_memory_could_hold_is_counted_too():
    # One ConvLSTM layer of n channels on 16 patches: 4n * ((16 + n) * 3 * 3 + 1), and the head 16n.
    n = 2**16
    assert num_parameters(PredictorConfig(hidden_channels=(n,)), FRAMES) == 4 * n * ((16 + n) * 9 + 1) + 16 * n
    # Transfer gates: (16 + n) n^2 numbers for each of the 255 x 255 places of a kernel, more than 2^63 bytes.
    huge = PredictorConfig(hidden_channels=(n,), cell=ConvLSTM(kernel_size=255), tmu=TmuConfig(), num_sources=n)
    with pytest.raises(ConfigError, match=r"hidden_channels: this network has more than 2\^63 weights on frames"):
        num_parameters(huge, FRAMES)


@each_kind
def test_functional_call_is_the_forward(config):
    predictor, batch, feed = make(config), clips(), free_run(2, 4, 6)
    other = make(config, seed=1)
    weights = {name: value.detach() for name, value in other.state_dict().items()}
    with torch.no_grad():
        through = torch.func.functional_call(predictor, weights, (batch, feed)).frames
        assert torch.equal(through, other(batch, feed).frames)


@each_kind
def test_bfloat16_autocast_stays_close(config):
    predictor, batch, feed = make(config), clips(), free_run(2, 4, 6)
    exact = predictor(batch, feed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = predictor(batch, feed)
        objective(predictor, rough, batch).backward()
    # bfloat16 has 8 bits of mantissa: 0.4 % per operation, over five steps.
    assert (rough.frames.float() - exact.frames).abs().max() < 0.05 * exact.frames.abs().max()


def test_data_parallel_training_gives_the_same_gradients():
    config = KINDS["tmu-stlstm"]
    batch, feed = clips(), free_run(2, 4, 6)
    alone = make(config)
    objective(alone, alone(batch, feed), batch).backward()
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(make(config))
        objective(wrapped.module, wrapped(batch, feed), batch).backward()
    finally:
        torch.distributed.destroy_process_group()
    for ours, theirs in zip(wrapped.module.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_seed_decides_the_weights():
    first, same, other = make(PLAIN), make(PLAIN), make(PLAIN, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_aux_can_be_left_out():
    predictor = make(KINDS["tmu"])
    assert set(predictor(clips(), teacher_forced(2, 6), aux=("distilled",)).aux) == {(0, "distilled"), (1, "distilled")}
    assert predictor(clips(), teacher_forced(2, 6), aux=()).aux == {}


def test_frame_mse_compares_with_the_next_frames():
    batch = clips()
    out = make(PLAIN)(batch, teacher_forced(2, 6))
    assert frame_mse(out._replace(frames=batch[:, 1:] + 0.5), batch).item() == pytest.approx(0.25)


def test_decoupling_is_one_for_parallel_and_zero_for_orthogonal_increments():
    predictor = make(KINDS["predrnn-v2"])
    torch.nn.init.dirac_(predictor.adapter.weight)
    delta = torch.rand(2, 5, 4, 4, 2)
    left, right = delta.clone(), delta.clone()
    left[..., 0], right[..., 1] = 0, 0
    same = {(layer, name): delta for layer in (0, 1) for name in ("delta_c", "delta_m")}
    assert predictor.losses(same)["decouple"].item() == pytest.approx(1)
    # Layer 0 parallel, layer 1 without a common pixel: the mean of 1 and 0.
    half = same | {(1, "delta_c"): left, (1, "delta_m"): right}
    assert predictor.losses(half)["decouple"].item() == pytest.approx(0.5)
    assert make(KINDS["stlstm"]).losses({}) == make(PLAIN).losses({}) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, r"patch_size: .* got 3 for frames of 16x8"),
        ({"cell": STLSTM(), "hidden_channels": (4, 8)}, r"hidden_channels: all layers of an stlstm .* got \(4, 8\)"),
        ({"num_sources": 2}, "num_sources: a network without tmu distils no sources, but got 2"),
        ({"tmu": TmuConfig()}, "num_sources: a network with tmu needs at least 1 source, but got 0"),
        ({"tmu": TmuConfig(), "num_sources": 1, "cell": ConvGRU()}, "tmu: .* cell=convgru; use convlstm or stlstm"),
    ],
)
def test_what_cannot_be_built_is_known_before(changes, message):
    config = dataclasses.replace(PLAIN, **changes)
    with pytest.raises(ConfigError, match=message):
        check_predictor(config, FRAMES)
    with pytest.raises(ConfigError, match=message):
        Predictor(config, FRAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_channels": ()}, "hidden_channels: needs one number for each layer, and has 1 to 256 layers, but got 0"),
        ({"hidden_channels": (1,) * 2_000_000}, "hidden_channels: .* 1 to 256 layers, but got 2000000"),
        ({"hidden_channels": (10**7, 8)}, "hidden_channels: must be at least 1 and at most 65536, but got .10000000, 8"),
        ({"hidden_channels": (4, 0)}, r"hidden_channels: .* got \(4, 0\)"),
        ({"patch_size": 0}, "patch_size: must be at least 1, but got 0"),
        ({"num_sources": -1}, "num_sources: must be at least 0 and at most 65536, but got -1"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(PLAIN, **changes)


def test_wrong_clips_feeds_and_memories_are_refused():
    predictor = make(PLAIN)
    with pytest.raises(ValueError, match=r"expected clips \(B, T, 1x16x8\)"):
        predictor(clips().mT, teacher_forced(2, 6))
    with pytest.raises(ValueError, match=r"feed \(B, T-1\), got .* \(2, 6\)"):
        predictor(clips(), teacher_forced(2, 7))
    with pytest.raises(ConfigError, match=r"collect: there is no memory \(0, 'm'\); available: \(0, 'c'\), \(0, 'h'\)"):
        predictor(clips(), teacher_forced(2, 6), {0: ("m",)})


def test_tmus_sit_in_the_first_layer_or_in_all():
    for layers, expected in [("first", [TransferableMemoryUnit, ConvLSTMCell]), ("all", [TransferableMemoryUnit] * 2)]:
        config = dataclasses.replace(PLAIN, tmu=TmuConfig(layers=layers), num_sources=2)
        assert [type(cell) for cell in make(config).layers] == expected


# ---------------------------------------------------------------------------------------------------------------- warm start


@pytest.mark.parametrize("kind", ["convlstm", "stlstm", "predrnn-v2"])
def test_a_warm_started_tmu_predicts_what_its_source_predicts(kind):
    source = make(KINDS[kind], seed=1)
    target = make(dataclasses.replace(KINDS[kind], tmu=TmuConfig(layers="all"), num_sources=2))
    copied = warm_start(target, source)
    assert copied == [name for name, _ in source.named_parameters()]
    with torch.no_grad():
        ours, theirs = (p(clips(), free_run(2, 4, 6)).frames for p in (target, source))
    torch.testing.assert_close(ours, theirs)


def test_a_warm_start_copies_and_does_not_alias():
    source, target = make(PLAIN, seed=1), make(PLAIN)
    warm_start(target, source)
    with torch.no_grad():
        target.head.weight.add_(1)
    assert not torch.equal(target.head.weight, source.head.weight)


def test_a_decoupled_source_starts_a_target_without_decoupling():
    source, target = make(KINDS["predrnn-v2"]), make(dataclasses.replace(KINDS["predrnn-v2"], cell=STLSTM(layer_norm=True)))
    assert "adapter.weight" not in warm_start(target, source)


def test_a_source_of_another_architecture_is_refused_by_name_and_shape():
    with pytest.raises(ConfigError, match=r"cells.0.conv.weight \(target 16x20x3x3, source 24x22x3x3\)"):
        warm_start(make(PLAIN), make(dataclasses.replace(PLAIN, hidden_channels=(6, 4))))
    with pytest.raises(ConfigError, match=r"cells.0.norm.bias \(target none, source 16x4x2\)"):
        warm_start(make(PLAIN), make(dataclasses.replace(PLAIN, cell=ConvLSTM(layer_norm=True))))
    with pytest.raises(ConfigError, match=r"patch_size: .* got 4 and 2"):
        warm_start(make(PLAIN), make(dataclasses.replace(PLAIN, patch_size=2)))


# ------------------------------------------------------------------------------------------------------------ weights at rest


@each_kind
def test_a_saved_predictor_comes_back_bit_for_bit(config, tmp_path):
    predictor = make(config)
    save_predictor(predictor, tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    assert (loaded.config, loaded.frames, loaded.training) == (config, FRAMES, False)
    assert torch.equal(loaded.predict(clips()[:, :4], 2), predictor.predict(clips()[:, :4], 2))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [DESCRIPTION, WEIGHTS]


def test_equal_predictors_give_equal_bytes(tmp_path):
    for name in "ab":
        save_predictor(make(PLAIN), tmp_path / name)
    for file in (DESCRIPTION, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", [DESCRIPTION, WEIGHTS])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
def test_a_flipped_bit_is_noticed(file, where, tmp_path):
    save_predictor(make(PLAIN), tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[int(where * (len(data) - 2))] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"{file} cannot be used: .*restore"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("file", [DESCRIPTION, WEIGHTS])
def test_a_missing_or_truncated_file_is_noticed(file, tmp_path):
    save_predictor(make(PLAIN), tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match=f"{file} cannot be used"):
        load_predictor(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(IntegrityError, match=rf"{file} cannot be used: No such file"):
        load_predictor(tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hidden_channels": [60_000, 60_000]}, r"it has .* KiB, but predictor.json describes a network of \d+ weights"),
        ({"hidden_channels": [1] * 2_000_000}, "it has .* MiB, where at most 1.0 MiB are read"),
        ({"hidden_channels": [1] * 20_000}, "hidden_channels: needs one number for each layer, and has 1 to 256 layers"),
        ({"hidden_channels": [10**4000]}, "hidden_channels.0: must be a whole number of at most 18 digits"),
        ({"num_sources": 10**9}, "num_sources: must be at least 0 and at most 65536"),
    ],
)
def test_a_description_that_asks_for_more_than_its_weights_is_refused_before_work_starts(change, why, tmp_path):
    save_predictor(make(PLAIN), tmp_path)
    data = json.loads((tmp_path / DESCRIPTION).read_text())
    del data["digest"]
    data["config"].update(change)
    (tmp_path / DESCRIPTION).write_text(json.dumps(seal(data)))
    for read in (read_description, load_predictor):
        with pytest.raises(IntegrityError, match=why):
            read(tmp_path)


def test_an_edited_configuration_is_noticed(tmp_path):
    save_predictor(make(KINDS["tmu"]), tmp_path)
    data = json.loads((tmp_path / DESCRIPTION).read_text())
    data["config"]["tmu"]["combine"] = "sum"  # fits the same weights, computes something else
    (tmp_path / DESCRIPTION).write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="it is not what was written"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("name", ["stlstm", "ST-LSTM", "st_lstm", "PredRNN"])
def test_a_cell_is_known_as_papers_spell_it(name: str) -> None:
    assert override(PredictorConfig(), {"cell": name}).cell.kind == "stlstm"
