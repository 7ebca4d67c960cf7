"""Building the bank of a source with Ray: the same bytes however it went, and nothing begun that cannot end."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from tests.zoocast.bank.conftest import FRAMES, OBSERVED, Zoo, save_source
from zoocast.arrow import MANIFEST
from zoocast.bank.read import BankConfig
from zoocast.bank.recipe import make_recipe, read_bank
from zoocast.errors import ConfigError, InfrastructureError, Interrupted, StepFailed
from zoocast.nn.predictor import PredictorConfig, load_predictor, save_predictor
from zoocast.nn.tmu import TmuConfig
from zoocast.store.files import sha256_file

pytestmark = pytest.mark.usefixtures("ray_cluster")

CONFIG = BankConfig(layers="all", policy="free_run", reversed=True, splits=("train", "validation", "test"))
# 150 train clips make a file of 128 and one of 22, 5 validation and 5 test clips one more each.
NUM_FILES = 4
NAME = "gru"


def contents(directory: Path) -> dict[str, str]:
    """The checksum of every file under a folder."""
    return {str(p.relative_to(directory)): sha256_file(p) for p in sorted(directory.rglob("*")) if p.is_file()}


def let_disk_have(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - free, free))


@pytest.fixture(scope="module")
def built(zoo: Zoo, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """The bank as one actor builds it, undisturbed."""
    directory = tmp_path_factory.mktemp("built") / "bank"
    zoo.build(CONFIG, NAME, directory, num_actors=1)
    return directory


def test_two_actors_write_the_same_bytes_as_one(zoo: Zoo, built: Path, tmp_path: Path) -> None:
    manifest = zoo.build(CONFIG, NAME, tmp_path, num_actors=2)
    assert contents(tmp_path) == contents(built)
    assert set(contents(built)) == {
        *("manifest.json", "test-00000.arrow", "train-00000.arrow", "train-00001.arrow", "validation-00000.arrow")
    }
    other, _ = read_bank(built, NAME)
    assert manifest == other
    assert manifest.digest == other.digest


def test_the_size_is_reported_first_and_is_exact(zoo: Zoo, tmp_path: Path) -> None:
    reported: list[tuple[float, str]] = []
    config = dataclasses.replace(CONFIG, splits=("validation",))
    manifest = zoo.build(config, NAME, tmp_path, 2, progress=lambda fraction, message: reported.append((fraction, message)))
    # Two directions of 5 clips of 5 steps in 2 bytes: two layers of 6 x 8x8 of the GRU, and one of 4 x 2x2 of the ST-LSTM,
    # which serves both layers of the target.
    expected = {"gru": 2 * 5 * 5 * 2 * 12 * 64, "stlstm": 2 * 5 * 5 * 2 * 4 * 4}
    assert read_bank(tmp_path, NAME)[1].payload_bytes == expected[NAME] == 76_800
    assert reported[0] == (0.0, "75.0 KiB of memories (source gru, 5 clips, float16, free_run)")
    assert reported[-1] == (1.0, "1/1 files")
    assert expected[NAME] < manifest.bytes < expected[NAME] + 4096
    assert zoo.build(config, "stlstm", tmp_path / "stlstm").bytes < expected["stlstm"] + 4096


def test_an_interrupted_bank_is_continued(zoo: Zoo, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[float] = []
    with pytest.raises(Interrupted, match=r"\d of 4 files done"):
        zoo.build(
            CONFIG,
            NAME,
            tmp_path,
            progress=lambda fraction, _: reported.append(fraction),
            should_stop=lambda: len(reported) > 2,  # the size and two files
        )
    assert not (tmp_path / MANIFEST).exists()
    finished = sorted(p for p in tmp_path.rglob("*.arrow") if p.with_name(p.name + ".json").exists())
    assert 2 <= len(finished) < NUM_FILES
    before = [p.stat().st_mtime_ns for p in finished]
    damaged = finished[0]
    data = bytearray(damaged.read_bytes())
    data[1000] ^= 1
    damaged.write_bytes(data)
    (tmp_path / ".train-00001.arrow.0123").write_bytes(b"half a file of an attempt that was killed")
    (tmp_path / "train-00007.arrow").write_bytes(b"a file of a bank of more clips")

    # There is no room for the whole bank, but for what is still missing.
    let_disk_have(monkeypatch, read_bank(built, NAME)[1].payload_bytes - 1)
    zoo.build(CONFIG, NAME, tmp_path)
    assert contents(tmp_path) == contents(built)
    after = [p.stat().st_mtime_ns for p in finished]
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_files_of_another_bank_are_not_kept(zoo: Zoo, built: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bank"
    shutil.copytree(built, directory)
    zoo.build(dataclasses.replace(CONFIG, policy="teacher_forced"), NAME, directory)
    assert contents(directory).keys() == contents(built).keys()
    assert not set(contents(directory).values()) & set(contents(built).values())


def test_a_finished_bank_is_kept_unless_it_is_damaged(zoo: Zoo, built: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bank"
    shutil.copytree(built, directory)
    file = directory / "train-00001.arrow"
    times = file.stat().st_mtime_ns
    # What a kill behind the manifest leaves is no part of the bank.
    (directory / "train-00001.arrow.json").write_text("{}")
    zoo.build(CONFIG, NAME, directory)
    assert file.stat().st_mtime_ns == times
    assert contents(directory) == contents(built)
    file.write_bytes(file.read_bytes()[:-1])
    zoo.build(CONFIG, NAME, directory)
    assert contents(directory) == contents(built)


def builders() -> list[psutil.Process]:
    """The actors that build a bank in this process's own Ray."""
    return [p for p in psutil.Process().children(recursive=True) if p.cmdline()[:1] and "_Builder" in p.cmdline()[0]]


