"""A small zoo of unlike sources, clips of noise, and a target that distils from all of them in both of its layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoocast.arrow import Manifest
from zoocast.bank.build import build_bank
from zoocast.bank.config import BankConfig
from zoocast.bank.read import MemoryBank, open_bank
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
    sources: Mapping[str, Path]
    target: PredictorConfig

    @property
    def store(self) -> ClipStore:
        return ClipStore.open(self.clips)

    def build(self, config: BankConfig, name: str, directory: Path, num_actors: int = 1, **more: Any) -> Manifest:
        """The bank of one source."""
        return build_bank(
            config,
            name=name,
            source=self.sources[name],
            clips=self.clips,
            observed=OBSERVED,
            target_depth=len(self.target.hidden_channels),
            directory=directory,
            num_actors=num_actors,
            **more,
        )

    def build_all(self, config: BankConfig, root: Path) -> dict[str, Path]:
        """The banks of all sources."""
        for name in self.sources:
            self.build(config, name, root / name)
        return {name: root / name for name in self.sources}

    def of(self, *names: str) -> Zoo:
        """These sources alone, in this order."""
        target = dataclasses.replace(self.target, num_sources=len(names))
        return dataclasses.replace(self, sources={name: self.sources[name] for name in names}, target=target)

    def open(self, config: BankConfig, banks: Mapping[str, Path] | None = None, device: str = "cpu") -> MemoryBank:
        return open_bank(
            config,
            banks=banks or {},
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
    sources = {name: save_source(root / name, config) for name, config in SOURCES.items()}
    # 150 clips are more than one file of 128 rows and more than two record batches of 64.
    clips = write_clips(root / "clips", 150)
    target = PredictorConfig(hidden_channels=(8, 8), tmu=TmuConfig(layers="all"), num_sources=len(sources))
    return Zoo(root, clips, sources, target)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with connect("local", num_cpus=2):
        yield
