"""JSON files that carry a digest of themselves, so that whatever reads one knows that it is what was written.

A sealed file is a JSON object with one more member, ``digest``: the SHA-256 of the others in canonical form (sorted keys, no
spaces), however the file's own lines are broken. It guards against damage and against editing by hand, not against an attacker.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoocast.errors import ConfigError, IntegrityError
from zoocast.store.files import human_bytes, own_file, parse_json, write_atomically

__all__ = ["read_sealed", "seal", "write_sealed"]

DIGEST = "digest"
# Far above the manifest of any store, and little enough to be held a few times over.
MAX_BYTES = 64 * 2**20

T = TypeVar("T")


def seal(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data`, which JSON can hold, with its ``digest`` as the last member."""
    return {**data, DIGEST: _digest(data)}


def write_sealed(path: Path, data: Mapping[str, Any]) -> str:
    """Write `data` with its digest to `path`, in one step that a crash cannot cut in half. Returns the digest.

    Raises:
        InfrastructureError: it cannot be written; the old file is as it was.
    """
    sealed = seal(data)
    write_atomically(path, json.dumps(sealed, indent=1) + "\n")
    digest: str = sealed[DIGEST]
    return digest


def read_sealed(
    path: Path, parse: Callable[[dict[str, Any]], T], *, remedy: str, follow_links: bool = False, max_bytes: int = MAX_BYTES
) -> T:
    """What `parse` makes of the object in `path`, which it is given with its digest after that was compared.

    Args:
        parse: raises `ValueError`, or whatever comes of a missing or unknown field, for an object of another version.
        remedy: what the reader of the error is to do.
        follow_links: whether `path` may be a symbolic link.
        max_bytes: a larger file is not read.

    Raises:
        IntegrityError: the file is missing, truncated, altered, a link, or not what `parse` expects.
    """
    try:
        if (size := (path if follow_links else own_file(path)).stat().st_size) > max_bytes:
            raise ValueError(f"it has {human_bytes(size)}, where at most {human_bytes(max_bytes)} are read")
        data = _object(path.read_bytes())
        if not isinstance(data, dict) or DIGEST not in data:
            raise ValueError("it is no JSON object with a digest")
        others = {name: value for name, value in data.items() if name != DIGEST}
        # Records of steps from before there was one form for all were sealed with the spaces that Python puts in.
        if data[DIGEST] not in (_digest(others), _digest(others, separators=(", ", ": "))):
            raise ValueError("it is not what was written: it does not match its own digest")
        return parse(data)
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ConfigError) as error:
        # What `parse` stumbles over in an object of another shape; all of it means one thing to the user.
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise IntegrityError(f"{path} cannot be used: {why}; {remedy}")


def _object(content: bytes) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from None


def _digest(data: Mapping[str, Any], *, separators: tuple[str, str] = (",", ":")) -> str:
    # Floats are written so that they read back equal, so what was read gives the digest of what was written.
    text = json.dumps(data, sort_keys=True, separators=separators)
    return hashlib.sha256(text.encode()).hexdigest()
