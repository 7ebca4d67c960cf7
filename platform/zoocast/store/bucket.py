"""Roots in an object store: every machine works in a local folder, its mirror, and the store is the exchange between them.

STORE/steps/NAME-KEY/data/SHA256~PATH           a file of a step, named by its content: it is never written over
STORE/steps/NAME-KEY/done.json                  the step's record and the list of its files; written last, it is what finishes it
STORE/steps/NAME-KEY.partial/files/MIRROR.json  what one machine has handed over of an unfinished step; written after the files
STORE/steps/NAME-KEY.partial/attempt.json       who owns the unfinished step; beside it `stop` and `progress.json`

A mirror is laid out like any other root, below ZOOCAST_CACHE (default: ~/.cache/zoocast). Of a finished step it holds `done.json`
and those files that were needed here; they were checked against their SHA-256 when they came. ZOOCAST_CACHE_GB bounds what
finished steps take; the ones that were used longest ago make room. Stores list what was written a moment before (as S3 does).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import urllib.parse
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoocast.errors import ConfigError, InfrastructureError, IntegrityError
from zoocast.store.files import human_bytes, inside, require_free_space, sha256_file, write_atomically

__all__ = ["Mirror", "address", "is_url", "local", "mirror_of", "open_mirror", "open_root"]

ABOUT, DONE, ATTEMPT = "remote.json", "done.json", "attempt.json"
ERROR = "error.txt"
NOT_SHARED = ("progress.json", "ray")  # what the driver noted for its plan, and what Ray keeps for itself
FOLDER = re.compile(r"([a-z0-9][a-z0-9._-]*)-[0-9a-f]{12}")  # of a finished step: NAME-KEY
SECRETS = ("key", "secret", "token", "password", "sig")
DEFAULT_CACHE_GB = 50.0
CHUNK_BYTES = 8 * 2**20
TRIES = 5
READS = 20


def is_url(text: str | Path) -> bool:
    """Whether `text` names a root in an object store."""
    return "://" in str(text)


def open_root(text: str | Path) -> Path:
    """The folder in which work on the root `text` happens: the path itself, or this machine's mirror of a URL. Asks no server.

    Raises:
        ConfigError: a URL of no known kind, or one with a password or a key in it.
    """
    return open_mirror(str(text)).root if is_url(text) else Path(text)


def address(path: Path) -> str:
    """`path`, for example a root, as people and other machines know it: below the URL of its mirror, or itself."""
    mirror = mirror_of(path)
    if mirror is None:
        return str(path)
    parts, name = urllib.parse.urlsplit(mirror.url), mirror.name(path)
    return mirror.url if name == "." else parts._replace(path=f"{parts.path}/{name}").geturl()


def local(address: str) -> Path:
    """The file of a finished step that `address` gave, on this machine, with all else in its folder. Raises as `fetch` does."""
    if not is_url(address):
        return Path(address)
    parts = urllib.parse.urlsplit(address)
    root, _, below = parts.path.rpartition("/steps/")
    step, _, file = below.partition("/")
    return open_mirror(parts._replace(path=root).geturl()).fetch(step) / file


def open_mirror(url: str) -> Mirror:
    """This machine's mirror of the root `url`, made when it is missing. Raises as `open_root` does."""
    url = url.rstrip("/")
    parts = urllib.parse.urlsplit(url)
    given = [name for name, _ in urllib.parse.parse_qsl(parts.query) if any(secret in name.lower() for secret in SECRETS)]
    if "@" in parts.netloc or given:
        raise ConfigError("--root", "a URL may hold no password and no key; give them in the environment, or to the machine")
    if not parts.netloc:
        raise ConfigError("--root", f"{url} names no bucket; write s3://BUCKET/PREFIX")
    root = _cache() / "roots" / hashlib.sha256(url.encode()).hexdigest()[:16]
    if not (root / ABOUT).exists():
        _connect(url)
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("steps", "locks", "sync", "uses"):
            (root / name).mkdir(exist_ok=True)
        write_atomically(root / ABOUT, json.dumps({"url": url, "id": uuid.uuid4().hex}))
    return Mirror(url, root)


