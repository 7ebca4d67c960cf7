"""TrajGRU: its warp, its equation, its size, and a whole experiment with it in the zoo."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from pipelines import zoo_to_target
from zoocast.bank.recipe import read_bank
from zoocast.dag import read_record
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.cells import Place, TrajGRU
from zoocast.nn.cells.trajgru import TrajGRUCell, warp
from zoocast.nn.predictor import Predictor, PredictorConfig, load_predictor, save_predictor, warm_start
from zoocast.nn.sampling import free_run, teacher_forced

FRAMES = FrameShape(channels=1, height=16, width=16)


def maps(height=5, width=7, channels=2, dtype=torch.float32):
    return torch.randn(3, channels, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0))


def even_flow(h, u, v, links=1):
    """The same flow everywhere, u pixels along the width and v along the height."""
    return torch.tensor([u, v]).to(h.dtype)[:, None, None].expand(len(h), links, 2, *h.shape[-2:])


def make(in_channels=3, hidden_channels=4, **changes):
    torch.manual_seed(0)
    return TrajGRU(**changes).build(Place(0, 1, in_channels, hidden_channels, (5, 7)))


# ---------------------------------------------------------------------------------------------------------------------- warp


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 6), (16, 16), (11, 3)])
def test_a_flow_of_zeros_changes_nothing(size):
    h = maps(*size)
    assert torch.equal(warp(h, even_flow(h, 0.0, 0.0, links=2)), h.unsqueeze(1).expand(-1, 2, -1, -1, -1))


@pytest.mark.parametrize(("u", "v"), [(1, 0), (0, 1), (-2, 0), (0, -1), (2, -3), (100, 0), (0, -100)])
def test_a_flow_of_whole_pixels_moves_the_map_and_brings_zeros_in(u, v):
    h = maps()
    padded = F.pad(h, (100, 100, 100, 100))
    expected = padded.roll((-v, -u), dims=(2, 3))[..., 100:-100, 100:-100]
    assert torch.equal(warp(h, even_flow(h, float(u), float(v)))[:, 0], expected)


def test_between_pixels_the_map_is_interpolated():
    h = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).reshape(1, 1, 2, 2)
    found = warp(h, even_flow(h, 0.25, 0.5)).flatten().tolist()
    # The upper left: halfway between 0.75 * 1 + 0.25 * 2 and 0.75 * 4 + 0.25 * 8; right of and below the map there are zeros.
    assert found == pytest.approx([3.125, 0.75 * 5, 0.5 * 5, 0.375 * 8])


def test_every_link_and_place_has_a_flow_of_its_own():
    h, flows = maps(), torch.zeros(3, 2, 2, 5, 7)
    flows[1, 1, 0, 2, 3] = 1.0  # in the second clip, the second link, at row 2 and column 3: look one pixel to the right
    out = warp(h, flows)
    changed = (out != h.unsqueeze(1)).any(dim=2).nonzero().tolist()
    assert changed == [[1, 1, 2, 3]]
    assert torch.equal(out[1, 1, :, 2, 3], h[1, :, 2, 4])


def test_gradients_of_the_warp_are_those_of_finite_differences():
    h = maps(4, 4, dtype=torch.float64).requires_grad_()
    # Away from whole pixels, where bilinear interpolation has a corner.
    flows = (torch.randint(-2, 3, (3, 2, 2, 4, 4)) + 0.2 + 0.6 * torch.rand(3, 2, 2, 4, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(warp, (h, flows))


def test_places_keep_their_precision_in_bfloat16():
    h = torch.arange(200.0).expand(1, 1, 1, 200).to(torch.bfloat16)
    flows = torch.zeros(1, 1, 2, 1, 200, dtype=torch.bfloat16)
    assert torch.equal(warp(h, flows)[:, 0], h)


def test_a_flow_that_is_no_number_gives_none():
    assert warp(maps(), even_flow(maps(), math.nan, 0.0)).isnan().all()


# ------------------------------------------------------------------------------------------------------------------- the cell


def test_without_flows_it_is_a_convgru_with_a_recurrent_kernel_of_one_pixel():
    cell, x, h = make(num_links=1), torch.randn(3, 3, 5, 7), maps(channels=4)
    for parameter in cell.conv_flow.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        out = cell(x, {"h": h})
        of_x = F.conv2d(x, cell.conv_x.weight, cell.conv_x.bias, padding=1)
        of_h = F.conv2d(h, cell.conv_links.weight, cell.conv_links.bias)
    assert (out.aux["flows"] == 0).all()
    z, r = torch.sigmoid(of_x[:, :4] + of_h[:, :4]), torch.sigmoid(of_x[:, 4:8] + of_h[:, 4:8])
    candidate = F.leaky_relu(of_x[:, 8:] + r * of_h[:, 8:], 0.2)
    torch.testing.assert_close(out.h, (1 - z) * candidate + z * h)


def test_links_are_summed_each_with_a_matrix_of_its_own():
    cell, x, h = make(num_links=3), torch.randn(3, 3, 5, 7), maps(channels=4)
    with torch.no_grad():
        out = cell(x, {"h": h})
        seen = [warp(h, out.aux["flows"][:, link : link + 1])[:, 0] for link in range(3)]
        matrices = cell.conv_links.weight.split(4, dim=1)
        of_h = sum(F.conv2d(s, m) for s, m in zip(seen, matrices, strict=True)) + cell.conv_links.bias[:, None, None]
        of_x = cell.conv_x(x)
    z = torch.sigmoid(of_x[:, :4] + of_h[:, :4])
    candidate = F.leaky_relu(of_x[:, 8:] + torch.sigmoid(of_x[:, 4:8] + of_h[:, 4:8]) * of_h[:, 8:], 0.2)
    torch.testing.assert_close(out.h, (1 - z) * candidate + z * h)


def test_flows_follow_input_and_memory():
    cell, x, h = make(), torch.randn(3, 3, 5, 7), maps(channels=4)
    flows = cell(x, {"h": h}).aux["flows"]
    assert flows.shape == (3, 9, 2, 5, 7)
    assert not torch.equal(cell(x + 1, {"h": h}).aux["flows"], flows)
    assert not torch.equal(cell(x, {"h": h + 1}).aux["flows"], flows)


def test_it_has_the_published_number_of_parameters():
    cell = make(in_channels=64, hidden_channels=64, kernel_size=3, num_links=10, flow_channels=64, flow_kernel_size=3)
    assert sum(p.numel() for p in cell.parameters()) == 319_252
    n, c, k, links, flow, k_flow = 4, 3, 3, 9, 32, 5
    expected = (
        (3 * n * c * k**2 + 3 * n)
        + (flow * c * k_flow**2 + flow)
        + (flow * n * k_flow**2 + flow)
        + (2 * links * flow * k_flow**2 + 2 * links)
        + (3 * n * links * n + 3 * n)
    )
    assert sum(p.numel() for p in make().parameters()) == expected


def test_a_memory_that_is_carried_along_arrives():
    """With flows of one pixel to the left and open gates the memory walks over the map, one pixel in each step."""
    cell = TrajGRUCell(1, 1, 1, num_links=1, flow_channels=1, flow_kernel_size=1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.conv_flow.bias.copy_(torch.tensor([-1.0, 0.0]))  # what is here comes from the left
        cell.conv_links.weight[2] = 1.0  # the candidate is the memory seen through the flow
        cell.conv_x.bias.copy_(torch.tensor([-50.0, 50.0, 0.0]))  # z = 0: take the candidate; r = 1: all of the memory
        state = {"h": torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 1, 4)}
        for step in (1, 2, 3):
            state = cell(torch.zeros(1, 1, 1, 4), state).state
            assert state["h"].flatten().round(decimals=5).tolist() == [float(i == step) for i in range(4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_links": 0}, "num_links: must be at least 1 and at most 65536, but got 0"),
        ({"flow_channels": 0}, "flow_channels: must be at least 1 and at most 65536, but got 0"),
        ({"flow_kernel_size": 2}, "flow_kernel_size: must be odd, .* got 2"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrajGRU(**changes)


# ---------------------------------------------------------------------------------------------------------- in an experiment


def test_a_network_of_it_can_be_finetuned_and_learns():
    config = PredictorConfig(cell=TrajGRU(num_links=3, flow_channels=4), hidden_channels=(4, 6))
    torch.manual_seed(1)
    source, target = Predictor(config, FRAMES), Predictor(config, FRAMES)
    assert warm_start(target, source) == [name for name, _ in source.named_parameters()]
    clips = torch.rand(4, 6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(target.predict(clips[:, :3], 3), source.predict(clips[:, :3], 3))
    optimiser, losses = torch.optim.Adam(target.parameters(), lr=1e-2), []
    for _ in range(15):
        optimiser.zero_grad()
        losses.append((target(clips, teacher_forced(4, 6), aux=()).frames - clips[:, 1:]).square().mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    assert set(target(clips, free_run(4, 3, 6)).aux) == {(0, "flows"), (1, "flows")}


def test_a_target_distils_from_it(shell, tmp_path):
    """Up to the target, the smoke preset with one source of this family: pretrained, ranked, its memory h banked, distilled."""
    plain = zoo_to_target.smoke().sources[0]
    save_predictor(Predictor(plain.predictor, plain.data.frame_shape()), tmp_path / "plain")  # need not be trained for this
    traj = ("sources.1.name=traj", "sources.1.predictor.cell=trajgru", "sources.1.predictor.cell.num_links=3")
    family = (f"sources.0.model={tmp_path / 'plain'}", *traj)
    until = ("--until", "target.tmu.seed0", "--root", str(tmp_path / "runs"))
    done = shell.run("run", "zoo-to-target", "--preset", "smoke", "-S", *family, "seeds=1", *until, timeout=280)
    assert done.returncode == 0, done.stderr
    folders = {read_record(path).name: path for path in (tmp_path / "runs" / "steps").iterdir()}
    assert load_predictor(folders["source.traj"] / "model").config.cell == TrajGRU(num_links=3)
    _, recipe = read_bank(folders["bank.traj"] / "bank", "traj")
    # Eight channels, maps of 16 / 4 pixels.
    assert [(ref.memory, ref.shape) for ref in recipe.refs] == [("h", (8, 4, 4))] * 2
    assert load_predictor(folders["target.tmu.seed0"] / "model").config.num_sources == 2


def test_its_settings_are_shown(shell):
    done = shell.run("show", "zoo-to-target", "--preset", "smoke", "-S", "sources.1.predictor.cell=trajgru", "--json")
    assert done.returncode == 0, done.stderr
    shown = {s["path"]: s["value"] for s in json.loads(done.stdout)["settings"]}
    assert {
        path.rpartition(".")[2]: value for path, value in shown.items() if path.startswith("sources.digits-2.predictor.cell")
    } == {
        "cell": "trajgru",
        "kernel_size": 3,
        "num_links": 9,
        "flow_channels": 32,
        "flow_kernel_size": 5,
    }
