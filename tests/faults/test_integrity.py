"""Damaged files of clip stores, banks and checkpoints are found before anything is made from them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.zoocast.test_arrow import make_layout, reader, write_tensors
from zoocast.data.store import ClipStore, write_store
from zoocast.errors import IntegrityError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig
from zoocast.training import AdamUpdater, PredictionObjective, TrainingConfig, Worker
from zoocast.training.checkpoint import TrainState

FRAMES = FrameShape(channels=1, height=8, width=8)
FLIPS = 200


def state(folder: Path) -> TrainState:
    objective = PredictionObjective(Predictor(PredictorConfig(hidden_channels=(2,), patch_size=4), FRAMES), 0.0)
    return TrainState(AdamUpdater(objective, TrainingConfig(), Worker()), folder, "identity")


def write_clips(folder: Path) -> None:
    rng = np.random.default_rng(0)
    splits = {name: rng.integers(0, 256, (count, 2, 1, 8, 8), np.uint8) for name, count in (("train", 8), ("validation", 4))}
    splits["test"] = splits["validation"]
    write_store(folder, splits, shape=FRAMES, length=2, dtype="uint8", generator={"name": "noise"}, shard_bytes=512)


def read_clips(folder: Path) -> None:
    store = ClipStore.open(folder)
    for split in ("train", "validation", "test"):
        store.split(split).gather(range(len(store.split(split))))


def write_checkpoint(folder: Path) -> None:
    folder.mkdir()
    it = state(folder)
    it.iteration = 7
    it.save()


def read_checkpoint(folder: Path) -> None:
    assert state(folder).restore("cpu")


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "clips": (write_clips, read_clips),
    "bank": (lambda folder: write_tensors(folder, make_layout()), lambda folder: reader(folder).gather(range(150), "there")),
    "checkpoint": (write_checkpoint, read_checkpoint),
}


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Path], object]]:
    """A folder that was written, and what reads all of it."""
    write, read = KINDS[request.param]
    write(tmp_path / "kept")
    return tmp_path / "kept", read


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_of_200_flipped_bits_200_are_found(kept: tuple[Path, Callable[[Path], object]]) -> None:
    folder, read = kept
    rng, found = random.Random(0), 0
    for n in range(FLIPS):
        file = files(folder)[n % len(files(folder))]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=rf"{file.name}|{file.parent.name}"):
            read(folder)
        found += 1
        file.write_bytes(whole)
    assert found == FLIPS
    read(folder)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def link(file: Path) -> None:
    """The same bytes, but elsewhere, where anyone may change them."""
    elsewhere = file.parents[2] / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


@pytest.mark.parametrize("damage", [truncate, link, Path.unlink], ids=["truncated", "linked", "missing"])
def test_a_damaged_file_is_found(kept: tuple[Path, Callable[[Path], object]], damage: Callable[[Path], None]) -> None:
    folder, read = kept
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    for file in files(folder):
        if damage is Path.unlink and file.name == "state.json":
            continue  # without it, the last word of a checkpoint, there is none, and training begins anew
        damage(file)
        with pytest.raises(
            IntegrityError, match="symbolic link|outside of itself" if damage is link else rf"{file.name}|{file.parent.name}"
        ):
            read(folder)
        file.unlink(missing_ok=True)
        shutil.copy2(whole / file.relative_to(folder), file)
    read(folder)


def test_a_checkpoint_without_its_last_word_is_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step")
    (tmp_path / "step" / "checkpoints" / "00000007" / "state.json").unlink()
    assert not state(tmp_path / "step").restore("cpu")


def test_exchanged_files_are_found(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    shards = sorted((tmp_path / "clips").glob("train-*.arrow"))
    write_tensors(tmp_path / "bank", make_layout())
    for folder in ("a", "b"):
        write_checkpoint(tmp_path / folder)  # two networks with random weights
    for one, other, read in (
        (shards[0], shards[1], lambda: read_clips(tmp_path / "clips")),
        (
            tmp_path / "a/checkpoints/00000007/state.json",
            tmp_path / "b/checkpoints/00000007/state.json",
            lambda: read_checkpoint(tmp_path / "a"),
        ),
        (tmp_path / "bank/train-00000.arrow", tmp_path / "bank/train-00001.arrow", lambda: KINDS["bank"][1](tmp_path / "bank")),
    ):
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        with pytest.raises(IntegrityError):
            read()
