"""A storage root as the rest of zoocast knows it: where the steps of a pipeline lie, whatever sort of storage that is.

Work always happens in files of this machine, below `Root.folder`. What a root does beyond that is to carry them to the machines
that need them, to say who is at work on what, and to make an unfinished step a finished one. Where all machines see one folder
there is nothing to carry (`FolderRoot`), in an object store there is everything (`BucketRoot`). Another storage is another class.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from zoocast.store.files import FileInfo
from zoocast.store.locks import Holder, Locks

__all__ = ["Named", "Pace", "Root", "Wanted", "everything"]

Wanted = Callable[[str], bool]
"""Which files are wanted, by their paths in the step's folder."""

Named = Callable[[Mapping[str, bytes]], Wanted]
"""Which files the given ones (their content by path) refer to."""


def everything(_file: str) -> bool:
    """All files are wanted."""
    return True


class Pace(NamedTuple):
    """Seconds between two looks at, or updates of, a control file."""

    progress: float  # between two notes of a step's progress
    stop: float  # between two looks of a step for a wish to stop
    watch: float  # between two looks of the driver at a step's progress


class Root(abc.ABC):
    """Where results lie. Steps are named by their folders, ``NAME-KEY``; paths are this machine's, at or below `folder`.

    A root travels to Ray tasks and workers, where it names the *sender's* folder; `here` gives the same root on that machine.
    Every method raises `InfrastructureError` when the storage does not answer or cannot be written.
    """

    folder: Path
    """Where this machine works on the root."""

    pace: ClassVar[Pace]
    """How often control files are looked at: as often as costs nothing."""

    partial_copies: ClassVar[bool]
    """Whether a finished step may lack files here, which come when somebody on this machine wants them."""

    # ------------------------------------------------------------------------------------------------------------- addresses

    @abc.abstractmethod
    def address(self, path: Path) -> str:
        """`path` as people and other machines know it."""

    @abc.abstractmethod
    def local(self, address: str) -> Path:
        """The file of a finished step that `address` gave, on this machine, with all else in its folder.

        Raises:
            IntegrityError: it lies outside of the root, is not there or is damaged.
        """

    @abc.abstractmethod
    def here(self) -> Root:
        """This root on the machine that asks."""

    # --------------------------------------------------------------------------------------------------------- control files

    @abc.abstractmethod
    def read_note(self, path: Path) -> str | None:
        """The text of a control file as its writer left it; None when there is none, or when its folder is gone."""

    @abc.abstractmethod
    def write_note(self, path: Path, text: str, *, durable: bool = False) -> None:
        """Write a control file where the other side reads it."""

    @abc.abstractmethod
    def remove_notes(self, folder: Path) -> None:
        """Remove `folder` with all notes in it."""

    @abc.abstractmethod
    def write_shared(self, path: Path, text: str) -> None:
        """Write a file that stays here and that `gather` copies to other machines."""

    @abc.abstractmethod
    def gather(self, folder: Path) -> None:
        """Copy here all files below `folder` that any machine wrote by `write_shared`."""

    # --------------------------------------------------------------------------------------------------------- who is at work

    @abc.abstractmethod
    def locks(self, run_id: str) -> Locks:
        """The locks that a driver takes; `run_id` names it to others."""

    @abc.abstractmethod
    def holders(self, steps: Collection[str]) -> dict[str, Holder]:
        """Who holds the locks of `steps`, dead or alive; steps that nobody holds are left out."""

    # ------------------------------------------------------------------------------------------------------- unfinished steps

    @abc.abstractmethod
    def push(self, path: Path) -> None:
        """Hand to other machines what was written here in the unfinished step in whose folder `path` lies."""

    @abc.abstractmethod
    def pull(self, path: Path, wanted: Wanted = everything) -> None:
        """Take what other machines have pushed of the unfinished step in whose folder `path` lies."""

    @abc.abstractmethod
    def pull_with_named(self, directory: Path, wanted: Wanted, named: Named) -> None:
        """Fetch the `wanted` files of a step, finished or not, and before them those which they name.

        Whoever reads one of the files finds here what it refers to.
        """

    @abc.abstractmethod
    def localize(self, path: Path, sender: Root) -> Path:
        """Where `path`, the sender's, is on this machine. A finished step comes whole, and stays while this object lives."""

    @abc.abstractmethod
    def fetch_notes_behind(self, inputs: Iterable[Path]) -> None:
        """Of all steps that the finished steps `inputs` rest on, fetch what reports read: records, journals and studies."""

    @abc.abstractmethod
    def checksums(self, directory: Path) -> dict[str, FileInfo]:
        """What `publish` needs to know of the files that a step has left in `directory`."""

    @abc.abstractmethod
    def forget(self, step: str) -> None:
        """Drop unfinished work on `step`."""

    @abc.abstractmethod
    def publish(self, step: str, record: Mapping[str, Any] | None) -> None:
        """Turn the unfinished `step` into a result, with `record` as its done.json; None when it is already written there.

        A crash at any point leaves the old result, the new one, or the unfinished step.
        """

    # --------------------------------------------------------------------------------------------------------- finished steps

    @abc.abstractmethod
    def refresh(self, steps: Collection[str], names: Collection[str]) -> None:
        """Before planning: update here what is known of `steps`, and of all others that carry one of `names`."""

    @abc.abstractmethod
    def know(self, step: str) -> bool:
        """Whether `step` is finished; its record is here then."""

    @abc.abstractmethod
    def fetch_earlier(self, name: str, wanted: Wanted) -> None:
        """Of all finished steps called `name`, of any key, fetch the `wanted` files."""

    @abc.abstractmethod
    def fetch(self, step: str, wanted: Wanted = everything) -> Path:
        """The folder of the finished `step` with at least the files that are `wanted`.

        Raises:
            IntegrityError: the step is not finished, or a file is missing, or does not match its checksum.
            InfrastructureError: there is no room for it.
        """
