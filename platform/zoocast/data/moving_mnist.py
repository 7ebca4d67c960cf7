"""Moving MNIST, from the files that people have: ready clips, or MNIST's images from which clips are made.

    mnist_test_seq.npy            uint8 [20, 10000, 64, 64]                         clips as they are, in the order of the file
    moving-mnist-train.npz ...    input_raw_data, clips, dims (predrnn's releases)  clips as they are, in the order of the file
    train-images-idx3-ubyte(.gz)  MNIST's digits                                    clips are generated; splits share no digit

One file serves all splits, in the shares of `zoocast.data.splits.SHARES`, unless a split has its own. Content tells the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoocast.config import canonical, digest, setting
from zoocast.data.files import Images, NpySequences, NpzSequences, convert, fitting_dtype, inspect, sha256
from zoocast.data.moving import MovingClips, check_geometry, moving_clip
from zoocast.data.splits import LARGEST_SEED, SPLITS, Progress, Split, clip_generator, pools, reported, shuffled
from zoocast.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoocast.data.files import ReadClip
    from zoocast.data.store import ClipStore, Dtype

__all__ = ["MovingMnistConfig"]

STEP = 0.1
"""Way of a digit in one frame, as a fraction of its way from wall to wall (Srivastava et al., 2015)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingMnistConfig(MovingClips):
    """Clips of moving MNIST digits, read or generated. Where the files lie is no part of the identity; `source_digest` is."""

    kind: ClassVar[str] = "moving-mnist"

    path: str = setting("", "file of clips or images, for all splits that have none of their own", identity=False)
    validation_path: str = setting("", "file of the validation split; empty: part of `path`", identity=False)
    test_path: str = setting("", "file of the test split; empty: part of `path`", identity=False)
    frame_size: int = setting(64, "height and width of a frame, pixels", at_least=1)
    length: int = setting(20, "frames in each clip; the first ones of longer clips", at_least=2)
    train: int = setting(7000, "clips in the training split", at_least=1)
    validation: int = setting(1000, "clips in the validation split", at_least=1)
    test: int = setting(2000, "clips in the test split", at_least=1)
    num_digits: int = setting(2, "digits in each clip, where clips are generated", at_least=1)
    seed: int = setting(
        0, "which digits, where they start and how they move, where clips are generated", at_least=0, at_most=LARGEST_SEED
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("path", "validation_path", "test_path"):
            # Workers run in other folders than the command.
            if value := getattr(self, field):
                object.__setattr__(self, field, str(Path(value).expanduser().absolute()))

    def check(self) -> None:
        """Read the headers (of images: all) and compare them with the settings.

        Raises:
            ConfigError: settings that the files cannot serve: too many clips, too long, another frame size.
            DataError: a file that is missing, truncated or of no known format.
        """
        files = self._files()
        for i, (path, _) in enumerate(files):
            if any(path.samefile(other) for other, _ in files[:i] if path.exists() and other.exists()):
                raise ConfigError("path", f"{path} is given for two splits, which must not share clips; give it once, as path")
        for path, splits in files:
            file = inspect(path)
            if isinstance(file, Images):
                self._check_images(file, splits)
            else:
                self._check_sequences(file, splits)

    def source_digest(self) -> str:
        """SHA-256 over the contents of the files and the splits that each serves."""
        return digest([[list(splits), sha256(path)] for path, splits in self._files()])

    def estimated_bytes(self) -> int:
        """The most that `build` will write, unpacked archives included."""
        files = [(inspect(path), splits) for path, splits in self._files()]
        floats = any(not isinstance(f, Images) and f.dtype != np.uint8 for f, _ in files)
        scratch = sum(f.scratch_bytes for f, _ in files if not isinstance(f, Images))
        return scratch + sum(self.counts().values()) * self.length * self.frame_size**2 * (4 if floats else 1)

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """Write the clips into `directory`: uint8, unless a file has floats that are no multiples of 1/255.

        Raises:
            ConfigError, DataError: as `check`, or values out of range, before any clip is written.
        """
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

        # Again, though it was checked when the run was planned: the files may have changed since, and on another machine.
        self.check()
        directory.mkdir(parents=True, exist_ok=True)
        counts = self.counts()
        with contextlib.ExitStack() as stack:
            sources: dict[Split, ReadClip] = {}
            dtypes: set[Dtype] = set()
            for path, splits in self._files():
                progress(0.0, f"reading {path.name}")
                scratch = directory / f"unpacked-{splits[0]}.npy"
                for split, read, dtype in self._open(path, splits, scratch, stack):
                    sources[split] = read
                    dtypes.add(dtype)
            # A store has one dtype: bytes of one split become floats if another needs them.
            dtype = "float32" if "float32" in dtypes else "uint8"

            def clips(split: Split) -> Iterator[np.ndarray]:
                return (convert(sources[split](i), dtype) for i in range(counts[split]))

            return write_store(
                directory,
                {split: reported(clips(split), split, counts, progress) for split in SPLITS},
                shape=self.frame_shape(),
                length=self.length,
                dtype=dtype,
                generator={"name": self.kind, "parameters": canonical(self), "source": self.source_digest()},
            )

    def _files(self) -> list[tuple[Path, tuple[Split, ...]]]:
        """The files, each with the splits that it serves."""
        if not self.path:
            raise ConfigError("path", "names no file; give mnist_test_seq.npy, predrnn's .npz, or train-images-idx3-ubyte(.gz)")
        own: dict[Split, str] = {"validation": self.validation_path, "test": self.test_path}
        # `path` serves train and whatever has no file of its own, in the shares of these alone.
        rest = tuple(s for s in SPLITS if not own.get(s))
        return [(Path(self.path), rest), *((Path(p), (s,)) for s, p in own.items() if p)]

    def _open(
        self, path: Path, splits: tuple[Split, ...], scratch: Path, stack: contextlib.ExitStack
    ) -> Iterator[tuple[Split, ReadClip, Dtype]]:
        file = inspect(path)
        if isinstance(file, Images):
            images = shuffled(file.read())
            for split, pool in pools(file.count, splits).items():
                yield split, functools.partial(self._generate, images[pool.start : pool.stop], split), "uint8"
        else:
            stored = stack.enter_context(file.opened(scratch))
            for split, pool in pools(file.count, splits).items():
                read = functools.partial(self._read, stored, pool.start)
                # Reads all clips once before any is written: a value out of range is found here, and leaves no half store.
                yield split, read, fitting_dtype(map(read, range(self.counts()[split])), path)

    def _generate(self, images: np.ndarray, split: Split, index: int) -> np.ndarray:
        # The same way per frame for every digit, as in the original generator; only the direction is drawn.
        step = STEP * (self.frame_size - max(images.shape[1:]))
        return moving_clip(
            images,
            clip_generator(self.seed, split, index),
            num_images=self.num_digits,
            frame_size=self.frame_size,
            length=self.length,
            speed=(step, step),
        )

    def _read(self, read: ReadClip, first: int, index: int) -> np.ndarray:
        return read(first + index)[: self.length]

    def _check_images(self, file: Images, splits: tuple[Split, ...]) -> None:
        check_geometry(self.num_digits, self.frame_size, file.height, file.width)
        if not all(pools(file.count, splits).values()):
            raise DataError(f"{file.path} has {file.count} images, too few for {', '.join(splits)} to have different ones")
        file.read()

    def _check_sequences(self, file: NpySequences | NpzSequences, splits: tuple[Split, ...]) -> None:
        if file.shape != self.frame_shape():
            square = file.shape.channels == 1 and file.shape.height == file.shape.width
            remedy = f"set it to {file.shape.height}" if square else "only square grey frames can be read"
            raise ConfigError("frame_size", f"is {self.frame_size}, but the frames of {file.path} are {file.shape}; {remedy}")
        if file.length < self.length:
            raise ConfigError("length", f"is {self.length} frames, but clips of {file.path} have {file.length}; use at most that")
        counts = self.counts()
        for split, pool in pools(file.count, splits).items():
            if counts[split] > len(pool):
                raise ConfigError(
                    split,
                    f"asks for {counts[split]} clips, but of the {file.count} in {file.path} {len(pool)} are for {split};"
                    f" use at most that, or give {split} a file of its own",
                )
