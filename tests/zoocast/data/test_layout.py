import numpy as np
import pytest

from zoocast.data.digits import digit_images
from zoocast.data.layout import clips_first, layouts, likely_time_axis, sizes
from zoocast.data.motions import Motion
from zoocast.data.moving import moving_clip
from zoocast.data.splits import clip_generator
from zoocast.frames import FrameShape


def test_sizes_and_axes_follow_the_letters():
    shape = {"N": 7, "T": 5, "C": 2, "H": 3, "W": 4}
    assert (layouts(4), layouts(3)) == (("NTHW", "TNHW"), ())
    assert layouts(5) == ("NTCHW", "TNCHW", "NTHWC", "TNHWC")
    for layout in (*layouts(4), *layouts(5)):
        frames = np.zeros([shape[axis] for axis in layout])
        # The only one at clip 6, frame 4, row 2, column 3 and, where there are channels, channel 1.
        frames[tuple(shape[axis] - 1 for axis in layout)] = 1
        channels = 2 if "C" in layout else 1
        assert sizes(frames.shape, layout) == (7, 5, FrameShape(channels=channels, height=3, width=4))
        clips = clips_first(frames, layout)
        assert clips.shape == (7, 5, channels, 3, 4)
        assert clips[6, 4, channels - 1, 2, 3] == 1


def moving_digits(speed=(3.6, 3.6)):
    """Moving MNIST's kind: [16 clips, 10 frames, 64, 64], two digits of 28 pixels that go 3.6 pixels in a frame."""
    images = digit_images("train", 28)
    motion = Motion(speed=speed)
    made = [
        moving_clip(images, clip_generator(0, "train", n), num_images=2, frame_size=64, length=10, motion=motion)
        for n in range(16)
    ]
    return np.stack(made)[:, :, 0]


def test_time_is_the_axis_along_which_frames_are_alike():
    clips = moving_digits()
    assert likely_time_axis(clips) == 1
    assert likely_time_axis(clips.swapaxes(0, 1)) == 0
    # However they are scaled, and with holes.
    floats = clips / 255 * 102 - 32
    floats[:, :, :9] = np.nan
    assert likely_time_axis(floats) == 1


@pytest.mark.parametrize(
    "frames",
    [
        np.random.default_rng(0).random((12, 60, 8, 8)),
        np.zeros((5, 5, 4, 4)),
        np.random.default_rng(0).random((2, 2, 8, 8)),
        np.random.default_rng(0).random((1, 9, 8, 8)),
        np.lib.stride_tricks.sliding_window_view(moving_digits()[0], 5, axis=0).transpose(0, 3, 1, 2),
    ],
    ids=["noise", "black", "too-few", "one-clip", "windows-that-slide-by-one"],
)
def test_where_neighbours_are_alike_both_ways_nothing_is_suggested(frames):
    assert likely_time_axis(frames) is None
