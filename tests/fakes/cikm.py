"""The samples of the CIKM AnalytiCup 2017: lines of text, which are as long as published."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write(folder: Path, *, train: int = 5, tests: int = 1) -> None:
    """train.txt, testA.txt and testB.txt, with so many samples in each; a map is full of 4 * frame + height."""
    values = np.broadcast_to(np.arange(60).reshape(15, 4, 1, 1), (15, 4, 101, 101))
    text = " ".join(map(str, values.ravel().tolist()))
    for name, count in (("train", train), ("testA", tests), ("testB", tests)):
        with (folder / f"{name}.txt").open("w") as stream:
            stream.writelines(f"{name}_{number},{number}.5,{text}\n" for number in range(1, count + 1))
