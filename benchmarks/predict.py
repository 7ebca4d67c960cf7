"""Throughput of `pipelines predict` at batch 16, pictures included, against the bare network; and its memory.

    python benchmarks/predict.py [NUMBER_OF_CLIPS] [ROUNDS]

Both take turns in random order, so that a busy machine slows them alike; the medians are compared. Memory is the most that the
process ever held, after the file was predicted and after one four times as long.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from zoocast.data.formats import open_recordings
from zoocast.frames import FrameShape
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.trained.model import open_model
from zoocast.trained.predict import PredictConfig, predict_recordings

OBSERVED, HORIZON, BATCH, SIDE = 10, 10, 16, 64


def main(count: int, rounds: int) -> None:
    torch.set_num_threads(1)
    clips = np.random.default_rng(0).integers(0, 256, (count, OBSERVED, 1, SIDE, SIDE), np.uint8)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        save_predictor(Predictor(PredictorConfig(), FrameShape(height=SIDE, width=SIDE)), folder / "model")
        model = open_model(folder / "model", "cpu")
        batches = [torch.from_numpy(clips[i : i + BATCH]).float() / 255 for i in range(0, count, BATCH)]
        outputs = iter(range(10**6))

        def bare() -> None:
            for batch in batches:
                model.predictor.predict(batch, HORIZON)

        def predict(file: str = "clips.npy") -> None:
            found = open_recordings(folder / file, layout="NTCHW").recordings
            config = PredictConfig(horizon=HORIZON, observed=OBSERVED, batch_size=BATCH)
            predict_recordings(model, found, folder / str(next(outputs)), config, lambda *_: None)

        np.save(folder / "clips.npy", clips)
        seconds: dict[str, list[float]] = {"bare network": [], "pipelines predict": []}
        ways = {"bare network": bare, "pipelines predict": predict}
        predict()  # imports
        for _ in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                start = time.perf_counter()
                ways[name]()
                seconds[name].append(time.perf_counter() - start)
        fastest = statistics.median(seconds["bare network"])
        for name, times in seconds.items():
            median = statistics.median(times)
            print(f"{name:20}{count / median:8.1f} clips/s{fastest / median:7.0%} of the bare network")
        before = _peak()
        np.save(folder / "long.npy", np.concatenate([clips] * 4))
        predict("long.npy")
        print(f"memory: {before:.0f} MiB, and {_peak():.0f} MiB after a file four times as long")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:3]]
    main(*numbers, *(256, 5)[len(numbers) :])
