"""Finished steps of a root in an object store: records come first, files when somebody on this machine wants them.

STORE/steps/NAME-KEY/data/SHA256~PATH   a file of the result
STORE/steps/NAME-KEY/done.json          the record with the list of the files; written last, it is what finishes the step

Of a finished step this machine's copy holds `done.json` and those files that were needed here, each checked against its SHA-256
when it came. What the copies take on the disk is bounded by `zoocast.store.room`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoocast.errors import IntegrityError
from zoocast.store.files import inside, parse_json, read_json, sha256_file, write_atomically
from zoocast.store.flock import lock
from zoocast.store.layout import DONE, ERROR, PARTIAL, PROGRESS, STEP_FOLDER, STEPS
from zoocast.store.objects import Objects, data_name
from zoocast.store.recorded import damages, listed_in, read_done
from zoocast.store.room import USES, make_room, size_of
from zoocast.store.root import Wanted, everything
from zoocast.store.sealed import seal
from zoocast.store.unfinished import Sync, Unfinished, discard

__all__ = ["Finished"]


@dataclasses.dataclass(frozen=True)
class Finished:
    """Steps are named by their folders, ``NAME-KEY``.

    Args:
        folder: this machine's copy of the root.
    """

    objects: Objects
    folder: Path
    unfinished: Unfinished

    def commit(self, step: str, record: Mapping[str, Any]) -> None:
        """Make the files that `record` lists the result of `step`. A crash leaves it unfinished, or finished but untidy."""
        done = json.dumps(seal(record), indent=1)
        # The commit itself: all files are in the store already, and all that follows only tidies up.
        self.objects.write(f"steps/{step}/{DONE}", done)
        with self.unfinished.turn(step) as sync:
            self._settle(step, done.encode(), sync)
        self.objects.remove(f"steps/{step}{PARTIAL}/")
        # Other objects are files that the work removed again, or those of an older result of the same step.
        needed = {data_name(step, file, sha256) for file, (_, sha256) in record["files"].items()}
        for name in {f"steps/{step}/data/{name}" for name in self.objects.below(f"steps/{step}/data")} - needed:
            self.objects.remove(name)

    def refresh(self, steps: Collection[str], names: Collection[str]) -> None:
        """Update here the records of `steps`, those of everything else with one of `names`, and the notes of running steps."""
        there = set(self.objects.folders(STEPS))
        for folder in there | {p.name for p in (self.folder / STEPS).iterdir()}:
            step = folder.removesuffix(PARTIAL)
            match = STEP_FOLDER.fullmatch(step)
            if match is None or match[1] not in names:
                continue
            # Records of other keys only serve to say what was changed since, which their keys fix: not asked for twice.
            if step in steps or not (self.folder / STEPS / step / DONE).exists():
                self.know(step)
            if folder.endswith(PARTIAL):
                # Finished or forgotten elsewhere: the copy here must not look like work to resume.
                self._know_partial(step) if folder in there else discard(self.folder / STEPS / folder)

    def _know_partial(self, step: str) -> None:
        self.unfinished.pull(step, lambda file: file == ERROR)
        note = self.objects.read(f"steps/{step}{PARTIAL}/{PROGRESS}")
        if note is not None:
            local = self.folder / STEPS / f"{step}{PARTIAL}"
            local.mkdir(exist_ok=True)
            write_atomically(local / PROGRESS, note, durable=False)

    def know(self, step: str) -> bool:
        """Whether `step` is finished; its record is here then, and the files that this machine has of it already."""
        with self.unfinished.turn(step) as sync:
            done = self.objects.read(f"steps/{step}/{DONE}")
            if done is None:
                # Removed from the store, say by hand: a copy that stayed would count as a result on this machine alone.
                discard(self.folder / STEPS / step)
                return False
            self._settle(step, done, sync)
        return True

    def earlier(self, name: str) -> list[str]:
        """The finished steps called `name`, of any key; their records are here then."""
        matches = [STEP_FOLDER.fullmatch(folder) for folder in self.objects.folders(STEPS)]
        return [match[0] for match in matches if match and match[1] == name and self.know(match[0])]

    def behind(self, inputs: Iterable[str]) -> Iterator[str]:
        """The steps that the finished steps `inputs` rest on, each once; the caller knows each before it asks for the next."""
        seen = set(inputs)
        queue = list(seen)
        while queue:
            record = read_json(self.folder / STEPS / queue.pop() / DONE) or {}
            for name, key in record.get("inputs", {}).values():
                folder = f"{name}-{key}"
                if folder not in seen and STEP_FOLDER.fullmatch(folder):
                    seen.add(folder)
                    yield folder
                    queue.append(folder)

    def fetch(self, step: str, wanted: Wanted = everything) -> Path:
        """The folder of `step`, with at least the files that are `wanted`, each checked when it came.

        Raises:
            IntegrityError: the step is not finished, or a file is missing, or does not match its checksum.
            InfrastructureError: there is no room for it.
        """
        if not self.know(step):
            raise IntegrityError(f"{self.objects.url}/steps/{step} has no {DONE}, so it is not finished; run the pipeline again")
        return self.complete(step, wanted)

    def complete(self, step: str, wanted: Wanted) -> Path:
        """As `fetch`, for a step of which the record here is known to be the latest."""
        final = self.folder / STEPS / step
        # Held while it comes: another process that makes room would take away what came first.
        with self.unfinished.turn(step), (self.folder / USES / step).open("a+b") as use:
            lock(use.fileno(), shared=True)
            # This time decides what makes room first.
            (self.folder / USES / step).touch()
            here = {file: info for file, info in read_done(final, listed_in).items() if wanted(file)}
            # What was altered here comes again as well.
            missing = {file: here[file] for file, _ in damages(final, here, quick=True)}
            if missing:
                make_room(self.folder, step, sum(info.bytes for info in missing.values()))
            for file, info in missing.items():
                try:
                    self.objects.download(step, file, info, inside(final, file))
                    # As old as the record, and so not read again: its SHA-256 was compared when it came.
                    os.utime(final / file, ns=(time.time_ns(), (final / DONE).stat().st_mtime_ns))
                except FileNotFoundError:
                    raise IntegrityError(
                        f"{self.objects.url}/steps/{step} lacks its file {file}; run its step with --force"
                    ) from None
        return final

    def hold(self, step: str) -> None:
        """Keep `step` on this machine for as long as this object, or this process, lives."""
        # A shared lock, so that any number of processes may hold a step; `room` removes only what it can lock for itself.
        descriptor = os.open(self.folder / USES / step, os.O_RDWR | os.O_CREAT, 0o600)
        # Closing gives the lock up; the kernel does it for a process that is killed.
        weakref.finalize(self, os.close, descriptor)
        # Where there are no locks, `room` finds none to take either, and removes nothing.
        lock(descriptor, shared=True)

    def _settle(self, step: str, done: bytes, sync: Sync) -> None:
        """Make `done` the record of `step` here; files of the unfinished step that are as it says become those of the result."""
        final, partial = self.folder / STEPS / step, self.folder / STEPS / f"{step}{PARTIAL}"
        if (final / DONE).exists() and (final / DONE).read_bytes() == done:
            return
        coming = final.with_name(f"{step}.fetching")
        discard(coming)
        coming.mkdir()
        try:
            files = listed_in(parse_json(done))
        except (ValueError, KeyError, TypeError, AttributeError):
            files = {}  # damaged: whoever reads the record here says so, and what to do
        for file, (size, sha256) in files.items():
            source = inside(partial, file)
            # What this machine handed over itself is known by its stamp; only the rest is read again.
            if size_of(source) == size and (sync.known_sha256(file, source) == sha256 or sha256_file(source) == sha256):
                (coming / file).parent.mkdir(parents=True, exist_ok=True)
                source.rename(coming / file)
        write_atomically(coming / DONE, done)
        # A kill between these two lines loses copies, no results: the files come from the store again.
        discard(final)
        coming.rename(final)
        discard(partial)
        # What was agreed on concerned the unfinished folder, which is no more.
        sync.work, sync.files, sync.stamps = "", {}, {}
