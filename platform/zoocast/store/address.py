"""Which root a path or a URL means: a plain folder, or this machine's copy of a root in an object store."""

from __future__ import annotations

import functools
from pathlib import Path

from zoocast.store.bucket import find_bucket, open_bucket, split_address
from zoocast.store.folder import FolderRoot
from zoocast.store.layout import STEPS
from zoocast.store.root import Root

__all__ = ["address", "local", "open_root", "own_folder", "root_of"]


def open_root(text: str | Path) -> Root:
    """The root that `text` names: a folder, or the URL of an object store. Asks no server.

    Raises:
        ConfigError: a URL of no known kind, or one with a password or a key in it.
    """
    if own_folder(text) is None:
        return open_bucket(str(text))
    # The folder may be this machine's copy of a bucket, which is what `plan` and `run` are given as their root.
    return find_bucket(Path(text)) or FolderRoot(Path(text))


def own_folder(text: str | Path) -> Path | None:
    """The folder that `text`, a root, names for whoever sees it; None for an object store. Raises nothing."""
    return None if "://" in str(text) else Path(text)


# Asked at each look at the fence or for a wish to stop, and climbing the folders reads the disk.
@functools.lru_cache(maxsize=4096)
def root_of(path: Path) -> Root:
    """The root in which `path`, a step's folder or something in it, lies.

    A folder outside of any root, as scripts give to `StepContext.standalone`, is taken for one.
    """
    return find_bucket(path) or FolderRoot(next((above.parent for above in path.parents if above.name == STEPS), path))


def address(path: Path) -> str:
    """`path`, for example a root, as people and other machines know it."""
    return root_of(path).address(path)


def local(address: str) -> Path:
    """The file of a finished step that `address` gave, on this machine, with all else in its folder.

    Raises:
        InfrastructureError: the object store does not answer, or there is no room.
        IntegrityError: it is not there, or damaged.
    """
    if (folder := own_folder(address)) is not None:
        return folder
    url, step, file = split_address(address)
    return open_bucket(url).fetch(step) / file
