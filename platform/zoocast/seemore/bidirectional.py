"""Bidirectional distillation (BDN): two networks, one on the clip and one on the clip flipped in time, learn from each other.

Both predict the same frames from opposite sides. The distance of their last layer's outputs and of their predictions, aligned in
time, joins both losses. Only the forward network is exported: the reverse one costs nothing at inference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoocast.config import check_ranges, setting
from zoocast.nn.predictor import Prediction, Predictor
from zoocast.training import Batch, Collect, Objective, collecting

__all__ = ["BidirectionalConfig", "BidirectionalObjective"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BidirectionalConfig:
    """How the two directions distil each other (SeeMore, 2024)."""

    feature_weight: float = setting(1.0, "of the distance between the last layers' outputs H; release: 1", at_least=0)
    frame_weight: float = setting(1.0, "of the distance between the predicted frames; release: 1", at_least=0)
    teacher: Literal["mutual", "forward", "reverse"] = setting(
        "mutual", "who is not moved by these distances: nobody, the forward network, or the reverse one; release: mutual"
    )

    def __post_init__(self) -> None:
        check_ranges(self)


class BidirectionalObjective(Objective):
    """The losses of both directions, and ``w_h MSE(H, H_rev) + w_x MSE(X, X_rev)`` on the frames that both predict.

    With clips of T frames the forward network predicts frames 1 to T-1 and the reverse one T-2 to 0, so 1 to T-2 are compared.

    Args:
        forward: of the exported network, on the clip.
        reverse: of a network with as many channels in its last layer, on the flipped clip with the same mask.
        config: the weights of both distances.
    """

    def __init__(self, forward: Objective, reverse: Objective, config: BidirectionalConfig) -> None:
        super().__init__()
        # Two names that `level_of` knows; a module's own `forward` is taken.
        self.forward_objective, self.reverse_objective, self.config = forward, reverse, config

    @property
    def exported(self) -> Predictor:
        """See `Objective.exported`: the forward network."""
        return self.forward_objective.exported

    def rate_scales(self) -> Mapping[nn.Parameter, float]:
        """See `Objective.rate_scales`: both networks'."""
        return {**self.forward_objective.rate_scales(), **self.reverse_objective.rate_scales()}

    def leave(self, directory: Path) -> Mapping[str, float]:
        """See `Objective.leave`: the forward network's, which is the one that is exported."""
        return self.forward_objective.leave(directory)

    def _features(self, collect: Collect) -> Collect:
        """`collect` with the last layer's output."""
        last = len(self.exported.layers) - 1
        return collecting(collect, {last: ("h",)})

    def predict(self, batch: Batch, collect: Collect) -> Prediction:
        """See `Objective.predict`: the forward network's."""
        return self.forward_objective.predict(batch, self._features(collect))

    def terms(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """See `Objective.terms`: the forward network's, the reverse one's as ``reverse_*``, ``feature`` and ``frame``."""
        # `indices` stay: a bank reads the same rows, of the memories of flipped clips.
        flipped = batch.flipped()
        back = self.reverse_objective.predict(flipped, self._features({}))
        reverse = {f"reverse_{name}": term for name, term in self.reverse_objective.terms(flipped, back).items()}
        key = (len(self.exported.layers) - 1, "h")
        return {
            **self.forward_objective.terms(batch, prediction),
            **reverse,
            "feature": self.config.feature_weight * self._distance(prediction.memories[key], back.memories[key]),
            "frame": self.config.frame_weight * self._distance(prediction.frames, back.frames),
        }

    def _distance(self, ahead: Tensor, back: Tensor) -> Tensor:
        """Mean squared distance of (B, T-1, ...) to what the reverse network has on the same frames."""
        # Forward step t predicts frame t + 1; flipped back, the reverse network's outputs are of frames 0 to T - 2. So the
        # forward network's last frame and the reverse one's first have no partner.
        ahead, back = ahead[:, :-1], back.flip(1)[:, 1:]
        if self.config.teacher == "forward":
            ahead = ahead.detach()
        elif self.config.teacher == "reverse":
            back = back.detach()
        return F.mse_loss(ahead, back)  # with a gradient for both sides where nobody is the teacher
