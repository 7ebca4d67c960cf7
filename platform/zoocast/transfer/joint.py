"""Joint training: the sources' clips beside the target's own, where the sources' data are still at hand.

An upper reference more than a rival: transfer is for those who have a source's network and not its data.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from zoocast.config import setting
from zoocast.training import Clips, Objective, PredictionObjective
from zoocast.transfer.method import Need, Setup, StartedMethod

__all__ = ["Joint", "JointClips"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joint(StartedMethod):
    """Finetuning from the best source on the clips of the target and of all sources together."""

    kind: ClassVar[str] = "joint"
    share: float = setting(0.5, "of the sources' clips among those that are trained on", above=0, below=1)

    @property
    def needs(self) -> frozenset[Need]:
        """See `TransferMethod.needs`: the clips that the sources were trained on as well."""
        return super().needs | {"clips"}

    def clips(self, target: Clips, sources: Sequence[Clips]) -> Clips:
        """See `TransferMethod.clips`."""
        return JointClips(target, sources, self.share)

    def build(self, setup: Setup) -> Objective:
        """See `TransferMethod.build`."""
        return PredictionObjective(self.started(setup), setup.decouple_weight)

    def params(self) -> dict[str, str | float]:
        """See `TransferMethod.params`."""
        return {"source_share": self.share}


class JointClips:
    """The clips of the target and of sources as one split, in which those of the sources are a given share.

    All clips of the target are there equally often, and first; then those of the sources, one source after the other and from the
    beginning again, each at least once. So whoever draws from the whole evenly, as training does, draws by the share, and which
    clip is drawn hangs on the seed and the iteration alone.

    Args:
        target: its training clips.
        sources: theirs, of the same length and shape.
        share: of the sources' clips, between 0 and 1.
    """

    def __init__(self, target: Clips, sources: Sequence[Clips], share: float) -> None:
        self._target, self._sources = target, tuple(sources)
        *self._starts, self._size = itertools.accumulate(map(len, sources), initial=0)
        repeats = math.ceil(self._size * (1 - share) / share / len(target))
        self._own = len(target) * repeats
        self._others = round(self._own * share / (1 - share))

    def __len__(self) -> int:
        return self._own + self._others

    @property
    def length(self) -> int:
        """Frames in each clip."""
        return self._target.length

    def clips(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Clips.clips`."""
        return torch.cat([self._clip(int(index)) for index in indices])

    def _clip(self, index: int) -> Tensor:
        if index < self._own:
            return self._target.clips([index % len(self._target)])
        place = (index - self._own) % self._size
        source = bisect.bisect_right(self._starts, place) - 1
        return self._sources[source].clips([place - self._starts[source]])
