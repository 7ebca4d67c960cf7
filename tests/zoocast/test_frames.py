import math

import numpy as np
import pytest
import torch

from zoocast.errors import ConfigError
from zoocast.frames import FrameShape, patchify, unit_frames, unpatchify


def test_patch_channels_are_row_column_channel():
    # One 4x4 frame of 2 channels; pixel (row, column) of channel c holds 100 c + 10 row + column.
    row, column = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    frame = torch.stack([10 * row + column, 100 + 10 * row + column])
    patches = patchify(frame, 2)
    assert patches.shape == (8, 2, 2)
    # The patch in the lower left holds rows 2-3, columns 0-1; index = (row * 2 + column) * 2 + channel.
    assert patches[:, 1, 0].tolist() == [20, 120, 21, 121, 30, 130, 31, 131]


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_unpatchify_is_the_inverse(patch_size):
    clips = torch.rand(2, 3, 2, 8, 12)
    assert torch.equal(unpatchify(patchify(clips, patch_size), patch_size), clips)


def test_a_patch_that_does_not_divide_the_frame_names_those_that_do():
    with pytest.raises(ConfigError, match=r"patch_size: .* got 5 for frames of 32x48 pixels; use one of 1, 2, 4, 8, 16"):
        FrameShape(channels=1, height=32, width=48).patched(5)
    assert FrameShape(channels=3, height=32, width=48).patched(4) == FrameShape(channels=48, height=8, width=12)


@pytest.mark.parametrize("field", ["channels", "height", "width"])
def test_a_frame_has_pixels(field):
    with pytest.raises(ConfigError, match=rf"{field}: must be at least 1 and at most \d+, but got 0"):
        FrameShape(**{field: 0})


def test_frames_of_a_picture_are_bytes_or_clipped_floats_and_never_hide_what_is_no_number():
    assert unit_frames(np.array([0, 51, 255], np.uint8)).tolist() == [0.0, 0.2, 1.0]
    assert unit_frames(np.array([-0.5, 0.25, 1.5], np.float32)).tolist() == [0.0, 0.25, 1.0]
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="must be finite"):
            unit_frames(np.array([0.5, value]))
