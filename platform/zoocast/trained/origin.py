"""Where a trained network comes from: the record of its step, and the manifest of the clips that it was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from zoocast import arrow
from zoocast.config import load
from zoocast.dag import Record, read_record
from zoocast.data.store import WORDING, ClipsRecipe
from zoocast.errors import DataError
from zoocast.nn.predictor import DESCRIPTION
from zoocast.store.address import root_of
from zoocast.store.layout import DONE
from zoocast.training import MODEL_FOLDER

__all__ = ["Origin", "model_folder"]


def model_folder(folder: Path) -> Path:
    """The folder with the network itself: `folder`, or ``model/`` in it, where it is a step's.

    Raises:
        DataError: there is none in either.
    """
    for place in (folder, folder / MODEL_FOLDER):
        if (place / DESCRIPTION).exists():
            return place
    raise DataError(f"{folder} holds no network, neither {DESCRIPTION} nor {MODEL_FOLDER}/{DESCRIPTION}; name a training step")


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """What the step that left a network says of it.

    Attributes:
        folder: of the step.
        record: of the step.
    """

    folder: Path
    record: Record

    @classmethod
    def of(cls, folder: Path) -> Origin | None:
        """The origin of the network in `folder`, a step's or ``model/`` in it; None for a folder that is no step's."""
        place = next((place for place in (folder, folder.parent) if (place / DONE).exists()), None)
        return None if place is None else cls(place, read_record(place))

    @property
    def observed(self) -> int | None:
        """Frames that the network saw of every clip in training; None where its step does not say so."""
        return next(_found("observed", self.record.config), None)

    @cached_property
    def clips(self) -> arrow.Manifest | None:
        """The manifest of the clips that it was trained on; None where its step has none, or where they were removed since."""
        if "data" not in self.record.inputs:
            return None
        name, key = self.record.inputs["data"]
        root = root_of(self.folder)
        if not root.know(f"{name}-{key}"):
            return None
        # Clips that lie on another machine stay there.
        return arrow.read_manifest(root.fetch(f"{name}-{key}", lambda file: file == arrow.MANIFEST), WORDING)

    @cached_property
    def recipe(self) -> ClipsRecipe | None:
        """What these clips are, and what made them."""
        return None if self.clips is None else load(ClipsRecipe, self.clips.recipe)


def _found(name: str, value: Any) -> Iterator[Any]:
    """The values of the setting `name` in a canonical config: a second stage or a found training holds that of the training."""
    if isinstance(value, dict):
        if name in value:
            yield value[name]
        for inner in value.values():
            yield from _found(name, inner)
