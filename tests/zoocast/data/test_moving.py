import numpy as np
import pytest

from zoocast.data.moving import bounce, check_geometry, moving_clip, upsample
from zoocast.errors import ConfigError


def test_upsampling_interpolates_between_pixel_centres():
    # Two pixels, 0 and 4, become four, whose centres lie at -0.25, 0.25, 0.75 and 1.25 where the old ones lie at 0 and 1.
    row = np.array([[[0.0, 4.0]]])
    np.testing.assert_array_equal(upsample(row, 4)[0], [[0.0, 1.0, 3.0, 4.0]] * 4)
    np.testing.assert_array_equal(upsample(row.swapaxes(1, 2), 4)[0].T, [[0.0, 1.0, 3.0, 4.0]] * 4)


def test_upsampling_to_the_same_size_changes_nothing():
    images = np.random.default_rng(0).random((3, 8, 8))
    np.testing.assert_array_equal(upsample(images, 8), images)


def test_a_point_bounces_at_both_walls_without_losing_speed():
    # From 1 with speed 2 in a room of 5: 1, 3, 5, then back 3, 1, wall at 0 after half a step and on to 1, 3, 5.
    path = bounce(np.array([1.0]), np.array([2.0]), 8, np.array([5.0]))
    np.testing.assert_array_equal(path[:, 0], [1, 3, 5, 3, 1, 1, 3, 5])
    # To the left the mirror image of the start: 1, -1 -> 1, 3, 5.
    np.testing.assert_array_equal(bounce(np.array([1.0]), np.array([-2.0]), 4, np.array([5.0]))[:, 0], [1, 1, 3, 5])


def test_positions_are_rounded_to_the_nearest_pixel():
    # 0, 0.4, 0.8, 1.2, 1.6
    np.testing.assert_array_equal(bounce(np.array([0.0]), np.array([0.4]), 5, np.array([9.0]))[:, 0], [0, 0, 1, 1, 2])


def test_points_stay_in_the_room_however_long_they_fly():
    rng = np.random.default_rng(0)
    path = bounce(rng.uniform(0, 7, 50), rng.uniform(-7, 7, 50), 500, np.full(50, 7))
    assert path.min() == 0
    assert path.max() == 7


def test_a_clip_shows_whole_images_that_cover_what_is_darker():
    images = np.stack([np.full((3, 3), v, np.uint8) for v in (50, 200)])
    clip = moving_clip(images, np.random.default_rng(3), num_images=4, frame_size=8, length=30, speed=(1.0, 2.0))
    assert clip.shape == (30, 1, 8, 8)
    assert clip.dtype == np.uint8
    assert set(np.unique(clip)) == {0, 50, 200}
    # A bright image is never covered: in every frame the brightest pixels are at least one whole image of 3x3.
    assert ((clip == 200).sum((1, 2, 3)) >= 9).all()


def test_an_image_moves_at_a_constant_speed():
    image = np.full((1, 1, 1), 255, np.uint8)
    clip = moving_clip(image, np.random.default_rng(0), num_images=1, frame_size=101, length=20, speed=(3.0, 3.0))
    places = np.array([np.argwhere(frame[0])[0] for frame in clip], float)
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    # Each position is off by up to 0.5 per axis, a step by up to sqrt(2); walls are rarely met in so large a frame.
    assert np.median(np.abs(steps - 3.0)) < 1.0
    assert abs(np.median(steps) - 3.0) < 0.5


@pytest.mark.parametrize(
    ("num", "frame", "size", "field"),
    [(1, 14, 14, "frame_size"), (1, 8, 14, "frame_size"), (6, 32, 14, "num_digits"), (0, 32, 14, "num_digits")],
)
def test_impossible_geometry_is_named(num, frame, size, field):
    with pytest.raises(ConfigError) as raised:
        check_geometry(num, frame, size, size)
    assert raised.value.field == field


def test_as_many_digits_as_have_the_area_of_the_frame_are_fine():
    # 32 * 32 / (14 * 14) = 5.2
    check_geometry(5, 32, 14, 14)
