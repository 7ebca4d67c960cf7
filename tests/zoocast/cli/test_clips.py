import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import zoocast.data
from zoocast.cli.app import invoke
from zoocast.data.splits import SPLITS
from zoocast.data.store import Channel, write_store
from zoocast.errors import ConfigError
from zoocast.frames import FrameShape

SHAPE = FrameShape(channels=1, height=8, width=8)
STEP = "data.target-0123456789ab"


@pytest.fixture
def root(tmp_path):
    """A root with the clips of one data step, as an earlier zoocast left them: without a record."""
    rng = np.random.default_rng(0)
    clips = {split: rng.integers(0, 256, (5, 4, 1, 8, 8), np.uint8) for split in SPLITS}
    channel = Channel(name="rain", unit="mm/h", factor=50.0)
    folder = tmp_path / "steps" / STEP
    write_store(folder, clips, shape=SHAPE, length=4, dtype="uint8", generator={"name": "made"}, channels=(channel,))
    return tmp_path


def test_the_doctor_prints_a_table_and_ends_with_1_where_something_is_wrong(root, capsys, tmp_path):
    folder = root / "steps" / STEP
    assert invoke(["data", "doctor", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "clips of 4 frames of 1x8x8, uint8" in out
    rows = [line.split()[:4] for line in out.splitlines() if line.split(" ")[0] in SPLITS]
    assert rows == [[split, "5", "20", "rain"] for split in SPLITS]
    assert out.count("\nok ") == 3

    clips = {split: zoocast.data.open(folder, split).clips.gather(range(5)).numpy() for split in SPLITS}
    write_store(tmp_path / "leak", clips | {"test": clips["train"]}, shape=SHAPE, length=4, dtype="uint8", generator={})
    assert invoke(["data", "doctor", str(tmp_path / "leak"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(pair["first"], pair["second"], pair["frames"]) for pair in found["shared"]] == [
        ("train", "validation", 0),
        ("train", "test", 20),
        ("validation", "test", 0),
    ]


def test_the_doctor_looks_at_files_as_they_are_and_says_what_is_missing(capsys, tmp_path):
    rain = np.random.default_rng(0).gamma(0.5, 4.0, (200, 12, 12)).astype(np.float32)
    rain[30] = np.nan
    np.save(tmp_path / "rain.npy", rain)
    assert invoke(["data", "doctor", str(tmp_path / "rain.npy"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(tmp_path / "rain.npy")
    first = found["findings"][0]
    assert (found["length"], first["check"], first["state"]) == (10, "missing", "fail")
    assert first["seen"] == "values are missing in 1 of 16 clips, which are left out here"


def test_a_preview_is_written_where_it_is_asked_for(root, capsys, tmp_path):
    out = tmp_path / "strip.png"
    assert invoke(["data", "preview", str(root / "steps" / STEP), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_clips_that_are_not_there_are_told_with_those_that_are(root, capsys):
    assert invoke(["data", "doctor", "data.tarket", "--root", str(root)]) == 2
    assert "there are no clips 'data.tarket'" in (error := capsys.readouterr().err)
    assert "did you mean data.target?" in error


def test_clips_are_a_torch_data_set(root):
    test = zoocast.data.open(root / "steps" / STEP, "test")
    assert (len(test), test.length, test.shape, test.clips.store.recipe.channels[0].unit) == (5, 4, SHAPE, "mm/h")
    assert test[1].dtype is torch.float32
    assert torch.equal(test[-1], test.clips.clips([4])[0])
    batches = list(DataLoader(pickle.loads(pickle.dumps(test)), batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), test.clips.clips(range(5)))
    assert sum(1 for _ in test) == 5


def test_a_split_that_does_not_exist_is_refused(root):
    with pytest.raises(ConfigError, match="split: must be one of train, validation, test, but got 'val'"):
        zoocast.data.open(root / "steps" / STEP, "val")
