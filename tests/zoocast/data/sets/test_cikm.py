import numpy as np
import pytest

from tests.fakes import cikm, shanghai
from zoocast.data.sets.cikm import CikmConfig
from zoocast.errors import DataError


def names(config):
    recordings = config.recordings()
    return {
        split: [recordings[window.recording].name for window in windows] for split, windows in config.windows(recordings).items()
    }


def test_the_published_lines_are_films_of_four_heights(tmp_path):
    cikm.write(tmp_path)
    config = CikmConfig(path=str(tmp_path))
    assert names(config) == {
        "train": [f"train/train_{n}" for n in (1, 2, 3, 4)],
        "validation": ["train/train_5"],
        "test": ["testA/testA_1", "testB/testB_1"],
    }
    sample = config.recordings()[1]
    assert (sample.unit, sample.offset, sample.offset + 255 * sample.factor) == ("dBZ", -10, 85)
    np.testing.assert_array_equal(sample.read(3, 5)[:, :, 100, 100], [[12, 13, 14, 15], [16, 17, 18, 19]])


def test_the_file_with_groups_is_read_in_the_order_of_its_numbers(tmp_path):
    path = tmp_path / "cikm.h5"
    shanghai.write(path, {"train": 11, "valid": 2, "test": 1}, frames=15, name="sample_{}", length="train_len")
    config = CikmConfig(path=str(path))
    assert names(config) == {
        "train": [f"train/sample_{n}" for n in range(11)],
        "validation": ["valid/sample_0", "valid/sample_1"],
        "test": ["test/sample_0"],
    }
    assert config.recordings()[10].read(0, 2)[:, 0, 0, 0].tolist() == [10, 10]


def test_lines_of_other_lengths_and_other_values_are_named(tmp_path):
    cikm.write(tmp_path, train=1)
    whole = (tmp_path / "train.txt").read_text()
    (tmp_path / "train.txt").write_text(whole.replace(" 59 59\n", " 59\n"))
    with pytest.raises(DataError, match=r"sample train_1 has 612,059 values; expected 612,060"):
        CikmConfig(path=str(tmp_path)).recordings()[0].read(0, 1)
    (tmp_path / "train.txt").write_text(whole.replace(" 59\n", " 256\n"))
    with pytest.raises(DataError, match="expected 612,060 of 0 to 255"):
        CikmConfig(path=str(tmp_path)).recordings()[0].read(0, 1)
    (tmp_path / "train.txt").write_text("a,b," + "7" * 3_000_000)
    with pytest.raises(DataError, match=r"train\.txt, byte 0: a line of 2,448,441 bytes"):
        CikmConfig(path=str(tmp_path)).recordings()
