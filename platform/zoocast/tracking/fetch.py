"""Bringing journals to the machine that delivers them, when the steps that write them run on others without a common folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from zoocast.store.address import root_of
from zoocast.tracking.outbox import JOURNAL_FILE

__all__ = ["bring"]

WITH_FILES = ("image", "artifact", "model")


def bring(directory: Path) -> None:
    """Bring here what the journals of a step (its folder, finished or not) say, and first the files of which they speak.

    Nothing is to be done where `directory` is the step's own.

    Raises:
        InfrastructureError: the object store does not answer, or there is no room.
        IntegrityError: a file is missing or damaged.
    """
    root_of(directory).pull_with_named(directory, _is_journal, _spoken_of)


def _is_journal(file: str) -> bool:
    return PurePosixPath(file).name == JOURNAL_FILE


def _spoken_of(journals: Mapping[str, bytes]) -> Callable[[str], bool]:
    """Whether a file, or a folder above it, is named in one of the journals."""
    named = set()
    for file, content in journals.items():
        for line in content.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line may be half written
                continue
            if entry.get("kind") in WITH_FILES:
                named.add(PurePosixPath(file).parent / entry["file"])
    return lambda file: any(place in named for place in (PurePosixPath(file), *PurePosixPath(file).parents))
