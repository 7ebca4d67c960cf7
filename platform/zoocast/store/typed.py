"""Paths as people type them, in a setting, an option or a file of settings: one reading for all of them."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from zoocast.errors import ConfigError

__all__ = ["typed_path"]

VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def typed_path(text: str) -> Path:
    """The path on this machine that `text` means. ``~`` is the home folder, and ``file:///x`` is ``/x``.

    Raises:
        ConfigError: another URL, or a variable that the shell has left as it is. The field is for the caller to add.
    """
    if not text or "\0" in text:
        raise ConfigError("", f"must be the path of a file or folder, but got {text!r}")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.isalnum():
        host, slash, path = rest.partition("/")
        if scheme.lower() != "file" or host not in ("", "localhost"):
            raise ConfigError("", f"{text!r} is a URL, but only files that this machine sees can be read; bring it here first")
        text = urllib.parse.unquote(slash + path)
    # A shell replaces variables before a command sees them; one that is left was kept from it by single quotes, or is in a file.
    elif (variable := VARIABLE.search(text)) and not Path(text).exists():
        raise ConfigError(
            "",
            f"{text!r} has the variable {variable[0]}, which only a shell replaces, and not between single quotes; write it out",
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~somebody without a home, or a user without one
        raise ConfigError("", f"{text!r} has no home folder ({error}); write the path out") from None
