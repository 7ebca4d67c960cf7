import itertools

import numpy as np
import pytest

from zoocast.data.motions import MOTIONS, Motion, bounce, deal, fall, parse_motion
from zoocast.errors import ConfigError

EVERY = {
    "speed": (1.0, 2.0),
    "turn": (0.15, 0.35),
    "pulse": (0.25, 0.35),
    "pulse_rate": (0.3, 0.6),
    "orbit": (1.0, 2.0),
    "orbit_rate": (0.2, 0.5),
    "gravity": 0.25,
    "restitution": 0.85,
}
KINDS = ["+".join(parts) for n in (1, 2, 3) for parts in itertools.combinations(MOTIONS[1:-1], n)]
KINDS += ["still", "gravity", "gravity+turn+orbit"]


def track(kind, seed=0, num_images=40, length=60, frame_size=48, side=14):
    motion = Motion(parts=parse_motion(kind), **EVERY)
    rng = np.random.default_rng(seed)
    return motion.track(rng, num_images=num_images, height=side, width=side, frame_size=frame_size, length=length)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_images_do_their_squares_stay_inside_the_frame(kind):
    places, angles, scales = track(kind)
    # The corners of the square of 14 pixels, turned and scaled about its centre.
    centre = places + 7
    for y, x in itertools.product((-7, 7), repeat=2):
        corner = centre + scales[..., None] * np.stack(
            [np.cos(angles) * y + np.sin(angles) * x, np.cos(angles) * x - np.sin(angles) * y], axis=-1
        )
        assert corner.min() > -1e-9
        assert corner.max() < 48 + 1e-9


def test_each_motion_changes_what_it_is_about_and_nothing_else():
    def changes(kind):
        return tuple(bool(np.ptp(values, axis=0).any()) for values in track(kind))

    assert {kind: changes(kind) for kind in MOTIONS} == {
        "still": (False, False, False),
        "move": (True, False, False),
        "turn": (False, True, False),
        "pulse": (False, False, True),
        "orbit": (True, False, False),
        "gravity": (True, False, False),
    }
    assert changes("move+turn+pulse") == (True, True, True)


def test_turns_pulses_and_orbits_have_the_sizes_and_rates_asked_for():
    turns = np.diff(track("turn").angles, axis=0)
    np.testing.assert_allclose(turns, np.broadcast_to(turns[0], turns.shape))
    assert (abs(turns[0]) >= 0.15).all()
    assert (abs(turns[0]) <= 0.35).all()
    assert {-1, 1} == set(np.sign(turns[0]))
    # In 60 frames every pulse, of 21 frames at most, comes close to its largest and its smallest.
    scales = track("pulse").scales
    assert scales.max(0).min() > 1.24
    assert 1.33 < scales.max() <= 1.35
    assert 0.65 <= scales.min() < 0.67
    places = track("orbit").places
    centres, radii = (places.max(0) + places.min(0)) / 2, (places.max(0) - places.min(0)) / 2
    assert radii.min() > 0.95
    assert radii.max() <= 2
    np.testing.assert_allclose(np.linalg.norm(places - centres, axis=2), np.broadcast_to(radii.mean(1), (60, 40)), rtol=0.05)


def test_a_point_bounces_at_both_walls_without_losing_speed():
    # From 1 with speed 2 in a room of 5: 1, 3, 5, then back 3, 1, wall at 0 after half a step and on to 1, 3, 5.
    path = bounce(np.array([1.0]), np.array([2.0]), 8, np.array([5.0]))
    np.testing.assert_array_equal(path[:, 0], [1, 3, 5, 3, 1, 1, 3, 5])
    # To the left the mirror image of the start: 1, -1 -> 1, 3, 5.
    np.testing.assert_array_equal(bounce(np.array([1.0]), np.array([-2.0]), 4, np.array([5.0]))[:, 0], [1, 1, 3, 5])


def test_points_stay_in_the_room_however_long_they_fly():
    rng = np.random.default_rng(0)
    path = bounce(rng.uniform(0, 7, 50), rng.uniform(-7, 7, 50), 500, np.full(50, 7))
    assert path.min() >= 0
    assert path.max() <= 7


