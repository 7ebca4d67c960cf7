"""Moving MNIST, from the files that people have: ready clips, or images of MNIST or Fashion-MNIST from which clips are made.

    mnist_test_seq.npy            uint8 [20, 10000, 64, 64]                         clips as they are, in the order of the file
    clips.npy of your own         [clips, time, height, width] and other layouts    clips as they are, in the order of the file
    moving-mnist-train.npz ...    input_raw_data, clips, dims (predrnn's releases)  clips as they are, in the order of the file
    train-images-idx3-ubyte(.gz)  MNIST's digits, Fashion-MNIST's clothes           clips are generated; splits share no image

One file serves all splits, in the shares of `zoocast.data.splits.SHARES`, unless a split has its own. Content tells the format,
and of a .npy whose shape fits the settings in one way only, the layout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoocast.config import canonical, digest, setting
from zoocast.data.files import Images, NpyArray, NpySequences, NpzSequences, Sequences, inspect, sha256, suggested_axes
from zoocast.data.layout import Layout
from zoocast.data.motions import Motion
from zoocast.data.moving import MovingClips, moving_clip
from zoocast.data.splits import LARGEST_SEED, SPLITS, Progress, Split, clip_generator, pools, reported, shuffled
from zoocast.data.values import Place, Scale, Survey, check_values, convert, doubts, survey
from zoocast.errors import ConfigError, DataError, within
from zoocast.store.typed import typed_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoocast.data.files import ReadClip
    from zoocast.data.store import ClipStore, Dtype

__all__ = ["MovingMnistConfig"]

File = Images | NpySequences | NpzSequences

SURVEYED_BYTES = 2**29
"""Of the values of a file, what a plan looks at: all of nearly every file, in a second or two. Building looks at all of all."""

STEP = 0.1
"""Way of a digit in one frame, as a fraction of its way from wall to wall (Srivastava et al., 2015)."""

FASHION_GREY = 72.9
"""Mean of the bytes of Fashion-MNIST (0.2860 of 255; Xiao et al., 2017); its two files are within 1 of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingMnistConfig(MovingClips):
    """Clips of moving MNIST digits, read or generated. Where the files lie is no part of the identity; `source_digest` is."""

    kind: ClassVar[str] = "moving-mnist"

    path: str = setting("", "file of clips or images, for all splits that have none of their own", identity=False)
    validation_path: str = setting("", "file of the validation split; empty: part of `path`", identity=False)
    test_path: str = setting("", "file of the test split; empty: part of `path`", identity=False)
    # These three say how the files' numbers are read: `source_digest` holds them where they are not what they always were.
    layout: Layout = setting(
        "auto", "axes of a .npy, N clips, T time, C channels; auto: the one that its shape allows", identity=False
    )
    low: float | None = setting(None, "value that becomes 0; none: bytes are 0 to 255, floats 0 to 1", identity=False)
    high: float | None = setting(None, "value that becomes 1; none: bytes are 0 to 255, floats 0 to 1", identity=False)
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
                with within(field):
                    object.__setattr__(self, field, str(typed_path(value).absolute()))
        if (self.low is None) != (self.high is None):
            raise ConfigError("low" if self.low is None else "high", "must be given together with the other of low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError("high", f"must be above low, {self.low:g}, but got {self.high:g}")

    def check(self) -> None:
        """Read the headers (of images: all) and compare them with the settings, and look at the values of the clips.

        Raises:
            ConfigError: settings that the files cannot serve: too many clips, too long, another frame size; or a file that may
                be read in two ways.
            DataError: a file that is missing, truncated or of no known format, or values that are missing or of another scale.
        """
        for file, splits in self._opened():
            if isinstance(file, Images):
                file.read()
            else:
                check_values(self._surveyed(file, splits), file.path, file.dtype, self._scale)

    def source_digest(self) -> str:
        """SHA-256 over the contents of the files, the splits that each serves, and how it is read where there is a choice."""
        return digest([[list(splits), sha256(file.path), *self._reading(file)] for file, splits in self._opened()])

    def remarks(self) -> tuple[str, ...]:
        """What is read from each file, and what about it is allowed but hardly meant."""
        return tuple(remark for file, splits in self._opened() for remark in self._remarks(file, splits))

    def estimated_bytes(self) -> int:
        """The most that `build` will write, unpacked archives included."""
        sequences = [file for file, _ in self._opened() if not isinstance(file, Images)]
        floats = any(file.dtype != np.uint8 or self._scale for file in sequences)
        scratch = sum(file.scratch_bytes for file in sequences)
        return scratch + sum(self.counts().values()) * self.length * self.frame_size**2 * (4 if floats else 1)

    def build(self, directory: Path, progress: Progress) -> ClipStore:
        """Write the clips into `directory`: uint8, unless a file has floats that are no multiples of 1/255.

        Raises:
            ConfigError, DataError: as `check`, or values out of range, before any clip is written.
        """
        from zoocast.data.store import write_store  # imports torch, which making a config must not wait for

        # Again, though it was checked when the run was planned: the files may have changed since, and on another machine.
        files = self._opened()
        directory.mkdir(parents=True, exist_ok=True)
        counts = self.counts()
        with contextlib.ExitStack() as stack:
            sources: dict[Split, ReadClip] = {}
            dtypes: set[Dtype] = set()
            for file, splits in files:
                progress(0.0, f"reading {file.path.name}: {file}")
                scratch = directory / f"unpacked-{splits[0]}.npy"
                reads, dtype = self._clips(file, splits, scratch, stack)
                sources |= reads
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

    @property
    def _scale(self) -> Scale | None:
        return None if self.low is None or self.high is None else Scale(self.low, self.high)

    def _opened(self) -> list[tuple[File, tuple[Split, ...]]]:
        """The files as they are read, each with the splits that it serves; headers are compared with the settings."""
        files = self._files()
        for i, (path, _) in enumerate(files):
            if any(path.samefile(other) for other, _ in files[:i] if path.exists() and other.exists()):
                raise ConfigError("path", f"{path} is given for two splits, which must not share clips; give it once, as path")
        return [(self._open(inspect(path), splits), splits) for path, splits in files]

    def _open(self, file: Images | NpyArray | NpzSequences, splits: tuple[Split, ...]) -> File:
        if isinstance(file, Images):
            self._check_images(file, splits)
            return file
        if isinstance(file, NpyArray):
            return self._as_told(file, splits)
        if problem := self._problem(file, splits):
            raise problem
        return file

    def _as_told(self, file: NpyArray, splits: tuple[Split, ...]) -> NpySequences:
        """The clips of a .npy in the layout that was told, or in the only one that fits the settings."""
        readings = [reading for reading in file.readings() if self.layout in ("auto", reading.layout)]
        if not readings:
            known = ", ".join(reading.layout for reading in file.readings())
            raise ConfigError("layout", f"is {self.layout}, but {file.path} has the shape {list(file.axes)}; use one of {known}")
        fitting = [reading for reading in readings if self._problem(reading, splits) is None]
        if len(fitting) == 1:
            return fitting[0]
        either = " or ".join(f"{reading} ({reading.layout})" for reading in fitting or readings)
        suggested = suggested_axes(file.path)
        if fitting:
            hint = next((reading.layout for reading in fitting if suggested and reading.layout.startswith(suggested)), None)
            says = f"its content looks like {hint}" if hint else "its content does not say which"
            raise ConfigError(
                "layout",
                f"{file.path}, {list(file.axes)}, may be read as {either}; {says}: set layout={hint or fitting[0].layout}"
                f"{'' if hint else ' or ' + fitting[1].layout}",
            )
        # The problem of the likely one, or else of the order in which Moving MNIST comes.
        likely = min(readings, key=lambda reading: (not reading.layout.startswith(suggested or "TN"), not self._sees(reading)))
        problem = self._problem(likely, splits)
        assert problem is not None
        if len(readings) > 1:
            raise ConfigError(problem.field, f"{problem.message} (read as {likely.layout}; {list(file.axes)} may be {either})")
        raise problem

    def _remarks(self, file: File, splits: tuple[Split, ...]) -> Iterator[str]:
        name, layout = file.path.name, ""
        if isinstance(file, NpySequences):
            layout, suggested = f" ({file.layout})", suggested_axes(file.path)
            if suggested and not file.layout.startswith(suggested):
                yield (
                    f"warning: {name}: the frames of a clip are less alike than the same frames of neighbouring clips, as if"
                    f" {suggested[0]} and {suggested[1]} were the first axes; see layout"
                )
        yield f"{name} for {', '.join(splits)}: {file}{layout}"
        if isinstance(file, Images):
            # Both come as files of the same names and sizes.
            grey = float(file.read().mean())
            if abs(grey - FASHION_GREY) < 3:
                yield f"{name}: Moving Fashion-MNIST, by the mean grey value of {grey:.1f} (MNIST's digits have 33.3)"
        else:
            yield from (f"warning: {name}: {doubt}" for doubt in doubts(self._surveyed(file, splits)))

    def _reading(self, file: File) -> list[str | float]:
        """What makes other clips of the same file; empty for what was the only way before there were settings for it."""
        layout = [file.layout] if isinstance(file, NpySequences) and file.layout != "TNHW" else []
        return [*layout, *(self._scale or ())] if not isinstance(file, Images) else []

    def _surveyed(self, file: NpySequences | NpzSequences, splits: tuple[Split, ...]) -> Survey:
        used = [n for split, pool in pools(file.count, splits).items() for n in pool[: self.counts()[split]]]
        status = file.path.stat()
        return _survey(file, tuple(used), self.length, self._scale, (status.st_ino, status.st_mtime_ns, status.st_size))

    def _clips(
        self, file: File, splits: tuple[Split, ...], scratch: Path, stack: contextlib.ExitStack
    ) -> tuple[dict[Split, ReadClip], Dtype]:
        """For each split a function from a clip's number in it to the clip, and the type in which all are kept."""
        if isinstance(file, Images):
            images = shuffled(file.read())
            parts = pools(file.count, splits).items()
            return {s: functools.partial(self._generate, images[pool.start : pool.stop], s) for s, pool in parts}, "uint8"
        stored = stack.enter_context(file.opened(scratch))
        used = {split: pool[: self.counts()[split]] for split, pool in pools(file.count, splits).items()}
        # Reads all clips once before any is written: a value out of range is found here, and leaves no half store.
        blocks = ((stored(n)[: self.length], functools.partial(Place, n)) for pool in used.values() for n in pool)
        found = survey(blocks, self._scale)
        check_values(found, file.path, file.dtype, self._scale)
        reads: dict[Split, ReadClip] = {s: functools.partial(self._read, stored, pool.start) for s, pool in used.items()}
        return reads, "uint8" if found.among_levels else "float32"

    def _generate(self, images: np.ndarray, split: Split, index: int) -> np.ndarray:
        # The same way per frame for every digit, as in the original generator; only the direction is drawn.
        step = STEP * (self.frame_size - max(images.shape[1:]))
        return moving_clip(
            images,
            clip_generator(self.seed, split, index),
            num_images=self.digits_in(split),
            frame_size=self.frame_size,
            length=self.length,
            motion=Motion(speed=(step, step)),
        )

    def _read(self, read: ReadClip, first: int, index: int) -> np.ndarray:
        clip = read(first + index)[: self.length]
        return self._scale.apply(clip) if self._scale else clip

    def _check_images(self, file: Images, splits: tuple[Split, ...]) -> None:
        self.check_digits(file.height, file.width)
        if not all(pools(file.count, splits).values()):
            raise DataError(f"{file.path} has {file.count} images, too few for {', '.join(splits)} to have different ones")

    def _sees(self, file: Sequences) -> bool:
        return file.shape == self.frame_shape()

    def _problem(self, file: Sequences, splits: tuple[Split, ...]) -> ConfigError | None:
        """What of the settings these clips cannot serve, if there is anything."""
        if not self._sees(file):
            square = file.shape.channels == 1 and file.shape.height == file.shape.width
            remedy = f"set it to {file.shape.height}" if square else "only square grey frames can be read"
            return ConfigError("frame_size", f"is {self.frame_size}, but the frames of {file.path} are {file.shape}; {remedy}")
        if self.test_digits:
            return ConfigError(
                "test_digits", f"is {self.test_digits}, but {file.path} has ready clips; set it to 0, or give images"
            )
        if file.length < self.length:
            return ConfigError(
                "length", f"is {self.length} frames, but clips of {file.path} have {file.length}; use at most that"
            )
        if file.dtype != np.uint8 and file.dtype.kind != "f" and not self._scale:
            return ConfigError(
                "low", f"is none, but {file.path} holds {file.dtype}; set low and high to the values that become 0 and 1"
            )
        counts = self.counts()
        for split, pool in pools(file.count, splits).items():
            if counts[split] > len(pool):
                return ConfigError(
                    split,
                    f"asks for {counts[split]} clips, but of the {file.count} in {file.path} {len(pool)} are for {split};"
                    f" use at most that, or give {split} a file of its own",
                )
        return None


# A command plans more than once, and several sources may read one file; the last argument tells a changed one.
@functools.lru_cache(maxsize=64)
def _survey(
    file: NpySequences | NpzSequences, used: tuple[int, ...], length: int, scale: Scale | None, _: tuple[int, ...]
) -> Survey:
    return survey(file.sample(used, length, SURVEYED_BYTES), scale)
