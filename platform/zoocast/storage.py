"""Files that are whole or not there: atomic writes, durable publishing of directories, checksums, and free space.

Everything is written beside its target and renamed last, so that a crash, a kill or a full disk leaves nothing that a later run
would take for finished work.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoocast.errors import InfrastructureError

__all__ = [
    "human_bytes",
    "own_file",
    "publish",
    "require_free_space",
    "sha256_file",
    "sync_tree",
    "write_atomically",
    "writing",
]


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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(payload)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


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


def human_bytes(count: float) -> str:
    """`count` bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
