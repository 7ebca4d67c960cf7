"""Human3.6M, by subject and by OpenSTL's lists."""

import pytest

from tests.fakes import human36m
from zoocast.data.doctor import examine
from zoocast.data.sets.human36m import Human36mConfig, shared_frames
from zoocast.errors import ConfigError, DataError

FILMS = {f"{subject}_{action}.54138969": 12 for subject in ("S1", "S8", "S11") for action in ("Walking", "Eating")}
AS_IT_IS = {"height": 0, "width": 0}


def quiet(_fraction, _message):
    pass


def test_subjects_are_apart_and_clips_are_the_pictures_in_order(tmp_path):
    human36m.write(tmp_path, FILMS)
    config = Human36mConfig(path=str(tmp_path), **AS_IT_IS, stride=4, actions=("Walking",))
    assert [recording.name for recording in config.recordings()] == [f"{who}_Walking.54138969" for who in ("S1", "S8", "S11")]
    assert config.counts() == {"train": 2, "validation": 1 * 2, "test": 2}
    store = config.build(tmp_path / "store", quiet)
    # Red is the number of a frame, every fifth from 1 on; S11_Walking is the fifth film that was written.
    clip = (store.split("test").clips([1])[0, :, :2, 0, 0] * 255).round()
    assert clip[:, 0] == pytest.approx([21 + 5 * n for n in range(8)], abs=2)
    assert clip[:, 1] == pytest.approx([160] * 8, abs=2)


def test_the_lists_are_followed_and_their_leak_is_told(tmp_path):
    film, other = "S1_Walking.54138969", "S11_Walking.54138969"
    # Frames 11 to 46 of the test are in 1 to 36 of the training but for two; the other clip shares none.
    human36m.write(tmp_path, FILMS, train=[(film, 1)], test=[(film, 11), (other, 21)])
    config = Human36mConfig(path=str(tmp_path), **AS_IT_IS, protocol="openstl")
    recordings = config.recordings()
    windows = config.windows(recordings)
    assert [(recordings[w.recording].name, w.start) for w in windows["test"]] == [(film, 2), (other, 4)]
    assert windows["validation"] == windows["test"]
    assert config.counts() == {"train": 1, "validation": 2, "test": 2}
    # One clip of two, and two of the eight frames to predict.
    assert any("50.0% of the clips of the test" in remark and "25.0% of the frames" in remark for remark in config.remarks())
    assert shared_frames([("a", 1)], [("a", 41)]) == (0, 0)
    leaks = [finding for finding in examine(config.build(tmp_path / "store", quiet)).findings if finding.state == "fail"]
    assert any("train" in str(finding) and "test" in str(finding) for finding in leaks)
    before = config.source_digest()
    (tmp_path / "train.txt").write_text(f"images/{film}_,6,76\n")
    assert config.source_digest() != before


def test_lists_that_do_not_fit_are_named(tmp_path):
    human36m.write(tmp_path, FILMS, train=[("S1_Walking.54138969", 31)], test=[("S1_Walking.54138969", 1)])
    with pytest.raises(DataError, match=r"train\.txt takes S1_Walking\.54138969_000031\.jpg"):
        Human36mConfig(path=str(tmp_path), protocol="openstl").check()
    (tmp_path / "test.txt").write_text("images/S1_Walking.54138969_000001.jpg")
    (tmp_path / "train.txt").write_text("images/S1_Walking.54138969_,1,71")
    with pytest.raises(DataError, match="expected lines like"):
        Human36mConfig(path=str(tmp_path), protocol="openstl").check()
    with pytest.raises(DataError, match="no picture of Sitting"):
        Human36mConfig(path=str(tmp_path), actions=("Sitting",)).check()


@pytest.mark.parametrize(("field", "value"), [("length", 9), ("step", 2), ("stride", 4)])
def test_the_lists_cut_clips_and_settings_do_not(field, value):
    with pytest.raises(ConfigError, match="whose lists cut") as raised:
        Human36mConfig(protocol="openstl", **{field: value})
    assert raised.value.field == field


def test_a_damaged_picture_is_named(tmp_path):
    human36m.write(tmp_path, FILMS)
    path = tmp_path / "images" / "S8_Eating.54138969_000011.jpg"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"S8_Eating\.54138969_000011\.jpg cannot be read"):
        Human36mConfig(path=str(tmp_path)).check()
