"""What Ray, MLflow, matplotlib and torch ask the environment for, given to them where it is missing.

A daemon, a container under a number without a name, a home on a read-only disk, a company's proxies: each library meets these in
a way of its own, from a traceback to a request that goes astray. Processes that we start inherit what is set here.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import tempfile
from pathlib import Path

from zoocast.errors import ConfigError, InfrastructureError

__all__ = ["home_problem", "prepare"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_found = ""  # what was wrong with the home before it was seen to


def prepare() -> None:
    """Complete this process's environment; what the user has set stays where it can be used.

    Raises:
        ConfigError: the current folder is gone.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError("", f"the current folder cannot be entered ({error.strerror}); cd to another one") from None
    _name_the_user()
    with contextlib.suppress(InfrastructureError, OSError):  # no folder for temporary files either: who needs one will say so
        _give_a_home()
    _reach_this_machine_without_proxies()


def home_problem() -> str:
    """What was wrong with the home folder when the command began; empty when libraries can write there."""
    return _found


def _look_at_home() -> str:
    home = os.environ.get("HOME") or os.path.expanduser("~")  # which is `~` still where nobody knows it
    if not os.path.isabs(home):
        return "there is no home folder (HOME is not set, or no absolute path)"
    if not os.path.isdir(home):
        return f"the home {home} is no folder"
    return "" if _is_writable(home) else f"the home folder {home} cannot be written"


def _is_writable(folder: str) -> bool:
    try:  # by trying, since the system says yes to root even where nobody can; the file has no name where that is possible
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _name_the_user() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError):  # no entry in the list of users, and no variable
        os.environ["LOGNAME"] = str(os.getuid())


def _give_a_home() -> None:
    global _found
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # where it is empty, the list of users may know better
    _found = _look_at_home()
    if not _found:
        return
    from zoocast.cluster.connect import private_folder

    home = os.path.expanduser("~")
    # One that cannot be written is kept for what lies in it: credentials, a token.
    if not os.path.isabs(home) or not os.path.isdir(home):
        os.environ["HOME"] = str(_made(private_folder() / "home"))
    elif not _is_writable(os.environ.get("MPLCONFIGDIR") or home):
        os.environ["MPLCONFIGDIR"] = str(_made(private_folder() / "matplotlib"))


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _reach_this_machine_without_proxies() -> None:
    """A proxy is for what is far: our own MLflow, and a cluster behind a tunnel, are on this machine."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        names = dict.fromkeys([name.strip() for name in given.split(",") if name.strip()] + list(LOOPBACK))
        # Both, since some programs read one and some the other.
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
