"""The SQLite file of a store without a server: made whole or not at all, and at home wherever its folder lies.

MLflow makes its tables in some seventy migrations, and a file on which it was stopped there opens never again; so they are made
aside, and the file gets its name when it is whole. MLflow keeps absolute places of files; when a store was moved they are written
anew. The caller holds the store's lock. Only the making imports MLflow, which takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import sys
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoocast.errors import ConfigError, InfrastructureError
from zoocast.store.files import writing

__all__ = ["ARTIFACTS", "check", "prepare", "relocate"]

ARTIFACTS = "mlartifacts"  # the folder beside the store that holds the files of its runs
COMPANIONS = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database: poison to another one of its name
# The first table that is made, under its own name or that under which a migration copies it.
FIRST = frozenset({"experiments", "_alembic_tmp_experiments"})
# A row in one of them means that the making had come to its end, for the experiment `Default` is entered last.
CONTENTS = ("experiments", "runs", "registered_models")
BUSY_SECONDS = 30.0  # no writer's turn takes longer


def prepare(file: Path) -> None:
    """Make the store unless it is there; one that was left half-made is set aside, and one that was moved gets its places right.

    Raises:
        ConfigError: the file is another program's database.
        InfrastructureError: it is damaged, or cannot be read or written.
    """
    if not file.exists() or not _is_whole(file):
        _set_aside(file)
        _make(file)
    relocate(file)
    _share(file)


def relocate(file: Path) -> None:
    """Have a store that was moved or copied name its files by where they are now, and say so in a line on stderr.

    What lies elsewhere on purpose keeps its place. Another name of the same folder, such as a link, is no move.

    Raises:
        InfrastructureError: the store is damaged, or cannot be written.
    """
    here = f"{file.parent.as_uri()}/{ARTIFACTS}/"
    with _opened(file) as database:
        for there in _former(database, file.parent):
            for table, column in _texts(database):
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) WHERE substr("{column}", 1, ?) = ?',
                    (here, len(there) + 1, len(there), there),
                )
            print(f"{file} was moved or copied: MLflow's files are looked for in {here}, no longer in {there}", file=sys.stderr)
    # MLflow remembers a run's place for as long as the process lives.
    places = getattr(sys.modules.get("mlflow.tracking._tracking_service.utils"), "_artifact_repos_cache", {})
    places.clear()


def check(file: Path) -> None:
    """Read all of the store once, a second for some gigabytes.

    Raises:
        InfrastructureError: it is damaged, or cannot be read.
    """
    with _opened(file) as database:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)


def _is_whole(file: Path) -> bool:
    """Whether MLflow had come to the end of making the store, whatever its version."""
    with _opened(file) as database:
        tables = _tables(database)
        if tables and FIRST.isdisjoint(tables):
            raise ConfigError("tracking_uri", f"{file} is a database of another program, which has no place for MLflow's tables")
        return any(database.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() for table in CONTENTS if table in tables)


def _set_aside(file: Path) -> None:
    """Give a half-made store and all that belongs to it other names, which nothing overwrites."""
    kept = next(name for i in range(1, 10**6) if not _parts(name := file.with_name(f"{file.name}.half-made-{i}")))
    with writing(file):
        for part in _parts(file):
            part.rename(kept.with_name(kept.name + part.name.removeprefix(file.name)))
    if _parts(kept):
        print(f"{file} was left half-made and is kept as {kept.name}; it is made again", file=sys.stderr)


def _parts(file: Path) -> list[Path]:
    return [path for suffix in ("", *COMPANIONS) if (path := file.with_name(file.name + suffix)).exists()]


def _make(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with writing(file):
        # Of one who was killed here: under the lock nobody else is at it.
        for left in file.parent.glob(f".{file.name}.*"):
            shutil.rmtree(left)
        folder = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        folder.mkdir()
        try:
            made = folder / file.name
            SqlAlchemyStore(f"sqlite:///{made}", (file.parent / ARTIFACTS).as_uri()).engine.dispose()
            os.replace(made, file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _share(file: Path) -> None:
    """Let those write the store who may read it, as far as the umask does; SQLite's own files beside it get its mode."""
    status = file.stat()
    if status.st_uid != os.geteuid():
        return
    # SQLite makes files of 0644 less the umask. A folder of our own shows that, which cannot be asked for without setting it.
    probe = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        probe.mkdir()
        allowed = probe.stat().st_mode
        probe.rmdir()
        readers = status.st_mode & (stat.S_IRGRP | stat.S_IROTH)
        file.chmod(stat.S_IMODE(status.st_mode | (readers >> 1 & allowed)))


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """The database in one transaction, which is undone when an error is raised in it."""
    try:
        # Not read-only: what a killed writer left in the journal has to be undone first. `rw` makes no new file.
        database = sqlite3.connect(f"file:{urllib.parse.quote(str(file))}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        with contextlib.closing(database), database:
            yield database
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise InfrastructureError(f"cannot use {file} ({error}); see to it that it can be read and written") from None
        raise InfrastructureError(
            f"{file} is damaged ({error}); move it away: a new one is made, and `pipelines sync` delivers all again"
        ) from None


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _texts(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Each (table, column) that holds text."""
    columns = ((table, column) for table in _tables(database) for column in database.execute(f'PRAGMA table_info("{table}")'))
    return [(table, name) for table, (_, name, kind, *_) in columns if "CHAR" in kind or "TEXT" in kind]


def _former(database: sqlite3.Connection, folder: Path) -> set[str]:
    """The URIs, up to the last ``/``, of the folders in which experiments have their files and which are not that of `folder`."""
    found = set()
    if "experiments" in _tables(database):
        for identifier, name, place in database.execute("SELECT experiment_id, name, artifact_location FROM experiments"):
            # By name where zoocast made the experiment, by number where MLflow's page did; all others are a user's own.
            for last in (f"/{ARTIFACTS}/{name}", f"/{ARTIFACTS}/{identifier}"):
                base = str(place).removesuffix(last)
                if base != place and base.startswith("file:///") and not _is_same(_path(base), folder):
                    found.add(f"{base}/{ARTIFACTS}/")
    return found


def _path(uri: str) -> Path:
    return Path(urllib.parse.unquote(uri.removeprefix("file://")))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:  # it is gone
        return False
