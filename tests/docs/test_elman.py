"""The cell of docs/extending.md is a cell like those that are there."""

import pytest
import torch

from docs.examples.elman import Elman, ElmanCell
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, frame_mse
from zoocast.nn.sampling import free_run


def test_the_cell_is_its_equation():
    cell = ElmanCell(in_channels=1, hidden_channels=1, kernel_size=1)
    with torch.no_grad():
        cell.conv.weight[:] = torch.tensor([[[[2.0]], [[0.5]]]])
        cell.conv.bias[:] = -1.0
        step = cell(torch.full((1, 1, 2, 2), 0.75), {"h": torch.full((1, 1, 2, 2), 0.5)})
    # 2 * 0.75 + 0.5 * 0.5 - 1 = 0.75
    torch.testing.assert_close(step.h, torch.full((1, 1, 2, 2), 0.75).tanh())
    assert step.state["h"] is step.h


def test_a_predictor_is_made_of_it_and_learns():
    torch.manual_seed(0)
    predictor = Predictor(PredictorConfig(cell=Elman(), hidden_channels=(6, 4), patch_size=2), FrameShape(height=8, width=8))
    assert predictor.memory_shapes() == {(0, "h"): (6, 4, 4), (1, "h"): (4, 4, 4)}
    clips = torch.rand(4, 5, 1, 8, 8)
    optimiser, errors = torch.optim.Adam(predictor.parameters(), lr=1e-2), []
    for _ in range(20):
        error = frame_mse(predictor(clips, free_run(4, 2, 5)), clips)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.8 * errors[0]
    assert predictor.predict(clips[:, :2], 3).shape == (4, 3, 1, 8, 8)


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="kernel_size: must be odd"):
        Elman(kernel_size=2)
