"""Files that are whole or not there: atomic writes, durable publishing of directories, checksums, free space and free memory.

Everything is written beside its target and renamed last, so that a crash, a kill or a full disk leaves nothing that a later run
would take for finished work. What is written is its owner's alone, and no name leads out of the folder that it is meant for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from zoocast.errors import ConfigError, InfrastructureError, IntegrityError

__all__ = [
    "JOURNAL_FILE",
    "FileInfo",
    "as_json",
    "check_name",
    "free_memory",
    "human_bytes",
    "inside",
    "is_temporary",
    "keep_private",
    "list_files",
    "own_file",
    "parse_json",
    "publish",
    "read_json",
    "remove_temporaries",
    "require_free_space",
    "require_memory",
    "sha256_file",
    "sync_tree",
    "temporaries",
    "temporary_name",
    "write_atomically",
    "writing",
]

# Lower case alone, for on some file systems `A` and `a` are one file; no leading dot, for that marks temporary files.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")  # must match what `temporary_name` makes, or `cache gc` leaves litter
UMASK = "ZOOCAST_UMASK"
JOURNAL_FILE = "journal.jsonl"  # what a step reports of itself, in its folder: tracking writes it, dag and reports know of it


def keep_private() -> None:
    """From now on only their owner can read the files that this process makes.

    The environment's ZOOCAST_UMASK says otherwise, in octal: 007 lets the group of a shared root in as well.
    """
    text = os.environ.get(UMASK, "077")
    if not re.fullmatch("0*[0-7]{1,3}", text):
        raise ConfigError(UMASK, f"must be an octal number such as 077 or 007, but got {text!r}")
    # Set for the process, since ray, torch and pyarrow make files too and take no mode.
    os.umask(int(text, 8))


def check_name(whose: str, name: str, field: str = "name") -> None:
    """Raise `ConfigError` unless `name` can become a file's name in whatever folder, and no path out of it."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            field,
            f"{whose}'s name is made of a-z, 0-9, '.', '_' and '-', begins with a letter or digit and has at most 64 characters,"
            f" but got {name!r}",
        )


