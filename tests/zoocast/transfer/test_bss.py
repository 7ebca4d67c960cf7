"""Batch spectral shrinkage: its penalty and gradient against a singular value decomposition by hand."""

import pytest
import torch

from tests.zoocast.transfer.conftest import NETWORK
from zoocast.errors import ConfigError
from zoocast.nn.predictor import Prediction
from zoocast.training import Batch, TrainingConfig
from zoocast.transfer import BSS


def test_the_penalty_is_that_of_the_smallest_singular_values_after_the_last_observed_frame(setup):
    objective = BSS(weight=0.5, k=2).build(setup)
    clips = torch.rand(4, 5, 1, 8, 8)
    # Four clips, four steps; features are the second step's, for two frames are observed.
    memory = torch.randn(4, 4, 4, 4, 4, requires_grad=True)
    batch = Batch(torch.arange(4), clips, torch.ones(4, 4), False)
    penalty = objective.terms(batch, Prediction(clips[:, 1:], {(1, "c"): memory}, {}))["bss"]
    penalty.backward()
    u, s, v = torch.linalg.svd(memory.detach()[:, 1].flatten(1), full_matrices=False)
    assert penalty.item() == pytest.approx(0.5 * (s[2] ** 2 + s[3] ** 2).item(), rel=1e-5)
    # d sigma_i = u_i v_i^T, so that of sigma_i^2 it is 2 sigma_i u_i v_i^T.
    expected = 0.5 * 2 * (s[2] * torch.outer(u[:, 2], v[2]) + s[3] * torch.outer(u[:, 3], v[3]))
    torch.testing.assert_close(memory.grad[:, 1].flatten(1), expected, rtol=1e-4, atol=1e-5)
    assert memory.grad[:, [0, 2, 3]].abs().max() == 0


def test_training_lowers_the_penalty_by_all_layers(setup):
    objective = BSS(weight=1.0).build(setup)
    terms = objective(Batch(torch.arange(4), torch.rand(4, 5, 1, 8, 8), torch.ones(4, 4), False))
    assert terms.keys() == {"mse", "bss"}
    terms["bss"].backward()
    assert all(cell.conv.weight.grad.abs().max() > 0 for cell in objective.exported.layers)


def test_more_values_than_clips_in_a_batch_are_refused():
    BSS(k=4).check(NETWORK, TrainingConfig(batch_size=4))
    with pytest.raises(ConfigError, match=r"k: must be at most training.batch_size, which is 4, but got 5"):
        BSS(k=5).check(NETWORK, TrainingConfig(batch_size=4))
