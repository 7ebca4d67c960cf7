"""Fetching journals to the machine that exports them, when the steps that write them run on others without a common folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from zoocast.store.address import root_of
from zoocast.store.files import JOURNAL_FILE
from zoocast.tracking.entries import Artifact, Image, Model, decode

__all__ = ["fetch_journal"]


def fetch_journal(directory: Path) -> None:
    """Fetch the journals of a step (its folder, finished or not), and before them the files that they name.

    Nothing is to be done where `directory` is the step's own.

    Raises:
        InfrastructureError: the object store does not answer, or there is no room.
        IntegrityError: a file is missing or damaged.
    """
    root_of(directory).pull_with_named(directory, _is_journal, _named_in)


def _is_journal(file: str) -> bool:
    return PurePosixPath(file).name == JOURNAL_FILE


def _named_in(journals: Mapping[str, bytes]) -> Callable[[str], bool]:
    """Whether a file, or a folder above it, is named in one of the journals."""
    named = set()
    for file, content in journals.items():
        for entry in map(decode, content.splitlines()):  # None for the last line, which may be half written
            if isinstance(entry, Image | Artifact | Model):
                named.add(PurePosixPath(file).parent / entry.file)
    return lambda file: any(place in named for place in (PurePosixPath(file), *PurePosixPath(file).parents))
