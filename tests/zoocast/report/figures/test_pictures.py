import io

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from zoocast.report.figures import gate_pictures, listening_picture, moving_comparison, strip_comparison

RED, GREEN, BLUE, GREY = (200, 10, 20), (10, 200, 20), (10, 20, 200), (90, 91, 92)


def decode(png: bytes) -> np.ndarray:
    """(height, width, 3) uint8."""
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(np.uint8)


def count(png: bytes, color: tuple[int, int, int]) -> int:
    return int((decode(png) == np.array(color, np.uint8)).all(axis=-1).sum())


def clip(*pixels: tuple[int, int, int], frames: int = 1) -> np.ndarray:
    """Frames of 2x2 coloured pixels: (frames, 3, 2, 2) uint8."""
    return np.repeat(np.array(pixels, np.uint8).T.reshape(1, 3, 2, 2), frames, axis=0)


def test_every_pixel_becomes_a_square_of_its_own_colour() -> None:
    # Frames of 2x2 pixels are shown 120 canvas pixels wide, so a pixel is 60 x 60 = 3600, in 2 observed frames.
    frames = clip(RED, GREEN, BLUE, GREY, frames=2)
    black = np.zeros_like(frames)
    strip = strip_comparison(frames, black, {"tmu": black})
    assert [count(strip, c) for c in (RED, GREEN, BLUE, GREY)] == [7200] * 4


def test_large_frames_keep_one_canvas_pixel_each() -> None:
    frames = np.full((1, 3, 200, 300), 0, np.uint8)
    frames[:, 0] = 123
    assert count(strip_comparison(frames, frames * 0, {"tmu": frames * 0}), (123, 0, 0)) == 200 * 300


def test_one_channel_is_grey_and_floats_are_bytes() -> None:
    frames = np.full((1, 1, 4, 4), 51 / 255)
    black = np.zeros_like(frames)
    assert count(strip_comparison(frames, black, {"tmu": black}), (51, 51, 51)) == 120 * 120


def test_the_sign_of_the_error_is_its_colour() -> None:
    grey = np.full((1, 1, 2, 2), 0.5)
    bright, dark = grey.copy(), grey.copy()
    bright[..., 0, 0], dark[..., 0, 0] = 1.0, 0.0
    # The largest error is the limit; the ends of matplotlib's RdBu_r are (103, 0, 31), too bright, and (5, 48, 97), too dark.
    # The colour bar shows its ends too, so more than the pixel of 60 x 60 may be found, but not as much as in a second pixel.
    too_bright = strip_comparison(grey, grey, {"tmu": bright})
    too_dark = strip_comparison(grey, grey, {"tmu": dark})
    assert 3600 <= count(too_bright, (103, 0, 31)) < 4200
    assert 3600 <= count(too_dark, (5, 48, 97)) < 4200
    assert count(too_bright, (5, 48, 97)) < 600


def test_all_arms_share_one_error_scale() -> None:
    truth = np.full((1, 1, 2, 2), 0.5)
    # Largest errors 0.1, 0.1 and 0.5: the median 0.1 is the limit, so every pixel of every arm is at the end of the scale.
    arms = {"scratch": truth + 0.1, "tmu": truth + 0.1, "copy-last": truth + 0.5}
    assert count(strip_comparison(truth, truth, arms), (103, 0, 31)) >= 3 * 120 * 120


def test_a_perfect_arm_has_an_even_error() -> None:
    truth = np.full((2, 1, 2, 2), 0.5)
    assert decode(strip_comparison(truth, truth, {"tmu": truth})).size


def test_of_a_long_clip_six_frames_are_shown() -> None:
    frames = clip(RED, RED, RED, RED, frames=10)
    black = np.zeros_like(frames)
    assert count(strip_comparison(frames, black, {"tmu": black}), RED) == 6 * 120 * 120


def test_the_same_frames_give_the_same_bytes() -> None:
    frames = clip(RED, GREEN, BLUE, GREY)
    assert strip_comparison(frames, frames, {"tmu": frames}) == strip_comparison(frames, frames, {"tmu": frames})


