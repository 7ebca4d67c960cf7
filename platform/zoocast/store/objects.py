"""The objects below a URL: read and written whole, listed, removed, and files sent and received with their checksums.

Requests go through pyarrow, or through fsspec where pyarrow knows no such kind of URL. Credentials are those of the environment
or of the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoocast.errors import ConfigError, InfrastructureError, IntegrityError
from zoocast.store.files import FileInfo, sha256_file, temporary_name
from zoocast.store.flock import lock

__all__ = ["Objects", "check_url", "data_name", "holds_secret"]

# The URL is written into run records and addresses, where no secret belongs.
SECRETS = ("key", "secret", "token", "pass", "pwd", "sig", "cred", "auth")
CHUNK_BYTES = 8 * 2**20
SENDS = 5  # tries to send a file that is written to meanwhile
READS = 20  # tries to read an object that is replaced meanwhile


def holds_secret(option: str, url: str) -> bool:
    """Whether there is a name or password before the host of `url`, or a key, token or signature in its query.

    Raises:
        ConfigError: it is no URL; `option` is what gave it.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:  # brackets that are not closed; what is between them is not repeated
        raise ConfigError(option, f"is no URL ({error})") from None
    names = [name.lower() for part in (parts.query, parts.fragment) for name, _ in urllib.parse.parse_qsl(part)]
    return "@" in parts.netloc or any(secret in name for name in names for secret in SECRETS)


def check_url(url: str) -> None:
    """Raise `ConfigError` unless `url` can be a root; asks no server."""
    if holds_secret("--root", url):
        raise ConfigError("--root", "a URL may hold no password and no key; give them in the environment, or to the machine")
    if not urllib.parse.urlsplit(url).netloc:
        raise ConfigError("--root", f"{url} names no bucket; write s3://BUCKET/PREFIX")
    _connect(url)


