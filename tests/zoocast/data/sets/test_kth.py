"""KTH: the original films with their text, and the folders of the releases."""

import re

import numpy as np
import pytest

from tests.fakes import kth
from zoocast.data.recordings import Window
from zoocast.data.sets.kth import KthConfig
from zoocast.errors import ConfigError, DataError

SMALL = {"length": 10, "height": 0, "width": 0}


def quiet(_fraction, _message):
    pass


def persons(config):
    """Who is in each split."""
    recordings = config.recordings()
    return {split: sorted({int(recordings[w.recording].group) for w in ws}) for split, ws in config.windows(recordings).items()}


def test_clips_of_films_lie_in_the_ranges_of_the_text(tmp_path):
    # Out of order, with a shared frame, and two ranges that touch: 0-19 and 24-39.
    kth.write(
        tmp_path, {"person01_jogging_d1": "30-40, 1-10, 11-20, 25-30", "person15_boxing_d2": "1-40", "person17_boxing_d3": "3-12"}
    )
    config = KthConfig(path=str(tmp_path), **SMALL, stride=5)
    config.check()
    assert [recording.runs for recording in config.recordings()] == [(range(20), range(24, 40)), (range(40),), (range(2, 12),)]
    assert [w.start for w in config.windows(config.recordings())["train"]] == [0, 5, 10, 24, 29]
    store = config.build(tmp_path / "store", quiet)
    (clip,) = store.split("test").gather([0])[:, :, 0]
    # The codec loses a little; the frames are those from number 2 on.
    assert np.abs(clip.numpy().astype(int) - kth.frames(17, 12)[2:]).mean() < 4


def test_splits_are_those_of_the_protocol(tmp_path):
    everyone = {f"person{number:02d}_walking_d1": [*range(1, 13)] for number in range(1, 26)}
    kth.write_folders(tmp_path, everyone)
    by_name = {name: persons(KthConfig(path=str(tmp_path), protocol=name, **SMALL)) for name in ("strict", "icpr", "openstl")}
    assert by_name["strict"] == {"train": [*range(1, 15)], "validation": [15, 16], "test": [*range(17, 26)]}
    assert by_name["icpr"]["train"] == [*range(11, 19)]
    assert sorted(person for persons in by_name["icpr"].values() for person in persons) == [*range(1, 26)]
    assert by_name["openstl"] == {"train": [*range(1, 17)], "validation": [*range(17, 26)], "test": [*range(17, 26)]}
    assert any("its test validate" in remark for remark in KthConfig(path=str(tmp_path), protocol="openstl", **SMALL).remarks())


def test_the_releases_cut_from_the_end_of_each_run_and_let_those_who_run_overlap(tmp_path):
    gone = [*range(1, 26), *range(40, 52)]  # 25 frames, a gap, 12 frames
    kth.write_folders(tmp_path, {"person01_boxing_d1": gone, "person02_running_d1": gone, "person20_boxing_d1": gone})
    config = KthConfig(path=str(tmp_path), protocol="predrnn", **SMALL)
    windows = config.windows(config.recordings())
    boxing, running = ([w.start for w in windows["train"] if w.recording == number] for number in (0, 1))
    assert boxing == [15, 5, 27]
    assert running == [15, 12, 9, 6, 3, 0, 27]
    assert windows["validation"] == windows["test"] == [Window(2, start, 10) for start in boxing]


def test_of_a_film_that_is_cut_off_the_ranges_behind_are_left_out(tmp_path):
    films = {"person01_boxing_d4": "1-15, 16-30, 31-40", "person15_boxing_d1": "1-40", "person17_boxing_d1": "1-40"}
    kth.write(tmp_path, films)
    path = tmp_path / "boxing" / "person01_boxing_d4_uncomp.avi"
    data = path.read_bytes()
    behind = [place.start() for place in re.finditer(b"00dc", data)]
    path.write_bytes(data[: behind[20]])
    config = KthConfig(path=str(tmp_path), **SMALL)
    damaged = config.recordings()[0]
    assert damaged.runs == (range(15),)
    assert any(
        "left out, not whole in a damaged film: person01_boxing_d4 16-30, person01_boxing_d4 31-40" in remark
        for remark in config.remarks()
    )
    config.build(tmp_path / "store", quiet)


def test_damage_inside_a_film_is_named_and_verify_leaves_its_range_out(tmp_path):
    kth.write(tmp_path, {f"person{number:02d}_boxing_d1": "1-20, 21-40" for number in (1, 15, 17)})
    path = tmp_path / "boxing" / "person01_boxing_d1_uncomp.avi"
    data = bytearray(path.read_bytes())
    frame, after = [place.start() for place in re.finditer(b"00dc", data)][27:29]
    data[frame + 8 : after] = b"\xff" * (after - frame - 8)  # behind its name and length
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"person01_boxing_d1_uncomp\.avi: frame 2\d of 40 cannot be decoded; .* set verify"):
        KthConfig(path=str(tmp_path), **SMALL).build(tmp_path / "store", quiet)
    verified = KthConfig(path=str(tmp_path), **SMALL, verify=True)
    assert verified.recordings()[0].runs == (range(20),)
    assert verified.remarks()[-1].endswith("left out, not whole in a damaged film: person01_boxing_d1 21-40")
    assert verified.build(tmp_path / "store", quiet).recipe.length == 10


def test_settings_that_a_protocol_does_not_heed_are_refused():
    for field, settings in (("stride", {"stride": 3, "protocol": "predrnn"}), ("split", {"split": "time"}), ("gap", {"gap": 2})):
        with pytest.raises(ConfigError) as raised:
            KthConfig(**settings)
        assert raised.value.field == field


def test_what_is_no_kth_is_named(tmp_path):
    with pytest.raises(DataError, match=r"neither films like person01_boxing_d1_uncomp\.avi"):
        KthConfig(path=str(tmp_path)).check()
    kth.write(tmp_path, {"person01_boxing_d1": "1-40"}, count=4)
    (tmp_path / "00sequences.txt").write_text("nothing")
    with pytest.raises(DataError, match="does not list person01_boxing_d1"):
        KthConfig(path=str(tmp_path)).check()
    (tmp_path / "00sequences.txt").unlink()
    with pytest.raises(DataError, match="does not exist"):
        KthConfig(path=str(tmp_path)).check()
