"""Frozen networks that predict together: their mean, and the one that fits each clip's observed frames."""

import torch

from zoocast.experiment.ensemble import Routed, ensemble, multiply_adds
from zoocast.frames import FrameShape
from zoocast.nn.cells import ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig

FRAMES = FrameShape(channels=1, height=8, width=8)
CONFIG = PredictorConfig(cell=ConvLSTM(kernel_size=3), hidden_channels=(4,), patch_size=2)
OBSERVED, HORIZON = 3, 2


def networks(*names):
    made = {}
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        made[name] = Predictor(CONFIG, FRAMES).eval()
    return made


def clips(count):
    return torch.rand(count, OBSERVED, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_an_ensemble_predicts_the_mean():
    both = networks("one", "two")
    one, two = (network.predict(clips(2), HORIZON) for network in both.values())
    assert torch.allclose(ensemble(both, HORIZON)(clips(2)), (one + two) / 2)


def test_a_clip_is_routed_to_the_network_that_predicts_its_observed_frames_from_those_before():
    both, observed = networks("one", "two"), clips(6)
    # Each network's own prediction of the next frame is what that network predicts without error.
    for clip, network in enumerate([*both.values()] * 3):
        for frame in range(1, OBSERVED):
            observed[clip, frame] = network.predict(observed[clip : clip + 1, :frame], 1)[0, 0]
    routed = Routed(both, HORIZON)
    errors = routed.errors(observed)
    assert errors.shape == (6, 2)
    assert errors.argmin(1).tolist() == [0, 1] * 3
    # By hand for one clip and network: each observed frame but the first, from the true ones before it.
    by_hand = [
        (both["two"].predict(observed[:1, :frame], 1)[0, 0] - observed[0, frame]).square().mean() for frame in range(1, OBSERVED)
    ]
    assert torch.allclose(errors[0, 1], torch.stack(by_hand).mean())
    predicted = routed(observed)
    for clip, network in enumerate([*both.values()] * 3):
        assert torch.allclose(predicted[clip], network.predict(observed[clip : clip + 1], HORIZON)[0], atol=1e-6)


def test_what_is_predicted_together_costs_what_its_networks_do():
    both, clip = networks("one", "two"), clips(1)
    alone = multiply_adds(lambda observed: both["one"].predict(observed, HORIZON), clip)
    # A step is one convolution of 3 x 3 over a 4 x 4 map, from 4 channels of a patch and 4 of memory to 4 gates of 4, and the
    # head's from 4 to 4 of 1 x 1; the last observed frame makes the first of the horizon.
    steps = OBSERVED + HORIZON - 1
    assert alone == steps * 16 * (9 * (4 + 4) * 16 + 4 * 4)
    assert multiply_adds(ensemble(both, HORIZON), clip) == 2 * alone
    # Both look at the observed frames, and one of them predicts.
    assert multiply_adds(Routed(both, HORIZON), clip) == alone + 2 * alone * (OBSERVED - 1) // steps
