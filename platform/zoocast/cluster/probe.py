"""What one machine is like for a run: its versions, code, clock, view of the root, way to the tracking server, and Ray's token.

It runs on every node of a cluster, which may have another zoocast: it imports nothing of ours, takes and returns plain values.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["examine", "open_token_file", "unreachable"]

PACKAGES = ("ray", "torch", "zoocast")
CODE = ("zoocast", "pipelines", "searchspaces")
CONNECT_SECONDS = 2.0


def examine(name: str, exchange: str, nonce: str, server: tuple[str, int] | None) -> dict[str, Any]:
    """Everything at once, in one task per node.

    Args:
        name: what this node is called in the exchange.
        exchange: the folder under the root, or its URL, in which the driver has written `nonce`.
        server: host and port of the tracking server, if there is one.
    """
    code, place = _code()
    return {
        # Of Python major and minor alone: what is pickled by one patch release is read by another.
        "versions": {"Python": ".".join(platform.python_version_tuple()[:2]), **{p: _version(p) for p in PACKAGES}},
        "code": code,
        "place": place,
        "storage": _answer_in_store(exchange, nonce, name) if "://" in exchange else _answer(Path(exchange), nonce, name),
        # The port alone: importing MLflow for a real request would take longer than all else here.
        "tracking": unreachable(*server) if server else "",
        "authentication": os.environ.get("RAY_AUTH_MODE", "disabled").lower(),
        "open_token": open_token_file(),
        "clock": time.time(),
    }


def _version(package: str) -> str:
    """The installed version without its local part: a node with GPUs and one without have other builds of the same torch."""
    try:  # from the package's files: importing torch only to ask it would take seconds
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"


def _code() -> tuple[str, str]:
    """A digest of all source files that a step may run, and the folder of zoocast."""
    total = hashlib.sha256()
    places = []
    for package in CODE:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            places.append(place)
            for path in sorted(Path(place).rglob("*.py")):
                try:
                    content = path.read_bytes()
                except FileNotFoundError:  # an editor's, which is gone again
                    continue
                # Names count, but below the package only: the same code may lie in another folder on every node.
                total.update(os.fsencode(f"{package}/{path.relative_to(place)}\0"))
                total.update(hashlib.sha256(content).digest())
    return (total.hexdigest()[:8], places[0]) if places else ("none", "")


def _answer(folder: Path, nonce: str, name: str) -> str:
    """Read the driver's nonce and write it again under `name`; returns what was in the way."""
    try:
        if (folder / "driver").read_text(encoding="utf-8") != nonce:
            return "reads something else there"
        (folder / name).write_text(nonce, encoding="utf-8")
    except FileNotFoundError:
        return "does not see what this machine writes there"
    except OSError as error:
        return f"cannot use it ({error.strerror})"
    return ""


def _answer_in_store(url: str, nonce: str, name: str) -> str:
    """The same in an object store."""
    from pyarrow import fs  # only here: a run on a shared folder needs none of it

    try:
        system, folder = fs.FileSystem.from_uri(url)
        with system.open_input_stream(f"{folder}/driver") as stream:
            if stream.read() != nonce.encode():
                return "reads something else there"
        with system.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(nonce.encode())
    except FileNotFoundError:
        return "does not see what this machine writes there"
    except (OSError, ValueError) as error:
        # Arrow's messages may be many lines long; this is a part of one sentence.
        return f"cannot use it ({' '.join(str(error).split())[:200]})"
    return ""


def unreachable(host: str, port: int) -> str:
    """Why no connection can be made; nothing when one can."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def open_token_file() -> str:
    """Ray's token file, if others than its owner may read it."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    try:
        return str(path) if path.stat().st_mode & 0o077 else ""
    except OSError:
        return ""
