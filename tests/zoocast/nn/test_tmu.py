import dataclasses
import re

import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.nn.cells.convlstm import ConvLSTMCell
from zoocast.nn.cells.stlstm import STLSTMCell
from zoocast.nn.tmu import TmuConfig, TransferableMemoryUnit

SIZE = (5, 6)


def make(config, num_sources=2, cell=ConvLSTMCell):
    torch.manual_seed(0)
    return TransferableMemoryUnit(cell(3, 4, 3), config, num_sources, SIZE)


def step(cell, seed=1):
    """One step from a random state."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(2, 4, *SIZE, generator=generator) for name in cell.memories}
    x = torch.randn(2, 3, *SIZE, generator=generator)
    return x, state, cell(x, state)


@pytest.mark.parametrize("cell", [ConvLSTMCell, STLSTMCell])
@pytest.mark.parametrize("combine", ["mean", "residual"])
@pytest.mark.parametrize("num_sources", [1, 2, 5])
def test_with_identity_distillers_it_starts_as_its_base(cell, combine, num_sources):
    tmu = make(TmuConfig(combine=combine, distiller_init="identity"), num_sources, cell)
    x, state, out = step(tmu)
    plain = tmu.base(x, state)
    assert out.aux["distilled"].shape == out.aux["gates"].shape == (2, num_sources, 4, *SIZE)
    for name in tmu.memories:
        torch.testing.assert_close(out.state[name], plain.state[name])


@pytest.mark.parametrize("cell", [ConvLSTMCell, STLSTMCell])
def test_the_releases_sum_multiplies_the_memory(cell):
    tmu = make(TmuConfig(combine="sum", distiller_init="identity"), 2, cell)
    x, state, out = step(tmu)
    # S^m = Chat, so C^m* = Chat whatever the gates are, and C = Chat + 2 Chat: this is why the sum explodes over time.
    torch.testing.assert_close(out.state["c"], 3 * tmu.base(x, state).state["c"])


@pytest.mark.parametrize("gate", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("combine", ["sum", "mean", "residual"])
@pytest.mark.parametrize("cell", [ConvLSTMCell, STLSTMCell])
def test_the_memory_is_the_papers_equation(cell, combine, gate):
    tmu = make(TmuConfig(combine=combine, gate=gate, distiller_init="random"), 3, cell)
    if combine == "residual":
        torch.nn.init.normal_(tmu.scale)
    x, state, out = step(tmu)
    candidate = tmu.base(x, state).state["c"]
    distilled, gates = out.aux["distilled"], out.aux["gates"]
    transferred = [gates[:, m] * distilled[:, m] + (1 - gates[:, m]) * candidate for m in range(3)]
    expected = {
        "sum": lambda: candidate + sum(transferred),
        "mean": lambda: sum(transferred) / 3,
        "residual": lambda: candidate + sum(tmu.scale[m] * (transferred[m] - candidate) for m in range(3)),
    }
    torch.testing.assert_close(out.state["c"], expected[combine](), rtol=1e-5, atol=1e-5)
    for m in range(3):
        torch.testing.assert_close(
            distilled[:, m], torch.nn.functional.conv2d(candidate, tmu.distillers.weight[4 * m : 4 * m + 4]), rtol=1e-5, atol=1e-6
        )


def test_a_softmax_lets_the_candidate_refuse_and_is_a_sigmoid_for_one_source():
    several = step(make(TmuConfig(gate="softmax"), 3))[2].aux["gates"]
    assert (several.sum(dim=1) < 1).all()
    one = step(make(TmuConfig(gate="softmax"), 1))[2].aux["gates"]
    torch.testing.assert_close(one, step(make(TmuConfig(gate="sigmoid"), 1))[2].aux["gates"])


def test_without_a_gate_everything_is_let_through():
    tmu = make(TmuConfig(gate="none", distiller_init="random"))
    out = step(tmu)[2]
    assert (out.aux["gates"] == 1).all()
    assert not [name for name, _ in tmu.named_parameters() if name.startswith("gate")]
    torch.testing.assert_close(out.state["c"], out.aux["distilled"].mean(dim=1))


@pytest.mark.parametrize("output", ["candidate", "transferred"])
@pytest.mark.parametrize("cell", [ConvLSTMCell, STLSTMCell])
def test_the_output_reads_the_memory_that_was_chosen(cell, output):
    tmu = make(TmuConfig(output=output, distiller_init="random"), 2, cell)
    x, state, out = step(tmu)
    gates = tmu.base.gates(x, state).chunk(tmu.base.num_gates, dim=1)
    memory = out.state if output == "transferred" else tmu.base.write(gates, state)[0]
    torch.testing.assert_close(out.h, tmu.base.read(gates, memory))


def test_normalised_memories_are_centred_per_source():
    distilled = step(make(TmuConfig(normalise=True, distiller_init="random"), 3))[2].aux["distilled"]
    torch.testing.assert_close(distilled.mean(dim=(2, 3, 4)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(distilled.var(dim=(2, 3, 4), correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("gate_norm", [False, True])
def test_a_negative_gate_bias_starts_with_little_transfer(gate_norm):
    base = step(make(TmuConfig(gate_norm=gate_norm)))[2].aux["gates"]
    less = step(make(TmuConfig(gate_norm=gate_norm, gate_bias=-4.0)))[2].aux["gates"]
    torch.testing.assert_close(torch.logit(less), torch.logit(base) - 4, rtol=1e-3, atol=1e-3)


def test_decoupled_increments_pass_through():
    torch.manual_seed(0)
    tmu = TransferableMemoryUnit(STLSTMCell(3, 4, 3, decouple=True), TmuConfig(), 2, SIZE)
    assert set(step(tmu)[2].aux) == {"delta_c", "delta_m", "distilled", "gates"}
    assert tmu.carried == ("m",)


def test_distillation_reaches_distillers_and_base():
    tmu = make(TmuConfig())
    out = step(tmu)[2]
    out.aux["distilled"].square().mean().backward()
    assert tmu.distillers.weight.grad.abs().max() > 0
    assert tmu.base.conv.weight.grad.abs().max() > 0


def test_every_option_documents_its_release_value():
    release = TmuConfig.release()
    for field in dataclasses.fields(TmuConfig):
        documented = re.search(r"release: (\S+)$", field.metadata["help"])
        assert documented, field.name
        value = getattr(release, field.name)
        assert documented[1] == (f"{value:g}" if isinstance(value, float) else str(value).lower()), field.name


def test_impossible_choices_are_refused():
    with pytest.raises(ConfigError, match=r"num_sources: .* at least 1 source, but got 0"):
        make(TmuConfig(), 0)
    with pytest.raises(ConfigError, match=r"gate_norm: .*gate=none; set gate_norm=false"):
        TmuConfig(gate="none", gate_norm=True)
    with pytest.raises(ConfigError, match=r"gate_bias: .*gate=none; set gate_bias=0"):
        TmuConfig(gate="none", gate_bias=-2.0)