def test_a_killed_actor_is_replaced(zoo: Zoo, built: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(fraction: float, _: str) -> None:
        if fraction > 0 and not killed:
            killed.append(builders()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    zoo.build(CONFIG, NAME, tmp_path, progress=kill_one)
    assert killed
    assert contents(tmp_path) == contents(built)


def test_a_disk_that_is_too_small_stops_it_before_it_starts(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_disk_have(monkeypatch, 1000)
    with pytest.raises(InfrastructureError, match=r"the memory bank, 2\.3 MiB of memories .* but only 1000 B are free"):
        zoo.build(CONFIG, NAME, tmp_path / "bank")
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_is_too_small_for_an_actor_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"a node with 64 CPUs for each actor, but the nodes have 2 CPUs;"):
        zoo.build(CONFIG, NAME, tmp_path, cpus_per_actor=64)


def test_an_online_bank_is_not_built(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mode=online is not built"):
        zoo.build(BankConfig(mode="online"), NAME, tmp_path)


def test_memories_that_are_too_large_for_the_precision_are_refused(zoo: Zoo, tmp_path: Path) -> None:
    # The released combination grows (1 + M)-fold per step: 41^5 > 65504, the largest float16, if the candidate is of order 0.01.
    explosive = PredictorConfig(hidden_channels=(4,), tmu=TmuConfig(combine="sum"), num_sources=40)
    loud = dataclasses.replace(zoo, sources={"explosive": save_source(tmp_path / "source", explosive)})
    with pytest.raises(ConfigError, match=r"dtype: memory c of source explosive, layer 0 reaches \d.*use bfloat16 or float32"):
        loud.build(BankConfig(layers="all", splits=("validation",)), "explosive", tmp_path / "bank")
    assert not (tmp_path / "bank" / MANIFEST).exists()
    loud.build(BankConfig(layers="all", splits=("validation",), dtype="bfloat16"), "explosive", tmp_path / "bank")
    assert (tmp_path / "bank" / MANIFEST).exists()


def test_a_source_that_diverged_is_named(zoo: Zoo, tmp_path: Path) -> None:
    broken = load_predictor(zoo.sources["lstm"])
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    (tmp_path / "source").mkdir()
    save_predictor(broken, tmp_path / "source")
    with pytest.raises(StepFailed, match="memory c of source lstm, layer 0 is not finite for clips of train"):
        dataclasses.replace(zoo, sources={"lstm": tmp_path / "source"}).build(BankConfig(), "lstm", tmp_path / "bank")


def test_the_same_source_under_another_name_has_the_same_bank(zoo: Zoo, built: Path, tmp_path: Path) -> None:
    renamed = dataclasses.replace(zoo, sources={"other": zoo.sources[NAME]})
    renamed.build(CONFIG, "other", tmp_path)
    assert contents(tmp_path) == contents(built)


def test_of_the_target_only_its_depth_and_of_that_only_the_map_counts(zoo: Zoo, built: Path) -> None:
    """The GRU has three layers: a target of two distils from the first and the last, one of three from all."""
    _, recipe = read_bank(built, NAME)
    store, config, source = zoo.store, CONFIG, zoo.sources[NAME]
    assert [(ref.layer, ref.memory) for ref in recipe.refs] == [(0, "h"), (2, "h")]
    assert make_recipe(config, NAME, source, store, OBSERVED, 2) == recipe
    assert [ref.layer for ref in make_recipe(config, NAME, source, store, OBSERVED, 3).refs] == [0, 1, 2]
    first = dataclasses.replace(config, layers="first")
    assert make_recipe(first, NAME, source, store, OBSERVED, 2) == make_recipe(first, NAME, source, store, OBSERVED, 3)


def test_a_source_that_cannot_see_the_clips_stops_a_bank_before_it_starts(zoo: Zoo, tmp_path: Path) -> None:
    colour = save_source(tmp_path / "colour", PredictorConfig(), dataclasses.replace(FRAMES, channels=3))
    with pytest.raises(ConfigError, match="source colour, layer 0 was trained on frames with 3 image channels"):
        dataclasses.replace(zoo, sources={"colour": colour}).build(CONFIG, "colour", tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
