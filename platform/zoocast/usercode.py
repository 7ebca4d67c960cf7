"""Code that the user has written: importing and calling it, and the line of it that an error comes from.

Whatever goes wrong in a module of the user's is told with its file, its line and its own message, and is no fault of zoocast.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from zoocast.errors import ConfigError, ZoocastError
from zoocast.provenance import changed_files

__all__ = ["changed_place_of", "described", "import_module", "place_of", "require_nothing_hidden", "user_code", "where"]

# Packages that come with zoocast. Their modules are also examples to change, so a line in them is named, but never guessed.
OURS = ("zoocast", "pipelines", "searchspaces")
# What zoocast, Ray's processes and MLflow's server import, by the names of the modules.
NEEDED = (
    *("jinja2", "matplotlib", "mlflow", "numpy", "optuna", "pandas", "PIL", "psutil", "pyarrow", "ray", "rich", "safetensors"),
    *("scipy", "skimage", "sklearn", "sqlalchemy", "torch", "typer", "yaml"),
)
LIBRARY = Path(__file__).absolute().parent


@contextlib.contextmanager
def user_code(called: Any) -> Iterator[None]:
    """Let what the user's code raises in the block be a `ConfigError` with its file, line and message.

    Args:
        called: the function or module of the user's; named where the error comes from no line of it, as one of its result does.
    """
    try:
        yield
    except (ZoocastError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit as well: a module that ends Python has not said that all is well
        package = str(getattr(called, "__module__", None) or getattr(called, "__name__", "")).partition(".")[0]
        place = place_of(error, package) or (where(called) if package not in OURS else None)
        if place is None:
            raise
        raise ConfigError("", f"{place}: {described(error)}") from error


def import_module(name: str) -> ModuleType | None:
    """The module called `name`; None when there is none.

    Raises:
        ConfigError: it cannot be imported; the message names the file, the line and the module's own error.
    """
    if name.startswith("."):
        return None
    try:
        return importlib.import_module(name)
    except (ZoocastError, KeyboardInterrupt):
        raise
    except BaseException as error:
        place = place_of(error, name.partition(".")[0])
        # No line of a module has run, and the name that Python misses is this one or a package before one of its dots.
        if place is None and isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(str(error.name).rstrip(".") + "."):
            return None
        raise ConfigError("", f"{place or name}: {described(error)}") from error


def place_of(error: BaseException, package: str = "") -> str | None:
    """``FILE:LINE`` of the last line of the user's that `error`, or what it was raised from, has gone through; None for none.

    Args:
        package: the user's own package, which may be installed beside all others.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        # Python names the place of what it cannot read in the error itself; no frame has run there.
        if isinstance(current, SyntaxError) and current.filename and _is_users(current.filename, installed=True):
            return f"{_short(current.filename)}:{current.lineno or 1}"
        frames = [frame for frame in _frames(current.__traceback__) if _is_theirs(*frame, package)]
        if frames:
            file, line, _ = frames[-1]
            return f"{_short(file)}:{line}"
        current = current.__cause__ or current.__context__
    return None


def changed_place_of(error: BaseException) -> str | None:
    """As `place_of`, for zoocast's own files that differ from the repository's commit: who adds a cell to it writes into it."""
    changed = changed_files(LIBRARY)
    places = [(file, line) for file, line, _ in _frames(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 1))
    return next((f"{_short(file)}:{line}" for file, line in reversed(places) if Path(file).absolute() in changed), None)


def described(error: BaseException) -> str:
    """The error's type and message, on one line."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # the user's own class may be unable to say what it is
        text = ""
    if isinstance(error, SystemExit):
        return f"it ends Python, with sys.exit({text})"
    name = type(error).__name__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(text))  # colours, which Ray puts into what it says of its workers
    return f"{name}: {' '.join(text.split())[:500]}" if text else name


def where(called: Any) -> str:
    """``FILE:LINE`` of a function or class, ``FILE`` of a module; what it is called when it comes from no file."""
    try:
        called = inspect.unwrap(called)
        file = inspect.getsourcefile(called) or inspect.getfile(called)
    except (TypeError, ValueError):  # what is no function, or is built in
        return str(getattr(called, "__name__", type(called).__name__))
    code = getattr(called, "__code__", None)
    return _short(file) + (f":{code.co_firstlineno}" if code else "")


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    """File, line and module of every frame, the outermost first."""
    for frame, line in traceback.walk_tb(trace):
        yield frame.f_code.co_filename, line, str(frame.f_globals.get("__name__", ""))


def _is_theirs(file: str, _line: int, module: str, package: str) -> bool:
    return _is_users(file, installed=bool(package) and package not in OURS and module.partition(".")[0] == package)


def _is_users(file: str, *, installed: bool = False) -> bool:
    """Whether `file` is no part of zoocast, of Python, or of an installed package; `installed` says that it may be the last."""
    path = Path(file).absolute()
    if not path.is_file() or path.is_relative_to(LIBRARY):
        return False
    return installed or not _is_installed(path)


def _is_installed(path: Path) -> bool:
    """Whether `path` lies where Python and packages are installed."""
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {site.getusersitepackages()}
    return any(path.is_relative_to(folder) for folder in folders)


def _short(file: str) -> str:
    """As people would type it: from the current folder on when it lies there."""
    path = os.path.relpath(file)
    return file if path.startswith("..") else path


# ------------------------------------------------------------------------------------------------- modules that hide others


def require_nothing_hidden() -> None:
    """Raise `ConfigError` when a module in a folder that Python searches first hides one that zoocast needs.

    Such as a ``torch.py`` in the current folder: Ray's processes would import it in place of torch.
    """
    folders = [Path(entry).absolute() for entry in sys.path]
    for place, folder in enumerate(folders):
        hidden = None if _is_installed(folder / "x") else _hidden_by(folder, folders[place + 1 :])
        if hidden is not None:
            name, file = hidden
            raise ConfigError(
                "", f"{_short(file)} hides the module {name} that zoocast needs; rename it, or work in another folder"
            )


def _hidden_by(folder: Path, later: list[Path]) -> tuple[str, str] | None:
    """The first needed module of the folders `later` that `folder` has one of the same name for, and that one's file."""
    try:
        names = {entry.partition(".")[0] for entry in os.listdir(folder)}
    except OSError:  # Python passes over it as well
        return None
    # Python's own tests are imported by nobody, and a folder `test` is common.
    for name in sorted(names & {*sys.stdlib_module_names, *NEEDED, *OURS} - {"test"}):
        file = _file_of(name, [folder])
        if file is None:  # a folder without __init__.py hides nothing
            continue
        needed = _file_of(name, [_home(name)] if _home(name) in later else []) if name in OURS else _file_of(name, later)
        if needed is not None and not os.path.samefile(file, needed):
            return name, file
    return None


def _file_of(name: str, folders: list[Path]) -> str | None:
    found = PathFinder.find_spec(name, [str(folder) for folder in folders])
    return found.origin if found and found.origin and os.path.exists(found.origin) else None


def _home(name: str) -> Path:
    """Where the package `name` of ours is, which need not be the first on the path: a job's come with the job's folder."""
    package = sys.modules.get("zoocast" if name == "zoocast" else "pipelines")
    return Path(package.__file__).absolute().parents[1] if package is not None and package.__file__ else LIBRARY.parent