@functools.lru_cache(maxsize=4096)
def mirror_of(path: Path) -> Mirror | None:
    """The mirror in which `path` lies; None for a root that is a plain folder."""
    for folder in (path.absolute(), *path.absolute().parents):
        with contextlib.suppress(OSError):
            return Mirror(json.loads((folder / ABOUT).read_text())["url"], folder)
    return None


def _cache() -> Path:
    given = os.environ.get("ZOOCAST_CACHE")
    return Path(given).absolute() if given else Path.home() / ".cache" / "zoocast"


def _cache_bytes() -> int:
    given = os.environ.get("ZOOCAST_CACHE_GB", "")
    try:
        return int(float(given or DEFAULT_CACHE_GB) * 1e9)
    except ValueError:
        raise ConfigError("ZOOCAST_CACHE_GB", f"must be a number of gigabytes, but got {given!r}") from None


@functools.lru_cache
def _connect(url: str) -> tuple[Any, str]:
    """The file system of `url` and the path in it. Credentials are the environment's or the machine's."""
    import pyarrow as pa
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as refusal:
        try:
            import fsspec

            other, path = fsspec.url_to_fs(url)
            system = fs.PyFileSystem(fs.FSSpecHandler(other))
        except (ImportError, TypeError, ValueError) as error:
            raise ConfigError(
                "--root", f"{url} cannot be used ({refusal}; fsspec: {error}); write a folder, or s3://BUCKET/PREFIX"
            ) from None
    return system, path.rstrip("/")


class Entry(NamedTuple):
    """A file as it was handed over. Of two entries the higher version counts; a `size` of -1 means that it was removed."""

    size: int
    sha256: str
    version: int


