"""A root in a folder that all machines see: what one of them writes is where the others read it, so there is nothing to carry."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from zoocast.errors import IntegrityError
from zoocast.store.files import FileInfo, inside, list_files, publish, remove_temporaries, write_atomically
from zoocast.store.layout import CONTROL_FILES, DONE, LOCKS, PARTIAL, STEP_FOLDER, STEPS
from zoocast.store.locks import Holder, Locks, read_holder
from zoocast.store.recorded import check_step
from zoocast.store.root import Named, Pace, Root, Wanted, everything
from zoocast.store.sealed import write_sealed

__all__ = ["FolderRoot"]


@dataclasses.dataclass(frozen=True)
class FolderRoot(Root):
    """The root in `folder`. Nothing needs to exist yet."""

    folder: Path

    pace: ClassVar[Pace] = Pace(progress=0.2, stop=0.5, watch=0.0)  # reading a small file costs next to nothing
    partial_copies: ClassVar[bool] = False

    def address(self, path: Path) -> str:
        return str(path)

    def local(self, address: str) -> Path:
        path = inside(self.folder.absolute(), address)
        self._check(path.parent)
        return path

    def here(self) -> FolderRoot:
        return self

    def read_note(self, path: Path) -> str | None:
        try:
            return path.read_text(errors="replace")  # what a power cut spoilt is no note, and no reason to stop
        except OSError:
            return None

    def write_note(self, path: Path, text: str, *, durable: bool = False) -> None:
        write_atomically(path, text, durable=durable)

    def remove_notes(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def write_shared(self, path: Path, text: str) -> None:
        write_atomically(path, text)

    def gather(self, folder: Path) -> None:
        """All of it is here."""

    def locks(self, run_id: str) -> Locks:
        return Locks(run_id)

    def holders(self, steps: Collection[str]) -> dict[str, Holder]:
        found = ((step, read_holder(self.folder / LOCKS / f"{step}.lock")) for step in steps)
        return {step: holder for step, holder in found if holder is not None}

    def push(self, path: Path) -> None:
        """Other machines see it already."""

    def pull(self, path: Path, wanted: Wanted = everything) -> None:
        """It is here already."""

    def pull_with_named(self, directory: Path, wanted: Wanted, named: Named) -> None:
        """All of it is here."""

    def localize(self, path: Path, sender: Root) -> Path:  # noqa: ARG002 every sender's path is this machine's as well
        self._check(path)
        return path

    def fetch_notes_behind(self, inputs: Iterable[Path]) -> None:
        """All of them are here."""

    def checksums(self, directory: Path) -> dict[str, FileInfo]:
        # Called by the worker, so that many files are read on many nodes and not by the driver alone.
        return list_files(directory, skip=CONTROL_FILES)

    def forget(self, step: str) -> None:
        _discard(self._partial(step))

    def publish(self, step: str, record: Mapping[str, Any] | None) -> None:
        partial, final = self._partial(step), self.folder / STEPS / step
        if record is not None:
            # From here on a crash leaves finished work, which the next run publishes without doing it again.
            write_sealed(partial / DONE, record)
        # No part of the result; and without attempt.json a worker of an earlier attempt finds no owner and is fenced off.
        for name in CONTROL_FILES:
            (partial / name).unlink(missing_ok=True)
        remove_temporaries(partial)
        # A folder that is not empty cannot be renamed over, so an older result steps aside first.
        replaced = final.with_name(f"{step}.replaced")
        _discard(replaced)
        if final.exists():
            final.rename(replaced)
        publish(partial, final)
        _discard(replaced)

    def refresh(self, steps: Collection[str], names: Collection[str]) -> None:
        """What is known is what is here."""

    def know(self, step: str) -> bool:
        return (self.folder / STEPS / step / DONE).exists()

    def fetch_earlier(self, name: str, wanted: Wanted) -> None:
        """All of them are here."""

    def fetch(self, step: str, wanted: Wanted = everything) -> Path:  # noqa: ARG002 all files are here
        if not self.know(step):
            raise IntegrityError(f"{self.folder / STEPS / step} has no {DONE}, so it is not finished; run the pipeline again")
        self._check(self.folder / STEPS / step)
        return self.folder / STEPS / step

    def _check(self, path: Path) -> None:
        if STEP_FOLDER.fullmatch(path.name):
            check_step(path)

    def _partial(self, step: str) -> Path:
        return self.folder / STEPS / f"{step}{PARTIAL}"


def _discard(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