# A client opens connections and may ask for credentials, so each process makes one per URL, not one per request.
@functools.lru_cache
def _connect(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path in it."""
    # Here, since a root in a folder needs no pyarrow and every command would wait for its import.
    import pyarrow as pa
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as refusal:
        try:
            import fsspec

            other, path = fsspec.url_to_fs(url)
            system = fs.PyFileSystem(fs.FSSpecHandler(other))
        except (ImportError, TypeError, ValueError) as error:
            raise ConfigError(
                "--root", f"{url} cannot be used ({refusal}; fsspec: {error}); write a folder, or s3://BUCKET/PREFIX"
            ) from None
    return system, path.rstrip("/")


def data_name(step: str, file: str, sha256: str) -> str:
    """The object that holds a step's file: named by its content, so that it is never written over."""
    return f"steps/{step}/data/{sha256}~{file.replace('/', '~')}"


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects below `url`. Every method raises `InfrastructureError` when the store does not answer."""

    url: str

    def read(self, name: str) -> bytes | None:
        """An object's content; None when there is none. One that is replaced meanwhile is read again.

        (pyarrow asks for the size first and then for so many bytes, which are half an object when it has grown in between.)
        """
        with self._asking() as (system, prefix):
            for _ in range(READS):
                data, problem, expected = b"", None, None
                try:
                    with system.open_input_file(f"{prefix}/{name}") as stream:
                        expected = stream.size()
                        data = stream.read()
                except FileNotFoundError:
                    return None
                except OSError as error:
                    problem = error
                size = system.get_file_info(f"{prefix}/{name}").size
                # A size of None means that it was removed meanwhile; what was read is then what there was.
                if problem is None and size in (None, len(data)):
                    return bytes(data)
                # Nobody replaced it, so the error is not ours to explain away.
                if problem is not None and size == expected:
                    raise problem
        raise InfrastructureError(f"{self.url}/{name} changes all the time")

    def write(self, name: str, data: bytes | str) -> None:
        """Replace an object whole."""
        with self._asking() as (system, prefix), system.open_output_stream(f"{prefix}/{name}") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)

    def remove(self, name: str) -> None:
        """Remove an object, or all below a name that ends with a slash, if there is anything."""
        with self._asking() as (system, prefix), contextlib.suppress(FileNotFoundError):
            (system.delete_dir if name.endswith("/") else system.delete_file)(f"{prefix}/{name.rstrip('/')}")

    def below(self, folder: str) -> dict[str, int]:
        """All objects below `folder`, by their names below it, and when each was written, in nanoseconds of the store's clock."""
        return {name: int(info.mtime_ns or 0) for name, info in self._infos(folder, recursive=True) if info.is_file}

    def folders(self, folder: str) -> list[str]:
        """The names directly below `folder` that have objects below them."""
        return [name for name, info in self._infos(folder, recursive=False) if not info.is_file]

    def _infos(self, folder: str, *, recursive: bool) -> list[tuple[str, Any]]:
        from pyarrow import fs

        with self._asking() as (system, prefix):
            # A store has no folders: one without objects is not there, which means that it is empty.
            selector = fs.FileSelector(f"{prefix}/{folder}", recursive=recursive, allow_not_found=True)
            return [(info.path.removeprefix(f"{prefix}/{folder}/"), info) for info in system.get_file_info(selector)]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[tuple[Any, str]]:
        try:
            yield _connect(self.url)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno is not None:
                raise  # about a file of ours: the store's errors have no number
            reason = " ".join(str(error).split())
            raise InfrastructureError(
                f"the object store of {self.url} refuses or does not answer ({reason[:300]});"
                " check the bucket, AWS_ENDPOINT_URL and the credentials in the environment, and run again"
            ) from None

    # ------------------------------------------------------------------------------------------------------- files of steps

    def upload(self, step: str, file: str, path: Path) -> FileInfo:
        """Send `path` as the file `file` of `step`, unless the store has the very same."""
        for _ in range(SENDS):
            here = FileInfo(path.stat().st_size, sha256_file(path))
            name = data_name(step, file, here.sha256)
            # The name holds the SHA-256; the size tells a whole object from what a send that broke off left.
            if self._size(name) == here.bytes:
                return here
            with path.open("rb") as source:
                sent = self._send(source, name)
            # What was hashed first and what was sent are two readings of a file that training may be writing to.
            if sent == here:
                return here
            self.remove(name)  # it was written to meanwhile, and this is half of each
        raise InfrastructureError(f"{path} changes all the time, so it cannot be handed over")

    def _size(self, name: str) -> int | None:
        with self._asking() as (system, prefix):
            size: int | None = system.get_file_info(f"{prefix}/{name}").size
            return size

    def _send(self, source: Any, name: str) -> FileInfo:
        """Send a file; gives the size and the SHA-256 of what was sent."""
        size, found = 0, hashlib.sha256()
        with self._asking() as (system, prefix), system.open_output_stream(f"{prefix}/{name}") as sink:
            while chunk := source.read(CHUNK_BYTES):
                found.update(chunk)
                sink.write(chunk)
                size += len(chunk)
        return FileInfo(size, found.hexdigest())

    def download(self, step: str, file: str, info: FileInfo, target: Path) -> None:
        """Make `target` the file that was sent, checked. A journal that grew is appended to, for it may be open here.

        Raises:
            FileNotFoundError: the store does not have it, or not any more.
            IntegrityError: it does not match its checksum.
        """
        name = data_name(step, file, info.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = temporary_name(target)
        try:
            with (
                self._asking() as (system, prefix),
                system.open_input_stream(f"{prefix}/{name}") as source,
                partial.open("xb") as sink,
            ):
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            if FileInfo(partial.stat().st_size, sha256_file(partial)) != info:
                raise IntegrityError(f"{self.url}/{name} does not match its checksum; run its step with --force")
            # A process that has the journal open would go on writing into the replaced file, which nobody sees any more.
            if not (file.endswith(".jsonl") and target.exists() and _append_rest(target, partial.read_bytes())):
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _append_rest(journal: Path, whole: bytes) -> bool:
    """Append to `journal` what `whole` has beyond it; False when the one does not begin with the other."""
    with journal.open("r+b") as file:
        # Whoever writes the journal locks it for each entry, so what is read here ends with a whole one.
        lock(file.fileno())
        known = file.read()
        if not whole.startswith(known):
            return False
        file.write(whole[len(known) :])
    return True
