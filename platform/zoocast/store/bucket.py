"""A root in an object store: every machine works in a local folder, its copy of the root, and the store is the exchange between.

A copy is laid out like any other root. What it holds of a step comes when it is asked for: `zoocast.store.unfinished` says how
machines exchange work that goes on, `zoocast.store.finished` how results come, `zoocast.store.claims` how drivers lock steps.
Stores must list what was written a moment before, as S3, GCS and Azure do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
import urllib.parse
import uuid
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from zoocast.errors import IntegrityError
from zoocast.store.claims import Claims, holders
from zoocast.store.files import FileInfo, inside, read_json, write_atomically
from zoocast.store.finished import Finished
from zoocast.store.layout import LOCKS, PARTIAL, STEPS
from zoocast.store.locks import Holder, Locks
from zoocast.store.objects import Objects, check_url
from zoocast.store.room import USES, copies
from zoocast.store.root import Named, Pace, Root, Wanted, everything
from zoocast.store.unfinished import ABOUT, Unfinished

__all__ = ["BucketRoot", "find_bucket", "open_bucket", "split_address"]


@dataclasses.dataclass(frozen=True)
class BucketRoot(Root):
    """The folder `folder` as this machine's copy of the root `url`."""

    url: str
    folder: Path

    # A request takes tens of milliseconds, and costs something.
    pace: ClassVar[Pace] = Pace(progress=2.0, stop=2.0, watch=2.0)
    partial_copies: ClassVar[bool] = True

    @functools.cached_property
    def objects(self) -> Objects:
        return Objects(self.url)

    @functools.cached_property
    def unfinished(self) -> Unfinished:
        return Unfinished(self.objects, self.folder)

    @functools.cached_property
    def finished(self) -> Finished:
        return Finished(self.objects, self.folder, self.unfinished)

    def _name(self, path: Path) -> str:
        """Of the object of which `path` is the copy."""
        return path.absolute().relative_to(self.folder).as_posix()

    def _step(self, path: Path) -> str:
        """The step in whose folder `path` lies."""
        return path.relative_to(self.folder).parts[1].removesuffix(PARTIAL)

    def address(self, path: Path) -> str:
        parts, name = urllib.parse.urlsplit(self.url), self._name(path)
        return self.url if name == "." else parts._replace(path=f"{parts.path}/{name}").geturl()

    def local(self, address: str) -> Path:
        with contextlib.suppress(ValueError):
            url, step, file = split_address(address)
            # A record may be anybody's: it must not have us ask another store, with our credentials.
            if url == self.url:
                return inside(self.fetch(step), file)
        raise IntegrityError(f"{self.url} names a file outside of itself, {address!r}; whatever names it cannot be used")

    def here(self) -> BucketRoot:
        return open_bucket(self.url)

    # --------------------------------------------------------------------------------------------------------- control files

    def read_note(self, path: Path) -> str | None:
        data = self.objects.read(self._name(path))
        return None if data is None else data.decode()

    def write_note(self, path: Path, text: str, *, durable: bool = False) -> None:  # noqa: ARG002 objects always are
        self.objects.write(self._name(path), text)

    def remove_notes(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.objects.remove(f"{self._name(folder)}/")

    def write_shared(self, path: Path, text: str) -> None:
        write_atomically(path, text, durable=False)
        self.objects.write(self._name(path), text)

    def gather(self, folder: Path) -> None:
        for name in self.objects.below(self._name(folder)):
            path = inside(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.objects.read(f"{self._name(folder)}/{name}") or b"", durable=False)

    # --------------------------------------------------------------------------------------------------------- who is at work

    def locks(self, run_id: str) -> Locks:
        return Claims(run_id, self.objects, self.folder)

    def holders(self, steps: Collection[str]) -> dict[str, Holder]:
        found = {lock.removesuffix(".lock"): holder for lock, holder in holders(self.objects).items()}
        return {step: found[step] for step in steps if step in found}

    # ------------------------------------------------------------------------------------------------------- unfinished steps

    def push(self, path: Path) -> None:
        self.unfinished.push(self._step(path))

    def pull(self, path: Path, wanted: Wanted = everything) -> None:
        self.unfinished.pull(self._step(path), wanted)

    def pull_with_named(self, directory: Path, wanted: Wanted, named: Named) -> None:
        step = self._step(directory)
        if directory.name.endswith(PARTIAL):
            # One state of the step: a journal that came later would refer to files that have not come.
            files = self.unfinished.index(step)
            contents = {file: self.unfinished.content(step, file, files[file].sha256) for file in filter(wanted, files)}
            self.unfinished.pull(step, named(contents), files)
            self.unfinished.pull(step, wanted, files)
        else:
            # A finished step changes no more, so its parts may come one after the other.
            final = self.finished.fetch(step, wanted)
            paths = {path.relative_to(final).as_posix(): path for path in final.rglob("*") if path.is_file()}
            self.finished.complete(step, named({file: path.read_bytes() for file, path in paths.items() if wanted(file)}))

    def localize(self, path: Path, sender: Root) -> Path:
        relative = path.relative_to(sender.folder)
        step = relative.parts[1]
        # Held before it comes, so that another process which needs room cannot take it away in between.
        if not step.endswith(PARTIAL):
            self.finished.hold(step)
            self.finished.fetch(step)
        return self.folder / relative

    def fetch_notes_behind(self, inputs: Iterable[Path]) -> None:
        for step in self.finished.behind(path.name for path in inputs):
            if self.finished.know(step):  # results that nothing needs any more may have been removed
                self.finished.complete(step, _is_note)

    def checksums(self, directory: Path) -> dict[str, FileInfo]:  # noqa: ARG002
        """None: pushing took them, on whichever machines the files were written."""
        return {}

    def forget(self, step: str) -> None:
        self.unfinished.forget(step)

    def publish(self, step: str, record: Mapping[str, Any] | None) -> None:
        """Other than in a folder, a record is never there before its step is finished."""
        if record is not None:
            self.finished.commit(step, {**record, "files": self.unfinished.handed_over(step)})

    # --------------------------------------------------------------------------------------------------------- finished steps

    def refresh(self, steps: Collection[str], names: Collection[str]) -> None:
        self.finished.refresh(steps, names)

    def know(self, step: str) -> bool:
        return self.finished.know(step)

    def fetch_earlier(self, name: str, wanted: Wanted) -> None:
        for step in self.finished.earlier(name):
            self.finished.complete(step, wanted)

    def fetch(self, step: str, wanted: Wanted = everything) -> Path:
        return self.finished.fetch(step, wanted)


def open_bucket(url: str) -> BucketRoot:
    """This machine's copy of the root `url`, made when it is missing. Asks no server.

    Raises:
        ConfigError: a URL of no known kind, or one with a password or a key in it.
    """
    url = url.rstrip("/")
    folder = copies() / hashlib.sha256(url.encode()).hexdigest()[:16]
    about = read_json(folder / ABOUT) or {}
    if not {"url", "id"} <= about.keys():  # new, or spoilt by a power cut
        check_url(url)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (STEPS, LOCKS, "sync", USES):
            (folder / name).mkdir(exist_ok=True)
        # Last, for its presence says that the copy is ready. The id names this copy in the store, where host names may be equal.
        write_atomically(folder / ABOUT, json.dumps({"url": url, "id": uuid.uuid4().hex}))
    return BucketRoot(url, folder)


def find_bucket(path: Path) -> BucketRoot | None:
    """The root in whose copy on this machine `path` lies; None for a path in a plain folder."""
    for folder in (path.absolute(), *path.absolute().parents):
        about = read_json(folder / ABOUT)
        # Somebody else's file may have that name as well.
        if about is not None and {"url", "id"} <= about.keys():
            return BucketRoot(str(about["url"]), folder)
    return None


def split_address(address: str) -> tuple[str, str, str]:
    """The URL of the root, the step and the path in its folder of what `BucketRoot.address` gave for a file of a step.

    Raises:
        ValueError: it is no such address.
    """
    parts = urllib.parse.urlsplit(address)
    root, marker, below = parts.path.rpartition(f"/{STEPS}/")
    step, _, file = below.partition("/")
    if not (parts.scheme and marker and step):
        raise ValueError(f"{address!r} is no address of a step's file")
    return parts._replace(path=root).geturl(), step, file


def _is_note(file: str) -> bool:
    return "/" not in file and file.endswith((".json", ".jsonl"))