def test_what_falls_loses_height_with_every_bounce():
    # From 2 pixels above the floor with gravity 4: on the floor after 1 frame with speed 4, back with 2, up to 0.5 half a frame
    # later, down again after 1 frame with speed 2, back with 1 ...
    assert fall(8.0, 0.0, 4, 10.0, 4.0, 0.5) == pytest.approx([8.0, 10.0, 10.0, 10.0])
    # ... as seen at a tenth of the time.
    fine = fall(8.0, 0.0, 41, 10.0, 0.04, 0.5)
    assert fine[5] == pytest.approx(7.5 + 1.0)
    assert fine[10] == pytest.approx(10.0)
    assert fine[15] == pytest.approx(9.5)
    assert fine[20] == pytest.approx(10.0)
    # Thrown up with 0.4 from there: 2 pixels higher after 10 frames, and without loss as high again after 40 more.
    thrown = fall(8.0, -0.4, 60, 10.0, 0.04, 1.0)
    assert thrown[10] == pytest.approx(6.0)
    assert max(thrown) <= 10.0
    assert min(thrown) >= 6.0 - 1e-9
    assert min(thrown[30:]) == pytest.approx(6.0, abs=0.01)


def test_a_landing_on_the_very_frame_is_one_bounce():
    # From 2 pixels above the floor with gravity 1, without loss: on the floor at 2 and 6, where it began at 4 and 8.
    assert fall(8.0, 0.0, 9, 10.0, 1.0, 1.0) == pytest.approx([8, 8.5, 10, 8.5, 8, 8.5, 10, 8.5, 8])
    for gravity in (0.07, 0.3, 1.1):
        # Landings that fall on whole frames but for rounding: from a height of gravity * n^2 / 2.
        for frames in range(2, 9):
            rows = fall(50 - gravity * frames**2 / 2, 0.0, 4 * frames + 1, 50.0, gravity, 1.0)
            assert rows[:: 2 * frames] == pytest.approx([rows[0]] * 3)
            assert rows[frames :: 2 * frames] == pytest.approx([50.0] * 2)


def test_what_falls_comes_to_rest_and_stays_in_the_room():
    assert fall(0.0, 0.0, 400, 18.0, 0.25, 0.85)[-100:] == [18.0] * 100
    assert fall(18.0, 0.0, 3, 18.0, 0.25, 0.85) == [18.0] * 3
    places = track("gravity", length=300).places
    assert places.min() >= 0
    assert places.max() <= 34
    assert (places[-1, :, 0] == 34).all()
    assert (places[0, :, 0] <= 0.6 * 34).all()


def test_clips_of_the_same_number_differ_only_in_what_their_images_do():
    move, turning = track("move"), track("turn")
    np.testing.assert_array_equal(track("move+turn").angles, turning.angles)
    # Both start at the same share of the room that they have.
    margin = (14 * np.sqrt(2) - 14) / 2
    np.testing.assert_allclose(move.places[0] / 34, (turning.places[0] - margin) / (34 - 2 * margin))


def test_the_room_is_what_is_left_between_the_walls():
    def room(kind):
        return Motion(parts=parse_motion(kind), **EVERY).room(14, 14, 32)

    assert room("move") == 18
    assert room("orbit") == 18 - 4
    assert room("turn") == pytest.approx(32 - 14 * np.sqrt(2))
    assert room("pulse") == pytest.approx(32 - 14 * 1.35)
    assert room("turn+pulse+orbit") == pytest.approx(32 - 14 * np.sqrt(2) * 1.35 - 4)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("spin", "must be of still, move, turn, pulse, orbit, gravity, several at once joined by +, but got 'spin'"),
        ("move+", "but got ''"),
        ("move;turn", "but got 'move;turn'"),
        ("turn+turn", "names a motion twice"),
        ("still+turn", "still is no motion to join"),
        ("move+gravity", "gravity moves already"),
    ],
)
def test_what_is_no_motion_is_refused(kind, message):
    with pytest.raises(ConfigError) as raised:
        parse_motion(kind)
    assert raised.value.field == "motions"
    assert message in raised.value.message


def test_kinds_take_turns_and_every_beginning_has_their_shares():
    assert deal((1, 1), 6) == [0, 1, 0, 1, 0, 1]
    assert deal((2, 2, 2), 6) == [0, 1, 2, 0, 1, 2]
    assert deal((0.25, 0.75), 8) == [1, 0, 1, 1, 1, 0, 1, 1]
    assert deal((5,), 3) == [0, 0, 0]
    rng = np.random.default_rng(0)
    for kinds in (2, 3, 5, 8):
        shares = rng.uniform(0.05, 1, kinds)
        dealt = deal(shares.tolist(), 200)
        assert dealt[:70] == deal(shares.tolist(), 70)
        counts = np.cumsum(np.eye(kinds)[dealt], axis=0)
        off = counts - np.arange(1, 201)[:, None] * shares / shares.sum()
        assert abs(off).max() <= 1 - 1 / (2 * kinds - 2) + 1e-9
