"""The distillation loss: its value, its gradients, and what lies between unlike networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.zoocast.bank.conftest import Zoo, save_source
from zoocast.bank.distill import DistillationLoss, frame_loss
from zoocast.bank.read import BankConfig, open_bank
from zoocast.bank.relevance import resize
from zoocast.data.store import write_store
from zoocast.frames import FrameShape, unpatchify
from zoocast.nn.cells import ConvGRU, ConvLSTM
from zoocast.nn.cells.base import LinearHead
from zoocast.nn.predictor import Predictor, PredictorConfig, frame_mse, save_predictor
from zoocast.nn.releases import import_release
from zoocast.nn.sampling import free_run
from zoocast.nn.tmu import TmuConfig

CONFIG = BankConfig(layers="all", mode="online")
INDICES = torch.arange(2)
GOLDENS = Path(__file__).parents[2] / "goldens"


def distil(zoo: Zoo) -> tuple[Predictor, dict[int, Tensor]]:
    """A target with random weights, and what it distils from two clips."""
    torch.manual_seed(1)  # seed 0 would give the weights of source 0
    target = Predictor(zoo.target, zoo.store.shape)
    clips = zoo.store.split("train").clips(INDICES)
    aux = target(clips, torch.ones(2, clips.shape[1] - 1)).aux
    return target, {layer: value for (layer, name), value in aux.items() if name == "distilled"}


def test_like_networks_need_no_projection_and_unlike_ones_do(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target, _ = distil(zoo)
    shapes = {name: tuple(p.shape) for name, p in DistillationLoss(target, bank).named_parameters() if name.endswith("weight")}
    # The target has 8 channels in both layers, as the ConvLSTM (source 0); the GRU has 6, the ST-LSTM 4.
    assert shapes == {
        f"projections.{source}-{layer}.weight": (channels, 8, 1, 1) for source, channels in ((1, 6), (2, 4)) for layer in (0, 1)
    }


@pytest.mark.parametrize("source_memories", ["raw", "standardised"])
def test_the_loss_is_a_mean_or_the_releases_sum_over_steps(zoo: Zoo, source_memories: str) -> None:
    alike = zoo.of("lstm")
    bank = alike.open(CONFIG)
    target, distilled = distil(alike)
    memories = bank.memories("train", INDICES)
    squares = []
    for layer in (0, 1):
        c = memories[0][layer]
        if source_memories == "standardised":
            variance, mean = torch.var_mean(c, dim=(2, 3, 4), correction=0, keepdim=True)
            c = (c - mean) / torch.sqrt(variance + 1e-5)
        squares.append((distilled[layer][:, :, 0] - c).square())
    mean = DistillationLoss(target, bank, source_memories=source_memories).distillation_loss(distilled, memories)
    torch.testing.assert_close(mean, torch.stack(squares).mean())
    # Release: over layers and the 5 steps the sum of the means over clips, channels and space, divided by 2 clips x 6 frames.
    released = DistillationLoss(target, bank, source_memories=source_memories, reduction="release").distillation_loss(
        distilled, memories
    )
    torch.testing.assert_close(released, sum(s[:, t].mean() for s in squares for t in range(5)) / 12)


def test_fitted_distillers_leave_of_the_sources_memories_what_no_linear_map_explains(zoo: Zoo) -> None:
    bank, clips = zoo.open(CONFIG), zoo.store.split("train")  # one source of the target's kind, and two with other channels
    torch.manual_seed(1)
    target = Predictor(dataclasses.replace(zoo.target, tmu=TmuConfig(distiller_init="fitted", combine="residual")), clips.shape)
    loss, every = DistillationLoss(target, bank), torch.arange(len(clips))
    feed = free_run(len(clips), bank.observed, clips.length)

    def rows(maps: Tensor) -> Tensor:
        return maps.flatten(0, 1).movedim(1, -1).flatten(0, -2)

    def distilled() -> dict[int, Tensor]:
        return {layer: value for (layer, name), value in target(clips.clips(every), feed, aux=("distilled",)).aux.items()}

    with torch.no_grad():
        start, memories = distilled(), bank.memories("train", every)
        before = loss.distillation_loss(start, memories)
        loss.fit(target, clips)
        after = distilled()
        assert loss.distillation_loss(after, memories) < before
        for source, by_layer in enumerate(memories):
            for layer, memory in by_layer.items():
                theirs, found = resize(memory.flatten(0, 1), target.map_size), after[layer][:, :, source].flatten(0, 1)
                if (key := f"{source}-{layer}") in loss.projections:
                    found = loss.projections[key](found)
                candidates = rows(start[layer][:, :, source])
                best = torch.linalg.lstsq(candidates, rows(theirs[:, None])).solution
                error, least = (found - theirs).square().mean(), (candidates @ best - rows(theirs[:, None])).square().mean()
                assert least * 0.999 <= error <= least * 1.02  # it is almost that of least squares without a ridge


def test_a_weight_and_a_window_count_where_they_are(zoo: Zoo) -> None:
    bank = zoo.of("lstm").open(CONFIG)  # like the target, so that nothing lies between
    target, distilled = distil(zoo.of("lstm"))
    memories = bank.memories("train", INDICES)
    weights = torch.rand(2, 1, 5, 4, 4)
    squares = torch.stack([(distilled[layer][:, :, 0] - memories[0][layer]).square() for layer in (0, 1)])
    weighted = squares * weights[:, 0, :, None]
    for window, steps in {"all": slice(0, 5), "observed": slice(0, 3), "future": slice(3, 5)}.items():
        loss = DistillationLoss(target, bank, window=window)  # type: ignore[arg-type]
        torch.testing.assert_close(loss.distillation_loss(distilled, memories), squares[:, :, steps].mean())
        torch.testing.assert_close(loss.distillation_loss(distilled, memories, weights), weighted[:, :, steps].mean())
    # The release's sum over layers and 2 steps of means, divided by 2 clips x 6 frames.
    released = DistillationLoss(target, bank, window="future", reduction="release").distillation_loss(distilled, memories)
    torch.testing.assert_close(released, squares[:, :, 3:].mean() * 2 * 2 / 12)


def test_scaled_memories_of_the_first_clips_have_a_deviation_of_one(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target, distilled = distil(zoo)
    loss = DistillationLoss(target, bank, source_memories="scaled")
    first = bank.memories("train", torch.arange(32))
    for source, layer in ((0, 0), (0, 1), (1, 0), (2, 1)):
        assert loss.state_dict()["deviations"][source, layer] == first[source][layer].std()
    # The first source's memories need no projection and no other size.
    own = [(value[:, :, 0] - first[0][layer][:2] / first[0][layer].std()).square().mean() for layer, value in distilled.items()]
    alone = DistillationLoss(distil(zoo.of("lstm"))[0], zoo.of("lstm").open(CONFIG), source_memories="scaled")
    ours = {layer: value[:, :, :1] for layer, value in distilled.items()}
    torch.testing.assert_close(alone.distillation_loss(ours, [bank.memories("train", INDICES)[0]]), torch.stack(own).mean())


def test_frames_are_compared_with_those_of_every_source_by_its_weight() -> None:
    predicted, frames = torch.rand(2, 5, 1, 8, 8), torch.rand(2, 3, 5, 1, 8, 8)
    squares = (predicted[:, None] - frames).square()
    torch.testing.assert_close(frame_loss(predicted, frames), squares.mean())
    steps = torch.rand(2, 3, 5, 1, 1)
    torch.testing.assert_close(frame_loss(predicted, frames, steps), (squares * steps[..., None]).mean())
    late = frame_loss(predicted, frames, steps, slice(3, None))
    torch.testing.assert_close(late, (squares * steps[..., None])[:, :, 3:].mean())
    # A place of a map weighs the pixels that it stands for: in the corner nothing is beyond it.
    places = torch.zeros(2, 3, 5, 2, 2)
    places[..., 0, 0] = 1
    frame_loss(predicted.requires_grad_(), frames, places).backward()
    assert predicted.grad is not None
    assert predicted.grad[..., 0, 0].abs().min() > 0 == predicted.grad[..., 7, 7].abs().max()


def test_every_term_of_the_loss_changes_the_gradient(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target, distilled = distil(zoo)
    leaves = {layer: value.detach().requires_grad_() for layer, value in distilled.items()}
    distillation = DistillationLoss(target, bank)
    distillation.distillation_loss(leaves, bank.memories("train", INDICES)).backward()
    for layer in (0, 1):
        gradient = leaves[layer].grad
        assert gradient is not None
        for source in range(3):
            for step in range(5):
                assert gradient[:, step, source].abs().max() > 0
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in distillation.parameters())


def test_the_gradient_reaches_the_target(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target, distilled = distil(zoo)
    DistillationLoss(target, bank).distillation_loss(distilled, bank.memories("train", INDICES)).backward()
    for cell in target.layers:
        assert cell.distillers.weight.grad.abs().max() > 0


def test_a_distilled_memory_of_nothing_does_not_make_the_loss_vanish(zoo: Zoo) -> None:
    # The projection is on the target's side, so nothing that it learns makes the sources' memories smaller.
    bank = zoo.open(CONFIG)
    target, distilled = distil(zoo)
    distillation = DistillationLoss(target, bank)
    nothing = {layer: torch.zeros_like(value) for layer, value in distilled.items()}
    for parameter in distillation.parameters():
        torch.nn.init.zeros_(parameter)
    memories = bank.memories("train", INDICES)
    # The GRU's maps of 8x8 are brought to 4x4, the ST-LSTM's of 2x2 too; those of the ConvLSTM stay as they are.
    own = torch.stack([memories[0][layer].square().mean() for layer in (0, 1)]).sum()
    assert distillation.distillation_loss(nothing, memories) > own / 6


def test_larger_maps_are_averaged_and_smaller_ones_interpolated(tmp_path: Path, zoo: Zoo) -> None:
    # The target's maps are 4x4. A source with patches of 2 has 8x8, of which means of 2x2 are taken.
    source = PredictorConfig(cell=ConvGRU(kernel_size=3), hidden_channels=(8,), patch_size=2)
    target = PredictorConfig(hidden_channels=(8,), tmu=TmuConfig(), num_sources=1)
    fine = dataclasses.replace(zoo, sources={"fine": save_source(tmp_path / "fine", source)}, target=target)
    bank = fine.open(BankConfig(mode="online"))
    network, distilled = distil(fine)
    memories = bank.memories("train", INDICES)
    areas = memories[0][0].reshape(2, 5, 8, 4, 2, 4, 2).mean(dim=(4, 6))
    expected = (distilled[0][:, :, 0] - areas).square().mean()
    torch.testing.assert_close(DistillationLoss(network, bank).distillation_loss(distilled, memories), expected)
    # A source with patches of 16 has one pixel, which fills the target's map.
    source = dataclasses.replace(source, patch_size=16)
    coarse = dataclasses.replace(fine, sources={"coarse": save_source(tmp_path / "coarse", source)})
    bank = coarse.open(BankConfig(mode="online"))
    memories = bank.memories("train", INDICES)
    expected = (distilled[0][:, :, 0] - memories[0][0]).square().mean()
    torch.testing.assert_close(DistillationLoss(network, bank).distillation_loss(distilled, memories), expected)


class HalvedHead(LinearHead):
    """Frames are halved on their way to the stack, and doubled on their way back."""

    def encode(self, frame: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return F.avg_pool2d(frame, 2), ()

    def decode(self, h: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        return F.interpolate(super().decode(h, skips), scale_factor=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(ConvLSTM):
    """A stack that sees maps of half the size of the patches."""

    def stack_shape(self, patches: tuple[int, int, int]) -> tuple[int, int, int]:
        return patches[0], patches[1] // 2, patches[2] // 2

    def codec(self, patches: tuple[int, int, int], hidden_channels: tuple[int, ...]) -> HalvedHead:
        return HalvedHead(hidden_channels[-1], patches[0])


def test_memories_are_brought_to_the_maps_of_the_stack_which_need_not_be_those_of_the_patches(tmp_path: Path, zoo: Zoo) -> None:
    # Frames of 16x16 in patches of 4 make 4x4, of which this stack sees 2x2: so large are its memories.
    target = PredictorConfig(cell=Halved(), hidden_channels=(8,), tmu=TmuConfig(), num_sources=1)
    source = save_source(tmp_path / "plain", PredictorConfig(hidden_channels=(8,)))
    halved = dataclasses.replace(zoo, sources={"plain": source}, target=target)
    bank = halved.open(BankConfig(mode="online"))
    network, distilled = distil(halved)
    memories = bank.memories("train", INDICES)
    assert (distilled[0].shape[-2:], memories[0][0].shape[-2:]) == ((2, 2), (4, 4))
    expected = (distilled[0][:, :, 0] - memories[0][0].unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).mean(dim=(-1, -3))).square()
    loss = DistillationLoss(network, bank).distillation_loss(distilled, memories)
    torch.testing.assert_close(loss, expected.mean())


def test_the_loss_is_computed_in_full_precision(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target, distilled = distil(zoo)
    distillation, memories = DistillationLoss(target, bank), bank.memories("train", INDICES)
    expected = distillation.distillation_loss(distilled, memories)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distillation.distillation_loss(distilled, memories), expected)
    half = [{layer: memory.half() for layer, memory in by_layer.items()} for by_layer in memories]
    torch.testing.assert_close(distillation.distillation_loss(distilled, half), expected, rtol=1e-3, atol=0)


def test_a_target_for_another_number_of_sources_is_refused(zoo: Zoo) -> None:
    bank = zoo.open(CONFIG)
    target = Predictor(dataclasses.replace(zoo.target, num_sources=2), zoo.store.shape)
    with pytest.raises(ValueError, match="distils 2 sources, but the bank has 3"):
        DistillationLoss(target, bank)


def test_bank_and_distillation_give_the_released_loss_and_gradient(tmp_path: Path) -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDENS / "tmu.npz").items()}
    frames = FrameShape(channels=1, height=16, width=16)
    clips = unpatchify(golden["frames"].permute(0, 1, 4, 2, 3), 2)
    # The mask covers the last 3 of 7 steps; before them all frames are true.
    feed = torch.cat([torch.ones(2, 4), golden["mask"]], dim=1)
    target = import_release(GOLDENS / "tmu_target.ckpt", frames=frames)
    sources = {}
    for name in ("tmu_source1", "tmu_source2"):
        (tmp_path / name).mkdir()
        save_predictor(import_release(GOLDENS / f"{name}.ckpt", frames=frames), tmp_path / name)
        sources[name] = tmp_path / name
    splits = {name: list(clips.numpy()) for name in ("train", "validation", "test")}
    write_store(tmp_path / "clips", splits, shape=frames, length=8, dtype="float32", generator={"name": "golden"})
    bank = open_bank(
        BankConfig(policy="shared", mode="online"),
        sources=sources,
        banks={},
        clips=tmp_path / "clips",
        observed=4,
        target=target.config,
    )
    memories = bank.memories("train", INDICES, feed=feed)
    for memory, key in zip(memories, ("bank1", "bank2"), strict=True):
        torch.testing.assert_close(memory[0], golden[key], rtol=1e-5, atol=1e-5)
    prediction = target(clips, feed)
    distill = DistillationLoss(target, bank, reduction="release").distillation_loss({0: prediction.aux[0, "distilled"]}, memories)
    torch.testing.assert_close(distill, golden["distill"], rtol=1e-5, atol=0)
    (frame_mse(prediction, clips) + distill).backward()
    expected = torch.cat([golden[f"grad:cell_list.0.distiller{m}.0.weight"] for m in (1, 2)])
    gradient = target.layers[0].distillers.weight.grad
    assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max()
