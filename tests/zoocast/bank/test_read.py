"""Stored and online banks give the same memories, and neither is used for what it was not made for."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.zoocast.bank.conftest import FRAMES, OBSERVED, Zoo, save_source, write_clips
from zoocast.bank.read import BankConfig, MemoryBank, OnlineBank, StoredBank
from zoocast.config import dump
from zoocast.errors import ConfigError, IntegrityError
from zoocast.frames import FrameShape
from zoocast.nn.predictor import DESCRIPTION, PredictorConfig, load_predictor
from zoocast.nn.sampling import free_run, teacher_forced

INDICES = torch.tensor([149, 0, 64, 127, 128, 0])
STORED = BankConfig(policy="teacher_forced", layers="all", reversed=True, splits=("train", "validation"))
# Rounding to nearest errs by at most half a unit in the last place; 1e-5 is for convolutions in batches of another size.
TOLERANCE = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 0.0}


def online(config: BankConfig) -> BankConfig:
    return dataclasses.replace(config, mode="online")


@pytest.fixture(scope="module")
def stored(zoo: Zoo, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: ARG001
    """The folders of the sources' banks."""
    return zoo.build_all(STORED, tmp_path_factory.mktemp("stored"))


def assert_same(bank: MemoryBank, other: MemoryBank, dtype: str, reverse: bool, split: str = "train") -> None:
    indices = INDICES % 5 if split == "validation" else INDICES
    ours = bank.memories(split, indices, reverse=reverse)
    theirs = other.memories(split, indices, reverse=reverse)
    assert len(ours) == len(theirs) == 3
    for mine, yours in zip(ours, theirs, strict=True):
        assert list(mine) == list(yours) == [0, 1]
        for layer in mine:
            assert mine[layer].dtype is getattr(torch, dtype)
            torch.testing.assert_close(mine[layer].float(), yours[layer], rtol=TOLERANCE[dtype], atol=1e-5)


def check_stored_equals_online(zoo: Zoo, config: BankConfig, banks: dict[str, Path]) -> None:
    bank, live = zoo.open(config, banks), zoo.open(online(config))
    assert isinstance(bank, StoredBank)
    assert isinstance(live, OnlineBank)
    assert bank.names == live.names == ("lstm", "gru", "stlstm")
    for reverse in (False, True):
        for split in ("train", "validation"):
            assert_same(bank, live, config.dtype, reverse, split)
        if config.frames:
            ours, theirs = (b.recall("train", INDICES, reverse=reverse, memories=False, frames=True) for b in (bank, live))
            assert ours.frames.shape == theirs.frames.shape == (6, 3, 5, 1, 16, 16)
            torch.testing.assert_close(ours.frames.float(), theirs.frames, rtol=TOLERANCE[config.dtype], atol=1e-5)
            assert ours.memories == theirs.memories == [{}, {}, {}]


def test_stored_equals_online_teacher_forced(zoo: Zoo, stored: dict[str, Path]) -> None:
    check_stored_equals_online(zoo, STORED, stored)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_stored_equals_online_free_running(zoo: Zoo, ray_cluster: None, tmp_path: Path, dtype: str) -> None:  # noqa: ARG001
    config = dataclasses.replace(STORED, policy="free_run", dtype=dtype, frames=True)
    check_stored_equals_online(zoo, config, zoo.build_all(config, tmp_path))


@pytest.mark.parametrize(("policy", "reverse"), [("teacher_forced", False), ("free_run", False), ("free_run", True)])
def test_online_memories_are_what_the_source_holds_when_it_is_run_so(zoo: Zoo, policy: str, reverse: bool) -> None:
    clips = zoo.store.split("train").clips(INDICES)
    clips = clips.flip(1) if reverse else clips
    feed = teacher_forced(6, 6) if policy == "teacher_forced" else free_run(6, OBSERVED, 6)
    gru = load_predictor(zoo.sources["gru"])
    expected = gru(clips, feed, {0: ("h",), 2: ("h",)})
    bank = zoo.open(online(dataclasses.replace(STORED, policy=policy, frames=True)))
    recalled = bank.recall("train", INDICES, reverse=reverse, frames=True)
    memories = recalled.memories[1]  # first to first, last of three to last of two
    torch.testing.assert_close(memories[0], expected.memories[0, "h"], rtol=0, atol=0)
    torch.testing.assert_close(memories[1], expected.memories[2, "h"], rtol=0, atol=0)
    torch.testing.assert_close(recalled.frames[:, 1], expected.frames, rtol=0, atol=0)
    assert not memories[0].requires_grad


