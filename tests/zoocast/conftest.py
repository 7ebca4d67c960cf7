"""Outputs of the papers' released code, for whatever must compute the same; see the README of the goldens for their layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoocast.frames import FrameShape, unpatchify
from zoocast.nn.releases import import_release

GOLDENS = Path(__file__).parents[1] / "goldens"


class Golden:
    """One case: the values, and clips and mask in our layout."""

    def __init__(self, name):
        arrays = dict(np.load(GOLDENS / f"{name}.npz"))
        self.values = {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind != "U"}
        self.geometry = json.loads((GOLDENS / f"{name}.json").read_text())
        self.frames = FrameShape(
            channels=self.geometry["img_channel"], height=self.geometry["img_width"], width=self.geometry["img_width"]
        )
        self.clips = self.clip("frames")
        # The releases' mask covers the last steps only; all steps before it see true frames.
        mask = self.values["mask"]
        self.feed = torch.ones(self.clips.shape[:-3])[..., :-1]
        self.feed[..., -mask.shape[-1] :] = mask

    def clip(self, key):
        """[..., T, h, w, p*p*c] to (..., T, C, H, W)."""
        return unpatchify(self.values[key].movedim(-1, -3), self.geometry["patch_size"])

    def load(self, checkpoint, direction="forward"):
        return import_release(GOLDENS / f"{checkpoint}.ckpt", frames=self.frames, direction=direction)


@pytest.fixture
def read_golden():
    """The class: ``read_golden(name)`` reads one case."""
    return Golden
