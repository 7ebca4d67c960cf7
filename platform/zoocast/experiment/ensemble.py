"""Predictions by several frozen networks together, without any training: upper references for one that learns from them all.

`ensemble` is the plain one. `Routed` asks for every clip the network that predicted the clip's observed frames best, one step
ahead: it reads nothing that lies in the future.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from zoocast.evaluation import Predict
from zoocast.nn.predictor import Predictor
from zoocast.nn.sampling import teacher_forced

__all__ = ["Combine", "Routed", "ensemble", "multiply_adds"]

Combine = Literal["ensemble", "routed"]


def _mean(observed: Tensor, networks: Iterable[Predictor], horizon: int) -> Tensor:
    return torch.stack([network.predict(observed, horizon) for network in networks]).mean(0)


def ensemble(networks: Mapping[str, Predictor], horizon: int) -> Predict:
    """The mean of the `horizon` frames that all networks predict, each made for frames of the clips' shape."""
    return functools.partial(_mean, networks=networks.values(), horizon=horizon)


class Routed:
    """For every clip what one of the networks predicts: that with the lowest one-step error on the observed frames.

    Args:
        networks: by name, each for frames of the clips' shape.
        horizon: frames to predict.
    """

    def __init__(self, networks: Mapping[str, Predictor], horizon: int) -> None:
        self.networks, self.horizon = networks, horizon

    def errors(self, observed: Tensor) -> Tensor:
        """Mean squared error of every network on each observed frame but the first, from the true ones before it: (B, M)."""
        found = []
        with torch.no_grad():
            for network in self.networks.values():
                clips = observed.to(network.device)
                frames = network(clips, teacher_forced(*clips.shape[:2]).to(clips.device), aux=()).frames
                found.append((frames - clips[:, 1:]).square().flatten(1).mean(1))
        return torch.stack(found, 1)

    def __call__(self, observed: Tensor) -> Tensor:
        """(B, observed, C, H, W) in [0, 1] to (B, horizon, C, H, W)."""
        best = self.errors(observed).argmin(1).cpu()
        batch, _, *frame = observed.shape
        predicted = torch.empty(batch, self.horizon, *frame)
        for place, network in enumerate(self.networks.values()):
            if (mine := best == place).any():
                predicted[mine] = network.predict(observed[mine], self.horizon).cpu()
        return predicted


def multiply_adds(predict: Predict, observed: Tensor) -> int:
    """The multiplications, each with its addition, of the convolutions and matrix products in the prediction of one clip.

    Args:
        predict: what is measured.
        observed: (1, observed, C, H, W).
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        predict(observed)
    return int(counter.get_total_flops()) // 2  # it counts both as one operation each
