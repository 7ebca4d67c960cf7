"""A small zoo of unlike sources, clips of noise, and a target that distils from all of them in both of its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from zoocast.bank.build import build_bank
from zoocast.bank.config import BankConfig
from zoocast.bank.read import MemoryBank, open_bank
from zoocast.bank.shards import Manifest
from zoocast.cluster.connect import connect
from zoocast.data.store import ClipStore, write_store
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvGRU
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.nn.tmu import TmuConfig

FRAMES = FrameShape(channels=1, height=16, width=16)
LENGTH, OBSERVED = 6, 3
SOURCES = {
    "lstm": PredictorConfig(hidden_channels=(8, 8)),  # like the target
    "gru": PredictorConfig(cell=ConvGRU(kernel_size=3), hidden_channels=(6, 6, 6), patch_size=2),  # maps of 8x8
    "stlstm": PredictorConfig(cell=STLSTM(kernel_size=3), hidden_channels=(4,), patch_size=8),  # maps of 2x2
}


@dataclasses.dataclass(frozen=True)
class Zoo:
    """Paths of everything, and the arguments that never change between tests."""

    root: Path
    clips: Path
    sources: Sequence[tuple[str, Path]]
    target: PredictorConfig

    @property
    def store(self) -> ClipStore:
        return ClipStore.open(self.clips)

    def build(self, config: BankConfig, directory: Path, num_actors: int = 1) -> Manifest:
        return build_bank(
            config,
            sources=self.sources,
            clips=self.clips,
            observed=OBSERVED,
            target=self.target,
            directory=directory,
            num_actors=num_actors,
        )

    def open(self, config: BankConfig, directory: Path | None = None, device: str = "cpu") -> MemoryBank:
        return open_bank(
            config,
            directory=directory,
            sources=self.sources,
            clips=self.clips,
            observed=OBSERVED,
            target=self.target,
            device=device,
        )


def save_source(folder: Path, config: PredictorConfig, frames: FrameShape = FRAMES, seed: int = 0) -> Path:
    """A source with random weights."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    save_predictor(Predictor(config, frames), folder)
    return folder


def write_clips(folder: Path, train: int, seed: int = 0) -> Path:
    """Noise, `train` clips for training and five for each of the other splits."""
    rng = np.random.default_rng(seed)
    shape = (LENGTH, FRAMES.channels, FRAMES.height, FRAMES.width)
    splits = {
        name: [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(count)]
        for name, count in (("train", train), ("validation", 5), ("test", 5))
    }
    write_store(folder, splits, shape=FRAMES, length=LENGTH, dtype="uint8", generator={"name": "noise"})
    return folder


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    root = tmp_path_factory.mktemp("zoo")
    sources = [(name, save_source(root / name, config)) for name, config in SOURCES.items()]
    # 150 clips are more than one file of 128 rows and more than two record batches of 64.
    clips = write_clips(root / "clips", 150)
    target = PredictorConfig(hidden_channels=(8, 8), tmu=TmuConfig(layers="all"), num_sources=len(sources))
    return Zoo(root, clips, sources, target)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with connect("local", num_cpus=2):
        yield
