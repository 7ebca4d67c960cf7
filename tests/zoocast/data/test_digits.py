import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zoocast.config import canonical, dump, load, override, overrides_between
from zoocast.data.digits import DigitsConfig, digit_images
from zoocast.data.splits import SPLITS
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

SMALL = DigitsConfig(train=70, validation=5, test=3, length=4)


def quiet(fraction, message):
    assert 0 <= fraction <= 1
    assert message


def test_the_splits_partition_all_digit_images():
    images = {split: {image.tobytes() for image in digit_images(split, 8)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not images[one] & images[other]
    assert set().union(*images.values()) == {np.rint(i * 255 / 16).astype(np.uint8).tobytes() for i in load_digits().images}
    # 1,797 images in shares of 7 : 1 : 2.
    assert {split: len(digit_images(split, 8)) for split in SPLITS} == {"train": 1257, "validation": 180, "test": 360}


def test_a_store_is_what_its_config_says(tmp_path):
    store = SMALL.build(tmp_path, quiet)
    assert store.shape == SMALL.frame_shape() == FrameShape(channels=1, height=32, width=32)
    assert store.length == SMALL.length == 4
    assert {split: len(store.split(split)) for split in SPLITS} == SMALL.counts() == {"train": 70, "validation": 5, "test": 3}
    assert store.recipe.generator == {"name": "digits", "parameters": canonical(SMALL)}
    clips = store.split("train").clips(range(70))
    assert clips.shape == (70, 4, 1, 32, 32)
    assert clips.min() == 0
    assert 0.9 < clips.max() <= 1
    size = sum(f.stat().st_size for f in tmp_path.glob("*.arrow"))
    assert SMALL.estimated_bytes() == 78 * 4 * 32 * 32
    assert SMALL.estimated_bytes() <= size < SMALL.estimated_bytes() + 20_000


def test_two_builds_give_the_same_files(tmp_path):
    one, other = SMALL.build(tmp_path / "a", quiet), SMALL.build(tmp_path / "b", quiet)
    assert one.digest == other.digest
    names = sorted(f.name for f in (tmp_path / "a").iterdir())
    assert names == ["manifest.json", "test-00000.arrow", "train-00000.arrow", "validation-00000.arrow"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_clips_are_those_of_the_first_release(tmp_path):
    # Pinned: whoever changes what a seed gives must know that every step's identity then lies.
    clips = SMALL.build(tmp_path, quiet).split("train").gather(range(70)).numpy()
    assert hashlib.sha256(clips.tobytes()).hexdigest()[:16] == "fbf0a95acefe1ca7"


def test_a_clip_does_not_depend_on_how_many_there_are(tmp_path):
    few = SMALL.build(tmp_path / "few", quiet)
    many = DigitsConfig(train=75, validation=9, test=3, length=4).build(tmp_path / "many", quiet)
    assert few.digest != many.digest
    for split, count in SMALL.counts().items():
        assert few.split(split).gather(range(count)).equal(many.split(split).gather(range(count)))


def test_another_seed_gives_other_clips(tmp_path):
    one = SMALL.build(tmp_path / "a", quiet)
    other = DigitsConfig(train=70, validation=5, test=3, length=4, seed=1).build(tmp_path / "b", quiet)
    assert not one.split("test").gather([0]).equal(other.split("test").gather([0]))


def test_a_clip_shows_as_many_digits_as_asked(tmp_path):
    # Sum of brightness over clips: three digits are about three times as bright as one, less what covers each other.
    light = [
        DigitsConfig(num_digits=n, train=200, validation=1, test=1, length=2)
        .build(tmp_path / str(n), quiet)
        .split("train")
        .clips(range(200))
        .sum()
        for n in (1, 3)
    ]
    assert 2.2 < float(light[1] / light[0]) < 3.0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"motions": ("still",)}, "fa12a2804b36c16b"),
        ({"subpixel": True}, "16227a1a3cb4675f"),
        ({"motions": ("turn",)}, "ac2b56d05d330cfa"),
        ({"motions": ("pulse",)}, "830d4eca98e906bd"),
        ({"motions": ("orbit",)}, "1e8461f3f66cc58a"),
        ({"motions": ("gravity",)}, "e8ca059432a7b8cf"),
        ({"motions": ("move+turn+pulse",)}, "652d64dd1cccac80"),
        ({"glyphs": "shapes"}, "d629d9fb871faaf0"),
    ],
    ids=str,
)
def test_the_clips_of_every_motion_stay_what_they_are(changed, expected):
    # Pinned, as those above. Eight frames: digits turn far, and what falls bounces.
    assert clips_digest(dataclasses.replace(SMALL, length=8, **changed)) == expected


