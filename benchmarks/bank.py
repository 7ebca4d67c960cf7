"""How fast a memory bank is read and built, as ratios to what the machine can do, and that a reader's memory does not grow.

    python benchmarks/bank.py [read] [build] [memory] [plan]

What is compared is measured turn by turn in one run, so that other work on the machine hits both alike; figures are medians.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from zoocast.arrow import Manifest, read_manifest, write_manifest, write_shard
from zoocast.bank.build import build_bank
from zoocast.bank.config import BankConfig, MemoryRef
from zoocast.bank.frozen import FrozenSource, fixed_feed, load_frozen, run_source
from zoocast.bank.read import StoredBank
from zoocast.bank.recipe import Recipe, column_name, make_recipe, wording
from zoocast.cluster.connect import connect
from zoocast.data.splits import Split
from zoocast.data.store import ClipStore, write_store
from zoocast.frames import FrameShape
from zoocast.nn.cells import STLSTM, ConvLSTM
from zoocast.nn.predictor import Predictor, PredictorConfig, save_predictor
from zoocast.store.files import human_bytes

BATCH = 16
NAME = "random"


def recipe_of(refs: tuple[MemoryRef, ...], length: int, clips: int) -> Recipe:
    """The recipe of a bank that nothing was computed for."""
    return Recipe(
        config=BankConfig(),
        observed=1,
        clips_digest="",
        source_digest="",
        length=length,
        refs=refs,
        clips={"train": clips},
    )


def random_bank(directory: Path, shape: tuple[int, int, int, int], clips: int) -> StoredBank:
    """The finished bank of one source with `clips` rows of random float16 numbers, (steps, channels, height, width)."""
    ref = MemoryRef(0, "c", shape[1:])
    layout = recipe_of((ref,), shape[0] + 1, clips).layout
    rows, batch = layout.shard_rows, layout.batch_rows
    block = torch.randn(batch, *shape).half()
    shards = []
    for start in range(0, clips, rows):
        stop = min(start + rows, clips)
        batches = ({column_name(ref, False): block[: min(batch, stop - first)]} for first in range(start, stop, batch))
        shards.append(write_shard(directory, layout, "train", start, batches))
    write_manifest(directory, Manifest(layout=layout, recipe={}, shards=tuple(shards)))
    return open_random(directory)


def open_random(directory: Path) -> StoredBank:
    ref = MemoryRef(0, "c", (0, 0, 0))
    recipe = recipe_of((ref,), length=2, clips=1)  # of which only the settings are looked at
    return StoredBank(recipe, {NAME: (directory, read_manifest(directory, wording(NAME)))}, [{0: ref}])


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read() -> None:
    """Random batches of 16 against one thread's memcpy of as many bytes."""
    for name, shape in (("laptop", (19, 32, 8, 8)), ("papers", (19, 64, 16, 16))):
        with tempfile.TemporaryDirectory() as folder:
            read_one(name, random_bank(Path(folder), shape, 1024), 1024, int(np.prod(shape)) * 2)


def read_one(name: str, bank: StoredBank, clips: int, row_bytes: int) -> None:
    first = seconds(lambda: [bank.memories("train", torch.tensor([clip])) for clip in range(clips)])
    print(
        f"read {name}: first use of {human_bytes(clips * row_bytes)}, with checksums: {clips * row_bytes / first / 1e9:.2f} GB/s"
    )
    source, target = np.ones((clips, row_bytes), np.uint8), np.ones((BATCH, row_bytes), np.uint8)
    rng, gathers, copies = np.random.default_rng(0), [], []
    for _ in range(400):
        indices, start = torch.from_numpy(rng.integers(0, clips, BATCH)), int(rng.integers(0, clips - BATCH))
        gathers.append(seconds(functools.partial(bank.memories, "train", indices)))
        copies.append(seconds(functools.partial(np.copyto, target, source[start : start + BATCH])))
    gather, copy = statistics.median(gathers), statistics.median(copies)
    print(
        f"read {name}: batches of {BATCH} x {human_bytes(row_bytes)}: {BATCH * row_bytes / gather / 1e9:.1f} GB/s,"
        f" memcpy {BATCH * row_bytes / copy / 1e9:.1f} GB/s, ratio {copy / gather:.0%} (at least 60 %)"
    )


