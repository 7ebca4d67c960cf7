"""Speed of reading random batches of 16 clips from a store, against one thread that copies as many bytes in memory.

    python benchmarks/clips.py [NUMBER_OF_CLIPS]

All ways take turns in random order, so that a busy machine slows them alike; the medians are compared.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from zoocast.data.store import write_store
from zoocast.frames import FrameShape

CLIP = (20, 1, 64, 64)
BATCH = 16
ROUNDS = 500


def main(count: int) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    memory = torch.from_numpy(rng.integers(0, 256, (count, *CLIP), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        splits = {"train": iter(memory.numpy()), "validation": [memory[0].numpy()], "test": [memory[0].numpy()]}
        shape = FrameShape(channels=1, height=64, width=64)
        split = write_store(Path(folder), splits, shape=shape, length=20, dtype="uint8", generator={}).split("train")
        for start in range(0, count - BATCH, BATCH):
            split.gather(range(start, start + BATCH))
        ways = {
            "copy in memory, one block": lambda chosen: memory[
                (first := int(chosen[0]) % (count - BATCH)) : first + BATCH
            ].clone(),
            "torch indexing in memory": lambda chosen: memory[torch.from_numpy(chosen)],
            "ClipSplit.gather": split.gather,
            "ClipSplit.clips (to float)": split.clips,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name in rng.permutation(list(ways)).tolist():
                chosen = rng.permutation(count)[:BATCH]
                start_time = time.perf_counter()
                ways[name](chosen)
                seconds[name].append(time.perf_counter() - start_time)
    size = BATCH * int(np.prod(CLIP))
    copy = statistics.median(seconds["copy in memory, one block"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:28}{size / median / 1e9:7.2f} GB/s of clips{copy / median:7.0%} of copying")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
