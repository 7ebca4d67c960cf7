"""Whether a finished step is what was finished: its record is its own, and its files are those that the record lists.

Looked at whenever a result is used, so it has to be cheap: small files, among them all that vouch for large ones (manifests,
descriptions of networks, scores), are compared by their SHA-256. A large one is when it was written after the record; else its
size is enough, because whoever reads a clip store, a bank, weights or a checkpoint compares its bytes with what vouches for it,
and whoever reads another file of ours begins with `check_file`. `pipelines cache verify` reads everything.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoocast.errors import IntegrityError
from zoocast.store.files import JOURNAL_FILE, FileInfo
from zoocast.store.layout import DONE, PARTIAL, STEP_FOLDER
from zoocast.store.sealed import read_sealed

__all__ = ["check_file", "check_step", "damages", "listed_in", "read_done"]

T = TypeVar("T")

SMALL_BYTES = 2**20  # takes a millisecond to hash
CHUNK_BYTES = 2**20


def read_done(folder: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """What `parse` makes of the record of the step in `folder`, which is finished or about to be published.

    Raises:
        IntegrityError: it is missing, altered, or another step's: the folder was renamed, or the record copied.
    """

    def own(data: dict[str, Any]) -> T:
        # A folder whose name is that of no step is a copy that somebody made for himself.
        step = folder.name.removesuffix(PARTIAL)
        if STEP_FOLDER.fullmatch(step) and step != f"{data['name']}-{data['key']}":
            raise ValueError(f"it is the record of {data['name']}-{data['key']}")
        return parse(data)

    return read_sealed(folder / DONE, own, remedy=_remedy(folder), follow_links=True)


def _remedy(folder: Path) -> str:
    step = STEP_FOLDER.fullmatch(folder.name)
    again = f"run again with --force {step[1]}, or " if step else ""
    return f"its step's result cannot be trusted: {again}remove {folder} and run the pipeline again"


def check_step(folder: Path, *, whole: bool = True) -> None:
    """Raise `IntegrityError` unless the finished step in `folder` is what was finished, as far as a quick look tells.

    Args:
        whole: whether all of its files are to be here; of a copy of an object store's, some may not have come yet.
    """
    for name, problem in damages(folder, read_done(folder, listed_in), quick=True):
        if whole or problem != MISSING:
            raise IntegrityError(f"{folder / name} {problem}; {_remedy(folder)}")


def check_file(path: Path) -> Path:
    """`path`, which is to be read. If it lies in a finished step it has to be the file that was there when the step finished.

    Raises:
        IntegrityError: it is another one.
    """
    folder = next(
        (above for above in path.absolute().parents if STEP_FOLDER.fullmatch(above.name) and (above / DONE).exists()), None
    )
    if folder is None:
        return path
    status = (folder / DONE).stat()
    name = path.absolute().relative_to(folder).as_posix()
    info = _files(folder, status.st_ino, status.st_mtime_ns, status.st_ctime_ns).get(name)
    if info is None:
        # What a step did not leave is looked for as well; the reader says what it means when there is none.
        problem = "is no file of its finished step" if path.exists() else ""
    else:
        problem = _damage(folder, name, info, quick=False)  # it is about to be read as a whole
    if problem:
        raise IntegrityError(f"{path} {problem}; {_remedy(folder)}")
    return path


# A folder of a search is asked for hundreds of files; a record that was replaced is another file.
@functools.lru_cache(maxsize=64)
def _files(folder: Path, *_stamp: int) -> Mapping[str, FileInfo]:
    return read_done(folder, listed_in)


def listed_in(record: Mapping[str, Any]) -> dict[str, FileInfo]:
    """The files that a record lists."""
    return {name: FileInfo(int(size), str(sha256)) for name, (size, sha256) in record["files"].items()}


def damages(folder: Path, files: Mapping[str, FileInfo], *, quick: bool = False) -> Iterator[tuple[str, str]]:
    """Which of the `files` that the record in `folder` lists are not what they were, and what is wrong with them.

    Args:
        quick: without reading large files that are of the right size and older than the record.
    """
    found = ((name, _damage(folder, name, info, quick=quick)) for name, info in files.items())
    return ((name, problem) for name, problem in found if problem)


MISSING = "is missing"
_known: set[tuple[str, int, int, int, int, str]] = set()
"""Files that this process has read and found whole: path, inode, size, times of change, checksum."""


def _damage(folder: Path, name: str, info: FileInfo, *, quick: bool) -> str:
    path = folder / name
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            return "leads outside of the step's folder"
        status = path.stat()
        grown = path.name == JOURNAL_FILE and status.st_size > info.bytes  # a worker of a killed driver had more to say
        if status.st_size != info.bytes and not grown:
            return f"has {status.st_size} bytes instead of {info.bytes}"
        stamp = (str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, info.sha256)
        if quick and (stamp in _known or (info.bytes > SMALL_BYTES and status.st_mtime_ns <= (folder / DONE).stat().st_mtime_ns)):
            return ""
        if _sha256(path, info.bytes) != info.sha256:
            return "was altered: its SHA-256 is another one"
        _known.add(stamp)
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _sha256(path: Path, size: int) -> str:
    """Of the first `size` bytes: a journal is appended to, and what the record knows of it must still be its beginning."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
            found.update(chunk)
            size -= len(chunk)
    return found.hexdigest()
