"""LPIPS with the user's own weights: how different two frames look to AlexNet's features (Zhang et al., CVPR 2018).

The weights are nobody's here: a file holds AlexNet's convolutions and the five linear layers, under the names of the package
`lpips` (``net.slice1.0.weight``, ``lin0.model.1.weight``) or, for the convolutions, torchvision's (``features.0.weight``).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from zoocast.errors import ConfigError, DataError
from zoocast.store.files import sha256_file

__all__ = ["SMALLEST", "Lpips"]

SMALLEST = 32
"""Pixels of the shortest side that AlexNet's strides leave something of."""

# Of each convolution: its place in torchvision's `features`, and its shape; then its stride and padding.
CONVOLUTIONS: tuple[tuple[int, tuple[int, int, int, int], int, int], ...] = (
    (0, (64, 3, 11, 11), 4, 2),
    (3, (192, 64, 5, 5), 1, 2),
    (6, (384, 192, 3, 3), 1, 1),
    (8, (256, 384, 3, 3), 1, 1),
    (10, (256, 256, 3, 3), 1, 1),
)
POOLED = (3, 6)
"""Convolutions before which the maximum of 3 x 3 pixels is taken, every second one."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """The distance, made by `read` from a file of weights.

    Args:
        weights: of the five convolutions by place, each a weight and a bias.
        linear: of each convolution's channels, (C,), not negative.
    """

    def __init__(self, weights: Mapping[int, tuple[Tensor, Tensor]], linear: tuple[Tensor, ...]) -> None:
        self.weights, self.linear = weights, linear

    @classmethod
    def read(cls, path: Path, sha256: str) -> Lpips:
        """The distance with the weights of a file of torch, in which nothing can run.

        Raises:
            ConfigError: there is no such file, or its SHA-256 is another one than `sha256`.
            DataError: it holds other things than these weights.
        """
        if not path.is_file():
            raise ConfigError("lpips", f"{path} is not a file; give the file of the weights")
        if (found := sha256_file(path)) != sha256.lower():
            raise ConfigError("lpips_sha256", f"is {sha256 or 'not given'}, but the SHA-256 of {path} is {found}; give that")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(f"{path} cannot be read as weights of torch ({str(error).splitlines()[0]:.80})") from None
        if not isinstance(state, Mapping):
            raise DataError(f"{path} holds a {type(state).__name__}; it must hold weights by name, a state_dict")
        weights = {}
        for at, shape, *_ in CONVOLUTIONS:
            place = rf"(net\.slice\d|features)\.{at}"
            weights[at] = _find(state, rf"{place}\.weight", shape, path), _find(state, rf"{place}\.bias", shape[:1], path)
        linear = tuple(
            _find(state, rf"lin{i}\.model\.\d\.weight", (1, shape[0], 1, 1), path).flatten()
            for i, (_, shape, *_) in enumerate(CONVOLUTIONS)
        )
        return cls(weights, linear)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of each pair of frames: (N, C, H, W) of 0 to 1 both, C of 1 or 3, to (N,)."""
        distance = torch.zeros(len(a))
        with torch.inference_mode():
            for ours, theirs, linear in zip(self._features(a), self._features(b), self.linear, strict=True):
                difference = (_normalised(ours) - _normalised(theirs)).square()
                distance += torch.einsum("nchw,c->nhw", difference, linear).mean((1, 2))
        return distance

    def _features(self, frames: Tensor) -> list[Tensor]:
        """What each convolution leaves, after its rectifier."""
        # The range that the distance was fitted for is -1 to 1; given 0 to 1 it would see pictures of half the contrast.
        shift, scale = (torch.tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x = ((2 * frames.to(torch.float32) - 1).expand(-1, 3, -1, -1) - shift) / scale
        found = []
        for at, _, stride, padding in CONVOLUTIONS:
            if at in POOLED:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.conv2d(x, *self.weights[at], stride=stride, padding=padding).relu()
            found.append(x)
        return found


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _find(state: Mapping[str, object], pattern: str, shape: tuple[int, ...], path: Path) -> Tensor:
    found = next((value for name, value in state.items() if re.fullmatch(pattern, str(name))), None)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        what = "nothing" if found is None else tuple(getattr(found, "shape", ()))
        raise DataError(f"{path} must hold AlexNet's {pattern.replace(chr(92), '')} of shape {shape}, but there is {what}")
    return found.to(torch.float32)
