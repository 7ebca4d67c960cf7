"""How fast `pipelines data import` makes clips, against the bare disk or decoder, and that its memory does not grow.

    python benchmarks/data_import.py [speed] [memory]

An array is held against copying its file to the disk, pictures and a video against decoding them and keeping nothing. An import
reads its files twice, because their checksum is part of what it makes, and writes clips with checksums of their own. Both take
turns; the medians are compared.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoocast.data.imported import ImportedConfig

ROUNDS = 5
FRAMES = {"frames.npy": 20_000, "pictures": 1_000, "film.avi": 2_000}
SHAPE = (120, 160)


def moving(frames: int) -> np.ndarray:
    """[frames, height, width] uint8: a gradient that moves, with some noise, as a camera sees it."""
    height, width = SHAPE
    noise = np.random.default_rng(0).integers(0, 8, SHAPE, np.uint8)
    gradient = np.add.outer(np.arange(height), np.arange(width))
    return np.stack([(gradient + t) % 240 + np.roll(noise, t) for t in range(frames)]).astype(np.uint8)


def write(folder: Path) -> None:
    import av
    from PIL import Image

    np.save(folder / "frames.npy", moving(FRAMES["frames.npy"]))
    (folder / "pictures").mkdir()
    for number, frame in enumerate(moving(FRAMES["pictures"])):
        Image.fromarray(frame).save(folder / "pictures" / f"{number}.png")
    with av.open(str(folder / "film.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SHAPE, "yuv420p"
        for frame in moving(FRAMES["film.avi"]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())


def copied(path: Path, scratch: Path) -> None:
    with path.open("rb") as old, (scratch / "copy").open("wb") as new:
        shutil.copyfileobj(old, new, 2**20)
        os.fsync(new.fileno())


def pictures_decoded(path: Path, _: Path) -> None:
    from PIL import Image

    for file in path.iterdir():
        with Image.open(file) as picture:
            np.asarray(picture)


def film_decoded(path: Path, _: Path) -> None:
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            frame.to_ndarray(format="gray")


BARE: dict[str, Callable[[Path, Path], None]] = {
    "frames.npy": copied,
    "pictures": pictures_decoded,
    "film.avi": film_decoded,
}


def imported(path: Path, scratch: Path) -> None:
    ImportedConfig(path=str(path), split="time", gray=path.suffix == ".avi").build(scratch, lambda *_: None)


def seconds(work: Callable[[Path, Path], None], source: Path) -> float:
    """Of `work` on files that this process has not seen under this name, so that nothing is remembered of them."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        scratch, renamed = Path(folder), Path(folder) / source.name
        (scratch / "out").mkdir()
        if source.is_dir():
            shutil.copytree(source, renamed, copy_function=os.link)
        else:
            renamed.hardlink_to(source)
        started = time.perf_counter()
        work(renamed, scratch / "out")
        return time.perf_counter() - started


def speed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for name, bare in BARE.items():
            source = Path(folder) / name
            ways = (bare, imported)
            times = [[seconds(way, source) for way in ways] for _ in range(1 + ROUNDS)][1:]
            base, ours = map(statistics.median, zip(*times, strict=True))
            print(f"speed: {name:11} {FRAMES[name] / ours:7,.0f} frames a second, {base / ours:.0%} of {bare.__name__}")


def memory() -> None:
    """The most anonymous memory of a process that imports an array, of growing size."""
    for size in (256, 1024):
        with tempfile.TemporaryDirectory() as folder:
            height, width = SHAPE
            path = Path(folder) / "frames.npy"
            array = np.lib.format.open_memmap(path, "w+", np.uint8, (size * 2**20 // (height * width), height, width))
            array[:] = np.arange(height, dtype=np.uint8)[:, None]
            array.flush()
            command = [sys.executable, __file__, "importer", str(path)]
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"memory: {size:,} MiB imported with min-max into float32: {peak}", end="")


def importer(path: str) -> None:
    """The process that `memory` measures. A mapped file's pages are the system's, which takes them back when it wants."""
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.01):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            peak[0] = max(peak[0], int(status["RssAnon"].split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    config = ImportedConfig(path=path, split="time", scaling="min-max")
    config.build(Path(path).parent / "clips", lambda *_: None)
    done.set()
    watcher.join()
    print(f"at most {peak[0] / 1024:.0f} MiB")


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["importer"]:
        importer(arguments[1])
        return
    parts = {"speed": speed, "memory": memory}
    for name in arguments or parts:
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
