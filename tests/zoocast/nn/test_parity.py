"""Our networks compute what the papers' released code computes: same weights, same clips, same mask, same numbers.

The goldens are outputs of the released implementations (float32, CPU, one thread); see their README for the layout.
"""

import pytest
import torch

from zoocast.nn.predictor import frame_mse

FORWARD, GRADIENT = 1e-5, 1e-4


def relative(ours, theirs):
    """The largest difference relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", ["convlstm", "predrnn", "predrnn_layernorm", "predrnn_v2"])
def test_the_predicted_frames_are_the_releases(read_golden, name):
    golden = read_golden(name)
    with torch.no_grad():
        prediction = golden.load(name)(golden.clips, golden.feed)
    assert relative(prediction.frames, golden.clip("next_frames")) < FORWARD


def test_convlstm_memories_are_the_releases(read_golden):
    golden = read_golden("convlstm")
    with torch.no_grad():
        prediction = golden.load("convlstm")(golden.clips, golden.feed, {0: ("c",)})
    assert set(prediction.memories) == {(0, "c")}
    assert relative(prediction.memories[0, "c"], golden.values["c0"]) < FORWARD


@pytest.mark.parametrize("name", ["predrnn", "predrnn_layernorm"])
def test_predrnn_loss_is_the_releases(read_golden, name):
    golden = read_golden(name)
    with torch.no_grad():
        loss = frame_mse(golden.load(name)(golden.clips, golden.feed), golden.clips)
    assert relative(loss, golden.values["loss"]) < FORWARD


def test_predrnn_v2_loss_with_decoupling_is_the_releases(read_golden):
    golden = read_golden("predrnn_v2")
    network = golden.load("predrnn_v2")
    with torch.no_grad():
        prediction = network(golden.clips, golden.feed)
        decoupling = network.losses(prediction.aux)["decouple"]
        loss = frame_mse(prediction, golden.clips) + golden.geometry["decouple_beta"] * decoupling
    assert decoupling > 0.01  # or the case would not see a missing term
    assert relative(loss, golden.values["loss"]) < FORWARD


@pytest.mark.parametrize("source", [1, 2])
def test_the_bank_of_a_tmu_source_is_the_releases(read_golden, source):
    golden = read_golden("tmu")
    with torch.no_grad():
        memories = golden.load(f"tmu_source{source}")(golden.clips, golden.feed, {0: ("c",)}).memories
    assert relative(memories[0, "c"], golden.values[f"bank{source}"]) < FORWARD


def tmu_losses(golden, network):
    """Predictions, the frame loss, and the distillation loss by the release's formula.

    There: sum over steps and sources of the mean squared error of a step, divided by batch * total_length. The mean over our
    (B, steps, M, n, h, w) times steps * M is that sum.
    """
    prediction = network(golden.clips, golden.feed)
    bank = torch.stack([golden.values["bank1"], golden.values["bank2"]], dim=2)
    batch, steps, many = bank.shape[:3]
    error = torch.nn.functional.mse_loss(prediction.aux[0, "distilled"], bank)
    return prediction, frame_mse(prediction, golden.clips), error * steps * many / (batch * golden.geometry["total_length"])


def test_tmu_predictions_and_both_losses_are_the_releases(read_golden):
    golden = read_golden("tmu")
    with torch.no_grad():
        prediction, mse, distill = tmu_losses(golden, golden.load("tmu_target"))
    assert relative(prediction.frames, golden.clip("next_frames")) < FORWARD
    assert relative(mse, golden.values["mse"]) < FORWARD
    assert relative(distill, golden.values["distill"]) < FORWARD


def test_tmu_gradients_are_the_releases(read_golden):
    golden = read_golden("tmu")
    network = golden.load("tmu_target")
    _, mse, distill = tmu_losses(golden, network)
    (mse + distill).backward()
    ours = {name: parameter.grad for name, parameter in network.named_parameters()}
    theirs = {key.removeprefix("grad:"): value for key, value in golden.values.items() if key.startswith("grad:")}
    pairs = {
        "conv_last.weight": ours["head.weight"],
        "cell_list.1.conv.0.weight": ours["cells.1.conv.weight"],
        "cell_list.1.conv.0.bias": ours["cells.1.conv.bias"],
        # The release has one convolution for all gates and one distiller per source; ours are the other way round.
        "cell_list.0.conv.0.weight": torch.cat([ours["cells.0.base.conv.weight"], ours["cells.0.gate.weight"]]),
        "cell_list.0.conv.0.bias": torch.cat([ours["cells.0.base.conv.bias"], ours["cells.0.gate.bias"]]),
        "cell_list.0.conv.1.weight": ours["cells.0.norm_gates.weight"],
        "cell_list.0.conv.1.bias": ours["cells.0.norm_gates.bias"],
    }
    for m, distiller in enumerate(ours["cells.0.distillers.weight"].chunk(2)):
        pairs[f"cell_list.0.distiller{m + 1}.0.weight"] = distiller
        pairs[f"cell_list.0.distiller{m + 1}.1.weight"] = ours["cells.0.norm_distilled.weight"][m]
        pairs[f"cell_list.0.distiller{m + 1}.1.bias"] = ours["cells.0.norm_distilled.bias"][m]
    assert pairs.keys() == theirs.keys()
    assert {
        name: relative(gradient, theirs[name]) for name, gradient in pairs.items() if relative(gradient, theirs[name]) > GRADIENT
    } == {}
