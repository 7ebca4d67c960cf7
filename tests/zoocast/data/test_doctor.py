import numpy as np
import pytest

from zoocast.data import doctor
from zoocast.data.doctor import examine
from zoocast.data.splits import SPLITS
from zoocast.data.store import write_store
from zoocast.errors import DataError
from zoocast.frames import FrameShape

COUNTS = {"train": 30, "validation": 6, "test": 10}


def made(**changed):
    """Clips of a bright square on noise, uint8 (N, 6, 2, 12, 10) by split."""
    rng = np.random.default_rng(0)
    clips = {split: rng.integers(0, 256, (count, 6, 2, 12, 10), np.uint8) for split, count in COUNTS.items()}
    return clips | changed


def diagnosed(folder, clips):
    _, length, channels, height, width = clips["train"].shape
    shape = FrameShape(channels=channels, height=height, width=width)
    dtype = str(clips["train"].dtype)
    return examine(write_store(folder, clips, shape=shape, length=length, dtype=dtype, generator={}, shard_bytes=20_000))


def seen(diagnosis):
    return {(finding.check, finding.state): finding.seen for finding in diagnosis.findings}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_numbers_are_those_of_the_values_in_0_to_1(tmp_path, dtype):
    values = {split: clips / np.float32(255) for split, clips in made().items()}
    diagnosis = diagnosed(tmp_path, made() if dtype is np.uint8 else values)
    assert (diagnosis.shape, diagnosis.length, diagnosis.observed) == ("2x12x10", 6, 3)
    mean_frame = values["train"][:, 3:].mean((0, 1), dtype=np.float64)
    for split, clips in values.items():
        facts = diagnosis.splits[split]
        assert (facts.clips, facts.frames, facts.constant, facts.still) == (COUNTS[split], COUNTS[split] * 6, 0, 0)
        for channel, one in enumerate(facts.channels):
            own = clips[:, :, channel].astype(np.float64)
            assert (one.minimum, one.maximum) == (0, 1)
            assert [one.mean, one.deviation] == pytest.approx([own.mean(), own.std()], rel=1e-5)
            assert one.brightest == pytest.approx((own == 1).mean())
        later = clips[:, 3:].astype(np.float64)
        assert facts.copy_last == pytest.approx(((later - clips[:, 2:3]) ** 2).mean(), rel=1e-5)
        assert facts.mean_frame == pytest.approx(((later - mean_frame) ** 2).mean(), rel=1e-5)


def test_nothing_is_wrong_with_clips_that_are_all_different(tmp_path):
    assert {state for _, state in seen(diagnosed(tmp_path, made()))} == {"ok"}


def test_frames_that_stand_in_two_splits_are_leaks_and_empty_ones_are_none(tmp_path):
    clips = made()
    for split in SPLITS:
        clips[split][0, 0] = 0  # nothing is there
    clips["test"][4, 2:4] = clips["train"][7, 1:3]
    clips["test"][5, 0] = clips["validation"][1, 5]
    diagnosis = diagnosed(tmp_path, clips)
    validation, test, between = diagnosis.shared
    assert (validation.frames, validation.clips) == (0, 0)
    assert (test.frames, test.of_frames, test.clips, test.of_clips) == (2, 59, 1, 10)
    assert (between.frames, between.of_frames, between.clips) == (1, 59, 1)
    assert [facts.constant for facts in diagnosis.splits.values()] == [1, 1, 1]
    leaks = [finding for finding in diagnosis.findings if finding.check == "leak"]
    assert [finding.state for finding in leaks] == ["fail", "fail"]
    assert leaks[0].seen == "2 of 59 (3.4%) frames of test stand in train as well, in 1 of 10 (10.0%) clips"


def test_a_leak_is_found_among_more_frames_than_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MOST_HASHES", 100)
    clips = made()
    clips["test"] = clips["train"][:10].copy()
    _, test, _ = diagnosed(tmp_path, clips).shared
    assert 10 < test.of_frames < 60
    assert test.frames == test.of_frames


def test_frames_that_noise_tells_apart_from_training_are_nearly_the_same(tmp_path):
    rng = np.random.default_rng(1)
    clips = made()
    clips["test"] = (
        (clips["train"][20:].astype(int) + rng.integers(-3, 4, clips["train"][20:].shape)).clip(0, 255).astype(np.uint8)
    )
    diagnosis = diagnosed(tmp_path, clips)
    validation, test, _ = diagnosis.shared
    assert (validation.near, validation.of_near, test.near, test.of_near, test.frames) == (0, 24, 40, 40, 0)
    assert seen(diagnosis)[("leak", "fail")] == "40 of 40 (100.0%) frames of test that were looked at are nearly one of train"


def test_clips_that_stand_still_or_stand_there_twice_are_counted(tmp_path):
    clips = made()
    clips["train"][3] = clips["train"][9]
    clips["validation"][:, 1:] = clips["validation"][:, :1]
    diagnosis = diagnosed(tmp_path, clips)
    train, validation, _ = diagnosis.splits.values()
    assert (train.repeated, train.same_clips, train.still) == (6, 1, 0)
    assert (validation.repeated, validation.same_clips, validation.still, validation.copy_last) == (30, 0, 30, 0)
    found = [finding.seen for finding in diagnosis.findings if finding.check == "content"]
    assert found == [
        "train: 1 of 30 clips stand in it twice",
        "validation: 30 of 36 (83.3%) frames are exactly as the one before: to copy it is no forecast",
    ]


def test_a_range_that_does_not_fit_a_networks_is_told(tmp_path):
    clips = {split: clips // 128 for split, clips in made().items()}  # masks of 0 and 1 as bytes
    clips["train"][:, :, 1] = 7
    clips["test"][0, 0, 0, 0, 0] = 9
    found = [(finding.state, finding.seen) for finding in diagnosed(tmp_path, clips).findings if finding.check == "range"]
    assert found == [
        ("warn", "channel 0: training's values lie between 0 and 0.003922, while a network predicts 0 to 1"),
        ("fail", "channel 1: training's values lie between 0.02745 and 0.02745: there is nothing to learn from it"),
        (
            "warn",
            "channel 1: validation has values from 0 to 0.003922, training from 0.02745 to 0.02745: a network never saw such",
        ),
        ("warn", "channel 0: test has values from 0 to 0.03529, training from 0 to 0.003922: a network never saw such"),
        ("warn", "channel 1: test has values from 0 to 0.003922, training from 0.02745 to 0.02745: a network never saw such"),
    ]


def test_clips_of_one_frame_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds clips of 1 frame, of which nothing can be predicted"):
        diagnosed(tmp_path, {split: clips[:, :1] for split, clips in made().items()})