def clips_digest(config):
    return hashlib.sha256(np.stack(list(config._clips("train", config._kinds(4)))).tobytes()).hexdigest()[:16]


def test_a_mixture_says_the_kind_of_each_clip_and_draws_it_as_a_set_of_that_kind_alone(tmp_path):
    mixed = dataclasses.replace(SMALL, motions=("move", "turn", "move+turn"), shares=(2, 1, 1))
    store = mixed.build(tmp_path / "mixed", quiet)
    assert store.recipe.kinds == ("move", "turn", "move+turn")
    kinds = store.split("train").kinds
    assert [kinds.count(kind) for kind in mixed.motions] == [35, 18, 17]
    for kind in mixed.motions:
        alone = dataclasses.replace(SMALL, motions=(kind,)).build(tmp_path / kind, quiet).split("train")
        assert alone.kinds == ()
        own = [index for index, found in enumerate(kinds) if found == kind]
        assert store.split("train").gather(own).equal(alone.gather(own))


def test_settings_of_motions_are_in_the_identity_only_where_they_differ():
    assert canonical(DigitsConfig(motions=("move",), glyphs="digits")) == canonical(DigitsConfig())
    assert "motions" not in canonical(DigitsConfig())
    assert canonical(DigitsConfig(motions=("turn",)))["motions"] == ["turn"]


def test_motions_and_shares_are_set_with_commas():
    given = override(SMALL, {"motions": "move, turn,move+turn", "shares": "2,1,1", "glyphs": "shapes"})
    assert (given.motions, given.shares, given.glyphs) == (("move", "turn", "move+turn"), (2.0, 1.0, 1.0), "shapes")
    assert override(SMALL, overrides_between(SMALL, given)) == given


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"digit_size": 7}, "digit_size"),
        ({"digit_size": 33}, "frame_size"),
        ({"num_digits": 6}, "num_digits"),
        ({"num_digits": 0}, "num_digits"),
        ({"length": 1}, "length"),
        ({"validation": 0}, "validation"),
        ({"seed": -1}, "seed"),
        ({"min_speed": 0.0}, "min_speed"),
        ({"min_speed": 3.0}, "min_speed"),
        ({"max_speed": 18.5}, "max_speed"),
        ({"motions": ()}, "motions"),
        ({"motions": ("move", "spin")}, "motions"),
        ({"motions": ("move+turn", "turn+move")}, "motions"),
        ({"motions": ("move", "turn"), "shares": (1.0,)}, "shares"),
        ({"motions": ("move", "turn"), "shares": (1.0, 0.0)}, "shares"),
        ({"min_turn": 0.4}, "min_turn"),
        ({"max_turn": 4.0}, "max_turn"),
        ({"max_pulse": 1.0}, "max_pulse"),
        ({"min_orbit": 6.0}, "min_orbit"),
        ({"gravity": 0.0}, "gravity"),
        ({"restitution": 1.1}, "restitution"),
        # Turned, 24 pixels are 34 across, more than the frame; 20 are 28.3, which leaves 3.7 to go.
        ({"digit_size": 24, "num_digits": 1, "motions": ("turn",)}, "motions"),
        ({"digit_size": 20, "num_digits": 1, "motions": ("move+turn",), "max_speed": 4.0}, "motions"),
        ({"motions": ("turn+pulse+orbit",)}, "motions"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, field):
    with pytest.raises(ConfigError) as raised:
        DigitsConfig(**settings)
    assert raised.value.field == field


def test_a_frame_that_is_too_small_for_a_motion_is_told_with_one_that_is_not():
    def turning(frame_size):
        return DigitsConfig(num_digits=1, digit_size=24, frame_size=frame_size, motions=("move+turn",))

    # 24 times the root of 2 is 33.9, and 2 more are the way of the fastest digit in one frame.
    with pytest.raises(ConfigError, match=r"move\+turn needs a frame_size of at least 36 for digits of 24 pixels.*, but got 35"):
        turning(35)
    turning(36)


def test_the_config_goes_through_json_and_back():
    assert load(DigitsConfig, dump(SMALL)) == SMALL
    assert SMALL.source_digest() == ""
    SMALL.check()