def build() -> None:
    """Building with one Ray actor against the sources' own forward speed in one thread, laptop size."""
    frames, length, observed, clips = FrameShape(channels=1, height=32, width=32), 20, 10, 512
    rng = np.random.default_rng(0)
    config = BankConfig(policy="free_run")
    target = PredictorConfig()
    with tempfile.TemporaryDirectory() as folder, connect("local", num_cpus=2):
        root = Path(folder)
        splits: dict[Split, list[np.ndarray]] = {
            "train": [rng.integers(0, 256, (length, 1, 32, 32)).astype(np.uint8) for _ in range(clips)],
            "validation": [np.zeros((length, 1, 32, 32), np.uint8)],
            "test": [np.zeros((length, 1, 32, 32), np.uint8)],
        }
        write_store(root / "clips", splits, shape=frames, length=length, dtype="uint8", generator={"name": "noise"})
        sources = {}
        for name, source in (("convlstm", PredictorConfig()), ("stlstm", PredictorConfig(cell=STLSTM()))):
            (root / name).mkdir()
            save_predictor(Predictor(source, frames), root / name)
            sources[name] = root / name
        store, depth = ClipStore.open(root / "clips"), len(target.hidden_channels)
        train = store.split("train")
        recipes = {name: make_recipe(config, name, path, store, observed, depth) for name, path in sources.items()}
        loaded = [load_frozen(path, frames, recipes[name].refs) for name, path in sources.items()]

        def forward() -> None:
            """All that the actors run after their first files, which hold 128 clips each."""
            for source in loaded:
                for first in range(128, clips, config.batch_size):
                    batch = train.clips(range(first, first + config.batch_size))
                    run_source(source, batch, fixed_feed(config, len(batch), observed, length))

        def banks(number: int, told: dict[str, list[float]]) -> None:
            for name, source in sources.items():
                build_bank(
                    config,
                    name=name,
                    source=source,
                    clips=root / "clips",
                    observed=observed,
                    target_depth=depth,
                    directory=root / f"bank-{number}" / name,
                    num_actors=1,
                    progress=lambda _fraction, _message, times=told[name]: times.append(time.perf_counter()),
                )

        forwards, whole, warm = [], [], []
        for number in range(3):
            forwards.append(seconds(forward))
            told: dict[str, list[float]] = {name: [] for name in sources}
            whole.append(seconds(functools.partial(banks, number, told)))
            # The first time is that of the size, the second that of the first file.
            warm.append(sum(times[-1] - times[1] for times in told.values()))
        speed, steady = ((2 * clips - 2 * 128) / statistics.median(times) for times in (forwards, warm))
        cold = 2 * clips / statistics.median(whole)
        print(f"build: the sources' own forward in one thread: {speed:.0f} clips/s")
        print(f"build: one actor, once it runs: {steady:.0f} clips/s, ratio {steady / speed:.0%} (at least 70 %)")
        print(f"build: one actor for each source, from nothing: {cold:.0f} clips/s, ratio {cold / speed:.0%} (starts processes)")


def memory() -> None:
    """Anonymous memory of a process that has read all of a bank, for banks of growing size."""
    for clips in (128, 512, 2048):
        with tempfile.TemporaryDirectory() as folder:
            random_bank(Path(folder), (19, 64, 16, 16), clips)
            command = [sys.executable, __file__, "reader", folder, str(clips)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


def plan() -> None:
    """What banks of the papers' next size cost: bytes by their recipes, seconds by a measured forward pass in one thread."""
    clips, sources, length = 10_000, 16, 20
    frames = FrameShape(channels=1, height=64, width=64)
    network = PredictorConfig(cell=ConvLSTM(kernel_size=5), hidden_channels=(128,) * 4, patch_size=4)
    recipe = recipe_of(tuple(MemoryRef(layer, "c", (128, 16, 16)) for layer in range(4)), length, clips)
    source, batch = FrozenSource(Predictor(network, frames), recipe.refs), torch.rand(4, length, 1, 64, 64)
    feed = fixed_feed(recipe.config, len(batch), 10, length)
    times = [seconds(lambda: run_source(source, batch, feed)) for _ in range(3)]
    per_clip = statistics.median(times) / len(batch)
    print(f"plan: a clip of one source: {human_bytes(recipe.layout.row_bytes)}, {per_clip:.2f} s in one thread")
    print(
        f"plan: {clips} clips of {sources} sources: {human_bytes(sources * recipe.payload_bytes)} in"
        f" {sources * -(-clips // recipe.layout.shard_rows)} files, {clips * sources * per_clip / 3600:.0f} thread-hours"
    )


def reader(folder: str, clips: str) -> None:
    """The process that `memory` measures."""
    bank, payload = open_random(Path(folder)), int(clips) * 19 * 64 * 16 * 16 * 2
    for first in range(0, int(clips), BATCH):
        bank.memories("train", torch.arange(first, first + BATCH))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"memory: bank of {human_bytes(payload)}, all of it read: RssAnon {int(status['RssAnon'].split()[0]) / 1024:.0f} MiB")


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if arguments[:1] == ["reader"]:
        reader(*arguments[1:])
        return
    parts = {"read": read, "build": build, "memory": memory, "plan": plan}
    for name in arguments or parts:
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