def test_gates_share_one_scale_over_sources_and_time() -> None:
    gates = np.full((2, 5, 3, 3), 0.2)
    gates[0, 0, 0, 0] = gates[1, 4, 2, 2] = 0.9
    # 120 // 3 = 40 canvas pixels a side; magma ends in (252, 253, 191), which the colour bar shows, too
    brightest = count(gate_pictures(gates, ["a", "b"], observed=3), (252, 253, 191))
    assert 2 * 1600 <= brightest < 2 * 1600 + 300


def test_an_even_gate_is_an_even_picture() -> None:
    gates = 0.5 + np.random.default_rng(0).normal(0, 1e-6, (1, 4, 3, 3))
    picture = decode(gate_pictures(gates, ["a"], observed=2))
    colors, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    tiles = [c for c, n in zip(colors, counts, strict=True) if n >= 1600 and c.min() < 200]
    assert 1 <= len(tiles) <= 2  # the middle of the scale lies between two of matplotlib's 256 colours


@pytest.mark.parametrize("observed", [0, 3, 4, 99])
def test_a_boundary_outside_the_steps_is_not_drawn(observed: int) -> None:
    assert gate_pictures(np.zeros((1, 4, 2, 2)), ["a"], observed=observed).startswith(b"\x89PNG")


def test_gates_need_a_name_for_each_source() -> None:
    with pytest.raises(ValueError, match="each of the 2 gates"):
        gate_pictures(np.zeros((2, 4, 2, 2)), ["a"], observed=2)


@pytest.mark.parametrize("shape", [(1, 1, 12, 64), (1, 1, 64, 12), (2, 1, 200, 300)])
@pytest.mark.parametrize("note", ["", "MSE 0.0123"])
def test_nothing_is_cut_off_where_frames_are_few_or_narrow(shape: tuple[int, ...], note: str) -> None:
    frames = np.random.default_rng(0).random(shape)
    picture = decode(strip_comparison(frames, frames * 0, {"a": frames, "b": frames * 0.5}, notes={"a": note, "b": note}))
    # what is written at the right ends some pixels before the edge
    assert (picture[:, -4:] == 255).all()
    gates = decode(gate_pictures(np.random.default_rng(0).random((1, 1, 4, 4)), ["x"], observed=1))
    assert (gates[-2 * 26 :, -4:] == 255).all()


def test_every_clip_is_a_column_divided_among_the_sources_by_weight() -> None:
    # The first two colours of the palette; three quarters of four clips' weight lie on the first source.
    first, second = (0, 114, 178), (0, 158, 115)
    weights = np.array([[2.0, 0.0], [1.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    frames = np.zeros((3, 1, 8, 8))
    for kinds in ((), ("a", "b", "a", "b")):
        picture = listening_picture(weights, ("one", "a source of a long name"), kinds, {0: frames, 1: frames})
        assert count(picture, first) / count(picture, second) == pytest.approx(3, rel=0.05)
        assert (decode(picture)[:, -4:] == 255).all()  # nothing is cut off


def moving(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_clip_in_motion_shows_what_was_observed_and_then_what_is_predicted() -> None:
    observed, truth = clip(RED, RED, RED, RED, frames=2), clip(GREEN, GREEN, GREEN, GREEN, frames=3)
    picture = moving(moving_comparison(observed, truth, {"tmu": clip(BLUE, BLUE, BLUE, BLUE, frames=3)}))
    assert picture.n_frames == 5
    shown = []
    for frame in range(5):
        picture.seek(frame)
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        shown.append([int((pixels == np.array(c)).all(axis=1).sum()) // 96**2 for c in (RED, GREEN, BLUE)])
    assert shown == [[2, 0, 0]] * 2 + [[0, 1, 1]] * 3


def test_a_clip_in_motion_is_small_whatever_it_shows() -> None:
    noise = np.random.default_rng(0)
    png = moving_comparison(
        noise.random((40, 1, 300, 400)), noise.random((90, 1, 300, 400)), {"a": noise.random((90, 1, 300, 400))}
    )
    assert len(png) < 300_000
    picture = moving(png)
    assert picture.n_frames < 60
    assert max(picture.size) <= 800