def test_each_policy_and_direction_has_memories_of_its_own(zoo: Zoo) -> None:
    forced = zoo.open(online(STORED))
    free = zoo.open(online(dataclasses.replace(STORED, policy="free_run")))
    seen = forced.memories("train", INDICES)[0][0]
    run = free.memories("train", INDICES)[0][0]
    # The first OBSERVED steps see true frames under both policies.
    torch.testing.assert_close(seen[:, :OBSERVED], run[:, :OBSERVED])
    assert not torch.allclose(seen[:, OBSERVED:], run[:, OBSERVED:], atol=1e-3)
    assert not torch.allclose(seen, forced.memories("train", INDICES, reverse=True)[0][0], atol=1e-3)
    assert forced.digest != free.digest
    assert forced.digest == zoo.open(online(STORED)).digest


def test_shared_feeds_the_sources_what_the_target_is_fed(zoo: Zoo) -> None:
    bank = zoo.open(BankConfig(policy="shared", mode="online", layers="all"))
    clips = zoo.store.split("train").clips(INDICES)
    feed = torch.tensor([1.0, 0, 1, 0, 1]).expand(6, 5)
    expected = load_predictor(zoo.sources["lstm"])(clips, feed, {0: ("c",)}).memories[0, "c"]
    torch.testing.assert_close(bank.memories("train", INDICES, clips=clips, feed=feed)[0][0], expected, rtol=0, atol=0)
    assert not torch.allclose(bank.memories("train", INDICES, feed=teacher_forced(6, 6))[0][0], expected, atol=1e-3)
    with pytest.raises(ValueError, match="needs the target's feed"):
        bank.memories("train", INDICES)


def test_online_sources_run_in_full_precision_whatever_the_trainer_does(zoo: Zoo) -> None:
    bank = zoo.open(online(STORED))
    expected = bank.memories("train", INDICES)[0][0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bank.memories("train", INDICES)[0][0], expected)


def test_a_target_that_distils_in_one_layer_reads_one(zoo: Zoo, stored: dict[str, Path]) -> None:
    target = dataclasses.replace(zoo.target, tmu=dataclasses.replace(zoo.target.tmu, layers="first"))
    bank = dataclasses.replace(zoo, target=target).open(STORED, stored)
    assert [list(memories) for memories in bank.memories("train", INDICES)] == [[0], [0], [0]]


def test_a_source_for_larger_frames_sees_the_targets_clips(zoo: Zoo, tmp_path: Path) -> None:
    # The same seed gives the same weights: convolutions do not depend on the size of the frames.
    config = load_predictor(zoo.sources["lstm"]).config
    larger = save_source(tmp_path / "larger", config, FrameShape(channels=1, height=32, width=48))
    small = zoo.open(online(STORED)).memories("train", INDICES)[0][0]
    moved = dataclasses.replace(zoo, sources={"larger": larger}, target=dataclasses.replace(zoo.target, num_sources=1))
    assert torch.equal(moved.open(online(STORED)).memories("train", INDICES)[0][0], small)


def test_splits_and_directions_that_the_bank_does_not_hold_are_refused(zoo: Zoo, stored: dict[str, Path]) -> None:
    for bank in (zoo.open(STORED, stored), zoo.open(online(STORED))):
        with pytest.raises(ConfigError, match="holds train, validation, but was asked for test"):
            bank.memories("test", INDICES)
        with pytest.raises(IndexError):
            bank.memories("train", torch.tensor([150]))
        with pytest.raises(ConfigError, match="no predicted frames; set frames=true"):
            bank.recall("train", INDICES, frames=True)
    with pytest.raises(ConfigError, match="set reversed=true"):
        zoo.open(BankConfig(mode="online", layers="all")).memories("train", INDICES, reverse=True)
    with pytest.raises(ConfigError, match="mode: a stored bank is read from a directory, but lstm, gru, stlstm has none; build"):
        zoo.open(STORED)


