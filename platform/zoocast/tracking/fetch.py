"""Fetching journals to the machine that exports them, when the steps that write them run on others without a common folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from zoocast.store.bucket import mirror_of
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
    mirror = mirror_of(directory)
    if mirror is None:
        return
    step = mirror.step_of(directory)
    if directory.name.endswith(".partial"):
        files = mirror.index(step)
        journals = {file: mirror.content(step, file, files[file].sha256) for file in filter(_is_journal, files)}
        mirror.pull(step, _named_in(journals.items()), files)
        mirror.pull(step, _is_journal, files)
    else:
        final = mirror.fetch(step, _is_journal)
        mirror.complete(step, _named_in(_read_journals(final)))


def _read_journals(final: Path) -> Iterable[tuple[str, bytes]]:
    return [(path.relative_to(final).as_posix(), path.read_bytes()) for path in final.rglob(JOURNAL_FILE)]


def _is_journal(file: str) -> bool:
    return PurePosixPath(file).name == JOURNAL_FILE


def _named_in(journals: Iterable[tuple[str, bytes]]) -> Callable[[str], bool]:
    """Whether a file, or a folder above it, is named in one of the journals."""
    named = set()
    for file, content in journals:
        for entry in map(decode, content.splitlines()):  # None for the last line, which may be half written
            if isinstance(entry, Image | Artifact | Model):
                named.add(PurePosixPath(file).parent / entry.file)
    return lambda file: any(place in named for place in (PurePosixPath(file), *PurePosixPath(file).parents))