def inside(folder: Path, name: str) -> Path:
    """The path of what a manifest or journal in `folder` calls `name`.

    Raises:
        IntegrityError: it leads out of `folder`: absolute, by ``..``, or over a link.
    """
    try:
        # `resolve` follows links, so a link inside of the folder that points out of it is refused as well.
        if (folder / name).resolve().is_relative_to(folder.resolve()):
            return folder / name
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links that go round in circles
        pass
    raise IntegrityError(
        f"{folder} names a file outside of itself, {name!r}; whatever names it cannot be used: restore it, or have it made anew"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let an `OSError` raised inside, such as that of a full disk, end as an `InfrastructureError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(
            f"cannot write {path} ({error.strerror or error}); free some space and run again, or use another --root"
        ) from error


def write_atomically(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Write `data` to `path` so that readers see the old file or the new one, never a part.

    `durable=False` leaves out the flush to the disk: for notes such as progress, which no one needs after a power cut.

    Raises:
        InfrastructureError: it cannot be written; the old file is as it was.
    """
    with writing(path):
        _write_atomically(path, data, durable)


def _write_atomically(path: Path, data: bytes | str, durable: bool) -> None:
    payload = data.encode() if isinstance(data, str) else data
    # In the same folder, since a rename is atomic within one file system only; its own name, for others may write as well.
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(payload)
            if durable:
                file.flush()
                # Before the rename: after a power cut the new name could otherwise stand for an empty file.
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself is an entry of the folder, which has to reach the disk as well.
    if durable:
        _sync(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none that can be read, as of a note that nobody has written yet."""
    try:
        return as_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def parse_json(text: str | bytes) -> Any:
    """The value in `text`, which may come from anywhere.

    Raises:
        ValueError: it is not JSON, holds NaN or an infinity, for which JSON has no word, or is nested too deeply to be read.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def as_json(text: str | None) -> dict[str, Any] | None:
    """The JSON object in `text`; None when it is none."""
    try:
        data = parse_json(text or "")
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def temporary_name(path: Path) -> Path:
    """Where something is written that is to be renamed to `path`, or removed: beside it, and of each writer's own."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def is_temporary(path: Path) -> bool:
    """Whether `path` is named as what an atomic write leaves when it is killed: ``.NAME.`` and 32 hexadecimal digits."""
    return TEMPORARY.fullmatch(path.name) is not None


def temporaries(directory: Path) -> Iterator[Path]:
    """The files and folders below `directory` that killed writers left, or that are being written."""
    for folder, folders, names in os.walk(directory):
        yield from (path for name in (*names, *folders) if is_temporary(path := Path(folder, name)))
        # A temporary folder goes as a whole, so what is in it is not listed once more.
        folders[:] = [name for name in folders if not is_temporary(Path(name))]


def remove_temporaries(directory: Path) -> None:
    """Remove what killed writers left below `directory`, in which nobody may be writing now."""
    for path in list(temporaries(directory)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Flush every file and folder under `directory` to the disk, files before the folders that hold them.

    Raises:
        InfrastructureError: the disk does not take it.
    """
    with writing(directory):
        for folder, _, files in os.walk(directory, topdown=False):
            for name in files:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    _sync(path)
            _sync(Path(folder))


def publish(partial: Path, final: Path) -> None:
    """Make the finished directory `partial` appear as `final`, which must not exist yet (an empty directory may).

    Raises:
        InfrastructureError: it cannot; it has appeared whole or not at all.
    """
    sync_tree(partial)
    with writing(final):
        # POSIX refuses to rename a folder over one that holds anything, so no result is ever replaced by mistake.
        os.rename(partial, final)
        _sync(final.parent)


def own_file(path: Path) -> Path:
    """`path`, of which a checksum is to be believed: no symbolic link, for what that points to may change at any time.

    Raises:
        OSError: it is one.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, not the file that was written")
    return path


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileInfo(NamedTuple):
    """A file's size and the SHA-256 of its content; in JSON a pair."""

    bytes: int
    sha256: str


def list_files(directory: Path, skip: Container[str] = ()) -> dict[str, FileInfo]:
    """Every file under `directory` by its path relative to it (with ``/``), in order; temporary files are none.

    Args:
        skip: relative paths that are left out.
    """
    found = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not is_temporary(Path(name))]
        for path in (Path(folder, name) for name in names if not is_temporary(Path(name))):
            relative = path.relative_to(directory).as_posix()
            if relative not in skip:
                found[relative] = FileInfo(path.stat().st_size, sha256_file(path))
    return dict(sorted(found.items()))


def require_free_space(path: Path, needed_bytes: int, what: str) -> None:
    """Refuse work that cannot fit. `path` need not exist yet: its nearest existing parent is asked.

    Raises:
        InfrastructureError: names what is to be written, what it needs, what is free, and where.
    """
    folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise InfrastructureError(
            f"{what} needs {human_bytes(needed_bytes)}, but only {human_bytes(free)} are free at {folder};"
            " free some space, choose another --root, or ask for less"
        )


def require_memory(needed_bytes: int, what: str) -> None:
    """Refuse work that the memory of this machine, or of this container, cannot hold now.

    Raises:
        InfrastructureError: names what is to be held, what it needs, and what is free.
    """
    free = free_memory()
    if needed_bytes > free:
        raise InfrastructureError(
            f"{what} needs {human_bytes(needed_bytes)} of memory, but only {human_bytes(free)} are free;"
            " end other programs, use a machine with more memory, or ask for less"
        )


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of the control group that it is in."""
    free: int = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = int(re.search(r"^file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    except (OSError, ValueError, TypeError):  # no such group, or one without a limit ("max")
        return free
    return max(0, min(free, limit - taken + cached))  # what the page cache has is given up when it is wanted


def human_bytes(count: float) -> str:
    """`count` bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