def test_a_bank_of_other_clips_sources_or_settings_is_refused(zoo: Zoo, stored: dict[str, Path], tmp_path: Path) -> None:
    other_clips = dataclasses.replace(zoo, clips=write_clips(tmp_path / "clips", 150, seed=1))
    with pytest.raises(IntegrityError, match=r"built for something else .*clips_digest: .* -> .*--force bank.lstm"):
        other_clips.open(STORED, stored)
    config = load_predictor(zoo.sources["lstm"]).config
    retrained = {**zoo.sources, "lstm": save_source(tmp_path / "lstm", config, seed=1)}
    with pytest.raises(IntegrityError, match=r"lstm was built for something else .*source_digest: .*--force bank.lstm"):
        dataclasses.replace(zoo, sources=retrained).open(STORED, stored)
    with pytest.raises(IntegrityError, match=r'config\.policy: "teacher_forced" -> "free_run"'):
        zoo.open(dataclasses.replace(STORED, policy="free_run"), stored)


def test_a_source_that_cannot_see_the_clips_is_refused_on_opening(zoo: Zoo, tmp_path: Path) -> None:
    colour = save_source(tmp_path / "colour", PredictorConfig(), dataclasses.replace(FRAMES, channels=3))
    with pytest.raises(ConfigError, match="source colour, layer 0 was trained on frames with 3 image channels"):
        dataclasses.replace(zoo, sources={"colour": colour}).open(online(STORED))


def test_a_target_reads_any_set_of_banks_in_any_order(zoo: Zoo, stored: dict[str, Path]) -> None:
    whole = zoo.open(STORED, stored)
    memories = dict(zip(whole.names, whole.memories("train", INDICES), strict=True))
    digests = {whole.digest}
    for names in (("gru",), ("stlstm", "lstm"), ("lstm", "stlstm")):
        bank = zoo.of(*names).open(STORED, stored)
        assert bank.names == names
        for name, found in zip(names, bank.memories("train", INDICES), strict=True):
            assert all(torch.equal(found[layer], memories[name][layer]) for layer in (0, 1))
        digests.add(bank.digest)
    assert len(digests) == 4


def test_opening_a_stored_bank_loads_no_network(zoo: Zoo, stored: dict[str, Path], tmp_path: Path) -> None:
    described = {}
    for name, folder in zoo.sources.items():
        described[name] = tmp_path / name
        described[name].mkdir()
        (described[name] / DESCRIPTION).write_bytes((folder / DESCRIPTION).read_bytes())
    without_weights = dataclasses.replace(zoo, sources=described)
    assert len(without_weights.open(STORED, stored).memories("train", INDICES)) == 3
    with pytest.raises(IntegrityError, match=r"predictor\.safetensors"):
        without_weights.open(online(STORED))


def test_opening_a_bank_leaves_the_random_numbers_of_what_is_trained_alone(zoo: Zoo, stored: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    for bank in (zoo.open(STORED, stored), zoo.open(online(STORED))):
        bank.memories("train", INDICES)
        assert torch.equal(torch.get_rng_state(), before)


def test_reading_a_bank_imports_no_ray(zoo: Zoo, stored: dict[str, Path]) -> None:
    script = f"""
import sys
from pathlib import Path
import torch
from zoocast.bank.config import BankConfig
from zoocast.bank.read import open_bank
from zoocast.config import load
from zoocast.nn.predictor import PredictorConfig
bank = open_bank(
    load(BankConfig, {dump(STORED)!r}),
    sources={{name: Path(path) for name, path in { ({n: str(p) for n, p in zoo.sources.items()})!r}.items()}},
    banks={{name: Path(path) for name, path in { ({n: str(p) for n, p in stored.items()})!r}.items()}},
    clips=Path({str(zoo.clips)!r}),
    observed={OBSERVED},
    target=load(PredictorConfig, {dump(zoo.target)!r}),
)
assert len(bank.memories("train", torch.tensor([0, 149]))) == 3
print(sorted(name for name in ("ray", "zoocast.bank.build", "zoocast.dag") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
