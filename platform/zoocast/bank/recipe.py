"""What a stored bank is: its recipe, which says all that its numbers depend on, and the tensor store that follows from it.

A recipe is made from the description of a source, which is JSON, and the manifest of the target's clips. So whoever builds a bank
knows its exact size before a network is loaded, and whoever reads one can tell that it is the right one without loading any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from zoocast.arrow import Column, Layout, Manifest, Wording, read_manifest
from zoocast.bank.config import BankConfig, MemoryRef, memory_refs
from zoocast.config import digest, load, setting
from zoocast.data.splits import Split
from zoocast.data.store import ClipStore
from zoocast.frames import FrameShape
from zoocast.nn.predictor import read_description

__all__ = ["BankResult", "Recipe", "column_name", "combined_digest", "frames_column", "make_recipe", "read_bank", "wording"]

# Files small enough that several actors share the work and that little is lost with one of them.
SHARD_BYTES = 64 * 2**20
SHARD_ROWS = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankResult:
    """What the step that builds a bank returns: `digest` is that of its manifest, `bytes` those of its files."""

    digest: str
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that the numbers of a bank depend on, and with it the exact size and cut of its files.

    `refs` says for each layer of the target in the bank what it distils, `frames` the shape of the predicted frames, if they are
    kept. The source's name is not among what matters: subsets of a zoo share its banks.
    """

    config: BankConfig
    observed: int
    clips_digest: str
    source_digest: str
    length: int
    refs: tuple[MemoryRef, ...]
    clips: Mapping[Split, int]
    frames: FrameShape | None = setting(None, added=True)

    @property
    def kept(self) -> list[MemoryRef]:
        """The memories that are stored; two layers of a deep target may distil from one."""
        return sorted(set(self.refs))

    @property
    def directions(self) -> tuple[bool, ...]:
        """Whether clips are flipped in time: as they are, and flipped if the bank holds both."""
        return (False, True) if self.config.reversed else (False,)

    @property
    def layout(self) -> Layout:
        """A column for each memory and direction, then for the frames; of a clip it holds (steps, channels, height, width)."""
        shapes = {column_name(ref, reverse): ref.shape for ref in self.kept for reverse in self.directions}
        if self.frames is not None:
            shape = (self.frames.channels, self.frames.height, self.frames.width)
            shapes |= {frames_column(reverse): shape for reverse in self.directions}
        # A network makes one step less than a clip has frames, and what it holds is kept after each.
        columns = [Column(name=name, dtype=self.config.dtype, shape=(self.length - 1, *shape)) for name, shape in shapes.items()]
        return Layout.of(columns, shard_bytes=SHARD_BYTES, max_shard_rows=SHARD_ROWS)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all memories and frames together; each file adds a few KiB to them."""
        return sum(self.clips.values()) * self.layout.row_bytes


def column_name(ref: MemoryRef, reverse: bool) -> str:
    """Of the Arrow column that holds one memory of a source's layer in one direction of time."""
    return f"{ref.layer}.{ref.memory}.{'reversed' if reverse else 'forward'}"


def frames_column(reverse: bool) -> str:
    """Of the Arrow column that holds the frames that a source predicts in one direction of time."""
    return f"frames.{'reversed' if reverse else 'forward'}"


def make_recipe(config: BankConfig, name: str, source: Path, store: ClipStore, observed: int, target_depth: int) -> Recipe:
    """The recipe of the bank of one source; known before anything is computed, and without loading the network.

    Args:
        config: of the bank.
        name: of the source, for messages.
        source: folder with the network as `save_predictor` writes it.
        store: the target's clips.
        observed: frames of a clip that a free-running source sees.
        target_depth: layers of the network that will distil.

    Raises:
        ConfigError: a source that the target cannot distil from; see `memory_refs`.
        IntegrityError: the source's description is missing or damaged.
    """
    network = read_description(source)
    refs = memory_refs(config, name, network.config, network.frames, store.shape, target_depth)
    return Recipe(
        config=config,
        observed=observed,
        clips_digest=store.digest,
        # Of the description, which holds the weights' checksum: so no weight is read for it.
        source_digest=network.digest,
        length=store.length,
        refs=tuple(refs[layer] for layer in sorted(refs)),
        clips={split: len(store.split(split)) for split in config.splits},
        frames=store.shape if config.frames else None,
    )


def wording(name: str) -> Wording:
    """How errors name the bank of the source `name`."""
    return Wording("bank", f"build the bank again with --force bank.{name}")


def read_bank(directory: Path, name: str) -> tuple[Manifest, Recipe]:
    """The manifest and the recipe of the finished bank of the source `name` in `directory`.

    Raises:
        IntegrityError: it is missing, altered, or of another version of the format.
    """
    manifest = read_manifest(directory, wording(name))
    return manifest, load(Recipe, manifest.recipe)


def combined_digest(digests: Iterable[str]) -> str:
    """One digest for the banks of several sources, in the order in which a target distils from them."""
    return digest(tuple(digests))
