import numpy as np
import pytest

from zoocast.data.motions import Motion
from zoocast.data.moving import check_geometry, interpolated, moving_clip, upsample
from zoocast.errors import ConfigError


def test_upsampling_interpolates_between_pixel_centres():
    # Two pixels, 0 and 4, become four, whose centres lie at -0.25, 0.25, 0.75 and 1.25 where the old ones lie at 0 and 1.
    row = np.array([[[0.0, 4.0]]])
    np.testing.assert_array_equal(upsample(row, 4)[0], [[0.0, 1.0, 3.0, 4.0]] * 4)
    np.testing.assert_array_equal(upsample(row.swapaxes(1, 2), 4)[0].T, [[0.0, 1.0, 3.0, 4.0]] * 4)


def test_upsampling_to_the_same_size_changes_nothing():
    images = np.random.default_rng(0).random((3, 8, 8))
    np.testing.assert_array_equal(upsample(images, 8), images)


def test_an_image_between_pixels_is_shared_among_them():
    image = np.array([[8, 16]], np.uint8)
    # A quarter of a pixel to the right of column 1: three quarters of 8 stay, a quarter goes on, and so with 16.
    shown = interpolated(image, np.array([[1.0, 1.25]]), np.zeros(1), np.ones(1), 5)
    np.testing.assert_array_equal(shown[0, 1], [0, 6, 14, 4, 0])
    assert shown.sum() == 24


def test_an_image_is_turned_and_scaled_about_its_centre():
    image = np.arange(1, 10).reshape(3, 3)
    corner = np.ones((4, 2))
    shown = interpolated(image, corner, np.array([0, np.pi / 2, np.pi, 0]), np.array([1, 1, 1, 0.5]), 5)
    np.testing.assert_array_equal(shown[0, 1:4, 1:4], image)
    np.testing.assert_allclose(shown[1, 1:4, 1:4], np.rot90(image, 3), atol=1e-12)
    np.testing.assert_allclose(shown[2, 1:4, 1:4], np.rot90(image, 2), atol=1e-12)
    # Half as large, the centre stays, and its neighbours are what lies two pixels away, beyond the image.
    np.testing.assert_array_equal(np.argwhere(shown[3]), [[2, 2]])
    assert shown[3, 2, 2] == 5


def test_places_are_the_nearest_pixels_unless_they_are_asked_for_between_them():
    dot = np.full((1, 1, 1), 255, np.uint8)
    drawn = {"num_images": 1, "frame_size": 9, "length": 8, "motion": Motion(speed=(0.4, 0.4))}
    whole, between = (moving_clip(dot, np.random.default_rng(1), **drawn, subpixel=s) for s in (False, True))
    assert set(np.unique(whole)) == {0, 255}
    assert ((whole > 0).sum((1, 2, 3)) == 1).all()
    # The same way: where more than half of the dot lies, there it is drawn.
    np.testing.assert_array_equal(between.reshape(8, -1).argmax(1), whole.reshape(8, -1).argmax(1))
    assert len(np.unique(between)) > 8


def test_a_clip_shows_whole_images_that_cover_what_is_darker():
    images = np.stack([np.full((3, 3), v, np.uint8) for v in (50, 200)])
    clip = moving_clip(images, np.random.default_rng(3), num_images=4, frame_size=8, length=30, motion=Motion(speed=(1.0, 2.0)))
    assert clip.shape == (30, 1, 8, 8)
    assert clip.dtype == np.uint8
    assert set(np.unique(clip)) == {0, 50, 200}
    # A bright image is never covered: in every frame the brightest pixels are at least one whole image of 3x3.
    assert ((clip == 200).sum((1, 2, 3)) >= 9).all()


def test_an_image_moves_at_a_constant_speed():
    image = np.full((1, 1, 1), 255, np.uint8)
    clip = moving_clip(image, np.random.default_rng(0), num_images=1, frame_size=101, length=20, motion=Motion(speed=(3.0, 3.0)))
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
