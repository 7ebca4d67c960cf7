"""The cells compute their papers' equations, by hand on a single pixel."""

import math

import pytest
import torch

from zoocast.nn.cells.convgru import ConvGRUCell
from zoocast.nn.cells.convlstm import ConvLSTMCell
from zoocast.nn.cells.stlstm import STLSTMCell


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def constant(value):
    return torch.full((1, 1, 1, 1), value)


def filled(convolution, values):
    """Writes `values`, one row for each output channel, into a 1x1 convolution."""
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor(values)[..., None, None])
        if convolution.bias is not None:
            convolution.bias.zero_()


def make_cells():
    return [
        ConvLSTMCell(3, 4, 3),
        ConvLSTMCell(3, 4, 3, (5, 6)),
        ConvGRUCell(3, 4, 3),
        ConvGRUCell(3, 4, 3, (5, 6)),
        STLSTMCell(3, 4, 3),
        STLSTMCell(3, 4, 3, (5, 6), decouple=True),
    ]


def test_convlstm_is_its_equation():
    cell = ConvLSTMCell(1, 1, 1)
    # Rows are the gates i, f, o, g; columns are x and h.
    filled(cell.conv, [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]])
    with torch.no_grad():
        out = cell(constant(2.0), {"c": constant(0.5), "h": constant(-1.0)})
    # With x = 2 and h = -1 the gates are i: 0.2 - 0.2 = 0, f: 0.6 - 0.4 = 0.2, o: 1.0 - 0.6 = 0.4, g: 1.4 - 0.8 = 0.6.
    c = sigmoid(0.2) * 0.5 + sigmoid(0.0) * math.tanh(0.6)
    assert out.state["c"].item() == pytest.approx(c)
    assert out.h.item() == pytest.approx(sigmoid(0.4) * math.tanh(c))
    assert out.state["h"] is out.h


def test_convgru_is_its_equation():
    cell = ConvGRUCell(1, 1, 1)
    filled(cell.conv, [[0.1, 0.2], [0.3, 0.4]])  # z, r
    filled(cell.conv_candidate, [[0.5, 0.6]])
    with torch.no_grad():
        out = cell(constant(2.0), {"h": constant(-1.0)})
    # z = sigmoid(0.2 - 0.2), r = sigmoid(0.6 - 0.4), candidate = tanh(1.0 + 0.6 r (-1)).
    candidate = math.tanh(1.0 - 0.6 * sigmoid(0.2))
    assert out.h.item() == pytest.approx(0.5 * -1.0 + 0.5 * candidate)


def test_stlstm_is_its_equation():
    cell = STLSTMCell(1, 1, 1, decouple=True)
    filled(cell.conv_x, [[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7]])  # i f g i' f' g' o
    filled(cell.conv_h, [[0.1], [0.2], [0.3], [0.4]])  # i f g o
    filled(cell.conv_m, [[0.5], [0.6], [0.7]])  # i' f' g'
    filled(cell.conv_o, [[0.3, -0.2]])
    filled(cell.conv_last, [[0.8, 0.9]])
    with torch.no_grad():
        out = cell(constant(1.0), {"c": constant(0.5), "m": constant(-0.5), "h": constant(2.0)})
    # x = 1, h = 2, m = -0.5; the forget gates have a bias of 1.
    delta_c = sigmoid(0.1 + 0.2) * math.tanh(0.3 + 0.6)
    c = sigmoid(0.2 + 0.4 + 1) * 0.5 + delta_c
    delta_m = sigmoid(0.4 - 0.25) * math.tanh(0.6 - 0.35)
    m = sigmoid(0.5 - 0.3 + 1) * -0.5 + delta_m
    h = sigmoid(0.7 + 0.8 + 0.3 * c - 0.2 * m) * math.tanh(0.8 * c + 0.9 * m)
    got = {**out.state, **out.aux}
    assert {name: value.item() for name, value in got.items()} == pytest.approx(
        {"c": c, "m": m, "h": h, "delta_c": delta_c, "delta_m": delta_m}
    )


def test_only_decoupled_memories_show_their_increments():
    x, cell = torch.rand(2, 3, 5, 6), STLSTMCell(3, 4, 3)
    state = cell.zero_state(2, 5, 6, x.device, x.dtype)
    assert cell(x, state).aux == {}
    cell = STLSTMCell(3, 4, 3, decouple=True)
    out = cell(x, state)
    # From a state of zeros, what was added is all there is.
    assert torch.equal(out.aux["delta_c"], out.state["c"])
    assert torch.equal(out.aux["delta_m"], out.state["m"])


@pytest.mark.parametrize("cell", make_cells(), ids=lambda cell: type(cell).__name__)
def test_a_cell_names_its_memories_and_keeps_nothing(cell):
    x = torch.rand(2, 3, 5, 6)
    state = cell.zero_state(2, 5, 6, x.device, x.dtype)
    before = {name: value.clone() for name, value in state.items()}
    attributes = dict(vars(cell))
    first, second = cell(x, state), cell(x, state)
    assert {name: tuple(value.shape[1:]) for name, value in first.state.items()} == cell.memory_shapes(5, 6)
    assert set(first.state) == set(cell.memories)
    assert torch.equal(first.h, second.h)
    assert vars(cell) == attributes
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_layer_norm_centres_the_gates():
    cell = ConvLSTMCell(3, 4, 3, (5, 6))
    x = 10 + torch.rand(2, 3, 5, 6)
    gates = cell.gates(x, cell.zero_state(2, 5, 6, x.device, x.dtype))
    assert gates.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert gates.var(dim=(1, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-3)