@dataclasses.dataclass
class _State:
    """What this machine and the store agree on about an unfinished step, and when each file was last changed here.

    `work` changes when a step begins from nothing, so that what is left of former work is known for what it is.
    """

    work: str = ""
    files: dict[str, Entry] = dataclasses.field(default_factory=dict)
    stamps: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _State:
        try:
            data = json.loads(path.read_text())
            return cls(data["work"], {k: Entry(*v) for k, v in data["files"].items()}, data["stamps"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


def everything(_file: str) -> bool:
    """All files are wanted."""
    return True


@dataclasses.dataclass(frozen=True)
class Mirror:
    """The folder `root` as this machine's copy of `url`. Steps are named by their folders, ``NAME-KEY``, without ``.partial``.

    Every method that asks the store raises `InfrastructureError` when it does not answer.
    """

    url: str
    root: Path

    # ------------------------------------------------------------------------------------------------------------ objects

    def name(self, path: Path) -> str:
        """Of the object that mirrors `path`."""
        return path.absolute().relative_to(self.root).as_posix()

    def path(self, name: str) -> Path:
        """What mirrors the object `name`. Raises `IntegrityError` for a name that leads out of the mirror."""
        return inside(self.root, name)

    def read(self, name: str) -> bytes | None:
        """An object's content; None when there is none. One that is replaced meanwhile is read again.

        (pyarrow asks for the size first and then for so many bytes, which are half an object when it has grown in between.)
        """
        with self._asking() as (system, prefix):
            for _ in range(READS):
                data, problem, expected = b"", None, None
                try:
                    with system.open_input_file(f"{prefix}/{name}") as stream:
                        expected = stream.size()
                        data = stream.read()
                except FileNotFoundError:
                    return None
                except OSError as error:
                    problem = error
                size = system.get_file_info(f"{prefix}/{name}").size
                if problem is None and size in (None, len(data)):
                    return bytes(data)
                if problem is not None and size == expected:
                    raise problem
        raise InfrastructureError(f"{self.url}/{name} changes all the time")

    def write(self, name: str, data: bytes | str) -> None:
        """Replace an object whole."""
        with self._asking() as (system, prefix), system.open_output_stream(f"{prefix}/{name}") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)

    def remove(self, name: str) -> None:
        """Remove an object, or all below a name that ends with a slash, if there is anything."""
        with self._asking() as (system, prefix), contextlib.suppress(FileNotFoundError):
            (system.delete_dir if name.endswith("/") else system.delete_file)(f"{prefix}/{name.rstrip('/')}")

    def objects(self, folder: str) -> dict[str, int]:
        """All objects below `folder`, by their names below it, and when each was written, in nanoseconds of the store's clock."""
        return {name: int(info.mtime_ns or 0) for name, info in self._infos(folder, recursive=True) if info.is_file}

    def folders(self, folder: str) -> list[str]:
        """The names directly below `folder` that have objects below them."""
        return [name for name, info in self._infos(folder, recursive=False) if not info.is_file]

    def _infos(self, folder: str, *, recursive: bool) -> list[tuple[str, Any]]:
        from pyarrow import fs

        with self._asking() as (system, prefix):
            selector = fs.FileSelector(f"{prefix}/{folder}", recursive=recursive, allow_not_found=True)
            return [(info.path.removeprefix(f"{prefix}/{folder}/"), info) for info in system.get_file_info(selector)]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[tuple[Any, str]]:
        try:
            yield _connect(self.url)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno is not None:
                raise  # about a file of ours: the store's errors have no number
            reason = " ".join(str(error).split())
            raise InfrastructureError(
                f"the object store of {self.url} refuses or does not answer ({reason[:300]});"
                " check the bucket, AWS_ENDPOINT_URL and the credentials in the environment, and run again"
            ) from None

    # ---------------------------------------------------------------------------------------------------- unfinished steps

    def step_of(self, path: Path) -> str:
        """The step in whose folder `path` lies."""
        return path.relative_to(self.root).parts[1].removesuffix(".partial")

    def work(self, step: str) -> str:
        """The name of the unfinished work on `step`; empty when there is none."""
        return str(json.loads(self.read(f"steps/{step}.partial/{ATTEMPT}") or b"{}").get("work", ""))

    def push(self, step: str) -> None:
        """Hand over what was changed here in the unfinished `step` since it was last handed over or taken."""
        partial = self.root / "steps" / f"{step}.partial"
        with self._turn(step) as state:
            stamps = {file: stamp for file, stamp in _files(partial) if file.partition("/")[0] not in NOT_SHARED}
            changed = [file for file, stamp in stamps.items() if state.stamps.get(file) != stamp]
            gone = [file for file in state.stamps if file not in stamps]
            version = 1 + max((e.version for e in state.files.values()), default=0)
            before = dict(state.files)
            for file in changed:
                with contextlib.suppress(FileNotFoundError):  # removed this moment, which the next push will tell
                    size, sha256 = self._upload(step, file, partial / file)
                    state.files[file], state.stamps[file] = Entry(size, sha256, version), stamps[file]
            for file in gone:
                state.files[file] = Entry(-1, "", version)
                del state.stamps[file]
            if changed or gone:
                index = {"work": state.work, "files": state.files}
                self.write(f"steps/{step}.partial/files/{self._id}.json", json.dumps(index))
            for file in (*changed, *gone):
                if file in before and before[file].size >= 0 and before[file].sha256 != state.files[file].sha256:
                    self.remove(_data(step, file, before[file].sha256))

    def pull(self, step: str, wanted: Callable[[str], bool] = everything, files: dict[str, Entry] | None = None) -> None:
        """Take what other machines have handed over of the unfinished `step`; what was not handed over from here stays.

        Args:
            wanted: which files, by their paths in the step's folder.
            files: what `index` returned, to take no later state than that.
        """
        partial = self.root / "steps" / f"{step}.partial"
        for last in (*[False] * (TRIES - 1), True):
            work, found = self._index(step)
            if not work:
                return
            with self._turn(step) as state:
                if state.work != work:
                    _discard(partial)
                    state.work, state.files, state.stamps = work, {}, {}
                partial.mkdir(exist_ok=True)
                try:
                    for file, entry in sorted((found if files is None else files).items()):
                        if wanted(file) and (file not in state.files or state.files[file].version < entry.version):
                            self._take(step, file, entry, partial, state)
                    return
                except FileNotFoundError:  # a newer version has taken the place of this one
                    if last or files is not None:
                        raise IntegrityError(
                            f"{self.url}/steps/{step} lacks files that it lists; start it with --force"
                        ) from None

    def _take(self, step: str, file: str, entry: Entry, partial: Path, state: _State) -> None:
        target = inside(partial, file)
        if entry.size < 0:
            target.unlink(missing_ok=True)
            state.stamps.pop(file, None)
        else:
            self._download(step, file, entry.size, entry.sha256, target)
            state.stamps[file] = _stamp(target)
        state.files[file] = entry

    def index(self, step: str) -> dict[str, Entry]:
        """All files of the unfinished `step` that any machine has handed over."""
        return {file: entry for file, entry in self._index(step)[1].items() if entry.size >= 0}

    def _index(self, step: str) -> tuple[str, dict[str, Entry]]:
        folder = f"steps/{step}.partial"
        work, files = self.work(step), dict[str, Entry]()
        for name in sorted(self.objects(f"{folder}/files")):
            data = json.loads(self.read(f"{folder}/files/{name}") or b"{}")
            for file, entry in data.get("files", {}).items() if data.get("work") == work else ():
                if file not in files or files[file].version < entry[2]:
                    files[file] = Entry(*entry)
        return work, files

    def content(self, step: str, file: str, sha256: str) -> bytes:
        """Of a file that was handed over; empty when a newer version has taken its place."""
        return self.read(_data(step, file, sha256)) or b""

    def forget(self, step: str) -> None:
        """Drop unfinished work on `step`, here and in the store."""
        self.remove(f"steps/{step}.partial/")
        _discard(self.root / "steps" / f"{step}.partial")

    # ------------------------------------------------------------------------------------------------------ finished steps

    def handed_over(self, step: str) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of all files that are to be the result of `step`."""
        return {file: (entry.size, entry.sha256) for file, entry in sorted(self.index(step).items()) if file != ERROR}

    def commit(self, step: str, record: dict[str, Any]) -> None:
        """Make the files that `record` lists the result of `step`. A crash leaves it unfinished, or finished but untidy."""
        files = record["files"]
        done = json.dumps(record, indent=1)
        self.write(f"steps/{step}/{DONE}", done)
        with self._turn(step) as state:
            self._settle(step, done.encode(), state)
        self.remove(f"steps/{step}.partial/")
        needed = {_data(step, file, sha256) for file, (_, sha256) in files.items()}
        for name in {f"steps/{step}/data/{name}" for name in self.objects(f"steps/{step}/data")} - needed:
            self.remove(name)

    def refresh(self, steps: Collection[str], names: Collection[str]) -> None:
        """Bring the records of `steps`, of everything else with one of `names`, and of running drivers up to date here."""
        there = set(self.folders("steps"))
        for folder in there | {p.name for p in (self.root / "steps").iterdir()}:
            step = folder.removesuffix(".partial")
            match = FOLDER.fullmatch(step)
            if match is None or match[1] not in names:
                continue
            if step in steps or not (self.root / "steps" / step / DONE).exists():
                self.know(step)
            if folder.endswith(".partial"):
                self._know_partial(step) if folder in there else _discard(self.root / "steps" / folder)

    def _know_partial(self, step: str) -> None:
        self.pull(step, lambda file: file == ERROR)
        note = self.read(f"steps/{step}.partial/progress.json")
        if note is not None:
            local = self.root / "steps" / f"{step}.partial"
            local.mkdir(exist_ok=True)
            write_atomically(local / "progress.json", note, durable=False)

    def know(self, step: str) -> bool:
        """Whether `step` is finished; its record is here then, and the files that this machine has of it already."""
        with self._turn(step) as state:
            done = self.read(f"steps/{step}/{DONE}")
            if done is None:
                _discard(self.root / "steps" / step)
                return False
            self._settle(step, done, state)
        return True

    def earlier(self, name: str) -> list[str]:
        """The finished steps called `name`, of any key; their records are here then."""
        matches = [FOLDER.fullmatch(folder) for folder in self.folders("steps")]
        return [match[0] for match in matches if match and match[1] == name and self.know(match[0])]

    def fetch(self, step: str, wanted: Callable[[str], bool] = everything) -> Path:
        """The folder of the finished `step`, with at least the files that are `wanted`, each checked when it came.

        Raises:
            IntegrityError: the step is not finished, or a file is missing, or does not match its checksum.
            InfrastructureError: there is no room for it.
        """
        if not self.know(step):
            raise IntegrityError(f"{self.url}/steps/{step} has no {DONE}, so it is not finished; run the pipeline again")
        return self.complete(step, wanted)

    def complete(self, step: str, wanted: Callable[[str], bool]) -> Path:
        """As `fetch`, for a step of which the record here is known to be the latest."""
        final = self.root / "steps" / step
        with self._turn(step):
            (self.root / "uses" / step).touch()
            missing = {f: v for f, v in _listed(final).items() if wanted(f) and _size(final / f) != v[0]}
            if missing:
                self._make_room(step, sum(size for size, _ in missing.values()))
            for file, (size, sha256) in missing.items():
                try:
                    self._download(step, file, size, sha256, inside(final, file))
                except FileNotFoundError:
                    raise IntegrityError(f"{self.url}/steps/{step} lacks its file {file}; run its step with --force") from None
        return final

    def bring(self, path: Path, sender: Mirror) -> Path:
        """Where `path`, in another machine's mirror of the same root, is on this one. A finished step comes whole and is held."""
        relative = path.relative_to(sender.root)
        step = relative.parts[1]
        if not step.endswith(".partial"):
            self._hold(step)
            self.fetch(step)
        return self.root / relative

    def _hold(self, step: str) -> None:
        """Keep the finished `step` on this machine for as long as this object, or this process, lives."""
        descriptor = os.open(self.root / "uses" / step, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)

    def _settle(self, step: str, done: bytes, state: _State) -> None:
        """Make `done` the record of `step` here; files of the unfinished step that are as it says become those of the result."""
        final, partial = self.root / "steps" / step, self.root / "steps" / f"{step}.partial"
        if (final / DONE).exists() and (final / DONE).read_bytes() == done:
            return
        coming = final.with_name(f"{step}.fetching")
        _discard(coming)
        coming.mkdir()
        for file, (size, sha256) in json.loads(done)["files"].items():
            source = inside(partial, file)
            if _size(source) == size and sha256 in (_known(state, file, source), sha256_file(source)):
                (coming / file).parent.mkdir(parents=True, exist_ok=True)
                source.rename(coming / file)
        write_atomically(coming / DONE, done)
        _discard(final)
        coming.rename(final)
        _discard(partial)
        state.work, state.files, state.stamps = "", {}, {}

    def _make_room(self, step: str, needed: int) -> None:
        """Let finished steps go that nobody uses, the one used longest ago first, until `needed` bytes fit."""
        limit = _cache_bytes()
        found = []
        for folder in _cache().glob("roots/*/steps/*/"):
            use = folder.parents[1] / "uses" / folder.name
            if (folder / DONE).exists():
                found.append((use.stat().st_mtime_ns if use.exists() else 0, folder, use))
        sizes = {folder: sum(_size(folder / file) or 0 for file in _listed(folder)) for _, folder, _ in found}
        for _, folder, use in sorted(found):
            if sum(sizes.values()) + needed > limit and folder != self.root / "steps" / step and _let_go(folder, use):
                del sizes[folder]
        if sum(sizes.values()) + needed > limit:
            raise InfrastructureError(
                f"{step} needs {human_bytes(needed)} on this machine, but ZOOCAST_CACHE_GB allows {human_bytes(limit)} at"
                f" {_cache()}, of which {human_bytes(sum(sizes.values()))} are in use; allow more"
            )
        require_free_space(self.root, needed, f"a copy of {step}")

    # ------------------------------------------------------------------------------------------------------------ transfer

    def _upload(self, step: str, file: str, path: Path) -> tuple[int, str]:
        for _ in range(TRIES):
            size, sha256 = path.stat().st_size, sha256_file(path)
            if self._object_size(_data(step, file, sha256)) == size:
                return size, sha256
            with path.open("rb") as source:
                sent = self._stream(source, _data(step, file, sha256))
            if sent == (size, sha256):
                return sent
            self.remove(_data(step, file, sha256))  # it was written to meanwhile, and this is half of each
        raise InfrastructureError(f"{path} changes all the time, so it cannot be handed over")

    def _object_size(self, name: str) -> int | None:
        with self._asking() as (system, prefix):
            size: int | None = system.get_file_info(f"{prefix}/{name}").size
            return size

    def _stream(self, source: Any, name: str) -> tuple[int, str]:
        """Send a file; gives the size and the SHA-256 of what was sent."""
        size, found = 0, hashlib.sha256()
        with self._asking() as (system, prefix), system.open_output_stream(f"{prefix}/{name}") as sink:
            while chunk := source.read(CHUNK_BYTES):
                found.update(chunk)
                sink.write(chunk)
                size += len(chunk)
        return size, found.hexdigest()

    def _download(self, step: str, file: str, size: int, sha256: str, target: Path) -> None:
        """Make `target` the file that was handed over, checked. A journal that grew is appended to, for it may be open."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with (
                self._asking() as (system, prefix),
                system.open_input_stream(f"{prefix}/{_data(step, file, sha256)}") as source,
                partial.open("xb") as sink,
            ):
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            if partial.stat().st_size != size or sha256_file(partial) != sha256:
                raise IntegrityError(
                    f"{self.url}/{_data(step, file, sha256)} does not match its checksum; run its step with --force"
                )
            if not (file.endswith(".jsonl") and target.exists() and _append_rest(target, partial.read_bytes())):
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    @functools.cached_property
    def _id(self) -> str:
        return str(json.loads((self.root / ABOUT).read_text())["id"])

    @contextlib.contextmanager
    def _turn(self, step: str) -> Iterator[_State]:
        """One process of this machine at a time; what it changes in the state is written down, unless it fails."""
        path = self.root / "sync" / f"{step}.json"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = _State.read(path)
            yield state
            write_atomically(path, json.dumps(dataclasses.asdict(state)), durable=False)


def _data(step: str, file: str, sha256: str) -> str:
    return f"steps/{step}/data/{sha256}~{file.replace('/', '~')}"


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """The files below `folder` with their stamps, without those that are being written (their names begin with a dot)."""
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        if not any(part.startswith(".") for part in file.parts) and path.is_file():
            with contextlib.suppress(FileNotFoundError):
                yield file.as_posix(), _stamp(path)


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _known(state: _State, file: str, path: Path) -> str:
    """The SHA-256 of a file that has not been touched since it was handed over."""
    return state.files[file].sha256 if state.stamps.get(file) == _stamp(path) else ""


def _listed(final: Path) -> dict[str, tuple[int, str]]:
    return {file: (int(size), str(sha256)) for file, (size, sha256) in json.loads((final / DONE).read_text())["files"].items()}


def _append_rest(journal: Path, whole: bytes) -> bool:
    """Append to `journal` what `whole` has beyond it; False when the one does not begin with the other."""
    with journal.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = file.read()
        if not whole.startswith(known):
            return False
        file.write(whole[len(known) :])
    return True


def _let_go(folder: Path, use: Path) -> bool:
    """Remove the files of a finished step, all but its record, unless a process holds it."""
    with use.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        for file in _listed(folder):
            (folder / file).unlink(missing_ok=True)
    return True


def _discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
