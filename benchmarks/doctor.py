"""Time and memory of the doctor on a store of 1 GB of bytes, against reading the same clips once.

    python benchmarks/doctor.py [GIGABYTES]

Both take turns, each in a process of its own that finds the file in the page cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoocast.data.store import write_store
from zoocast.frames import FrameShape

CLIP = (20, 1, 64, 64)
ROUNDS = 3
BEGIN = """
import sys, time
from zoocast.data.doctor import examine
from zoocast.data.splits import SPLITS
from zoocast.data.store import ClipStore
store = ClipStore.open(sys.argv[1])
began = time.perf_counter()
"""
END = """
seconds = time.perf_counter() - began
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, int(status["VmHWM"].split()[0]) / 1024)
"""
WAYS = {
    "reading": "for split in map(store.split, SPLITS):\n    for i in range(len(split)):\n        split.gather([i])\n",
    "doctor": "examine(store)\n",
}


def main(gigabytes: float) -> None:
    count = int(gigabytes * 1e9 / np.prod(CLIP))
    rng = np.random.default_rng(0)

    def clips(number: int) -> Iterator[np.ndarray]:
        for _ in range(number):
            yield rng.integers(0, 256, CLIP, np.uint8)

    with tempfile.TemporaryDirectory() as folder:
        splits = {"train": clips(count * 7 // 10), "validation": clips(count // 10), "test": clips(count // 5)}
        shape = FrameShape(channels=1, height=64, width=64)
        write_store(Path(folder), splits, shape=shape, length=20, dtype="uint8", generator={})
        measured: dict[str, list[list[float]]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, work in WAYS.items():
                command = [sys.executable, "-c", BEGIN + work + END, folder]
                measured[name].append([float(n) for n in subprocess.run(command, capture_output=True, check=True).stdout.split()])
    for name, runs in measured.items():
        seconds, peak = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{name:8}{seconds:7.1f} s {gigabytes * 1e3 / seconds:7.0f} MB/s, at most {peak:4.0f} MiB")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
