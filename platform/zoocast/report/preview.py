"""A look at clips before anything is trained on them: a self-contained page, a strip or an animation, by the file's ending."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from zoocast.data.splits import SPLITS, Split
from zoocast.data.store import ClipStore
from zoocast.errors import ConfigError
from zoocast.report.figures import clip_strips, moving_clips
from zoocast.report.page import environment
from zoocast.store.files import write_atomically

__all__ = ["ENDINGS", "write_preview"]

ON_PAGE, IN_PICTURE = 6, 3  # clips of each split


def write_preview(store: ClipStore, path: Path, name: str = "") -> None:
    """Show some clips of each split, spread evenly, as they are for a network: values of 0 are black, of 1 white.

    Args:
        store: with the clips.
        name: what the clips are called on a page; left out, by their folder.
        path: to be written: ``.html`` is a page, ``.png`` a strip and ``.gif`` an animation. An earlier one is replaced.

    Raises:
        ConfigError: another ending.
        InfrastructureError: it cannot be written.
    """
    if (compose := ENDINGS.get(path.suffix.lower())) is None:
        raise ConfigError("--out", f"must end in {', '.join(ENDINGS)}, which say what is drawn, but got {path.name!r}")
    write_atomically(path, compose(store, name or str(store.path)))


def _page(store: ClipStore, name: str) -> bytes:
    shown = {split: _clips(store, split, ON_PAGE) for split in SPLITS}
    splits = [
        {
            "name": split,
            "count": store.manifest.sizes[split],
            "animation": base64.b64encode(moving_clips(clips)).decode(),
            "strip": base64.b64encode(clip_strips(clips)).decode(),
        }
        for split, clips in shown.items()
    ]
    facts = {
        "frames": str(store.shape),
        "clips of": f"{store.length} frames",
        "kept as": store.recipe.dtype,
        "made by": str(store.recipe.generator.get("name", "")),
    }
    return environment().get_template("preview.html.j2").render(name=name, facts=facts, splits=splits).encode()


def _strip(store: ClipStore, _: str) -> bytes:
    return clip_strips(_labelled(store))


def _animation(store: ClipStore, _: str) -> bytes:
    return moving_clips(_labelled(store), "gif")


def _labelled(store: ClipStore) -> dict[str, np.ndarray]:
    return {f"{split}: {name}": clip for split in SPLITS for name, clip in _clips(store, split, IN_PICTURE).items()}


def _clips(store: ClipStore, name: Split, most: int) -> dict[str, np.ndarray]:
    """Some clips of a split by their numbers."""
    split = store.split(name)
    numbers = np.unique(np.linspace(0, len(split) - 1, most).astype(int)).tolist()
    return {f"clip {number:,}": clip for number, clip in zip(numbers, split.gather(numbers).numpy(), strict=True)}


ENDINGS: Mapping[str, Callable[[ClipStore, str], bytes]] = {".html": _page, ".png": _strip, ".gif": _animation}
"""What can be drawn, by the ending of the file."""
