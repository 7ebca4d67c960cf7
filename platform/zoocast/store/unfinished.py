"""Unfinished steps of a root in an object store: each machine works on its own copy, pushes what it changed and pulls the rest.

STORE/steps/NAME-KEY/data/SHA256~PATH           a file of a step, named by its content: it is never written over
STORE/steps/NAME-KEY.partial/files/MACHINE.json what one machine has handed over of the step; written after the files
STORE/steps/NAME-KEY.partial/attempt.json       who owns the step; beside it `stop` and `progress.json`

Of two machines' states of a file the one with the higher version counts. A machine's own notes about what it agreed on with the
store lie in ROOT/sync of its copy, so that only what was changed here since then is pushed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoocast.errors import IntegrityError
from zoocast.store.files import FileInfo, as_json, inside, is_temporary, parse_json, write_atomically
from zoocast.store.layout import ATTEMPT, ERROR, PARTIAL, PROGRESS, STEPS
from zoocast.store.locks import exclusive
from zoocast.store.objects import Objects, data_name
from zoocast.store.root import Wanted, everything

__all__ = ["ABOUT", "Entry", "Sync", "Unfinished", "discard"]

ABOUT = "remote.json"  # of a copy: the URL, and the name by which this machine is known there
NOT_SHARED = (PROGRESS, "ray")  # what the driver noted for its plan, and what Ray keeps for itself
TRIES = 5  # to take files that another machine replaces meanwhile, each time from a newer listing


class Entry(NamedTuple):
    """A file as it was handed over. Of two entries the higher version counts; a `size` of -1 means that it was removed."""

    size: int
    sha256: str
    version: int

    @property
    def info(self) -> FileInfo:
        return FileInfo(self.size, self.sha256)


@dataclasses.dataclass
class Sync:
    """What this machine and the store agree on about an unfinished step, and when each file was last changed here.

    `work` changes when a step begins from nothing, so that what is left of former work is known for what it is.
    """

    work: str = ""
    files: dict[str, Entry] = dataclasses.field(default_factory=dict)
    stamps: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Sync:
        try:
            data = parse_json(path.read_text())
            return cls(data["work"], {k: Entry(*v) for k, v in data["files"].items()}, data["stamps"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()  # lost in a power cut, say: this machine then begins from what the store has

    def known_sha256(self, file: str, path: Path) -> str:
        """The SHA-256 of a file that has not been touched since it was handed over; else empty."""
        return self.files[file].sha256 if self.stamps.get(file) == _stamp(path) else ""


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """Steps are named by their folders, ``NAME-KEY``, without ``.partial``.

    Args:
        folder: this machine's copy of the root.
    """

    objects: Objects
    folder: Path

    def work(self, step: str) -> str:
        """The name of the unfinished work on `step`; empty when there is none."""
        return str((_object(self.objects.read(f"steps/{step}{PARTIAL}/{ATTEMPT}")) or {}).get("work", ""))

    def push(self, step: str) -> None:
        """Hand over what was changed here in `step` since it was last handed over or taken."""
        partial = self._partial(step)
        with self.turn(step) as sync:
            # Taken before reading: a file that is written to during its upload has another stamp next time, and is sent again.
            stamps = {file: stamp for file, stamp in _files(partial) if file.partition("/")[0] not in NOT_SHARED}
            changed = [file for file, stamp in stamps.items() if sync.stamps.get(file) != stamp]
            gone = [file for file in sync.stamps if file not in stamps]
            # Above all that this machine has seen, so that what it makes of a file counts for more than what it began with.
            version = 1 + max((e.version for e in sync.files.values()), default=0)
            before = dict(sync.files)
            for file in changed:
                with contextlib.suppress(FileNotFoundError):  # removed this moment, which the next push will see
                    info = self.objects.upload(step, file, partial / file)
                    sync.files[file], sync.stamps[file] = Entry(*info, version), stamps[file]
            for file in gone:
                sync.files[file] = Entry(-1, "", version)
                del sync.stamps[file]
            if changed or gone:
                # One object per machine: two that wrote the same one would undo each other's entries.
                index = {"work": sync.work, "files": sync.files}
                self.objects.write(f"steps/{step}{PARTIAL}/files/{self._machine}.json", json.dumps(index))
            # What the index does not name any more has no readers; before it was written it still had.
            for file in (*changed, *gone):
                if file in before and before[file].size >= 0 and before[file].sha256 != sync.files[file].sha256:
                    self.objects.remove(data_name(step, file, before[file].sha256))

    def pull(self, step: str, wanted: Wanted = everything, files: Mapping[str, Entry] | None = None) -> None:
        """Take what other machines have handed over of `step`; what was not handed over from here stays.

        Args:
            files: what `index` returned, to take no later state than that.

        Raises:
            IntegrityError: a file that is listed is missing or damaged.
        """
        partial = self._partial(step)
        for last in (*[False] * (TRIES - 1), True):
            work, found = self._index(step)
            if not work:
                return
            with self.turn(step) as sync:
                # The step was begun anew since: files of the former work would mix with those of this one.
                if sync.work != work:
                    discard(partial)
                    sync.work, sync.files, sync.stamps = work, {}, {}
                partial.mkdir(exist_ok=True)
                try:
                    for file, entry in sorted((found if files is None else files).items()):
                        if wanted(file) and (file not in sync.files or sync.files[file].version < entry.version):
                            self._take(step, file, entry, partial, sync)
                    return
                except FileNotFoundError:  # a newer version has taken the place of this one
                    if last or files is not None:
                        raise IntegrityError(
                            f"{self.objects.url}/steps/{step} lacks files that it lists; start it with --force"
                        ) from None

    def _take(self, step: str, file: str, entry: Entry, partial: Path, sync: Sync) -> None:
        target = inside(partial, file)
        if entry.size < 0:
            target.unlink(missing_ok=True)
            sync.stamps.pop(file, None)
        else:
            self.objects.download(step, file, entry.info, target)
            sync.stamps[file] = _stamp(target)
        sync.files[file] = entry

    def index(self, step: str) -> dict[str, Entry]:
        """All files of `step` that any machine has handed over."""
        return {file: entry for file, entry in self._index(step)[1].items() if entry.size >= 0}

    def _index(self, step: str) -> tuple[str, dict[str, Entry]]:
        folder = f"steps/{step}{PARTIAL}"
        work, files = self.work(step), dict[str, Entry]()
        for name in sorted(self.objects.below(f"{folder}/files")):
            data = _object(self.objects.read(f"{folder}/files/{name}")) or {}
            # What a machine left of former work lies here until the step is published; it counts for nothing.
            if data.get("work") != work:
                continue
            try:
                entries = {file: Entry(int(size), str(sha), int(at)) for file, (size, sha, at) in data["files"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged: what that machine handed over is done once more
            for file, entry in entries.items():
                if file not in files or files[file].version < entry.version:
                    files[file] = entry
        return work, files

    def content(self, step: str, file: str, sha256: str) -> bytes:
        """Of a file that was handed over; empty when a newer version has taken its place."""
        return self.objects.read(data_name(step, file, sha256)) or b""

    def handed_over(self, step: str) -> dict[str, FileInfo]:
        """All files that are to be the result of `step`."""
        return {file: entry.info for file, entry in sorted(self.index(step).items()) if file != ERROR}

    def forget(self, step: str) -> None:
        """Drop unfinished work on `step`, here and in the store."""
        self.objects.remove(f"steps/{step}{PARTIAL}/")
        discard(self._partial(step))

    def _partial(self, step: str) -> Path:
        return self.folder / STEPS / f"{step}{PARTIAL}"

    @functools.cached_property
    def _machine(self) -> str:
        return str(parse_json((self.folder / ABOUT).read_text())["id"])

    @contextlib.contextmanager
    def turn(self, step: str) -> Iterator[Sync]:
        """One process of this machine at a time; what it changes in the state is written down, unless it fails."""
        path = self.folder / "sync" / f"{step}.json"
        # Several workers of a machine share one copy: each file comes once, and the notes are nobody's half.
        with exclusive(path.with_suffix(".lock")):
            sync = Sync.read(path)
            yield sync
            # Not in a `finally`: after a failure the notes stay as they were, and the next turn sends or takes once more.
            write_atomically(path, json.dumps(dataclasses.asdict(sync)), durable=False)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """The files below `folder` with their stamps, without those that are being written."""
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        if not any(is_temporary(Path(part)) for part in file.parts) and path.is_file():
            with contextlib.suppress(FileNotFoundError):
                yield file.as_posix(), _stamp(path)


def _object(content: bytes | None) -> dict[str, Any] | None:
    return as_json((content or b"").decode(errors="replace"))


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


def discard(folder: Path) -> None:
    """Remove `folder` as far as it is there."""
    shutil.rmtree(folder, ignore_errors=True)
