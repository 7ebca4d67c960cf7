import h5py
import numpy as np
import pytest

from tests.fakes import shanghai
from zoocast.data.sets.shanghai import ShanghaiConfig
from zoocast.errors import DataError


@pytest.mark.parametrize(
    ("protocol", "train", "validation"), [("strict", range(14), range(14, 16)), ("diffcast", range(16), range(16, 19))]
)
def test_strict_validates_on_the_end_of_train_and_diffcast_on_the_test(tmp_path, protocol, train, validation):
    shanghai.write(tmp_path / "shanghai.h5", {"train": 16, "test": 3})
    config = ShanghaiConfig(path=str(tmp_path / "shanghai.h5"), protocol=protocol)
    recordings = config.recordings()
    splits = config.windows(recordings)
    assert {split: [window.recording for window in windows] for split, windows in splits.items()} == {
        "train": list(train),
        "validation": list(validation),
        "test": [16, 17, 18],
    }
    assert recordings[10].read(24, 25).tolist() == np.full((1, 1, 8, 8), 10).tolist()
    assert (recordings[0].unit, 255 * recordings[0].factor) == ("dBZ", 90)


def test_other_groups_and_other_arrays_are_named(tmp_path):
    path = tmp_path / "shanghai.h5"
    shanghai.write(path, {"train": 2})
    with pytest.raises(DataError, match="no clips in the group test, only train"):
        ShanghaiConfig(path=str(path)).recordings()
    with h5py.File(path, "w") as file:
        file["train/0"] = np.zeros((25, 8, 8))
    with pytest.raises(DataError, match=r"train/0 is float64 \[25, 8, 8\]; expected uint8"):
        ShanghaiConfig(path=str(path)).recordings()
