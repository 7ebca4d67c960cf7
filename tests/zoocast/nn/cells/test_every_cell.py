"""What must hold for the cells of every family, whatever they compute; a new family is tested here by being in the list."""

import pytest
import torch

from zoocast.config import override, settings
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import CELLS, GatedCell, Place
from zoocast.nn.predictor import Predictor, PredictorConfig, load_predictor, save_predictor
from zoocast.nn.sampling import free_run, teacher_forced

FRAMES = FrameShape(channels=1, height=16, width=16)
each_family = pytest.mark.parametrize("family", CELLS, ids=lambda family: family.kind)


def make(family, frames=FRAMES, hidden_channels=(4, 4)):
    torch.manual_seed(0)
    return Predictor(PredictorConfig(cell=family(), hidden_channels=hidden_channels), frames).eval()


def cell(family, dtype=torch.float32):
    torch.manual_seed(0)
    return family().build(Place(0, 1, 3, 2, (4, 4))).to(dtype)


def clips(batch=3, length=5, size=16, seed=0):
    return torch.rand(batch, length, 1, size, size, generator=torch.Generator().manual_seed(seed))


def everything(predictor):
    """`collect` for all memories of a predictor."""
    known = predictor.memory_shapes()
    return {layer: tuple(name for at, name in known if at == layer) for layer in range(len(predictor.layers))}


def run(predictor, batch, feed=None):
    with torch.no_grad():
        return predictor(batch, teacher_forced(*batch.shape[:2]) if feed is None else feed, everything(predictor))


def step_by_step(one, frames, state):
    """Outputs and the last state of a cell over (B, T, C, h, w)."""
    outputs = []
    for t in range(frames.shape[1]):
        h, state, _ = one(frames[:, t], state)
        outputs.append(h)
    return torch.stack(outputs, dim=1), state


def test_no_two_families_of_cells_have_one_name():
    assert len({family.kind for family in CELLS}) == len({family.__name__ for family in CELLS}) == len(CELLS)


@each_family
def test_a_family_is_chosen_by_its_name_and_comes_back_from_a_file(family, tmp_path):
    config = override(PredictorConfig(hidden_channels=(4, 4)), {"cell": family.kind})
    assert config.cell == family()
    assert {s.path: s.value for s in settings(config)}["cell"] == family.kind
    save_predictor(Predictor(config, FRAMES), tmp_path)
    assert load_predictor(tmp_path).config == config


@each_family
def test_a_family_that_takes_transfer_units_has_gates_and_a_memory_c(family):
    built = cell(family)
    assert isinstance(built, GatedCell) == family.takes_tmu
    assert ("c" in built.memories) or not family.takes_tmu


@each_family
def test_the_state_is_what_the_cell_says_and_the_cell_keeps_nothing(family):
    one, x = cell(family), torch.rand(2, 3, 4, 4)
    state = one.zero_state(2, 4, 4, x.device, x.dtype)
    before, attributes = {name: value.clone() for name, value in state.items()}, dict(vars(one))
    first, second = one(x, state), one(x, state)
    assert {name: tuple(value.shape[1:]) for name, value in first.state.items()} == one.state_shapes(4, 4)
    assert set(one.memories) | set(one.carried) | set(one.rising) <= set(first.state)
    assert torch.equal(first.h, second.h)
    assert vars(one) == attributes
    assert all(torch.equal(state[name], before[name]) for name in before)


@each_family
def test_the_same_clips_give_the_same_numbers_twice(family):
    predictor = make(family)
    first, second = run(predictor, clips()), run(predictor, clips())
    assert torch.equal(first.frames, second.frames)
    assert all(torch.equal(first.memories[key], second.memories[key]) for key in first.memories)


@each_family
def test_clips_of_a_batch_do_not_mix(family):
    predictor, order = make(family), [2, 0, 1]
    out, shuffled = run(predictor, clips()), run(predictor, clips()[order])
    torch.testing.assert_close(shuffled.frames, out.frames[order])
    for key in out.memories:
        torch.testing.assert_close(shuffled.memories[key], out.memories[key][order])


@each_family
def test_every_memory_changes_with_the_input(family):
    predictor = make(family)
    one, other = run(predictor, clips()), run(predictor, clips(seed=1))
    assert [key for key in one.memories if torch.allclose(one.memories[key][:, -1], other.memories[key][:, -1])] == []


@each_family
def test_every_memory_learns_from_the_first_frame(family):
    predictor, batch = make(family), clips().requires_grad_()
    out = predictor(batch, teacher_forced(3, 5), everything(predictor))
    for key, memory in out.memories.items():
        (gradient,) = torch.autograd.grad(memory[:, -1].square().sum(), batch, retain_graph=True)
        assert gradient[:, 0].abs().max() > 0, key


@each_family
def test_every_weight_has_a_gradient(family):
    predictor, batch = make(family), clips()
    out = predictor(batch, free_run(3, 3, 5))
    (out.frames.square().mean() + sum(predictor.losses(out.aux).values())).backward()
    assert [name for name, p in predictor.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@each_family
def test_an_unroll_can_be_cut_in_two(family):
    one, frames = cell(family), torch.rand(2, 5, 3, 4, 4)
    zero = one.zero_state(2, 4, 4, frames.device, frames.dtype)
    with torch.no_grad():
        whole, end = step_by_step(one, frames, zero)
        first, between = step_by_step(one, frames[:, :2], zero)
        second, again = step_by_step(one, frames[:, 2:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert all(torch.equal(end[name], again[name]) for name in end)


@each_family
def test_maps_may_have_another_size_than_in_training(family):
    small, large = make(family), make(family, FrameShape(channels=1, height=24, width=24))
    large.load_state_dict(small.state_dict())
    assert run(large, clips(size=24)).frames.shape == (3, 4, 1, 24, 24)


@each_family
def test_a_shift_of_the_input_by_a_patch_shifts_the_interior(family):
    predictor = make(family, FrameShape(channels=1, height=64, width=64), (4,))
    batch = clips(batch=1, length=3, size=64)
    out, shifted = run(predictor, batch).frames, run(predictor, batch.roll(4, dims=-1)).frames
    # Borders reach some patches far in two steps; the middle does not see them.
    torch.testing.assert_close(shifted[..., 28:36, 32:36], out[..., 28:36, 28:32])


@each_family
def test_gradients_are_those_of_finite_differences(family):
    one = cell(family, torch.float64)
    generator = torch.Generator().manual_seed(1)
    names, shapes = zip(*one.state_shapes(4, 4).items(), strict=True)
    inputs = [torch.randn(1, *s, dtype=torch.float64, generator=generator, requires_grad=True) for s in ((3, 4, 4), *shapes)]

    def outputs(x, *values):
        out = one(x, dict(zip(names, values, strict=True)))
        return (out.h, *(out.state[name] for name in names))

    assert torch.autograd.gradcheck(outputs, inputs)


@each_family
def test_bfloat16_memories_stay_close_over_many_steps(family):
    predictor, batch = make(family), clips(length=41)
    exact = run(predictor, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(predictor, batch)
    # bfloat16 has 8 bits of mantissa: 0.4 % per operation.
    for key, memory in exact.memories.items():
        assert (rough.memories[key].float() - memory).abs().max() < 0.05 * memory.abs().max(), key


@pytest.mark.parametrize("family", [f for f in CELLS if "kernel_size" in f.__dataclass_fields__], ids=lambda f: f.kind)
def test_an_even_kernel_is_refused(family):
    with pytest.raises(ConfigError, match="kernel_size: must be odd, so that maps keep their size, and at most 255, but got 4"):
        family(kernel_size=4)
