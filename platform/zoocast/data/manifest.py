"""The manifest of a clip store: what the store holds, and the checksums that say so.

It is written last, so its existence means that the store is complete, and it carries a digest of itself. Arrow notices hardly any
flipped bit on its own, so every file is checked against its SHA-256 before its bytes are first used in a process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from zoocast.data.splits import Split
from zoocast.errors import IntegrityError
from zoocast.frames import FrameShape
from zoocast.store.files import inside, own_file, sha256_file, write_atomically

__all__ = [
    "MANIFEST",
    "REMEDY",
    "SCHEMA_VERSION",
    "Dtype",
    "Manifest",
    "Shard",
    "check_bytes",
    "check_size",
    "read_manifest",
    "write_manifest",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REMEDY = "build the data again: delete that folder, or run with --force and the name of the data step"

Dtype = Literal["uint8", "float32"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a split. All shards of a split but the last hold the same number of clips."""

    file: str
    clips: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a store holds. `digest` is the SHA-256 of all the rest; equal digests mean equal data.

    `generator` is JSON data: the name of the data set, its parameters, and the digest of the file that it was made from, if any.
    """

    schema_version: int
    shape: FrameShape
    length: int
    dtype: Dtype
    value_range: tuple[int, int]
    sizes: Mapping[Split, int]
    splits: Mapping[Split, tuple[Shard, ...]]
    generator: Mapping[str, Any]
    digest: str = ""


def _digest(data: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in data.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` with its digest into `folder`, in one step that a crash cannot cut in half."""
    data = dataclasses.asdict(manifest)
    data["digest"] = _digest(data)
    write_atomically(folder / MANIFEST, json.dumps(data, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`. Raises `IntegrityError` if it is missing, altered, or of another version of the format."""
    file = folder / MANIFEST
    try:
        data = json.loads(own_file(file).read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{file} is missing, so this is no finished clip store; {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file} cannot be read ({error}); {REMEDY}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{file} has schema version {version!r}, but this zoocast reads version {SCHEMA_VERSION}; {REMEDY}")
    if data.get("digest") != _digest(data):
        raise IntegrityError(f"{file} was changed: its digest does not match its contents; {REMEDY}")
    # The digest matches, so the fields are those that `write_manifest` wrote.
    splits = {k: tuple(Shard(**s) for s in v) for k, v in data["splits"].items()}
    for shard in (shard for shards in splits.values() for shard in shards):
        inside(folder, shard.file)
    return Manifest(**{**data, "shape": FrameShape(**data["shape"]), "value_range": tuple(data["value_range"]), "splits": splits})


def check_size(file: Path, shard: Shard) -> None:
    """Raise `IntegrityError` if `file` is missing or truncated."""
    try:
        size = own_file(file).stat().st_size
    except OSError as error:
        raise IntegrityError(f"{file} cannot be read ({error.strerror}); {REMEDY}") from None
    if size != shard.bytes:
        raise IntegrityError(f"{file} has {size} bytes where its manifest says {shard.bytes}; {REMEDY}")


_verified: set[tuple[str, int, int, str]] = set()


def check_bytes(file: Path, shard: Shard) -> None:
    """Raise `IntegrityError` if `file` does not match its checksum; reads it once per process."""
    try:
        status = own_file(file).stat()
        key = (str(file), status.st_ino, status.st_mtime_ns, shard.sha256)
        if key in _verified:
            return
        found = sha256_file(file)
    except OSError as error:
        raise IntegrityError(f"{file} cannot be read ({error.strerror}); {REMEDY}") from None
    if found != shard.sha256:
        raise IntegrityError(f"{file} is damaged: its SHA-256 is {found[:12]}..., not {shard.sha256[:12]}...; {REMEDY}")
    _verified.add(key)
