"""The picture that a training keeps: what is in its pixels."""

import io

import numpy as np
from PIL import Image

from zoocast.training.strip import prediction_strip

RED, BLUE = (103, 0, 31), (5, 48, 97)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture)))


def count(picture, colour):
    return int((pixels(picture) == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_every_pixel_becomes_a_square_of_its_own_colour():
    # Frames of 2x2 pixels are shown 120 canvas pixels wide, so a pixel is 60 x 60 = 3600, in 2 observed frames.
    colours = np.array([[200, 10, 20], [10, 200, 20], [10, 20, 200], [90, 91, 92]])
    frames = np.repeat(colours.T.reshape(1, 3, 2, 2) / 255, 2, axis=0)
    picture = prediction_strip(frames, frames * 0, frames * 0)
    assert [count(picture, colour) for colour in colours] == [7200] * 4


def test_large_frames_keep_one_canvas_pixel_each():
    frames = np.zeros((1, 3, 200, 300))
    frames[:, 0] = 123 / 255
    assert count(prediction_strip(frames, frames * 0, frames * 0), (123, 0, 0)) == 200 * 300


def test_frames_of_one_channel_are_drawn_in_grey():
    frames = np.full((1, 1, 4, 4), 51 / 255)
    assert count(prediction_strip(frames, frames * 0, frames * 0), (51, 51, 51)) == 120 * 120


def test_the_sign_of_the_error_is_its_colour():
    truth = np.zeros((1, 1, 2, 2))
    bright = truth.copy()
    bright[..., 0, 0] = 1.0
    # The colour bar shows its ends too, so more than the pixel of 60 x 60 may be found, but not as much as in a second pixel.
    assert 3600 <= count(prediction_strip(truth, truth, bright), RED) < 4200
    assert 3600 <= count(prediction_strip(truth, bright, truth), BLUE) < 4200


def test_a_long_clip_makes_a_picture_that_is_not_wider():
    frames = np.ones((20, 1, 32, 32))
    short, long = (pixels(prediction_strip(f, f, f)) for f in (frames[:12], frames))
    assert long.shape[1] < 1.2 * short.shape[1]
    assert long.shape[0] < short.shape[0]


def test_the_same_frames_give_the_same_bytes():
    frames = np.random.default_rng(0).random((3, 1, 8, 8))
    assert prediction_strip(frames, frames, frames) == prediction_strip(frames, frames, frames)
